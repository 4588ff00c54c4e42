"""The wheel is the tree: built twice, on another day, from another folder or from the sdist, it is the same bytes.

Without the weights, which take most of the time; `make wheel-twice` has them too.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).parent.parent
PARTS = ("src", "pyproject.toml", "README.md", "LICENSE", "LICENSES")
WHOLE = os.environ.get("SAMLET_WHEEL") == "whole"
LEFT_OUT = ("__pycache__", *(() if WHOLE else ("weights",)))
BUILD = "import sys; from hatchling import build; print(getattr(build, 'build_' + sys.argv[1])(sys.argv[2]))"


def tree(folder: Path, *, day: int) -> Path:
    """Copy what a wheel is made of; every file is as old as the day says."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns(*LEFT_OUT, "*.egg-info")
            )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / part, folder / part)
    for path in folder.rglob("*"):
        os.utime(path, (day * 86_400, day * 86_400))
    return folder


def built(kind: str, place: Path, output: Path, **environment: str) -> Path:
    """Build as pip would, in a process of its own."""
    output.mkdir()
    without = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(output)],
        cwd=place,
        env=without | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return output / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    return built("wheel", tree(folder / "tree", day=20_000), folder / "out")


def test_the_wheel_holds_the_tree_and_nothing_else(first: Path) -> None:
    package = {
        path.relative_to(ROOT / "src").as_posix(): path.read_bytes()
        for path in (ROOT / "src/samlet").rglob("*")
        if path.is_file() and not set(LEFT_OUT) & set(path.parts)
    }
    with zipfile.ZipFile(first) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist()}
    facts = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    assert held.keys() - facts == package.keys()
    assert [name for name in package if held[name] != package[name]] == []
    licences = {name.rpartition("/")[2] for name in facts if "/licenses/" in name}
    assert licences == {"LICENSE", *(path.name for path in (ROOT / "LICENSES").iterdir())}


def test_built_again_it_is_the_same(first: Path, tmp_path: Path) -> None:
    second = built("wheel", tree(tmp_path / "another folder", day=19_000), tmp_path / "out", TZ="Asia/Tokyo")
    assert second.name == first.name
    assert hashlib.sha256(second.read_bytes()).hexdigest() == hashlib.sha256(first.read_bytes()).hexdigest()


def test_built_from_the_sdist_it_is_the_same(first: Path, tmp_path: Path) -> None:
    sdist = built("sdist", tree(tmp_path / "tree", day=18_000), tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (place,) = (tmp_path / "unpacked").iterdir()
    assert built("wheel", place, tmp_path / "out").read_bytes() == first.read_bytes()


def test_a_date_that_is_asked_for_is_taken(first: Path, tmp_path: Path) -> None:
    """Or the tests above would compare nothing: with another date the bytes are others."""
    place = tree(tmp_path / "tree", day=20_000)
    same, other = (
        built("wheel", place, tmp_path / name, SOURCE_DATE_EPOCH=date).read_bytes()
        for name, date in (("a", "1700000000"), ("b", "1800000000"))
    )
    assert same != other
