"""docs/how-to/add-a-model.md, followed to the letter in a copy of the package."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.random_weights import write_official

pytestmark = pytest.mark.torch
if any(importlib.util.find_spec(name) is None for name in ("torch", "onnxscript")):
    pytest.skip("needs torch and the exporter (samlet[export])", allow_module_level=True)

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/how-to/add-a-model.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(# .*?)\n(.*?)^```$", PAGE, re.M | re.S)


def run(words: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(400)
def test_the_page_works_as_it_is_written(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    weights = write_official("mobile_sam", tmp_path / "mine.pt").read_bytes()
    digest = {"SHA256_OF_MINE_PT": hashlib.sha256(weights).hexdigest(), "SIZE_OF_MINE_PT": str(len(weights))}
    answers = []
    for language, mark, body in BLOCKS:
        if mark.startswith("# file: "):
            for word, value in digest.items():
                body = body.replace(word, value)
            (tmp_path / mark.removeprefix("# file: ")).write_text(body)
        elif mark.startswith("# insert in: "):
            after, _, line = body.partition("\n")
            path = tmp_path / mark.removeprefix("# insert in: ")
            text, place = path.read_text(), after.removeprefix("# after: ")
            assert text.count(place) == 1
            path.write_text(text.replace(place, f"{place}\n{line}"))
        elif language == "python":
            run([sys.executable, "-W", "ignore", "-c", body], tmp_path)
        else:
            words = body.split()
            words = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])]
            answers.append(run(words, tmp_path))
    assert len(BLOCKS) == 8
    assert (tmp_path / "out").is_dir()
    assert len(list((tmp_path / "out").glob("coffee.mask*.png"))) == 1


def test_the_promised_lengths() -> None:
    files = {mark.removeprefix("# file: "): body for _, mark, body in BLOCKS if mark.startswith("# file: ")}
    assert len(files["mine.toml"].splitlines()) <= 30
    family = [body for name, body in files.items() if name.startswith("src/")]
    assert sum(len(body.splitlines()) for body in family) <= 150
