"""What the README tells people to type does what it says."""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image as PILImage

from samlet.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder like the project's root, where results may be written."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_command(project, capsys):
    line = next(line for line in README.splitlines() if line.startswith("python3 -m venv"))
    arguments = shlex.split(line.split("samlet ", 1)[1])
    assert arguments[0] == "segment"
    assert main(arguments) == 0
    written = re.search(r"It writes `(.+?)`", README)
    assert written is not None
    with PILImage.open(project / written[1]) as overlay, PILImage.open(project / arguments[1]) as photo:
        assert overlay.size == photo.size


def test_the_python_example(project):
    block = re.search(r"```python\n(.*?)```", README, re.S)
    assert block is not None
    (project / "out").mkdir()
    names: dict[str, object] = {}
    exec(block[1], names)
    assert (project / "overlay.png").exists()
    assert (project / "astronaut.safetensors").exists()
    assert len(names["masks"].to_coco()["annotations"]) == len(names["masks"])


def test_every_command_of_the_overview_parses(project, capsys):
    block = re.search(r"## From the command line\n\n```sh\n(.*?)```", README, re.S)
    assert block is not None
    (project / "holiday").mkdir()
    shutil.copy(project / "samples" / "coffee.jpg", project / "holiday" / "a.jpg")
    shutil.copytree(project / "holiday", project / "photos")
    with PILImage.open(project / "samples" / "coffee.jpg") as photo:
        photo.save(project / "aerial.tif")
    for line in block[1].splitlines():
        arguments = shlex.split(line.split("#")[0])[1:]
        if arguments[0] in (
            "annotate",
            "evaluate",
            "export",
            "serve",
            "text",
            "multiview",
            "sequence",
            "camera",
            "finetune",
            "distill",
            "quantize",
            "compare",
        ):
            continue  # need a data set, a package, a client, a video or a model's file; they have tests
        if "--backend" in arguments and find_spec("openvino") is None:
            continue  # an extra
        arguments = [a.replace("PHOTO...", "PHOTO").replace("PHOTO", "samples/coffee.jpg") for a in arguments]
        assert main(arguments) == 0, line


def test_links_point_at_files():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
