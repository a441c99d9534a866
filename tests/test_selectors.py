"""Whether an event is one that a query asks for is decided in one place, however it is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everwhen import Query
from everwhen.backends.query_matching import Alternatives
from everwhen.vocabulary import Selector

STREAMS = ["game-1", "game-2", "cash-1", "game"]
CATEGORIES = ["game", "cash"]
TYPES = ["Won", "Lost", "Paid"]
TAGS = ["ann", "bob", "eve"]


def _some(names: list[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(names), max_size=2)


SELECTORS = st.builds(Selector, _some(STREAMS), _some(CATEGORIES), _some(TYPES), _some(TAGS))


def _asked(selector: Selector, stream: str, type_name: str, tags: list[str]) -> bool:
    """What a selector's docstring says, word by word."""
    return (
        selector.streams in (frozenset(), selector.streams | {stream})
        and selector.categories in (frozenset(), selector.categories | {stream.partition("-")[0]})
        and selector.types in (frozenset(), selector.types | {type_name})
        and not selector.tags - set(tags)
    )


@given(
    selectors=st.lists(SELECTORS, min_size=1, max_size=24).map(tuple),
    stream=st.sampled_from(STREAMS),
    type_name=st.sampled_from(TYPES),
    tags=st.lists(st.sampled_from(TAGS), unique=True),
)
def test_one_selector_and_an_index_of_many_agree(
    selectors: tuple[Selector, ...], stream: str, type_name: str, tags: list[str]
) -> None:
    asked = any(_asked(selector, stream, type_name, tags) for selector in selectors)
    assert Query(selectors).selects(stream, type_name, tags) is asked
    assert Alternatives(selectors).match(stream, type_name, tags) is asked
    of_any_type = any(Query(selectors).selects(stream, known, tags) for known in [*TYPES, "New"])
    assert Query(selectors).selects(stream, None, tags) >= of_any_type


def test_a_type_that_can_not_be_told_may_be_any() -> None:
    query = Query().category("game").types("Won").tags("ann")
    assert query.selects("game-1", None, ("ann", "bob"))
    assert not query.selects("game-1", "Lost", ("ann",))
    assert not query.selects("game-1", None, ("bob",))
    assert not query.selects("cash-1", None, ("ann",))
