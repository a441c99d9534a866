"""The casino, wired: which decision rests on which states, what is watched, what happens by itself.

A game's stream is guarded by its version. A player's balance is guarded by a condition: it is the
sum of events in many streams, and none of them may have changed it since it was read. Where a
decision rests on both, both hold in one commit, or nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import msgspec

from bitcraps.accounts import account, deposit, open_account, withdraw
from bitcraps.betting import cancel_bet, place_bet, refund_bet
from bitcraps.commands import (
    CancelBet,
    CloseBetting,
    Deposit,
    JoinGame,
    OpenAccount,
    PlaceBet,
    RefundBet,
    RollDice,
    StartGame,
    Withdraw,
)
from bitcraps.dealing import close_betting, join_game, roll_dice, start_game
from bitcraps.events import (
    EVENTS,
    BetCancelled,
    BetLost,
    BetPlaced,
    BetPushed,
    BetRefunded,
    BetWon,
)
from bitcraps.game import game
from bitcraps.questions import PROJECTIONS, queries
from bitcraps.surveillance import may_see, watched
from everwhen import Decisions, Query, RecordedEvent, StateOf, Vault
from everwhen.aio import CommandBus, ProjectionRunner, Store, open_store
from everwhen.audit.aio import AuditLog
from everwhen.projections.aio import QueryBus
from everwhen.reactions import CancelTimer, Reaction, Timer
from everwhen.reactions.aio import ReactionRunner
from everwhen.vocabulary import Clock, system_clock

the_game: Final = StateOf[Any, Any](game, lambda command: f"game-{command.game}")
the_account: Final = StateOf[Any, Any](
    account, lambda command: Query().tags(f"player:{command.player}")
)
"""A player's account, wherever its events are: in its own stream, and in every game's."""


def its_stream(command: OpenAccount | Deposit | Withdraw) -> str:
    """Where the events go of a decision that rests on no stream, but on a query."""
    return f"account-{command.player}"


decisions: Final = Decisions()
decisions.on(StartGame, the_game)(start_game)
decisions.on(JoinGame, the_game, the_account)(join_game)
decisions.on(PlaceBet, the_game, the_account)(place_bet)
decisions.on(CancelBet, the_game)(cancel_bet)
decisions.on(CloseBetting, the_game)(close_betting)
decisions.on(RollDice, the_game)(roll_dice)
decisions.on(RefundBet, the_game)(refund_bet)
decisions.on(OpenAccount, the_account, into=its_stream)(open_account)
decisions.on(Deposit, the_account, into=its_stream)(deposit)
decisions.on(Withdraw, the_account, into=its_stream)(withdraw)

ABANDONED_AFTER: Final = timedelta(hours=1)

refunds: Final = Reaction("refunds")
"""A bet that isn't settled within an hour goes back to its player, by a command like any other."""


@refunds.on(BetPlaced)
def _(recorded: RecordedEvent[BetPlaced]) -> list[Timer]:
    placed = recorded.event
    command = RefundBet(placed.game, placed.bet)
    return [Timer(f"{placed.game}/{placed.bet}", command, after=ABANDONED_AFTER)]


def _settled(
    recorded: RecordedEvent[BetWon | BetLost | BetPushed | BetCancelled | BetRefunded],
) -> list[CancelTimer]:
    return [CancelTimer(f"{recorded.event.game}/{recorded.event.bet}")]


refunds.on(BetWon)(_settled)
refunds.on(BetLost)(_settled)
refunds.on(BetPushed)(_settled)
refunds.on(BetCancelled)(_settled)
refunds.on(BetRefunded)(_settled)


class Casino(msgspec.Struct, frozen=True):
    """An open casino: commands go to the ``bus``, questions to ``asks``.

    The ``audit`` log has who did what. The ``runner`` keeps the read models, and the ``keeper``
    lets happen what happens by itself.
    """

    store: Store
    bus: CommandBus
    audit: AuditLog
    asks: QueryBus
    runner: ProjectionRunner
    keeper: ReactionRunner


def open_books(
    location: str | os.PathLike[str],
    vault: Vault,
    *,
    clock: Clock = system_clock,
    durable: bool = True,
) -> AbstractAsyncContextManager[Store]:
    """The casino's store alone, with its event types, and the players' keys in the vault.

    Raises what `open_store` raises.
    """
    return open_store(location, events=EVENTS, vault=vault, clock=clock, durable=durable)


@asynccontextmanager
async def open_casino(
    location: str | os.PathLike[str],
    vault: Vault,
    *,
    clock: Clock = system_clock,
    durable: bool = True,
) -> AsyncIterator[Casino]:
    """The casino over a store, with its read models and its reaction following in the background.

    Raises what `open_store` raises.
    """
    async with open_books(location, vault, clock=clock, durable=durable) as store:
        audit = AuditLog(store, policy=may_see)
        bus = CommandBus(store, decisions, middleware=watched(audit))
        async with (
            ProjectionRunner(store, PROJECTIONS) as runner,
            ReactionRunner(bus, [refunds], clock=clock) as keeper,
        ):
            asks = QueryBus(store, queries, runner=runner, clock=clock)
            yield Casino(store, bus, audit, asks, runner, keeper)
