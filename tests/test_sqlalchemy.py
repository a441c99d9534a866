"""An application on SQLAlchemy: its rows and its events, in one transaction."""

from __future__ import annotations

import pytest
from sqlalchemy import Integer, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from tests.postgres_server import PostgresServer

from everwhen import NO_STREAM, Event, open_store
from everwhen.errors import ConflictError, DeclarationError


class OrderPlaced(Event):
    order: int
    customer: str


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "placed_orders"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    customer: Mapped[str] = mapped_column(String)


def test_rows_and_events_are_one_transaction(postgres: PostgresServer) -> None:
    engine = create_engine(postgres.url("postgres").replace("postgresql:", "postgresql+psycopg:"))
    Base.metadata.create_all(engine)
    with postgres.schema() as url, open_store(url, events=[OrderPlaced]) as store:

        def place(order: int, customer: str) -> None:
            with Session(engine) as session, session.begin():
                session.add(Order(id=order, customer=customer))
                store.append(
                    f"order-{order}",
                    [OrderPlaced(order=order, customer=customer)],
                    expected=NO_STREAM,
                    connection=session.connection().connection.driver_connection,
                )

        place(1, "ada")
        store.append("order-2", [OrderPlaced(order=2, customer="eve")])
        with pytest.raises(ConflictError):
            place(2, "bob")
        place(3, "cy")
        with Session(engine) as session:
            assert list(session.scalars(select(Order.id).order_by(Order.id))) == [1, 3]
            with pytest.raises(DeclarationError, match="driver_connection"):
                store.append("a", [OrderPlaced(order=4, customer="x")], connection=session)
        assert [event.event.order for event in store.read()] == [1, 2, 3]
    Base.metadata.drop_all(engine)
    engine.dispose()
