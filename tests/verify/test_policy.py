"""Policies, proof files, rollovers, and the program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.verify.logs import NOW, ORIGIN, Log, Slice, policy_text, witness

import everwhen_verify
from everwhen_verify.__main__ import main
from everwhen_verify.errors import (
    MalformedError,
    PolicyError,
    ProofError,
    SignatureError,
    VerifyError,
)
from everwhen_verify.merkle import leaf_hash
from everwhen_verify.notes import Kind, Signer, sign_note
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import Proof, parse_proof, verify
from everwhen_verify.rollover import (
    MAX_ROLLOVERS,
    LogKey,
    Rollover,
    handed_over,
    open_checkpoint,
    open_rollover,
    open_rollovers,
    sign_rollover,
)

W = [witness(number) for number in range(1, 7)]
KEYS = [one.verifier.vkey for one in W]
LOG = Log.of(5)
LOG_LINE = f"log {LOG.signer.verifier.vkey}"

# The example of C2SP tlog-policy, with keys.
EXAMPLE = f"""
{LOG_LINE}

witness X1 {KEYS[0]}
 \twitness X2 {KEYS[1]} https://x2.example/
witness X3 {KEYS[2]}
group X-witnesses 2 X1 X2 X3

# a comment, which may be ü
witness Y1 {KEYS[3]}
witness Y2 {KEYS[4]}
witness Y3 {KEYS[5]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


@pytest.mark.parametrize(
    ("signers", "enough"),
    [
        ((0, 1, 3), True),
        ((1, 2, 5), True),
        ((0, 1, 2, 3, 4, 5), True),
        ((0, 3), False),
        ((0, 1, 2), False),
        ((3, 4, 5), False),
        ((), False),
    ],
)
def test_the_published_example(signers: tuple[int, ...], enough: bool) -> None:
    policy = Policy.parse(EXAMPLE.encode())
    note = LOG.signed(*(W[i] for i in signers))
    if enough:
        endorsed = policy.check(note, NOW)
        assert endorsed.checkpoint == LOG.checkpoint()
        assert endorsed.log == LOG.signer.verifier
        names = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
        assert endorsed.cosigned == {names[i]: NOW for i in signers}
    else:
        with pytest.raises(PolicyError, match="quorum 'X-and-Y' needs 2 of 2"):
            policy.check(note, NOW)


def named_without_keys(value: object) -> str | None:
    """A case's name that is the same in every process: the keys are random."""
    return re.sub(r"\+[0-9a-f]{8}\+\S+", "", value) if isinstance(value, str) else None


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", None, "no quorum"),
        (f"{LOG_LINE}\n", None, "no quorum"),
        (f"{LOG_LINE}\nquorum none", None, "incomplete"),
        ("quorum none\nquorum none\n", 2, "already"),
        ("quorum nobody\n", 1, "not defined"),
        ("quorum\n", 1, "not a line of a policy"),
        ("quorate none\n", 1, "not a line of a policy"),
        ("log x\nquorum none\n", 1, "not base64"),
        (f"log {KEYS[0]}\nquorum none\n", 1, "not a key of the kind"),
        (f"witness a {LOG_LINE[4:]}\nquorum none\n", 1, "not a key of the kind"),
        (f"{LOG_LINE}\n{LOG_LINE}\nquorum none\n", 2, "is given twice"),
        (f"witness a {KEYS[0]}\nwitness b {KEYS[0]}\nquorum a\n", 2, "is given twice"),
        (f"witness a {KEYS[0]}\nwitness a {KEYS[1]}\nquorum a\n", 2, "is reserved or already used"),
        (f"witness none {KEYS[0]}\nquorum none\n", 1, "is reserved or already used"),
        ("group a any a\nquorum a\n", 1, "not defined"),
        ("group a any none\nquorum a\n", 1, "not defined"),
        (f"witness a {KEYS[0]}\ngroup g 2 a\nquorum g\n", 2, "2' of 1"),
        (f"witness a {KEYS[0]}\ngroup g 0 a\nquorum g\n", 2, "write all, any"),
        (f"witness a {KEYS[0]}\ngroup g 01 a\nquorum g\n", 2, "write all, any"),
        (f"witness a {KEYS[0]}\ngroup g any a a\nquorum g\n", 2, "already in a group"),
        (f"witness a {KEYS[0]}\ngroup g any a\ngroup h any a\nquorum h\n", 3, "already in a group"),
        (f"witness a {KEYS[0]}\nquorum a\rb\n", 2, "control characters"),
        ("\x7fquorum none\n", 1, "control characters"),
    ],
    ids=named_without_keys,
)
def test_what_is_no_policy_is_refused(text: str, line: int | None, why: str) -> None:
    with pytest.raises(PolicyError, match=why) as raised:
        Policy.parse(text.encode())
    assert raised.value.line == line


@given(st.binary(max_size=100))
@example(b"log \xff+00000000+AAAA\n")
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    for text in (data, EXAMPLE.encode() + data, EXAMPLE.encode()[: len(data) * 9] + data):
        try:
            Policy.parse(text)
        except PolicyError:
            continue


def test_names_are_bytes() -> None:
    text = b"witness \xff " + KEYS[0].encode() + b"\nwitness \xfe " + KEYS[1].encode() + b"\n"
    policy = Policy.parse(LOG_LINE.encode() + b"\n" + text + b"quorum \xfe\n")
    assert policy.check(LOG.signed(W[1]), NOW).cosigned
    with pytest.raises(PolicyError):
        policy.check(LOG.signed(W[0]), NOW)


@pytest.mark.attack(
    "a witness's signature is dated in the future",
    about="witnesses",
    answer="doesn't count when it is more than five minutes",
    needs="a right clock at the checker",
)
def test_who_has_signed_counts() -> None:
    policy = Policy.parse(policy_text(LOG, W[0]))
    stranger = Log.of(5)
    with pytest.raises(SignatureError, match="no known log"):
        policy.check(stranger.signed(W[0]), NOW)
    other = sign_note(LOG.checkpoint()._replace(origin="else").text, LOG.signer, W[0], time=NOW)
    with pytest.raises(SignatureError, match="for another log, 'else'"):
        policy.check(other, NOW)
    with pytest.raises(PolicyError, match="needs 1 of 1") as early:
        policy.check(LOG.signed(W[0], time=NOW + 3_600), NOW)
    assert "that of 'w1' has the time 2026-01-01T01:00:00Z: a clock is wrong" in str(early.value)
    with pytest.raises(PolicyError, match=r"lacks w1$"):
        policy.check(LOG.signed(), NOW)
    assert policy.check(LOG.signed(W[0], time=NOW + 3_600)).cosigned == {"w1": NOW + 3_600}
    empty = LOG.checkpoint()._replace(size=0).text
    with pytest.raises(MalformedError, match="empty tree"):
        policy.check(sign_note(empty, LOG.signer, W[0], time=NOW), NOW)


@pytest.mark.parametrize("index", range(5))
def test_proofs_hold(index: int) -> None:
    policy = Policy.parse(policy_text(LOG, W[0]))
    proof = LOG.proof(index, LOG.signed(W[0]))
    assert parse_proof(proof.encode()) == proof
    verdict = verify(proof.encode(), policy, NOW)
    assert verdict.entry.index == index
    assert verdict.checkpoint.size == 5


@pytest.mark.attack(
    "a proof is moved to another entry, or has another entry put in it",
    about="history",
    answer="index, entry and path don't lead to the root",
)
def test_a_proof_of_something_else_is_none() -> None:
    policy = Policy.parse(policy_text(LOG))
    proof = LOG.proof(2)
    other = Log.of(0)
    for index in range(5):
        other.append(Slice(index + 1, "game-9", index + 1))
    forgeries = [
        Proof(3, proof.path, proof.note, proof.extra),
        Proof(2, proof.path, proof.note, other.proof(2).extra),
        Proof(2, other.proof(2).path, proof.note, proof.extra),
        Proof(2, (*proof.path, leaf_hash(b"")), proof.note, proof.extra),
        Proof(2, proof.path[1:], proof.note, proof.extra),
        Proof(2, proof.path, LOG.signed(size=4), proof.extra),
        LOG.proof(4, LOG.signed(size=4)),
    ]
    for forged in forgeries:
        with pytest.raises(ProofError):
            verify(forged.encode(), policy)
    with pytest.raises(SignatureError):
        verify(Proof(2, proof.path, other.signed(), proof.extra), policy)


@given(st.data())
def test_no_changed_byte_of_a_proof_goes_unseen(data: st.DataObject) -> None:
    policy = Policy.parse(policy_text(LOG, W[0]))
    whole = LOG.proof(2, LOG.signed(W[0])).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["change", "cut", "drop", "insert"]))
    byte = bytes([data.draw(st.integers(0, 255).filter(lambda b: b != whole[at]))])
    changed = {
        "change": whole[:at] + byte + whole[at + 1 :],
        "cut": whole[:at],
        "drop": whole[:at] + whole[at + 1 :],
        "insert": whole[:at] + byte + whole[at:],
    }[how]
    with pytest.raises(VerifyError):
        verify(changed, policy)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_proof_or_refused(data: bytes) -> None:
    policy = Policy.parse(policy_text(LOG))
    for whole in (
        data,
        b"c2sp.org/tlog-proof@v1\nextra " + data,
        LOG.proof(2).encode()[:90] + data,
    ):
        with pytest.raises(VerifyError):
            verify(whole, policy)


def test_a_rollover_hands_on() -> None:
    second, third = Signer.generate(ORIGIN), Signer.generate(ORIGIN)
    notes = [
        sign_rollover(ORIGIN, LOG.signer, second, 3, NOW),
        sign_rollover(ORIGIN, second, third, 4, NOW),
    ]
    rollovers = open_rollovers(b"".join(notes))
    assert [one.size for one in rollovers] == [3, 4]
    first = LOG.signer.verifier
    keys = handed_over([LogKey(first)], rollovers)
    assert [(key.verifier, key.first, key.last) for key in keys] == [
        (first, 0, 3),
        (second.verifier, 3, 4),
        (third.verifier, 4, None),
    ]
    policy = Policy.parse(policy_text(LOG)).with_rollovers(rollovers)
    for size, signer, right in (
        (3, LOG.signer, True),
        (4, LOG.signer, False),
        (2, second, False),
        (3, second, True),
        (4, second, True),
        (5, second, False),
        (5, third, True),
    ):
        note = sign_note(LOG.checkpoint(size).text, signer)
        if right:
            assert policy.check(note).log == signer.verifier
        else:
            with pytest.raises(SignatureError, match="and signs no "):
                policy.check(note)
    back = open_rollover(sign_rollover(ORIGIN, third, LOG.signer, 5, NOW))
    for wrong in (
        [rollovers[1]],
        [*rollovers, rollovers[0]],
        [rollovers[1], rollovers[0]],
        [rollovers[0], rollovers[0]],
        [*rollovers, back],
    ):
        with pytest.raises(SignatureError, match="doesn't follow"):
            handed_over([LogKey(first)], wrong)
        with pytest.raises(PolicyError, match="isn't the log's"):
            Policy.parse(policy_text(LOG)).with_rollovers(wrong)


@pytest.mark.attack("an old key is used after it was handed over")
def test_a_rollover_never_goes_back() -> None:
    second, third = Signer.generate(ORIGIN), Signer.generate(ORIGIN)
    first = open_rollover(sign_rollover(ORIGIN, LOG.signer, second, 3, NOW))
    for known in (LOG.signer, second, third):
        policy = Policy((LogKey(known.verifier),))
        back = open_rollover(sign_rollover(ORIGIN, second, third, 2, NOW))
        with pytest.raises(PolicyError, match="doesn't follow"):
            policy.with_rollovers([first, back])


@pytest.mark.parametrize(
    ("named", "first"), [([0], 0), ([1], 1), ([2], 2), ([0, 1, 2], 0), ([2, 0], 0), ([2, 1], 1)]
)
def test_a_policy_may_name_a_later_key_or_several(named: list[int], first: int) -> None:
    """What each of them signs is the same as if it named the first."""
    signers = [LOG.signer, Signer.generate(ORIGIN), Signer.generate(ORIGIN)]
    rollovers = [
        open_rollover(sign_rollover(ORIGIN, signers[0], signers[1], 2, NOW)),
        open_rollover(sign_rollover(ORIGIN, signers[1], signers[2], 4, NOW)),
    ]
    spans = [(0, 2), (2, 4), (4, None)]
    keys = handed_over([LogKey(signers[at].verifier) for at in named], rollovers)
    assert {key.verifier: (key.first, key.last) for key in keys} == {
        signers[at].verifier: spans[at] for at in range(first, 3)
    }


@pytest.mark.attack(
    "a log's owner takes over another log of the policy",
    about="signatures",
    answer="the keys of a rollover have another name than its origin",
)
def test_one_log_takes_over_no_other() -> None:
    """The owner of a log b that the policy names, too, makes a key under the name of the other."""
    b, named_x = Signer.generate("b.example/log"), Signer.generate(ORIGIN)
    policy = Policy.parse(f"{LOG_LINE}\nlog {b.verifier.vkey}\nquorum none\n".encode())
    for origin, old, new in (
        (ORIGIN, b, named_x),
        (b.name, b, named_x),
        (ORIGIN, b, Signer.generate(b.name)),
        (b.name, LOG.signer, named_x),
        (ORIGIN, LOG.signer, b),
        (ORIGIN, LOG.signer, Signer.generate(ORIGIN, Kind.COSIGNATURE)),
    ):
        with pytest.raises(MalformedError, match="is not a key of the log"):
            Rollover(origin, old.verifier, new.verifier, 0, NOW)
        text = f"everwhen-rollover/v1\n{origin}\n{old.verifier.vkey}\n{new.verifier.vkey}\n0\n1\n"
        whole = sign_note(text, old, new, time=NOW)
        with pytest.raises(MalformedError, match="is not a key of the log"):
            open_rollovers(whole)
    invented = sign_note(LOG.checkpoint().text, named_x, b)
    with pytest.raises(SignatureError, match="has signed for another log"):
        policy.check(invented)
    own = open_rollover(sign_rollover(b.name, b, Signer.generate(b.name), 0, NOW))
    with pytest.raises(SignatureError):
        policy.with_rollovers([own]).check(invented)
    assert policy.with_rollovers([own]).check(LOG.signed()).log == LOG.signer.verifier


def test_a_retired_keys_signature_beside_the_right_one_does_no_harm() -> None:
    second = Signer.generate(ORIGIN)
    rollover = open_rollover(sign_rollover(ORIGIN, LOG.signer, second, 3, NOW))
    keys = handed_over([LogKey(LOG.signer.verifier)], [rollover])
    both = sign_note(LOG.checkpoint(4).text, LOG.signer, second)
    assert open_checkpoint(both, keys).signers == (second.verifier,)
    at_once = sign_note(LOG.checkpoint(3).text, LOG.signer, second)
    assert open_checkpoint(at_once, keys).signers == (LOG.signer.verifier, second.verifier)


def test_a_rollover_needs_both_signatures() -> None:
    second = Signer.generate(ORIGIN)
    whole = sign_rollover(ORIGIN, LOG.signer, second, 3, NOW)
    lines = whole.splitlines(keepends=True)
    for stripped in (lines[:-1], lines[:-2] + lines[-1:]):
        with pytest.raises(SignatureError, match="is not signed by"):
            open_rollover(b"".join(stripped))
    with pytest.raises(SignatureError):
        open_rollover(whole.replace(b"\n3\n", b"\n4\n"))
    with pytest.raises(MalformedError, match="the same"):
        open_rollover(sign_rollover(ORIGIN, second, second, 3, NOW))
    for data in (b"x", b"x" + whole, whole[:-1], LOG.signed()):
        with pytest.raises(VerifyError):
            open_rollovers(data)
    assert open_rollovers(b"") == []


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy").write_bytes(policy_text(LOG, W[0]))
    (tmp_path / "2.tlog-proof").write_bytes(LOG.proof(2, LOG.signed(W[0])).encode())
    (tmp_path / "bare.tlog-proof").write_bytes(LOG.proof(2).encode())
    return tmp_path


def test_the_program_says_yes(files: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main([str(files / "2.tlog-proof"), str(files / "policy")]) == 0
    said = capfdbinary.readouterr().out.decode()
    assert said.startswith(
        f"yes: commit 00000000-0000-0000-0000-000000000007 is entry 2 of {ORIGIN}\n"
    )
    assert "wrote        game-1 version 3, up to position 3\n    BetPlaced {" in said
    assert "cosigned by  w1 at 2026-01-01T00:00:00Z\n" in said
    assert main([str(files / "2.tlog-proof"), str(files / "policy"), "--json"]) == 0
    record = json.loads(capfdbinary.readouterr().out)
    assert (record["proven"], record["index"], record["size"]) == (True, 2, 5)
    assert record["writes"][0]["events"] == [["BetPlaced", 1, {"player": 7}]]


def test_the_program_says_no(files: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main([str(files / "bare.tlog-proof"), str(files / "policy")]) == 1
    said = capfdbinary.readouterr().out
    assert said == b"no: the quorum 'all-of-them' needs 1 of 1; it has none, and lacks w1\n"
    assert main([str(files / "policy"), str(files / "policy"), "--json"]) == 1
    assert json.loads(capfdbinary.readouterr().out)["error"] == "MalformedError"


@pytest.mark.parametrize(
    "arguments", [[], ["2.tlog-proof"], ["2.tlog-proof", "none"], ["none", "policy"], ["--x"]]
)
def test_the_program_is_used_wrongly(
    files: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(files)
    assert main(arguments) == 2
    assert capfd.readouterr().err.startswith("everwhen-verify: ")


def test_the_program_follows_rollovers(files: Path) -> None:
    second = Signer.generate(ORIGIN)
    (files / "rollovers").write_bytes(sign_rollover(ORIGIN, LOG.signer, second, 3, NOW))
    note = sign_note(LOG.checkpoint().text, second, W[0], time=NOW)
    (files / "new.tlog-proof").write_bytes(LOG.proof(2, note).encode())
    paths = [str(files / "new.tlog-proof"), str(files / "policy")]
    assert main(paths) == 1
    assert main([*paths, "--rollovers", str(files / "rollovers")]) == 0
    assert main([*paths, "--rollovers", str(files / "policy")]) == 2


@pytest.mark.attack(
    "an entry's content steers the checker's terminal",
    about="inputs",
    answer="all that isn't printable is escaped",
)
def test_nothing_of_an_entry_steers_a_terminal(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log = Log()
    log.append(Slice(1, "game\x1b[31m", 1, body=b'"\x1b]0;title\x07'))
    log.append(Slice(2, "big-1", 1, body=b"[" * 200_000))
    (tmp_path / "policy").write_bytes(policy_text(log))
    for index in range(2):
        (tmp_path / "proof").write_bytes(log.proof(index).encode())
        assert main([str(tmp_path / "proof"), str(tmp_path / "policy")]) == 0
        assert b"\x1b" not in capfdbinary.readouterr().out


@pytest.mark.attack(
    "an entry's content is shown as something else than was signed",
    about="inputs",
    answer="what JSON doesn't show whole is shown as text",
)
@pytest.mark.parametrize(
    "body",
    [
        '[["A",1,{"x":NaN}]]',
        '[["A",1,{"x":-Infinity}]]',
        '[["A",1,{"x":1e999}]]',
        '[["A",1,{"x":1e-99999999999999999999}]]',
        '[["A",1,{"x":1.00000000000000000001}]]',
        '[["A",1,{"paid":1,"paid":2}]]',
        '[["A",1,' + "9" * 5_000 + "]]",
        "[" * 200 + "]" * 200,
    ],
    ids=lambda body: body[8:30],
)
def test_content_that_json_would_not_show_as_it_is_is_shown_as_text(
    body: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log = Log()
    log.append(Slice(1, "game-1", 1, body=body.encode()))
    (tmp_path / "policy").write_bytes(policy_text(log))
    (tmp_path / "proof").write_bytes(log.proof(0).encode())
    assert main([str(tmp_path / "proof"), str(tmp_path / "policy"), "--json"]) == 0
    record = json.loads(capfdbinary.readouterr().out, parse_constant=pytest.fail)
    assert record["writes"][0]["events"] == body
    assert main([str(tmp_path / "proof"), str(tmp_path / "policy")]) == 0


@pytest.mark.slow
@pytest.mark.attack(
    "the checker's output is cut off",
    about="inputs",
    answer="an exit code of its own, neither yes nor no",
)
@pytest.mark.parametrize("given", ["2.tlog-proof", "bare.tlog-proof", "--help"])
@pytest.mark.parametrize("output", ["full", "closed", "broken"])
def test_an_answer_that_could_not_be_written_is_neither_yes_nor_no(
    files: Path, given: str, output: str
) -> None:
    if output == "full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    words = [sys.executable, "-m", "everwhen_verify", given, "policy"]
    if output == "closed":
        words, target = (
            ["sh", "-c", 'exec "$@" >&-', "sh", *words],
            os.open(os.devnull, os.O_WRONLY),
        )
    elif output == "full":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, target = os.pipe()
        os.close(reader)
    try:
        done = subprocess.run(
            words, cwd=files, stdout=target, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(target)
    why = {"full": "No space left", "closed": "is closed", "broken": "Broken pipe"}[output]
    assert done.returncode == 74
    assert done.stderr.startswith("everwhen-verify: the answer could not be written: ")
    assert why in done.stderr


def test_complaints_that_nobody_can_read_change_no_exit_code(files: Path) -> None:
    line = f"{sys.executable} -m everwhen_verify none policy 2>&-; echo $?"
    done = subprocess.run(["sh", "-c", line], cwd=files, capture_output=True, check=False)
    assert done.stdout == b"2\n"


@pytest.mark.attack(
    "the checker is given files without an end", about="inputs", answer="each has a limit"
)
def test_inputs_are_bounded(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (files / "endless").symlink_to("/dev/zero")
    proof, policy = str(files / "2.tlog-proof"), str(files / "policy")
    for arguments in (
        [str(files / "endless"), policy],
        [proof, str(files / "endless")],
        [proof, policy, "--rollovers", str(files / "endless")],
    ):
        assert main(arguments) == 2
        assert "is too large" in capfd.readouterr().err
    assert main(["a\0b", policy]) == 2
    with pytest.raises(MalformedError, match="more than"):
        open_rollovers(bytes(MAX_ROLLOVERS + 1))


def test_the_folder_alone_is_enough(files: Path) -> None:
    folder = Path(everwhen_verify.__file__).parent
    copied = files / "alone"
    shutil.copytree(
        folder, copied / "everwhen_verify", ignore=shutil.ignore_patterns("__pycache__")
    )
    block = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(['everwhen', 'msgspec', 'apsw']));"
        "sys.argv[0] = 'everwhen-verify'; runpy.run_module('everwhen_verify', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", block, files / "2.tlog-proof", files / "policy"],
        cwd=copied,
        env={**os.environ, "PYTHONPATH": str(copied)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"yes: ")


def test_without_cryptography_it_says_what_it_needs() -> None:
    block = "import sys; sys.modules['cryptography'] = None\nfrom everwhen_verify.__main__ import main\n"
    done = subprocess.run(
        [sys.executable, "-c", block + "sys.exit(main(['a', 'b']))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "everwhen-verify: it needs cryptography: pip install cryptography\n"
