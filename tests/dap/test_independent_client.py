"""The adapter and a client that somebody else wrote."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import PROGRAM, environment
from tests.patience import PATIENCE_SECONDS

HERE = Path(__file__).resolve().parent
EXTENSION = HERE.parent.parent / "editors" / "vscode"
PACKAGE = "@vscode/debugadapter-testsupport"


def test_the_client_of_vs_code_s_own_adapters(tmp_path: Path, bank: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node isn't installed here")
    modules = os.environ.get("NODE_PATH") or str(EXTENSION / "node_modules")
    if not (Path(modules) / PACKAGE).is_dir():
        pytest.skip(f"{PACKAGE} isn't installed here: npm install in editors/vscode")
    script = tmp_path / "adapter.sh"
    words = " ".join(shlex.quote(word) for word in (sys.executable, *PROGRAM[1:]))
    script.write_text(f"exec {words} debug --dap\n")
    done = subprocess.run(
        [node, str(HERE / "independent.cjs"), str(script), str(bank)],
        cwd=tmp_path,
        env=environment(NODE_PATH=modules),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["done"], 0), done.stderr


def test_the_extension_starts_what_there_is() -> None:
    manifest = json.loads((EXTENSION / "package.json").read_text())
    (debugger,) = manifest["contributes"]["debuggers"]
    assert debugger["type"] == "everwhen"
    properties = debugger["configurationAttributes"]["launch"]["properties"]
    from everwhen.dap import LaunchArguments

    assert set(LaunchArguments.__struct_fields__) == set(properties) - {"command", "cwd"}
    assert '["debug", "--dap"]' in (EXTENSION / manifest["main"]).read_text()
