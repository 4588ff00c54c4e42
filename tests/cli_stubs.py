"""What the tests of the command line share: a model without networks, a way to run commands, pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet.model
from samlet.backends.fake import FakeBackend
from samlet.cli import main
from samlet.model import Model
from samlet.registry import resolve
from samlet.session import Session

_NANO = resolve("nano")
CARD = replace(
    _NANO,
    side=128,
    mask_grid=64,
    embedding_channels=4,
    # Whatever nano itself has: the fake finds objects, and its scores are between 0.6 and 0.9.
    graphs={**_NANO.graphs, "objects": "nano_objects.onnx"},
    settings={"pred_iou_thresh": 0.75, "stability_score_thresh": 0.5},
)
POINT = ("--point", "40,30")
BOX = ("--box", "10,10,50,40")

Run = Callable[..., tuple[int, str, str]]


def fake_model(**change: Any) -> Model:
    return Model(Session(replace(CARD, **change), FakeBackend(channels=4)))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let every model be the fake one, and collect what was asked for."""
    asked: list[Any] = []

    def load(
        name: str,
        *,
        decoder: str | None = None,
        threads: int | None = None,
        backend: str = "onnx",
        shape: str = "auto",
    ) -> Model:
        asked.append((name, threads, *sorted({backend, shape} - {"onnx", "auto"})))
        return fake_model()

    monkeypatch.setattr(samlet.model, "load", load)
    return asked


@pytest.fixture
def run(
    loads: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def picture(path: str | Path, *, size: tuple[int, int] = (80, 60), seed: int = 0) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)
    return str(path)


def size(path: str | Path) -> tuple[int, int]:
    with PillowImage.open(path) as opened:
        return opened.size


def pixels(path: str | Path) -> Any:
    with PillowImage.open(path) as opened:
        return np.asarray(opened) > 0


def written(folder: str | Path = "samlet-out") -> list[str]:
    return sorted(entry.name for entry in Path(folder).iterdir())
