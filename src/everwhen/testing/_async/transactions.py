"""The transactional place for checkpoints, snapshots and read models."""

from __future__ import annotations

from everwhen.backends.engine import EngineTransaction, EngineView
from everwhen.testing._async.bench import Bench, events_of
from everwhen.testing._async.concurrency import Beside, pause, together
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import notes
from everwhen.vocabulary.contract import Checkpoint, Receipt, Snapshot
from everwhen.vocabulary.errors import EverwhenError, InlineError, StorageError, UnsupportedError
from everwhen.vocabulary.query import Query


@promise(Guarantee.ATOMIC)
async def checkpoints_are_kept_by_name(bench: Bench) -> None:
    store = await bench.store()
    equal(await store.checkpoint("none"), None, "an unknown checkpoint is none")
    equal(await store.checkpoints(), [], "at first there is none")
    async with store.transaction() as transaction:
        for name in ("b", "a", "ü ' \" %"):
            await transaction.save_checkpoint(Checkpoint(name, 1))
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("a", 2, b"\x00state\xff"))
        await transaction.delete_checkpoint("b")
        await transaction.delete_checkpoint("never was")
    equal(await store.checkpoint("a"), Checkpoint("a", 2, b"\x00state\xff"), "replaced")
    equal(await store.checkpoint("b"), None, "deleted")
    equal([c.name for c in await store.checkpoints()], ["a", "ü ' \" %"], "listed by name")


@promise(Guarantee.ATOMIC)
async def snapshots_are_kept_by_subject_and_position(bench: Bench) -> None:
    store = await bench.store()
    made = [Snapshot("s", p, "fold", 1, b"%d" % p) for p in (5, 1, 9, 3)]
    async with store.transaction() as transaction:
        for snapshot in [*made, Snapshot("other", 4, "fold", 2, b"")]:
            await transaction.save_snapshot(snapshot)
    newest_first = sorted(made, key=lambda s: -s.position)
    equal(await store.snapshots("s"), newest_first, "newest first")
    equal(await store.snapshots("s", limit=2), newest_first[:2], "at most that many")
    equal(await store.snapshots("s", limit=0), [], "or none")
    equal(await store.snapshots("s", up_to=5), newest_first[1:], "at or before a position")
    equal(await store.snapshots("s", up_to=4, limit=1), [newest_first[2]], "the best one")
    equal(await store.snapshots("s", up_to=0), [], "before the first")
    equal(await store.snapshots("s", up_to=1 << 80), newest_first, "any bound will do")
    equal(await store.snapshots("none"), [], "an unknown subject has none")
    async with store.transaction() as transaction:
        await transaction.save_snapshot(Snapshot("s", 9, "new fold", 2, b"again"))
        await transaction.delete_snapshots("s", [1, 3, 77])
        await transaction.delete_snapshots("s", [])
    equal(
        await store.snapshots("s"),
        [Snapshot("s", 9, "new fold", 2, b"again"), newest_first[1]],
        "replaced and deleted",
    )
    async with store.transaction() as transaction:
        await transaction.delete_snapshots("s")
    equal(await store.snapshots("s"), [], "all of one subject")
    equal(len(await store.snapshots("other")), 1, "and only of that one")


@promise(Guarantee.ATOMIC)
async def a_transaction_takes_effect_whole_or_not_at_all(bench: Bench) -> None:
    store = await bench.store()
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("a", 1))
        await transaction.save_snapshot(Snapshot("s", 1, "fold", 1, b"1"))
    with raises(ZeroDivisionError, "an error inside a transaction comes out of it"):
        async with store.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint("a", 2))
            await transaction.save_checkpoint(Checkpoint("b", 2))
            await transaction.delete_snapshots("s")
            raise ZeroDivisionError
    equal(await store.checkpoints(), [Checkpoint("a", 1)], "rolled back")
    equal(len(await store.snapshots("s")), 1, "all of it")
    receipt = await store.append("a", notes(1), expected=0)
    equal(receipt.versions, {"a": 1}, "the store goes on")


@promise(Guarantee.ATOMIC)
async def nothing_is_seen_before_the_transaction_ends(bench: Bench) -> None:
    store = await bench.store()
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("a", 1))
        equal(await store.checkpoint("a"), None, "a reader sees the state before it")
    equal(await store.checkpoint("a"), Checkpoint("a", 1), "and then the state after it")


@promise(Guarantee.ATOMIC)
async def appends_wait_for_a_transaction(bench: Bench) -> None:
    store = await bench.store()

    async def append() -> Receipt:
        return await store.append("a", notes(1))

    async with store.transaction() as transaction:
        appending = [Beside(append) for _ in range(3)]
        await pause(0.05)
        equal(await events_of(store), [], "nothing is written meanwhile")
        await transaction.save_checkpoint(Checkpoint("a", 1))
    for running in appending:
        await running.result()
    equal(await store.version("a"), 3, "then everything is")


@promise(Guarantee.ATOMIC)
async def what_would_wait_for_itself_is_refused(bench: Bench) -> None:
    store = await bench.store()
    async with store.transaction() as transaction:
        with raises(UnsupportedError, "an append within a transaction of its own"):
            await store.append("a", notes(1))
        with raises(UnsupportedError, "a transaction within a transaction"):
            async with store.transaction():
                pass
        with raises(UnsupportedError, "closing the store within a transaction"):
            await store.close()
        await transaction.save_checkpoint(Checkpoint("a", 1))
    equal(await store.checkpoint("a"), Checkpoint("a", 1), "the transaction itself goes on")
    await store.append("a", notes(1))


@promise(Guarantee.ATOMIC)
async def a_transaction_that_is_over_is_over(bench: Bench) -> None:
    store = await bench.store()
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("a", 1))
    with raises(EverwhenError, "a checkpoint saved after the transaction's end"):
        await transaction.save_checkpoint(Checkpoint("a", 2))
    with raises(EverwhenError, "a snapshot saved after the transaction's end"):
        await transaction.save_snapshot(Snapshot("s", 1, "fold", 1, b""))
    equal(await store.checkpoint("a"), Checkpoint("a", 1), "nothing was written")
    equal(await store.snapshots("s"), [], "nothing was written")


@promise(Guarantee.ATOMIC, "sql")
async def a_read_model_is_kept_with_its_checkpoint(bench: Bench) -> None:
    store = await bench.store()
    async with store.transaction() as transaction:
        await transaction.execute("CREATE TABLE balance (account TEXT PRIMARY KEY, amount INTEGER)")
    for amount in (5, 7):
        async with store.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO balance VALUES ('a', ?) ON CONFLICT (account) DO UPDATE "
                "SET amount = balance.amount + excluded.amount",
                [amount],
            )
            await transaction.save_checkpoint(Checkpoint("balance", amount))
    with raises(ZeroDivisionError, "an error after the read model was changed"):
        async with store.transaction() as transaction:
            await transaction.execute("DELETE FROM balance")
            await transaction.save_checkpoint(Checkpoint("balance", 99))
            raise ZeroDivisionError
    async with store.transaction() as transaction:
        rows = await transaction.execute("SELECT account, amount FROM balance")
    equal(rows, [("a", 12)], "the read model")
    equal(await store.checkpoint("balance"), Checkpoint("balance", 7), "and its checkpoint")


@promise(Guarantee.ATOMIC, "sql")
async def wrong_sql_is_a_storage_error_where_it_stands(bench: Bench) -> None:
    store = await bench.store()
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("a", 1))
        with raises(StorageError, "SQL that doesn't parse"):
            await transaction.execute("SELEKT 1")
    equal(await store.checkpoint("a"), Checkpoint("a", 1), "caught, it does no harm")


@promise(Guarantee.ATOMIC)
async def a_backend_without_sql_says_so(bench: Bench) -> None:
    store = await bench.store()
    if (await bench.capabilities()).sql:
        return
    async with store.transaction() as transaction:
        with raises(UnsupportedError, "SQL") as caught:
            await transaction.execute("SELECT 1")
    true("SQL" in str(caught.error), "the error says what is missing")


@promise(Guarantee.ATOMIC)
async def checkpoints_of_a_damaged_kind_are_refused(bench: Bench) -> None:
    store = await bench.store()
    wrong = (
        Checkpoint("", 1),
        Checkpoint("a\nb", 1),
        Checkpoint("a", -1),
        Checkpoint("a", 1 << 63),
        Checkpoint("a", 1.5),  # type: ignore[arg-type]
        Checkpoint("a", 1, "text"),  # type: ignore[arg-type]
    )
    for checkpoint in wrong:
        async with store.transaction() as transaction:
            with raises(EverwhenError, f"{checkpoint!r}"):
                await transaction.save_checkpoint(checkpoint)
    equal(await store.checkpoints(), [], "nothing was kept")


@promise(Guarantee.ATOMIC)
async def a_function_is_run_in_a_transaction(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a", notes(3))

    def work(transaction: EngineTransaction) -> int:
        before = transaction.checkpoint("c")
        position = 0 if before is None else before.position
        page = transaction.read(Query().after(position), 1)
        transaction.save_checkpoint(Checkpoint("c", page.cursor))
        return page.cursor - position

    equal(await store.kernel.backend.transact(work), 3, "it returns what the function returns")
    equal(await store.checkpoint("c"), Checkpoint("c", 3), "and takes effect")
    equal(await store.kernel.backend.transact(work), 0, "it sees what is there")

    def fail(transaction: EngineTransaction) -> None:
        transaction.save_checkpoint(Checkpoint("c", 9))
        transaction.save_snapshot(Snapshot("s", 9, "fold", 1, b""))
        raise ZeroDivisionError

    with raises(ZeroDivisionError, "an error in the function comes out of it"):
        await store.kernel.backend.transact(fail)
    equal(await store.checkpoints(), [Checkpoint("c", 3)], "and nothing of it takes effect")
    equal(await store.snapshots("s"), [], "nothing at all")
    await store.append("a", notes(1), expected=3)
    with raises(UnsupportedError, "a transaction inside a transaction"):
        async with store.transaction():
            await store.kernel.backend.transact(work)


@promise(Guarantee.ATOMIC)
async def functions_in_transactions_lose_no_update(bench: Bench) -> None:
    store = await bench.store()

    def count_up(transaction: EngineTransaction) -> None:
        known = transaction.checkpoint("count")
        position = 0 if known is None else known.position
        transaction.save_checkpoint(Checkpoint("count", position + 1))

    async def count() -> None:
        await store.kernel.backend.transact(count_up)

    await together(*[count] * 20)
    equal(await store.checkpoint("count"), Checkpoint("count", 20), "one after the other")


@promise(Guarantee.ATOMIC)
async def a_look_sees_one_moment(bench: Bench) -> None:
    store = await bench.store()
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("c", 7))
        equal(await transaction.checkpoint("c"), Checkpoint("c", 7), "seen from within")
        equal(await transaction.checkpoint("d"), None, "an unknown one is none")
    await store.append("a", notes(2))

    def look(view: EngineView) -> tuple[object, ...]:
        page = view.read(Query(), 10)
        names = [checkpoint.name for checkpoint in view.checkpoints("c%")]
        return view.checkpoint("c"), view.checkpoint("d"), names, page.cursor, len(page.slices)

    async with store.transaction() as transaction:
        for name in ("c%1", "c%2", "cd", "C%", "d%"):
            await transaction.save_checkpoint(Checkpoint(name, 1))
    wanted = (Checkpoint("c", 7), None, ["c%1", "c%2"], 2, 1)
    equal(
        await store.kernel.backend.view(look), wanted, "what there is, also by the names' beginning"
    )


@promise(Guarantee.ATOMIC)
async def what_is_inline_takes_effect_with_each_append(bench: Bench) -> None:
    store = await bench.store()

    def inline(transaction: EngineTransaction) -> None:
        known = transaction.checkpoint("inline")
        position = 0 if known is None else known.position
        while True:
            page = transaction.read(Query().after(position), 1_000)
            if any(stored.stream == "bad" for stored in page.slices):
                raise InlineError("inline", page.cursor, "a bad stream")
            position = page.cursor
            if page.end:
                break
        transaction.save_checkpoint(Checkpoint("inline", position))

    if not store.capabilities.sql or not store.capabilities.inline:
        with raises(UnsupportedError, "nothing runs inline where no transaction has all"):
            await store.kernel.backend.attach(inline)
        return
    await store.append("a", notes(2))
    await store.kernel.backend.attach(inline)
    await store.append("a", notes(2))
    equal(await store.checkpoint("inline"), Checkpoint("inline", 4), "from where it was")
    with raises(InlineError, "what it can't take"):
        await store.append("bad", notes(1))
    equal(await store.version("bad"), 0, "is not written")

    async def append_to(stream: str) -> Receipt:
        return await store.append(stream, notes(1))

    outcomes = await together(*[lambda s=s: append_to(s) for s in ("a", "bad", "b", "bad", "c")])
    kinds = [type(outcome) for outcome in outcomes]
    equal(
        kinds,
        [Receipt, InlineError, Receipt, InlineError, Receipt],
        "those that came at the same time are written",
    )
    equal(await store.checkpoint("inline"), Checkpoint("inline", 7), "and taken in")
    await store.kernel.backend.detach(inline)
    await store.append("bad", notes(1))
    equal(await store.checkpoint("inline"), Checkpoint("inline", 7), "until it is detached")
