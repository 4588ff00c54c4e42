"""Whatever is done to a file, its reader gives a refusal in one sentence: the small version of `make mutants`.

The whole runs and what they found are in docs/explanation/reliability.md.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.child import outcome
from fuzz.guided import steps
from fuzz.mutants import run, table
from fuzz.mutate import png_repaired, riff_repaired
from fuzz.targets import CORPUS, TARGETS

ROOT = Path(__file__).parent.parent
MUTANTS = 120
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux'")


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_read_and_broken_ones_refused(name: str) -> None:
    target = TARGETS[name]
    assert [outcome(target, data) for data in target.seeds()] == ["read"] * len(target.seeds())
    stock = target.stock()
    found = {index: outcome(target, target.mutant(index, stock)) for index in range(MUTANTS)}
    assert {index: told for index, told in found.items() if told not in ("read", "refused")} == {}
    assert set(found.values()) == {"read", "refused"}, "mutants must neither all pass nor all fail"


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_in_the_corpus_gets_through(name: str) -> None:
    target = TARGETS[name]
    kept = sorted(target.corpus.glob("*"))
    assert kept, "every target has a corpus; make it with `python -m fuzz.guided --keep`"
    found = {path.name: outcome(target, path.read_bytes()) for path in kept}
    assert {each: told for each, told in found.items() if told not in ("read", "refused")} == {}


def test_every_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


def test_mutants_are_the_same_every_time() -> None:
    target = TARGETS["prompts-jsonl"]
    stock = target.stock()
    first = [target.mutant(index, stock) for index in range(50)]
    assert first == [target.mutant(index, stock) for index in range(50)]
    assert len(set(first)) > 40


def test_the_search_keeps_what_reaches_other_lines() -> None:
    target = TARGETS["rle"]
    good = [steps(target, data) for data in target.seeds()]
    known = set().union(*good)
    assert steps(target, target.seeds()[0]) <= known and len({line for _, _, line in known}) > 20
    assert steps(target, b'{"size": [0, 2], "counts": []}') - known
    assert {Path(file).name for file, _, _ in known} == {"rle.py"}


def test_checksums_are_made_right_again() -> None:
    for name, repaired in (("png", png_repaired), ("webp", riff_repaired)):
        for data in TARGETS[name].seeds():
            assert repaired(data) == data
    data = bytearray(TARGETS["png"].seeds()[0])
    data[20] ^= 1  # the width
    assert outcome(TARGETS["png"], bytes(data)) == "refused" and png_repaired(bytes(data)) != bytes(data)


@on_linux
def test_the_supervisor_notices_every_kind_of_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    monkeypatch.chdir(ROOT)
    report = run("bad", 11, module="tests.bad_readers")
    kinds = {index: told.partition(":")[0] for index, told in report.faults}
    assert kinds == {2: "died", 5: "foreign", 6: "foreign", 7: "foreign", 8: "slow"}
    assert "MemoryError" in dict(report.faults)[7]
    assert report.outcomes["read"] == 5 and report.outcomes["refused"] == 1
    asleep = run("asleep", 3, module="tests.bad_readers", hangs=3)
    assert [index for index, told in asleep.faults if told.startswith("hung")] == [1]
    assert asleep.outcomes["read"] == 2
    assert "| bad | 11 | 5 | 1 | 1 | 3 | 1 |" in table([report, asleep])


@on_linux
def test_the_command_says_what_became_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    command = [sys.executable, "-m", "fuzz.mutants", "--count", "20", "rle"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "| rle | 20 |" in done.stdout
