"""Whatever happens to the files, a command ends with a line and a documented code, not a traceback."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.damaging import commands, damage, furnish
from tests.cli.everwhen_shell import Shell

DAMAGES = int(os.environ.get("EVERWHEN_DAMAGES", "14"))
SEED = int(os.environ.get("EVERWHEN_SEED", "1"))
EACH = 5
DOCUMENTED = {0, 1, 2, 65, 66, 73, 74, 75, 77}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    furnish(folder)
    return folder


def test_every_command_on_whole_files(whole: Path, shell: Shell, tmp_path: Path) -> None:
    """What follows would say little if commands failed for another reason."""
    for number, arguments in enumerate(commands(Path("now"))):
        if number % 10 == 0:
            shutil.rmtree(tmp_path / "now", ignore_errors=True)
            shutil.copytree(whole, tmp_path / "now")
        done = shell(*arguments)
        assert done.code in {0, 1}, (arguments, done.err)


@pytest.mark.parametrize("seed", range(SEED, SEED + DAMAGES))
def test_damaged_files(whole: Path, shell: Shell, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path / "now"
    shutil.copytree(whole, folder)
    how = damage(folder, chance)
    for arguments in chance.sample(commands(folder), EACH):
        done = shell(*arguments)
        assert done.code in DOCUMENTED, (how, arguments, done.err)
        assert "Traceback" not in done.err, (how, arguments)
        if done.code >= 65:
            assert done.err.startswith("everwhen: "), (how, arguments)


FEW = """
import os, resource, sys
from tests.cli.damaging import commands
from everwhen.cli import main
from pathlib import Path

folder, left, skipped = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
every = commands(folder)[skipped::5]
main(every[0])  # what it imports is there by now
used = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + left, used + left))
sys.exit(max(map(main, every)))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors as Linux does")
@pytest.mark.parametrize("left", range(5))
def test_few_descriptors(whole: Path, tmp_path: Path, left: int) -> None:
    folder = tmp_path / "now"
    shutil.copytree(whole, folder)
    done = subprocess.run(
        [sys.executable, "-c", FEW, str(folder), str(left), str(left)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in DOCUMENTED, done.stderr
    assert not done.stderr or "too many" in done.stderr.lower()


INTERRUPTED = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
wanted = sys.argv[1]
from everwhen_start import main
sys.argv[1:] = [wanted]
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module",
    [
        "everwhen",
        "everwhen.codec.codec",
        "typer",
        "everwhen.cli.program",
        "everwhen.cli.commands.demo",
    ],
)
def test_an_interrupt_while_it_starts(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupt_while_the_commands_are_put_together(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("everwhen.cli.program.program", interrupted)
    done = shell("info", "--help")
    assert (done.code, done.out, done.err) == (130, "", "")


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    ignoring = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    done = subprocess.run(
        [sys.executable, "-c", ignoring + INTERRUPTED, "typer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, "'typer' is no command"
    assert "Traceback" not in done.stderr


def test_a_fault_is_one_line_with_its_place(
    shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fold that raises ends the command with 70, and says where in history and in the code."""
    own = "from everwhen import Fold\nbroken = Fold('broken', int)\n"
    own += (
        "@broken.otherwise\ndef meets(state, recorded):\n    return 1 // (recorded.position - 2)\n"
    )
    (tmp_path / "broken_fold.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    done = shell("at", shop, "head", "--fold", "broken_fold:broken")
    assert (done.code, done.out) == (70, "")
    assert done.err == (
        "everwhen: ZeroDivisionError: integer division or modulo by zero; in fold 'broken', at "
        "position 2, game-1@2, BetPlaced at broken_fold.py:5 in meets; set EVERWHEN_TRACEBACK=1 to "
        "see the traceback\n"
    )
    monkeypatch.setenv("EVERWHEN_TRACEBACK", "1")
    assert "Traceback" in shell("at", shop, "head", "--fold", "broken_fold:broken").err
