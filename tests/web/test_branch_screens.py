"""The page's branches, merges, undos and what-ifs, in a real browser, over a store that is governed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from tests.web.governed import (
    TYPES,
    ByHeader,
    Deposited,
    Withdraw,
    Withdrawn,
    account,
    compensations,
    decisions,
    solvent,
)
from tests.web.serving import lazily, patient_app, served
from tests.web.test_page import HOSTILE, Watched, browser, expect, pytestmark

from everwhen import CommandBus, UnknownEvent, open_store
from everwhen.aio import open_store as open_async
from everwhen.merging import Merging
from everwhen.web.governance import Governance

__all__ = ["browser", "pytestmark"]

EVERY: Final = {"x-scopes": "read append operate", "x-user": "ada"}
RISKY: Final = 62  # where the branch forks off, after 60 deposits and two events of account-r


@asynccontextmanager
async def bank(path: Path) -> AsyncIterator[Any]:
    async with open_async(path, events=TYPES) as store:
        given = Governance(decisions=decisions, invariants=[solvent], compensations=compensations)
        yield patient_app(store, folds={"account": account}, governance=given, access=ByHeader())


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("branches") / "bank.db"
    with open_store(path, events=TYPES) as store:
        for number in range(1, 61):
            store.append(f"account-{number % 5}", [Deposited(number)])
        store.append("account-r", [Deposited(90), Deposited(10)])
        with store.create_branch("risky") as risky:
            CommandBus(risky, decisions).send(Withdraw("account-r", 70))
            risky.append("account-4", [UnknownEvent("Renamed", {"name": "there"})])
            risky.create_branch("riskier").close()
        with store.create_branch("done") as done:
            done.append("account-3", [Deposited(7)])
            Merging(store, decisions).merge(done)
        store.append("account-r", [Withdrawn(50)])
        store.append("account-4", [UnknownEvent("Renamed", {"name": "here"})])
        with store.create_branch("hostile") as hostile:
            for text in HOSTILE[:3]:
                hostile.append(f"bad-{text}", [UnknownEvent(text, {text: text})])
    with served(lazily(bank(path))) as found:
        yield found


@pytest.fixture
def watched(browser: Any, url: str) -> Iterator[Watched]:
    found = Watched(browser, url, extra_http_headers=EVERY)
    yield found
    found.page.close()
    assert found.faults == []


INSERTED: Final = quote('{"50": [{"type": "Deposited", "data": {"amount": 9}}]}')
SCREENS: Final = {
    "branches": ".plot .merge",
    "branches?pick=risky&view=events": ".event-links .marked",
    "branches?pick=risky&view=states&fold=documents": ".halves .leaf.changed",
    "branches?pick=risky&view=states&fold=documents&show=changes": ".changes li",
    "branches?pick=risky&view=merge": ".planned.unsettled .conflicts",
    "branches?view=undo&at=60": ".writes li",
    "whatif?at=60&stream=account-0&fold=account": ".what-row",
    "whatif?at=60&stream=account-0&fold=account&without=5,10": ".halves .leaf.changed",
    f"whatif?at=60&stream=account-0&fold=account&event=50&inserts={INSERTED}": ".inserted",
}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_each_view_opens_by_its_address_and_is_accessible(
    browser: Any, url: str, scheme: str
) -> None:
    watched = Watched(browser, url, color_scheme=scheme, extra_http_headers=EVERY)
    faults: list[tuple[str, ...]] = []
    for address, expected in SCREENS.items():
        faults += watched.violations(address, expected, state="attached")
    watched.page.close()
    assert faults == [], faults[:9]
    assert watched.faults == []


def test_a_branch_is_made_looked_at_and_deleted_by_the_keyboard(watched: Watched) -> None:
    page = watched.open("/s/main/branches?at=40")
    page.wait_for_selector("text=New branch at 40")
    page.keyboard.press("n")
    page.wait_for_selector("dialog[open]")
    page.keyboard.type("plan-b\n")
    page.wait_for_url(re.compile("pick=plan-b"))
    page.wait_for_selector("[role=option][aria-selected=true]:has-text('0 events from 40')")
    page.keyboard.press("o")
    page.wait_for_url(re.compile("/s/plan-b/branches"))
    page.wait_for_selector("text=you are here")
    expect(page.locator("#goto")).to_have_value("40")
    page.keyboard.press("Delete")
    page.wait_for_selector("text=Nothing was written on it.")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("Delete")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/s/main/branches"))
    page.wait_for_selector("[role=option]:has-text('risky')")
    assert page.locator("[role=option]:has-text('plan-b')").count() == 0


def test_what_would_be_lost_is_said_before_a_branch_is_deleted(watched: Watched) -> None:
    page = watched.open("/s/main/branches?pick=risky")
    page.click("text=Delete…")
    dialog = page.locator("dialog[open]")
    assert "2 events that were written on it are lost" in dialog.inner_text()
    assert "riskier" in dialog.locator(".check").inner_text()
    assert dialog.locator(".danger").is_disabled()


def test_inside_a_commit_a_branch_begins_at_its_end(watched: Watched) -> None:
    page = watched.open("/s/main/branches?at=61")
    page.wait_for_selector("text=New branch at 61")
    page.keyboard.press("n")
    page.wait_for_selector("text=Position 61 is inside a commit")
    page.keyboard.type("main\n")  # a name that is taken
    page.wait_for_selector("dialog .problem")


def test_a_conflict_is_explained_and_the_plan_is_done_once_it_is_settled(watched: Watched) -> None:
    page = watched.open("/s/main/branches?pick=risky&view=merge")
    page.wait_for_selector(".plan .planned")
    notice = page.locator(".notice").inner_text()
    assert "2 commits need your decision" in notice
    assert "Nothing has been written, and nothing is lost" in notice
    assert page.locator(".act").is_disabled()
    refused = page.locator(".planned.rejected").inner_text()
    assert "Withdraw" in refused
    assert "the balance is 50" in refused
    conflict = page.locator(".planned.conflict .conflicts").inner_text()
    assert '"here"' in conflict
    assert '"there"' in conflict
    page.click(".notice >> text=Leave out")
    page.wait_for_url(re.compile("strategy=ours"))
    page.wait_for_selector("text=Nothing would be written")
    page.click(".choice >> text=Take as they were")
    page.wait_for_selector(".act:not([disabled])")
    page.click(".act")
    page.wait_for_selector(".notice.done")
    page.wait_for_selector("text=Nothing to merge")
    page.wait_for_selector(".plot .merge >> nth=1", state="attached")


def test_an_event_is_undone_as_planned(watched: Watched) -> None:
    page = watched.open("/s/main/branches?view=undo&at=60")
    page.wait_for_selector(".writes li")
    assert "Withdrawn" in page.locator(".writes").inner_text()
    page.click(".act")
    page.wait_for_selector(".notice.done")
    page.wait_for_selector("text=Was so already")
    assert page.locator(".act").is_disabled()


def test_an_event_is_left_out_another_edited_and_it_is_kept_as_a_branch(watched: Watched) -> None:
    page = watched.open("/s/main/whatif?at=60&stream=account-0&fold=account")
    page.wait_for_selector(".what-row[aria-current][data-position='60']")
    page.wait_for_selector("text=What if it had been otherwise?")
    page.keyboard.press("k")
    page.wait_for_selector(".what-row[aria-current][data-position='55']")
    page.keyboard.press("x")
    page.wait_for_url(re.compile("without=55"))
    altered = page.locator("[role=tree][aria-label='State as it would be']")
    altered.locator("text=335").wait_for()  # 5 + 10 + … + 60 is 390
    page.keyboard.press("k")
    page.keyboard.press("e")
    page.wait_for_selector("text=What if 50 had been another one?")
    page.fill("dialog textarea", "[1]")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=An event's data is an object")
    page.fill("dialog textarea", '{"amount": 1050}')
    page.click("text=Suppose so")
    altered.locator("text=1335").wait_for()
    page.reload()
    altered.locator("text=1335").wait_for()
    page.keyboard.press("b")
    page.wait_for_selector("dialog[open]")
    page.keyboard.type("richer\n")
    page.wait_for_url(re.compile("/branches.*pick=richer"))
    page.wait_for_selector(".event-links .marked")
    assert page.locator(".half").first.locator("text=1050").count() == 1


def test_an_event_that_never_was_is_inserted_and_taken_out_again(watched: Watched) -> None:
    page = watched.open("/s/main/whatif?at=60&stream=account-0&fold=account&event=50")
    page.wait_for_selector(".what-row[aria-current][data-position='50']")
    page.keyboard.press("i")
    page.wait_for_selector("text=What if another one had followed 50?")
    page.fill("dialog textarea", '{"amount": 1000}')
    page.click("text=Suppose so")
    altered = page.locator("[role=tree][aria-label='State as it would be']")
    altered.locator("text=1390").wait_for()  # 5 + 10 + … + 60 is 390
    page.wait_for_url(re.compile("inserts="))
    page.keyboard.press("i")
    page.fill("dialog textarea", '{"amount": 2}')
    page.click("text=Suppose so")
    altered.locator("text=1392").wait_for()
    expect(page.locator(".what-row.inserted")).to_have_count(2)
    page.reload()
    altered.locator("text=1392").wait_for()
    page.click("[aria-label='Edit what is inserted after 50'] >> nth=0")
    page.wait_for_selector("dialog[open]")
    page.click("text=Insert nothing")
    altered.locator("text=392").wait_for()
    page.keyboard.press("b")
    page.wait_for_selector("dialog[open]")
    page.keyboard.type("inserted\n")
    page.wait_for_url(re.compile("/branches.*pick=inserted"))
    page.wait_for_selector(".half .event-links li")
    assert page.locator(".half").first.locator("text=Deposited").count() > 0
    page = watched.open("/s/main/whatif?at=60&stream=account-0&fold=account&without=5")
    page.click("[aria-label='Insert after 60']")
    page.click("text=Suppose so")
    altered.locator("text=445").wait_for()
    page.click("[aria-label='Insert nothing after 60']")
    altered.locator("text=385").wait_for()


def test_an_event_leads_to_its_undo_and_to_history_without_it(watched: Watched) -> None:
    page = watched.open("/s/main/timeline?at=55")
    watched.waits_for("55")
    page.click(".detail .tools >> text=undo")
    page.wait_for_url(re.compile("/branches.*at=55.*view=undo"))
    page.wait_for_selector(".writes li")
    page.go_back()
    watched.waits_for("55")
    page.click(".detail .tools >> text=what if without")
    page.wait_for_url(re.compile("/whatif.*stream=account-0.*without=55"))
    page.wait_for_selector(".what-row[aria-current].off[data-position='55']")
    page.wait_for_selector("[role=tree][aria-label='State as it would be']")


def test_a_reader_is_told_why_not(browser: Any, url: str) -> None:
    watched = Watched(browser, url, extra_http_headers={"x-scopes": "read"})
    page = watched.open("/s/main/branches?pick=risky")
    page.wait_for_selector(".reasons")
    assert "needs the scope “operate”" in page.locator(".reasons").inner_text()
    assert page.locator("text=Delete…").is_disabled()
    page.keyboard.press("n")
    page.wait_for_selector(".toast")
    assert page.locator("dialog").count() == 0
    for view, words in (("merge", "You can look, but not merge"), ("undo", "not undo")):
        page = watched.open(f"/s/main/branches?pick=risky&view={view}&at=60")
        page.wait_for_selector(f"text={words}")
    page = watched.open("/s/main/whatif?at=60&stream=account-0&fold=account&without=5")
    page.wait_for_selector("text=It can't be kept as a branch")
    is_offered = page.locator("text=Keep as branch").is_enabled()
    page.close()
    assert not is_offered
    assert watched.faults == []


def test_what_is_hostile_on_branches_is_text(watched: Watched) -> None:
    for address in (
        "branches?pick=hostile&view=events",
        "branches?pick=hostile&view=merge",
        "branches?pick=hostile&view=states&fold=documents",
    ):
        page = watched.open(f"/s/main/{address}")
        page.wait_for_selector(".halves li, .halves .leaf, .planned")
        assert "<img src=x onerror=alert(1)>" in page.locator("main").inner_text()
        assert page.locator("img, iframe, body script:not([src])").count() == 0
    page = watched.open("/s/main/whatif?without=x,-1&edits=%7B%22a%22&event=%3Cimg%3E")
    page.wait_for_selector("text=What if it had been otherwise?")
    page = watched.open("/s/main/branches?pick=%3Cimg%20src=x%3E&with=nobody&view=other")
    page.wait_for_selector(".lane-label[aria-selected=true]")
