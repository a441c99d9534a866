"""Timestamps of checkpoints: by a real authority, kept, checked, and refused where they are wrong."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.trust.timestamping import Authority, serving

from everwhen import Store, UnknownEvent, open_store
from everwhen.errors import DeclarationError, MerkleLogError, TamperedError, TimestampError
from everwhen.merkle import FaultKind, MemoryTiles, MerkleLog, TimestampAuthority
from everwhen_verify.notes import Signer

SIGNER = Signer.generate("example.org/log")


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with serving(tmp_path / "tsa") as found:
        yield found


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store("memory:") as opened:
        yield opened


def sealed(store: Store, commits: int = 3) -> tuple[MerkleLog, MemoryTiles]:
    tiles = MemoryTiles()
    log = MerkleLog(store, tiles, SIGNER)
    grow(log, store, commits)
    return log, tiles


def grow(log: MerkleLog, store: Store, commits: int) -> None:
    for number in range(commits):
        store.append("s", [UnknownEvent("Noted", {"number": number})])
    log.sign()


def test_a_checkpoint_is_timestamped_and_openssl_takes_it(
    authority: Authority, store: Store, tmp_path: Path
) -> None:
    log, tiles = sealed(store)
    clock = TimestampAuthority(authority.url)
    first = log.timestamp(clock)
    assert first.size == 3
    assert timedelta(seconds=-2) < datetime.now(UTC) - first.time < timedelta(hours=1)
    assert log.timestamp(clock) == first, "the first time counts"
    assert len(authority.asked) == 1
    grow(log, store, 2)
    grow(log, store, 1)
    assert log.timestamp(clock).size == 6
    report = log.verify(authorities=authority.root.read_bytes())
    assert (report.fault, [one.size for one in report.timestamps]) == (None, [3, 6])
    assert log.verify().timestamps == ()
    for name in ("timestamps/3.tsr", "timestamps/6.tsr"):
        (tmp_path / "tsr").write_bytes(tiles.files[name])
        for note, right in ((tiles.files["checkpoint"], name.endswith("/6.tsr")), (b"x", False)):
            (tmp_path / "note").write_bytes(note)
            judged = authority.openssl(
                "ts", "-verify", "-data", str(tmp_path / "note"), "-in", str(tmp_path / "tsr"),
                "-CAfile", "root.pem"
            )  # fmt: skip
            assert (judged.returncode == 0) is right, judged.stderr


@pytest.mark.attack(
    "another's timestamps are put in the place of these",
    about="witnesses",
    answer="the imprint is another one",
)
def test_wrong_timestamps_are_faults(authority: Authority, store: Store, tmp_path: Path) -> None:
    log, tiles = sealed(store)
    root = authority.root.read_bytes()
    none = log.verify(authorities=root).fault
    assert none is not None
    assert (none.kind, none.what) == (FaultKind.TIMESTAMP, "no checkpoint has a timestamp")
    log.timestamp(TimestampAuthority(authority.url))
    right = tiles.files["timestamps/3.tsr"]
    with serving(tmp_path / "other") as other:
        stranger = log.verify(authorities=other.root.read_bytes())
    assert stranger.fault is not None
    assert stranger.fault.kind == FaultKind.TIMESTAMP
    assert stranger.timestamps == ()
    for wrong in (right[:-1], right[:500], b"", right[:-20] + bytes(20)):
        tiles.files["timestamps/3.tsr"] = wrong
        fault = log.verify(authorities=root).fault
        assert fault is not None
        assert (fault.kind, fault.index) == (FaultKind.TIMESTAMP, 2)
        assert "timestamps/3.tsr" in fault.what
    tiles.files["timestamps/3.tsr"] = b"torn"
    assert log.timestamp(TimestampAuthority(authority.url)).size == 3, "it is asked for again"
    assert log.verify(authorities=root).is_sound
    for nothing in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(MerkleLogError, match="certificates can't be read"):
            log.verify(authorities=nothing)


@pytest.mark.attack(
    "history is made up afterwards, with the stolen key",
    about="witnesses",
    answer="no authority's timestamp fits it, and none is that old",
    needs="timestamps that are kept elsewhere with their signed checkpoints, and the authority's certificates",
)
def test_a_rewritten_history_does_not_fit_its_timestamp(authority: Authority, store: Store) -> None:
    log, tiles = sealed(store)
    log.timestamp(TimestampAuthority(authority.url))
    with open_store("memory:") as rewritten:
        forged, theirs = sealed(rewritten)
        theirs.files["timestamps/3.tsr"] = tiles.files["timestamps/3.tsr"]
        assert forged.verify().is_sound, "who has the key can sign another one"
        fault = forged.verify(authorities=authority.root.read_bytes()).fault
        assert fault is not None
        assert fault.kind == FaultKind.TIMESTAMP
        with pytest.raises(TamperedError, match="another checkpoint"):
            forged.timestamp(TimestampAuthority(authority.url))
        assert theirs.files["timestamps/3.tsr"] == tiles.files["timestamps/3.tsr"]


def test_answers_that_are_none_are_refused(authority: Authority, store: Store) -> None:
    log, tiles = sealed(store)
    clock = TimestampAuthority(authority.url)
    authority.answer = authority.reply(b"junk")
    with pytest.raises(TimestampError, match="it refuses: Bad request format"):
        log.timestamp(clock)
    authority.answer = b"no answer"
    with pytest.raises(TimestampError, match="is not a timestamp"):
        log.timestamp(clock)
    authority.answer = bytes(100_000)
    with pytest.raises(TimestampError, match="too long"):
        log.timestamp(clock)
    authority.answer, authority.status = b"", 503
    with pytest.raises(TimestampError, match="status 503") as caught:
        log.timestamp(clock)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301
    authority.answer, authority.status = None, 200
    authority.answer = authority.reply(authority.asked[1])
    with pytest.raises(TimestampError, match="that of something else"):
        log.timestamp(clock)
    assert not [name for name in tiles.files if name.startswith("timestamps/")]
    with pytest.raises(TimestampError, match=r"127\.0\.0\.1:1/"):
        log.timestamp(TimestampAuthority("http://127.0.0.1:1/"))
    with pytest.raises(DeclarationError, match="is not an address"):
        TimestampAuthority("ftp://here")
    with pytest.raises(MerkleLogError, match="nothing is signed yet"):
        MerkleLog(store, MemoryTiles(), SIGNER).timestamp(clock)
