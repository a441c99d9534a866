# Generated from src/everwhen/testing/_async/subscriptions.py by tools/unasync.py: edit that, then run `make sync`.
"""Guarantee 9: each event once, in order, from any start, catching up and then live."""

from __future__ import annotations

from everwhen.codec.commits import Commit, Write
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.store._sync.store import Store
from everwhen.store._sync.subscription import Subscription
from everwhen.testing._sync.bench import Bench
from everwhen.testing._sync.concurrency import Beside, pause, within
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, notes
from everwhen.vocabulary.errors import BeyondEndError, InvalidQueryError
from everwhen.vocabulary.query import Query


def _take(subscription: Subscription, count: int) -> list[int]:
    """The positions of the next events."""

    def take() -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            event: RecordedEvent[object] = next(subscription)
            taken.append(event.position)
        return taken

    return within(take)


def _drained(subscription: Subscription) -> list[int]:
    """The positions of all events until it ends."""
    return [event.position for event in subscription]


def _positions(store: Store, query: Query) -> list[int]:
    return [event.position for event in store.read(query)]


@promise(Guarantee.SUBSCRIPTIONS)
def what_is_there_comes_first_then_what_follows(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(3))
    with store.subscribe() as subscription:
        equal(_take(subscription, 2), (_positions(store, Query()))[:2], "catching up")
        store.append("b", notes(2))
        seen = _take(subscription, 3)
        equal(seen, (_positions(store, Query()))[2:], "then what came since")
        store.append("a", notes(1_001))
        seen = _take(subscription, 1_001)
        equal(seen, (_positions(store, Query()))[5:], "a commit of several slices")


@promise(Guarantee.SUBSCRIPTIONS)
def there_is_no_seam_between_catching_up_and_live(bench: Bench) -> None:
    store = bench.store()
    commits = bench.commits(700)
    store.commit_batch(Commit((Write("a", notes(4_900 // commits)),)) for _ in range(commits))

    def write() -> None:
        for number in range(40):
            store.append(f"b-{number % 3}", notes(1 + number % 4))

    with store.subscribe() as subscription:
        writing = Beside(write)
        seen = _take(subscription, 4_900 // commits * commits + 100)
        writing.result()
        equal(seen, _positions(store, Query()), "each event once, in order")


@promise(Guarantee.SUBSCRIPTIONS)
def it_begins_where_it_is_told(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(5))
    all_of_it = _positions(store, Query())
    with store.subscribe(Query().after(all_of_it[2])) as subscription:
        equal(subscription.position, all_of_it[2], "it stands where it was told to begin")
        equal(_take(subscription, 2), all_of_it[3:], "in the middle of a slice")
        equal(subscription.position, all_of_it[-1], "and knows how far it has come")


@promise(Guarantee.SUBSCRIPTIONS)
def it_does_not_wait_beyond_the_end(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(5))
    end = (store.head()).position
    with store.subscribe(Query().after(end + 2)) as subscription:
        with raises(BeyondEndError, "a position that the log lacks is of another one") as beyond:
            _take(subscription, 1)
        equal((beyond.error.position, beyond.error.end), (end + 2, end), "it says where it ends")
    with store.create_branch("other") as branch:
        for own in range(2):
            end = (branch.head()).position
            with branch.subscribe(Query().after(end + 1)) as subscription:
                with raises(BeyondEndError, f"on a branch with {own} events of its own") as beyond:
                    _take(subscription, 1)
                equal((beyond.error.position, beyond.error.end), (end + 1, end), "its own end")
            branch.append("a", notes(1))
    equal(_positions(store, Query().after(end + 9)), [], "a read from there is empty")
    backend, head = store.kernel.backend, (store.head()).position
    news = [backend.wait(head - 1, 0), backend.wait(head, 0)]
    equal(news, [True, False], "up to the end is waited for")


@promise(Guarantee.SUBSCRIPTIONS)
def from_now_begins_where_it_was_made(bench: Bench) -> None:
    store = bench.store()
    empty = store.subscribe(from_now=True)
    equal(empty.position, 0, "in an empty store")
    old = store.append("a", notes(5))
    subscriptions = [
        store.subscribe(from_now=True),
        store.subscribe(Query().stream("b"), from_now=True),
        store.subscribe(Query().after(old.position - 2), from_now=True),
    ]
    equal([s.position for s in subscriptions], [old.position] * 3, "it knows at once where it is")
    new = store.append("b", notes(2))
    between = (_positions(store, Query().stream("b")))[0]
    for subscription in subscriptions:
        with subscription:
            wanted = [between, new.position]
            equal(_take(subscription, 2), wanted, "what came after the call, and only that")
    equal(len(_take(empty, 7)), 7, "everything, where nothing was there")


@promise(Guarantee.SUBSCRIPTIONS)
def from_now_on_a_branch_begins_where_it_was_made(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(3))
    with store.create_branch("other") as branch:
        at_fork = branch.subscribe(from_now=True)
        equal(at_fork.position, (branch.head()).position, "at the fork, with nothing own")
        first = branch.append("a", notes(1))
        further = branch.subscribe(from_now=True)
        store.append("a", notes(2))
        second = branch.append("a", notes(1))
        wanted = [first.position, second.position]
        equal(_take(at_fork, 2), wanted, "the branch's own, and not its parent's")
        equal(_take(further, 1), wanted[1:], "after what the branch had")


@promise(Guarantee.SUBSCRIPTIONS)
def it_goes_on_from_its_position(bench: Bench) -> None:
    store = bench.store()
    store.commit_batch(Commit((Write(f"s-{n % 3}", notes(n % 5 + 1)),)) for n in range(30))
    wanted = _positions(store, Query().stream("s-1"))
    seen: list[int] = []
    position = 0
    while len(seen) < len(wanted):
        with store.subscribe(Query().stream("s-1").after(position)) as subscription:
            seen += _take(subscription, min(4, len(wanted) - len(seen)))
            position = subscription.position
    equal(seen, wanted, "each event once, though the reader began anew every four events")


@promise(Guarantee.SUBSCRIPTIONS)
def any_query_that_has_no_end_can_be_followed(bench: Bench) -> None:
    store = bench.store()
    queries = (
        Query().stream("a-1"),
        Query().category("a"),
        Query().types(Deposited),
        Query().tags("account:2"),
        Query().stream("a-1").from_version(4),
        Query().category("b") | Query().tags("account:1"),
    )
    subscriptions = [store.subscribe(query) for query in queries]
    for number in range(12):
        store.append(f"{'ab'[number % 2]}-{number % 3}", [*notes(1), Deposited(number % 3, 1)])
    for query, subscription in zip(queries, subscriptions, strict=True):
        wanted = _positions(store, query)
        true(wanted, "the query has matches")
        equal(_take(subscription, len(wanted)), wanted, f"following {query}")
        subscription.close()


@promise(Guarantee.SUBSCRIPTIONS)
def a_query_that_ends_is_refused(bench: Bench) -> None:
    store = bench.store()
    queries = (
        Query().backwards(),
        Query().limit(3),
        Query().up_to(3),
        Query().to_version(3),
        Query().as_at(bench.clock()),
        Query().as_of(bench.clock()),
    )
    for query in queries:
        with raises(InvalidQueryError, f"a subscription to {query}"):
            store.subscribe(query)


@promise(Guarantee.SUBSCRIPTIONS)
def rare_matches_cost_few_reads(bench: Bench) -> None:
    backend = bench.backend()
    store = bench.store()
    commits = bench.commits(300)
    store.commit_batch(Commit((Write("noise", notes(3_000 // commits)),)) for _ in range(commits))
    with store.subscribe(Query().types(Deposited)) as subscription:
        waiting = Beside(lambda: _take(subscription, 1))
        for _ in range(15):
            store.append("noise", notes(1))
            pause(0.01)
        pause(0.3)
        true(backend.reads <= 60, f"{backend.reads} reads for 16 commits: it must not spin")
        before = backend.reads
        pause(0.6)
        true(backend.reads - before <= 8, f"{backend.reads - before} reads while nothing happened")
        receipt = store.append("rare", [Deposited(1, 1)])
        equal(waiting.result(), [receipt.position], "the match comes")


@promise(Guarantee.SUBSCRIPTIONS)
def closing_it_from_elsewhere_ends_the_iteration(bench: Bench) -> None:
    store = bench.store()
    receipt = store.append("a", notes(1))
    subscription = store.subscribe()
    equal(_take(subscription, 1), [receipt.position], "what is there comes")
    draining = Beside(lambda: _drained(subscription))
    pause(0.05)
    subscription.close()
    equal(draining.result(), [], "it ends, after what it has delivered")
    equal(_drained(subscription), [], "and stays ended")


@promise(Guarantee.SUBSCRIPTIONS)
def closing_the_store_ends_the_iteration(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(2))
    subscription = store.subscribe()
    equal(len(_take(subscription, 2)), 2, "what is there comes")
    draining = Beside(lambda: _drained(subscription))
    pause(0.05)
    store.close()
    equal(draining.result(), [], "it ends without an error")


@promise(Guarantee.SUBSCRIPTIONS)
def several_subscribers_do_not_disturb_each_other(bench: Bench) -> None:
    store = bench.store()
    subscriptions = [store.subscribe() for _ in range(4)]
    taking = [Beside(lambda s=s: _take(s, 60)) for s in subscriptions]  # type: ignore[misc]
    for _ in range(20):
        store.append("a", notes(3))
    wanted = _positions(store, Query())
    for running in taking:
        equal(running.result(), wanted, "each gets everything")


@promise(Guarantee.SUBSCRIPTIONS, "shared_by_processes")
def commits_of_other_processes_come_too(bench: Bench) -> None:
    here = bench.store()
    there = bench.store(backend=bench.another_backend())
    with here.subscribe() as subscription:
        taking = Beside(lambda: _take(subscription, 30))
        for number in range(10):
            (here if number % 2 else there).append("a", notes(3))
        equal(taking.result(), _positions(there, Query()), "none missing")
