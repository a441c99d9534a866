"""How one gets into a cluster, and that nothing shows the secret by which one does."""

from __future__ import annotations

import base64
import contextlib
import logging
import random
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests import replayed_elsewhere as elsewhere
from tests.nats_cluster import NatsCluster, nats_cluster, server_program
from tests.nats_identities import Authority, Identity, Operator
from tests.patience import PATIENCE_SECONDS

from everwhen import Fold, Store, UnknownEvent, open_store
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import DeniedError
from everwhen.backends.jetstream.monitoring import asked_servers
from everwhen.cluster import cluster_status, trim_log
from everwhen.errors import DeclarationError, EverwhenError, StorageError

pytestmark = pytest.mark.slow
SECRET = "s3cr/t@1"  # noqa: S105
QUOTED = quote(SECRET, safe="")
AT_ONCE_SECONDS = 20
"""Less than the patience of 60 s that the tests open stores with, and far longer than it takes."""


class Door(NamedTuple):
    """Servers, what a URL says to get in, and what nothing may show."""

    cluster: NatsCluster
    good: dict[str, str]
    bad: dict[str, str]
    secrets: list[str]

    def url(self, replica: Path, *, bad: bool = False, name: str = "") -> str:
        options = self.bad if bad else self.good
        return self.cluster.url(name or self.cluster.new_name(), replica, **options)


@contextmanager
def by_password(folder: Path) -> Iterator[Door]:
    more = f'authorization {{ user: "shop", password: "{SECRET}" }}\n'
    with nats_cluster(1, more=more) as cluster:
        good, bad = ({"login": f"shop:{word}"} for word in (QUOTED, f"{QUOTED}no"))
        yield Door(cluster, good, bad, [SECRET, QUOTED])


@contextmanager
def by_token(folder: Path) -> Iterator[Door]:
    with nats_cluster(1, more=f'authorization {{ token: "{SECRET}" }}\n') as cluster:
        yield Door(cluster, {"login": QUOTED}, {"login": f"{QUOTED}no"}, [SECRET, QUOTED])


@contextmanager
def by_nkey(folder: Path) -> Iterator[Door]:
    known, unknown = Identity("user"), Identity("user")
    for name, identity in (("good", known), ("bad", unknown)):
        (folder / f"{name}.nk").write_text(f"# of the shop\n{identity.seed}\n")
    more = f"authorization {{ users: [{{ nkey: {known.public} }}] }}\n"
    with nats_cluster(1, more=more) as cluster:
        good, bad = ({"nkey": str(folder / f"{name}.nk")} for name in ("good", "bad"))
        yield Door(cluster, good, bad, [known.seed, unknown.seed])


@contextmanager
def by_credentials(folder: Path) -> Iterator[Door]:
    operator, other = Operator(), Operator()
    known = operator.credentials(folder / "good.creds")
    unknown = other.credentials(folder / "bad.creds")
    with nats_cluster(1, more=operator.configuration) as cluster:
        good, bad = ({"credentials": str(folder / f"{name}.creds")} for name in ("good", "bad"))
        yield Door(cluster, good, bad, [known, unknown])


@contextmanager
def by_certificate(folder: Path) -> Iterator[Door]:
    authority, other = Authority(folder / "ours"), Authority(folder / "theirs")
    certificate, key = authority.certified("server")
    more = (
        f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{authority.file}", '
        f"verify: true }}\n"
    )
    good, bad = (
        {"tls_ca": str(authority.file), "tls_cert": str(of_client[0]), "tls_key": str(of_client[1])}
        for of_client in (authority.certified("client"), other.certified("client"))
    )
    with nats_cluster(1, more=more) as cluster:
        yield Door(cluster, good, bad, [])


DOORS = {
    "password": by_password,
    "token": by_token,
    "nkey": by_nkey,
    "credentials": by_credentials,
    "certificate": by_certificate,
}


@pytest.fixture(scope="module", params=DOORS)
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    with DOORS[request.param](tmp_path_factory.mktemp(request.param)) as found:
        yield found


command_lines: Fold[frozenset[str]] = Fold("command_lines", frozenset)


@command_lines.on(elsewhere.Paid)
def _(state: frozenset[str], event: elsewhere.Paid) -> frozenset[str]:
    """Of the process that this is folded in."""
    return state | {Path("/proc/self/cmdline").read_text()}


@command_lines.merge
def _(earlier: frozenset[str], later: frozenset[str]) -> frozenset[str]:
    return earlier | later


def test_it_opens_the_log_and_is_not_shown(
    door: Door,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = door.url(tmp_path / "replica.db")
    with caplog.at_level(logging.DEBUG), open_store(url, events=[elsewhere.Paid]) as store:
        store.append("a-1", [elsewhere.Paid("x", number) for number in range(50)])
        assert store.head().position == 50
        assert store.check() == []
        shown = f"{store!r} {store.kernel.backend!r} {store.capabilities}"
        lines = store.replay(command_lines, workers=2)
        assert not lines & {Path("/proc/self/cmdline").read_text()}, "others have done it"
    for words in (["info", url], ["info", url, "--json"], ["check", url]):
        done = subprocess.run(
            [sys.executable, "-m", "everwhen.cli", *words], capture_output=True, check=True
        )
        shown += f"{done.stdout.decode()}{done.stderr.decode()}"
    said = capfd.readouterr()
    for secret in door.secrets:
        assert secret not in shown + str(lines) + caplog.text + said.out + said.err


def test_who_is_not_let_in_hears_of_it_at_once(door: Door, tmp_path: Path) -> None:
    url = door.url(tmp_path / "replica.db", bad=True)
    begun = time.monotonic()
    with pytest.raises(DeniedError, match="the servers don't let this node in") as raised:
        open_store(url, busy_timeout=60)
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    told = "".join(traceback.format_exception(raised.value))
    assert str(ClusterAddress.parsed(url).place) in told
    for secret in door.secrets:
        assert secret not in told
    assert not (tmp_path / "replica.db").exists()


def test_who_says_nothing_is_not_let_in(door: Door, tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match="check the URL, which has no user, credentials, nkey"):
        open_store(door.cluster.url("shop", tmp_path / "replica.db"), busy_timeout=60)


def test_a_user_who_may_not_use_jetstream_hears_of_it_at_once(tmp_path: Path) -> None:
    more = (
        "authorization { users: [{ user: reader, password: x, permissions: "
        '{ publish: "ew.>", subscribe: [">"] } }] }\n'
    )
    with nats_cluster(1, more=more) as cluster:
        url = cluster.url("shop", tmp_path / "replica.db", login="reader:x")
        begun = time.monotonic()
        with pytest.raises(DeniedError, match=r"don't let this user do that .*stream\.info"):
            open_store(url, busy_timeout=60)
        assert time.monotonic() - begun < AT_ONCE_SECONDS


def test_a_user_without_an_inbox_hears_of_it_at_once(tmp_path: Path) -> None:
    more = (
        "authorization { users: [{ user: deaf, password: x, permissions: "
        '{ publish: ">", subscribe: ["ew.>"] } }] }\n'
    )
    with nats_cluster(1, more=more) as cluster:
        url = cluster.url("shop", tmp_path / "replica.db", login="deaf:x")
        with pytest.raises(DeniedError, match=r"permissions violation for subscription to ._inbox"):
            open_store(url, busy_timeout=60)


def test_whoever_may_not_ask_the_replicas_isnt_told_that_none_answers(tmp_path: Path) -> None:
    more = (
        "authorization { users: [{ user: shop, password: x, permissions: "
        '{ publish: { allow: ">", deny: "ew.shop.log.main.replicas" }, subscribe: ">" } }] }\n'
    )
    with nats_cluster(1, more=more) as cluster:
        url = cluster.url("shop", tmp_path / "replica.db", login="shop:x")
        with open_store(url, events=[elsewhere.Paid]), pytest.raises(DeniedError, match="replicas"):
            cluster_status(url)


def test_the_permissions_that_the_message_names_are_enough(tmp_path: Path) -> None:
    more = (
        "authorization { users: [{ user: shop, password: x, permissions: "
        '{ publish: ["ew.shop.>", "$JS.API.>", "$JS.FC.>", "$O.EW_shop.>", "_INBOX.>"], '
        'subscribe: ["ew.shop.>", "_INBOX.>"] } }] }\n'
    )
    with nats_cluster(1, more=more) as cluster:
        url = cluster.url("shop", tmp_path / "replica.db", login="shop:x")
        with open_store(url, events=[elsewhere.Paid]) as store:
            store.append("a", [elsewhere.Paid("x", 1)])
            with store.create_branch("what-if") as branch:
                branch.append("a", [elsewhere.Paid("x", 2)])
            store.delete_branch("what-if")
            text = base64.b64encode(random.randbytes(9 << 20)).decode()
            store.append("large", [UnknownEvent("Noted", {"text": text})])
            other = cluster.url("shop", tmp_path / "other.db", login="shop:x")
            with open_store(other, events=[elsewhere.Paid]) as second:
                assert second.head() == store.head()
                second.append("b", [elsewhere.Paid("x", 1)])
                assert second.check() == []
                assert [one.answers for one in cluster_status(url).replicas] == [True, True]
                assert trim_log(url).held_by == "archive"
        for node in cluster.nodes:
            assert "Violation" not in (node.folder / "log").read_text()


def test_one_whose_password_is_changed_meanwhile_is_let_out_and_in_again(tmp_path: Path) -> None:
    known = 'authorization { user: "shop", password: "first" }\n'
    with nats_cluster(1, more=known) as cluster:
        (node,) = cluster.nodes
        url = cluster.url("shop", tmp_path / "replica.db", login="shop:first")
        with open_store(url, events=[elsewhere.Paid], busy_timeout=60) as store:
            store.append("a", [elsewhere.Paid("x", 1)])
            node.configure('"first"', '"other"')
            until = time.monotonic() + PATIENCE_SECONDS
            while True:
                begun = time.monotonic()
                try:
                    store.append("a", [elsewhere.Paid("x", 2)])
                except DeniedError:
                    assert time.monotonic() - begun < AT_ONCE_SECONDS
                    break
                assert time.monotonic() < until
            node.configure('"other"', '"first"')
            while True:
                try:
                    store.append("a", [elsewhere.Paid("x", 3)])
                    break
                except DeniedError:
                    assert time.monotonic() < until
            assert store.check() == []


def test_credentials_that_run_out_are_read_anew(tmp_path: Path) -> None:
    """As whoever hands them out puts others into the file before their time is over."""
    operator, file = Operator(), tmp_path / "shop.creds"
    with nats_cluster(1, more=operator.configuration) as cluster:
        url = cluster.url("shop", tmp_path / "replica.db", credentials=str(file))
        store, out = _opened_before_they_run_out(operator, file, url)
        with store:
            operator.credentials(file)
            while time.time() < out:
                store.append("a", [elsewhere.Paid("x", 1)])
            assert store.check() == []


def _opened_before_they_run_out(operator: Operator, file: Path, url: str) -> tuple[Store, float]:
    """A store that is open by credentials for seconds, and when these have run out.

    Where the machine is too busy to open it within those, they are given for longer.
    """
    for seconds in (4, 16, 64, PATIENCE_SECONDS):
        operator.credentials(file, seconds=seconds)
        out = time.time() + seconds + 2
        try:
            return open_store(url, events=[elsewhere.Paid], busy_timeout=60), out
        except DeniedError:
            continue
    raise AssertionError("it could not be opened in time")


def test_a_server_is_asked_who_it_is(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = ours.certified("server")
    with nats_cluster(
        1, more=f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
    ) as cluster:
        url = cluster.url("shop", tmp_path / "replica.db", scheme="tls", tls_ca=str(ours.file))
        with open_store(url, events=[elsewhere.Paid]) as store:
            store.append("a", [elsewhere.Paid("x", 1)])
        for wrong in (
            cluster.url("shop", tmp_path / "replica.db", tls_ca=str(theirs.file)),
            cluster.url("shop", tmp_path / "replica.db", scheme="tls"),
            url.replace("127.0.0.1:", "localhost:"),
        ):
            with pytest.raises(DeniedError, match="certificate verify failed"):
                open_store(wrong, busy_timeout=60)


def test_a_server_is_asked_whether_it_syncs_over_tls(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = ours.certified("server")
    with nats_cluster(1) as cluster:
        (node,) = cluster.nodes
        node.stop()
        file = node.folder / "nats.conf"
        tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
        file.write_text(file.read_text().replace("http:", "https:") + tls)
        node.start()
        url = cluster.url("shop", tmp_path / "replica.db", tls_ca=str(ours.file))
        encrypted = url.replace("monitor=", "monitor=https://")
        with open_store(encrypted, events=[elsewhere.Paid], busy_timeout=PATIENCE_SECONDS) as store:
            store.append("a", [elsewhere.Paid("x", 1)])
        status = cluster_status(encrypted, busy_timeout=PATIENCE_SECONDS)
        assert [(one.name, one.syncs, one.problem) for one in status.servers] == [
            (node.name, True, None)
        ]
        with pytest.raises(StorageError, match="isn't certain that every server"):
            open_store(url, busy_timeout=PATIENCE_SECONDS)
        wrong = encrypted.replace(str(ours.file), str(theirs.file))
        (server,) = asked_servers(ClusterAddress.parsed(wrong))
        assert server.syncs is None
        assert "certificate verify failed" in (server.problem or "")


@pytest.mark.parametrize("tls", ["scheme", "tls_ca"])
def test_nothing_is_said_to_a_server_without_tls(
    tls: str, nats: NatsCluster, tmp_path: Path
) -> None:
    """Somebody on the way might take the server's word away that it wants TLS."""
    authority = Authority(tmp_path / "ours")
    options = {"scheme": "tls"} if tls == "scheme" else {"tls_ca": str(authority.file)}
    url = nats.url("shop", tmp_path / "replica.db", login="shop:x", **options)
    with pytest.raises(DeniedError, match="the server offers no TLS"):
        open_store(url, busy_timeout=60)


def test_servers_that_are_not_there_are_asked_for_as_long_as_was_said(tmp_path: Path) -> None:
    url = f"nats://shop:{QUOTED}@127.0.0.1:1,127.0.0.1:2/shop?replica={tmp_path / 'replica.db'}"
    with pytest.raises(StorageError, match="no server could be reached within") as raised:
        open_store(url, busy_timeout=0.5)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("option", ["credentials", "nkey", "tls_ca", "tls_cert"])
@pytest.mark.parametrize("kind", ["missing", "empty", "foreign", "folder", "damaged"])
def test_a_file_that_is_not_what_it_should_be(option: str, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    seed = Identity("user").seed
    match kind:
        case "empty":
            file.touch()
        case "foreign":
            file.write_text(f"my {SECRET}")
        case "folder":
            file.mkdir()
        case "damaged":
            file.write_text(
                f"-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\n{seed[:-9]}\n"
                if option == "credentials"
                else seed[:-9]
            )
    url = f"nats://127.0.0.1:1/shop?replica={tmp_path / 'replica.db'}&{option}={file}"
    with pytest.raises(DeclarationError, match=f"option.* {option}") as raised:
        open_store(url, busy_timeout=60)
    told = "".join(traceback.format_exception(raised.value))
    assert SECRET not in told
    assert seed[:-9] not in told


def test_a_key_with_a_password_asks_nobody(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    certificate, plain = Authority(tmp_path / "ours").certified("client")
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", plain, "-out", key],
        check=True,
        capture_output=True,
    )
    url = f"nats://h/shop?replica=r.db&tls_cert={certificate}&tls_key={key}"
    with pytest.raises(DeclarationError, match="a key without a password"):
        open_store(url, busy_timeout=60)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nats:///shop?replica=r.db", "of the servers before the store, number 1"),
        ("nats://h,/shop?replica=r.db", "of the servers before the store, number 2"),
        ("nats://h:70000/shop?replica=r.db", "of the servers before the store, number 1"),
        ("nats://h/?replica=r.db", "doesn't name a store"),
        ("nats://h/a.b?replica=r.db", "doesn't name a store"),
        ("nats://h/shop", r"add \?replica=PATH"),
        ("nats://h/shop?replica=", r"add \?replica=PATH"),
        ("nats://h/shop?replica=r.db&replica=s.db", "has replica twice"),
        ("nats://h/shop?replica=r.db#x", "write it as %XX"),
        ("nats://h/shop?replica=r.db%00", "unprintable character in replica"),
        ("nats://h/shop?replica=r.db&credential=x", "is credentials meant"),
        ("nats://h/shop?replica=r.db&replicas=3", "is replica meant"),
        ("nats://h/shop?replica=r.db&x=y", "there are assume_durable, consistency"),
        ("nats://h/shop?replica=r.db&x", "options of the cluster's URL can't be read"),
        ("nats://h/shop?replica=r.db&copies=2", "1, 3 or 5"),
        ("nats://h/shop?replica=r.db&consistency=strong", "write own or fresh"),
        ("nats://h/shop?replica=r.db&assume_durable=perhaps", "write yes or no"),
        ("nats://h/shop?replica=r.db&monitor=99999", "of the monitoring ports, number 1"),
        ("nats://h/shop?replica=r.db&monitor=a,b c", "of the monitoring ports, number 2"),
        ("nats://h/shop?replica=r.db&monitor=https://a,https://", "ports, number 2"),
        ("nats://h/shop?replica=r.db&monitor=http://a", "of the monitoring ports, number 1"),
        ("nats://h/shop?replica=r.db&nkey=", "nkey without a file"),
        ("nats://u:p@h/shop?replica=r.db&nkey=x", "by nkey and by a user before the @"),
        ("nats://h/shop?replica=r.db&nkey=x&credentials=y", "by credentials and by nkey"),
        ("nats://h/shop?replica=r.db&tls_key=x", "tls_key without the tls_cert"),
        ("nats://:p@h/shop?replica=r.db", "has no user before the @"),
        ("http://h/shop?replica=r.db", "begins with nats:// or tls://"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        ClusterAddress.parsed(url)


def test_a_seed_in_the_place_of_its_file_is_not_shown() -> None:
    seed = Identity("user").seed
    with pytest.raises(DeclarationError, match="put it into a file") as raised:
        ClusterAddress.parsed(f"nats://h/shop?replica=r.db&nkey={seed}")
    assert seed not in "".join(traceback.format_exception(raised.value))


def test_an_address_does_not_show_its_password() -> None:
    address = ClusterAddress.parsed(f"nats://shop:{QUOTED}@h:1,[::1]:2/shop?replica=r.db")
    assert (address.user, address.password) == ("shop", SECRET)
    assert address.servers == ("h:1", "[::1]:2")
    shown = f"{address} {address!r} {[address]} {address.place} {address.beside('b', Path('x'))!r}"
    assert SECRET not in shown
    assert QUOTED not in shown


MARK = "5tr1ctly-pr1vate"
_NOISE = st.text("/?#@&=:%,[] \n\0abé٣\ud800" + "1", max_size=6)


@given(_NOISE, _NOISE, st.sampled_from(["u", "", "u@", "a/b"]), _NOISE)
@example("", "", "u", "")
@example("?monitor=", "&x=", "u", "")
@example("a,", ",b", "u", "h/x?replica=y")
def test_a_password_is_never_shown_however_it_is_written(
    before: str, after: str, user: str, rest: str
) -> None:
    for url in (
        f"nats://{user}:{before}{MARK}{after}@host/shop?replica=r.db",
        f"nats://{user}:{before}{MARK}{after}{rest}",
        f"tls://{before}{MARK}{after}@{rest}/shop?replica=r.db&nkey=x",
        f"nats://host/shop?replica=r.db&{before}{MARK}{after}={rest}",
    ):
        try:
            address = ClusterAddress.parsed(url)
        except DeclarationError as error:
            shown = "".join(traceback.format_exception(error))
        else:
            shown = repr(address).partition("?")[0]
        assert MARK not in shown


@given(st.one_of(st.text(), st.builds("nats://{}/{}?replica={}&{}".format, *[st.text()] * 4),
                 st.builds("nats://h/s?replica=r&{}={}".format, st.sampled_from(
                     ["monitor", "copies", "consistency", "assume_durable", "nkey", "tls_key"]),
                     st.text())))  # fmt: skip
def test_whatever_is_written_is_an_address_or_a_mistake(url: str) -> None:
    with contextlib.suppress(DeclarationError):
        address = ClusterAddress.parsed(url)
        assert address.servers
        assert len(address.monitors) > 0
        again = ClusterAddress.parsed(address.place)
        assert (again.servers, again.replica) == (address.servers, address.replica)


def test_the_guide_has_a_configuration_that_servers_take(tmp_path: Path) -> None:
    guide = Path(__file__).parent.parent / "docs" / "how-to" / "cluster.md"
    (text,) = re.findall(r"```\n(server_name: .*?)```", guide.read_text("utf-8"), re.DOTALL)
    authority = Authority(tmp_path / "ours")
    for name, file in zip(
        ("db-a.pem", "db-a.key", "ca.pem"),
        (*authority.certified("db-a"), authority.file),
        strict=True,
    ):
        text = text.replace(f"/etc/nats/{name}", str(file))
    file = tmp_path / "nats.conf"
    file.write_text(text.replace("/var/lib/nats", str(tmp_path / "data")))
    done = subprocess.run(
        [server_program(), "-t", "-c", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sync_interval: always" in text


def test_a_wrong_url_is_an_error_of_ours_for_whoever_opens_it() -> None:
    with pytest.raises(EverwhenError):
        open_store("nats://h/shop")
