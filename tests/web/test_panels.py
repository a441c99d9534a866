"""The page's projections, queries, audit, proofs and debugger, in a real browser."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from tests.web.governed import ByHeader, Deposited, Withdrawn, account, balances, faulty
from tests.web.serving import lazily, patient_app, served
from tests.web.test_page import HOSTILE, ONLY_IN, Watched, browser, expect, pytestmark

from everwhen import EventTypes, open_store
from everwhen.aio import open_store as open_async
from everwhen.audit import AuditAction
from everwhen.audit import AuditLog as SyncAuditLog
from everwhen.audit.aio import AuditEntry, AuditFilter, AuditLog
from everwhen.merkle.aio import MerkleLog
from everwhen.privacy import PLAINTEXT
from everwhen.projections import Projection
from everwhen.projections.aio import ProjectionRunner
from everwhen.vocabulary import Checkpoint
from everwhen.web.governance import Governance
from everwhen_verify.notes import Signer
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import verify

__all__ = ["browser", "pytestmark"]

EVERY: Final = {"x-scopes": "read append operate sql", "x-user": "ada"}
SIGNER: Final = Signer.generate("example.org/bank")
OPENED: Final[dict[str, Any]] = {
    "events": EventTypes(Deposited, Withdrawn, AuditEntry),
    "vault": PLAINTEXT,
}


@asynccontextmanager
async def bank(path: Path) -> AsyncIterator[Any]:
    async with open_async(path, **OPENED) as store:
        log = MerkleLog(store, path.with_name("log"), SIGNER)
        await log.sign()
        async with ProjectionRunner(store, [balances, Projection(account)]) as runner:
            yield patient_app(
                store,
                folds={"account": account},
                governance=Governance(runner=runner, log=log),
                access=ByHeader(),
                audit=AuditLog(store, policy=lambda _: [AuditFilter()]),
            )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("panels") / "bank.db"
    with open_store(path, **OPENED) as store:
        for number in range(1, 61):
            store.append(f"account-{number % 5}", [Deposited(number)])
        store.append("account-4", [Withdrawn(7)])
        audit = SyncAuditLog(store, policy=lambda _: [AuditFilter()])
        for text in HOSTILE[:3]:
            audit.record(audit.entry(AuditAction.CREATE, f"accounts/{text}", user="eve"))
            store.append(f"account-{text}", [Deposited(1)])
        with store.transaction() as transaction:  # as if what it has read had been lost since
            record = Checkpoint("projection/aged@1.1", 90_000, b'{"tables":[],"is_live":true}')
            transaction.save_checkpoint(record, local=True)
    faulty["is"] = True
    with served(lazily(bank(path))) as found:
        yield found


@pytest.fixture
def watched(browser: Any, url: str) -> Iterator[Watched]:
    found = Watched(browser, url, extra_http_headers=EVERY)
    yield found
    found.page.close()
    assert found.faults == []


@pytest.fixture
def reader(browser: Any, url: str) -> Iterator[Watched]:
    found = Watched(browser, url, extra_http_headers={"x-scopes": "read"})
    yield found
    found.page.close()
    assert found.faults == []


SCREENS: Final = {
    "projections?projection=balances": ".parked li",
    "projections?projection=aged": ".detail .problem",
    "query?q=SELECT+position,+stream,+data+FROM+events": ".rows td",
    "query?view=cel&q=state&fold=account&stream=account-4": ".tree [role=treeitem]",
    "audit?action=Create": ".grid tr.on",
    "audit?view=proof&at=20": ".trust",
    "audit?view=gone": ".empty h2",
    "debug?at=20&fold=account&stream=account-4&break=event:Withdrawn&eval=balance": ".value",
}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_each_panel_opens_by_its_address_and_is_accessible(
    browser: Any, url: str, scheme: str
) -> None:
    watched = Watched(browser, url, color_scheme=scheme, extra_http_headers=EVERY)
    faults: list[tuple[str, ...]] = []
    for address, expected in SCREENS.items():
        faults += watched.violations(address, expected, ONLY_IN[scheme])
    watched.page.close()
    assert faults == [], faults[:9]
    assert watched.faults == []


def test_parked_events_are_shown_and_retried_by_the_keyboard(watched: Watched) -> None:
    page = watched.open("/s/main/projections?projection=balances")
    page.wait_for_selector(".parked li")
    assert "an unlucky number" in page.locator(".parked .failure").inner_text()
    assert "later events of its stream wait" in page.locator(".parked").inner_text()
    faulty["is"] = False
    page.keyboard.press("r")
    page.wait_for_selector("text=Nothing is parked any more")
    page.wait_for_selector(".parked", state="detached")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=balances is being rebuilt")
    page.keyboard.press("j")
    page.wait_for_url(re.compile("projection=account"))
    assert "in memory" in page.locator(".reasons").inner_text()


def test_what_is_beyond_the_end_is_not_shown_as_up_to_date(watched: Watched) -> None:
    page = watched.open("/s/main/projections?projection=aged")
    page.wait_for_selector(".detail .problem")
    assert "after the end of the log" in page.locator(".detail .problem").inner_text()
    assert "beyond the end" in page.locator(".detail .facts").inner_text()
    assert "beyond" in page.locator(".detail .standing").inner_text()


def test_a_question_is_asked_by_the_keyboard_and_stays_in_the_address(watched: Watched) -> None:
    page = watched.open("/s/main/query")
    page.keyboard.press("q")
    page.keyboard.type("SELECT position, stream FROM events WHERE type = 'Deposited' LIMIT 5")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".rows td")
    page.wait_for_url(re.compile("q=SELECT"))
    with page.expect_download() as csv:
        page.click("text=CSV")
    lines = Path(csv.value.path()).read_text().splitlines()
    assert lines[:2] == ["position,stream", "1,account-1"]
    page.focus("[aria-label=Rows]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/timeline.*at=2"))
    page.go_back()
    page.wait_for_selector(".rows td")


def test_what_rows_have_is_shown_as_text_and_a_statement_that_fails_says_why(
    watched: Watched,
) -> None:
    page = watched.open("/s/main/query?q=SELECT+stream,+stream+AS+%22%3Cb%3Ebold%22+FROM+events")
    page.wait_for_selector(".rows td")
    page.focus("[aria-label=Rows]")
    page.keyboard.press("End")
    page.wait_for_selector("text=<b>bold")
    for text in HOSTILE[:3]:
        assert page.locator(".rows td", has_text=text).count() >= 1
    assert page.locator("img, iframe, main b").count() == 0
    page = watched.open("/s/main/query?q=SELECT+nothing+FROM+nowhere")
    page.wait_for_selector(".problem")
    assert "nowhere" in page.locator(".problem").inner_text()


def test_who_did_what_is_found_and_shown_as_text(watched: Watched) -> None:
    page = watched.open("/s/main/audit")
    page.wait_for_selector(".grid tr.on")
    page.keyboard.press("/")
    page.keyboard.type("eve\n")
    page.wait_for_url(re.compile("user=eve"))
    page.keyboard.press("Escape")
    expect(page.locator(".grid tbody tr")).to_have_count(3)
    page.keyboard.press("j")
    page.wait_for_url(re.compile("entry="))
    page.wait_for_selector("article h2")
    assert HOSTILE[1] in page.locator("article h2").inner_text()
    assert page.locator("img, iframe").count() == 0


def test_a_proof_is_checked_in_the_browser_and_a_forged_one_refused(watched: Watched) -> None:
    page = watched.open("/s/main/audit?view=proof&at=20")
    page.wait_for_selector(".trust")
    page.keyboard.press("c")
    page.wait_for_selector(".verdict.good")
    assert page.locator(".checks li.good").count() == 4
    assert '"amount":20' in page.locator(".signed").inner_text()
    with page.expect_download() as saved:
        page.click("text=Download it")
    proof = Path(saved.value.path()).read_bytes()
    policy = f"log {SIGNER.verifier.vkey}\nquorum none\n".encode()
    assert verify(proof, Policy.parse(policy)).entry.index == 19
    extra = re.search(rb"extra (\S+)", proof)[1]  # type: ignore[index]
    entry = base64.b64encode(base64.b64decode(extra).replace(b":20", b":99"))
    way = proof.split(b"\n")[3]
    root = proof.split(b"\n\n")[1].split(b"\n")[2]
    forged = {
        "leads to": proof.replace(extra, entry),
        "is wrong": proof.replace(root, base64.b64encode(bytes(32))),
        "the way is too": proof.replace(way + b"\n", b"", 1),
        "the entry says index": proof.replace(b"index 19", b"index 18"),
        "does not begin with": proof[1:],
        "not a signed note": proof[:-1],
    }
    for why, content in forged.items():
        file = {"name": "forged.tlog-proof", "mimeType": "text/plain", "buffer": content}
        page.set_input_files("input[type=file]", file)
        page.wait_for_selector(f".checks li.bad:has-text('{why}')")
        assert page.locator(".verdict.good").count() == 0
    stranger = Signer.generate("example.org/bank").verifier.vkey
    page.fill("[name=vkey]", stranger)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("vkey="))
    page.click("text=Check it in this browser")
    page.wait_for_selector(".checks li.bad:has-text('no key that is known here')")


def test_history_is_debugged_by_the_keyboard(watched: Watched) -> None:
    page = watched.open("/s/main/debug?at=4&fold=account&stream=account-4&break=event:Withdrawn")
    page.wait_for_selector(".stopped:has-text('at 4')")
    page.keyboard.press("e")
    page.keyboard.type("balance\n")
    page.keyboard.press("Escape")
    page.wait_for_selector(".value:text-is('4')")
    page.keyboard.press("c")
    page.wait_for_selector(".stopped:has-text('at 61')")
    page.wait_for_selector(".watches li.hit")
    page.keyboard.press("k")
    page.wait_for_selector(".stopped:has-text('at 59')")
    page.keyboard.press("o")
    page.wait_for_selector("#print:focus")
    page.keyboard.type("event.amount\n")
    page.wait_for_selector(".printed li")
    assert page.locator(".printed code").nth(1).inner_text() == "9"


def test_places_in_history_are_found_by_condition_and_by_what_was_written(
    watched: Watched,
) -> None:
    page = watched.open("/s/main/debug?at=20&fold=account&stream=account-4")
    page.wait_for_selector(".stopped:has-text('at 19')")
    page.keyboard.press("f")
    page.keyboard.type("balance > 200\n")
    page.wait_for_selector(".stopped:has-text('at 44')")  # 4 + 9 + … + 44 is 216
    page.wait_for_url(re.compile("seek=balance"))
    page.select_option("[aria-label=Which]", "first")
    with page.expect_response("**/moves"):  # it stays where it is, so nothing else shows the answer
        page.click(".seek >> text=Find")
    expect(page.locator(".seek >> text=Last write")).to_be_enabled()
    page.wait_for_selector(".stopped:has-text('at 44')")
    page.fill("[name=seek]", "balance")
    page.keyboard.press("Escape")
    page.keyboard.press("]")
    page.wait_for_selector(".stopped:has-text('at 49')")
    page.keyboard.press("[")
    page.wait_for_selector(".stopped:has-text('at 44')")
    page.click("text=Last write")
    page.wait_for_selector(".stopped:has-text('at 39')")
    page.fill("[name=seek]", "balance > 9999")
    page.click(".seek >> text=Find")
    page.wait_for_selector("text=There is no such place")
    page.fill("[name=seek]", "balance >")
    page.click(".seek >> text=Find")
    page.wait_for_selector(".problem")


def test_entries_are_shown_the_oldest_first(watched: Watched) -> None:
    page = watched.open("/s/main/audit?action=Create")
    rows = page.locator(".grid tbody tr td:first-child")
    page.wait_for_selector(".grid tr.on")
    newest_first = rows.all_inner_texts()
    what = page.locator(".grid tbody tr .what").all_inner_texts()
    page.select_option("[aria-label=Order]", "forwards")
    page.wait_for_url(re.compile("order=forwards"))
    expect(page.locator(".grid tbody tr .what")).to_have_text(what[::-1])
    assert rows.all_inner_texts() == newest_first[::-1]
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.locator(".grid tbody tr .what")).to_have_text(what)


def test_a_reader_is_told_why_nothing_can_be_done(reader: Watched) -> None:
    page = reader.open("/s/main/projections?projection=balances")
    assert "needs the scope “operate”" in page.locator(".reasons").inner_text()
    assert page.locator(".tools button:enabled").count() == 0
    page = reader.open("/s/main/query?q=SELECT+1")
    assert "needs the scope “sql”" in page.locator(".reasons").inner_text()
    assert page.locator("textarea:enabled, .rows").count() == 0
