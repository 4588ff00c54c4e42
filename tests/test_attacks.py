"""No model file runs anything: hostile files are refused for the right reason, fast, in little memory."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS

from tests.attack_probe import ROOM

ROOT = Path(__file__).parent.parent
KINDS = {"pickle": 12, "archive": 12, "safetensors": 6, "onnx": 6}
SECONDS = 2.0


def probe(folder: Path, *words: str) -> dict[str, Any]:
    """Run the probe in an empty folder and give its records by the attack's name."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack_probe", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return {record["name"]: record for record in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("attacked")
    records = probe(folder)
    assert list(folder.iterdir()) == []
    return records


def test_there_are_enough_attacks() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    for kind, least in KINDS.items():
        assert sum(attack.kind == kind for attack in ATTACKS) >= least
    assert {attack.kind for attack in ATTACKS} == set(KINDS)
    assert all(attack.would.endswith(".") for attack in ATTACKS)


def test_the_page_counts_them() -> None:
    page = (ROOT / "docs/explanation/checkpoints.md").read_text("utf-8")
    rows = [
        line.split("|")[2] for line in page.splitlines() if line.startswith("| ") and line.count("|") == 4
    ]
    assert sum(int(cell) for cell in rows if cell.strip().isdigit()) == len(ATTACKS)
    assert f"makes {len(ATTACKS)} hostile files" in page


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_refused(attack: Any, found: dict[str, Any]) -> None:
    record = found[attack.name]
    assert record["outcome"].startswith(
        f"CheckpointError: expected model weights that samlet can read in {attack.name}, but "
    )
    assert attack.reason in record["outcome"]
    assert record["outcome"].count("\n") == 0
    assert record["canary"] is False
    assert record["modules"] == []
    assert record["seconds"] < SECONDS
    assert record["bytes"] < ROOM


def test_the_attacks_are_real(tmp_path: Path) -> None:
    """The same files given to Python's own reader: each of those that should makes its canary."""
    if os.name == "nt":
        pytest.skip("the commands are for a shell of Unix")
    records = probe(tmp_path, "control")
    assert len(records) >= 10
    assert [name for name, record in records.items() if not record["canary"]] == []


@pytest.mark.parity  # so that CI runs it where onnx is installed
def test_onnx_attacks_are_onnx() -> None:
    """What is refused as a graph really is one, for the library that reads graphs."""
    onnx = pytest.importorskip("onnx")
    broken = ("truncated_graph", "graph_that_claims_two_gigabytes", "graphs_within_graphs")
    for attack in ATTACKS:
        if attack.kind == "onnx" and attack.name not in broken:
            assert onnx.ModelProto.FromString(attack.make()).graph.name == "graph", attack.name


def test_they_can_be_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "attacks", str(tmp_path / "files")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "files").iterdir())) == len(ATTACKS)


def test_the_reader_knows_no_way_to_run_anything() -> None:
    """The reader imports a short list of modules, and calls nothing with which Python runs what a text says."""
    modules = {"collections", "dataclasses", "json", "math", "numpy", "struct", "typing", "zlib", "samlet"}
    forbidden = {
        "eval",
        "exec",
        "compile",
        "__import__",
        "import_module",
        "getattr",
        "setattr",
        "globals",
        "open",
    }
    imported: set[str] = set()
    called: set[str] = set()
    files = sorted((ROOT / "src/samlet/checkpoint").glob("*.py"))
    assert len(files) > 10
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Call):
            named = node.func
            called.add(named.attr if isinstance(named, ast.Attribute) else ast.unparse(named))
    assert imported - modules == set()
    assert called & forbidden == set()
