"""One model in a process of its own, so that its peak memory is its own: orders in, answers out, one JSON a line.

    {"do": "load", "model": NAME, "backend": "onnx", "shape": "auto", "threads": null}
    {"do": "picture", "path": FILE.npy}         RGB uint8 (H, W, 3)
    {"do": "embed"}                             encode that picture
    {"do": "segment", "prompt": {...}}          arguments of `Model.segment`, masks of picture size
    {"do": "everything", "kind": "objects"}     or "grid16", "hierarchical32", "regions"
    {"do": "memory"}                            peak resident memory so far

An answer to an order that cannot be carried out is {"error": name of the exception, "message": its sentence}.
"""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from samlet import model as models
from samlet.compare import parts
from samlet.embedding import Embedding
from samlet.errors import InputError, ModelError, SamletError
from samlet.image import Image
from samlet.masks import Masks
from samlet.model import Model
from samlet.registry import cards

_KIND = re.compile(r"(?P<way>grid|hierarchical)(?P<side>[1-9][0-9]{0,2})")
_FAMILIES = ("sam", "fastsam")


class Worker:
    """Holds a model, a picture and its embedding between orders."""

    def __init__(self) -> None:
        self.model: Model | None = None
        self.image: Image | None = None
        self.view: Embedding | None = None

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry one order out.

        Args:
            order: "do" and what belongs to it; see the module.

        Returns:
            The answer, ready for JSON.

        Raises:
            SamletError: It cannot be carried out.
        """
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "load": self._load,
            "picture": self._picture,
            "embed": self._embed,
            "segment": self._segment,
            "everything": self._everything,
            "memory": lambda _: {"mib": peak_mib()},
        }
        return actions[order["do"]](order)

    def _load(self, order: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        self.model = models.load(
            order["model"], backend=order["backend"], shape=order["shape"], threads=order["threads"]
        )
        seconds, card = time.perf_counter() - start, self.model.card
        if card.family not in _FAMILIES:
            raise ModelError(
                f"expected a model that answers clicks and boxes, got {card.name} of the family {card.family}; "
                "compare SAM's, MobileSAM's, EfficientViT-SAM's, FastSAM's or nano"
            )
        published = {file.sha256 for known in cards().values() for file in known.files if file.sha256}
        return {
            "name": card.name,
            "title": card.title,
            "family": card.family,
            "digest": card.digest,
            "published": all(file.sha256 in published for file in card.files),
            "load_ms": 1000 * seconds,
            "bytes": parts.file_bytes(card),
            "parameters": parts.parameters(card),
        }

    def _picture(self, order: dict[str, Any]) -> dict[str, Any]:
        self.image, self.view = Image.load(np.load(order["path"], allow_pickle=False)), None
        return {}

    def _embed(self, _: dict[str, Any]) -> dict[str, Any]:
        model, image = self._ready()
        start = time.perf_counter()
        self.view = model.embed(image)
        return {"ms": 1000 * (time.perf_counter() - start)}

    def _segment(self, order: dict[str, Any]) -> dict[str, Any]:
        model, _ = self._ready()
        view = self._embedded()
        start = time.perf_counter()
        masks = model.segment(view, **order["prompt"])
        for mask in masks.iter_masks():  # made at the picture's size, one after the other
            del mask
        return {"ms": 1000 * (time.perf_counter() - start), **_told(masks)}

    def _everything(self, order: dict[str, Any]) -> dict[str, Any]:
        model, _ = self._ready()
        view = self._embedded()
        view.derived.clear()  # FastSAM keeps what it found
        start = time.perf_counter()
        masks = model.everything(view, **ways_of(order["kind"]))
        return {"ms": 1000 * (time.perf_counter() - start), **_told(masks)}

    def _ready(self) -> tuple[Model, Image]:
        if self.model is None or self.image is None:
            raise InputError(
                "expected a model and a picture before this order, got neither or one; load both"
            )
        return self.model, self.image

    def _embedded(self) -> Embedding:
        if self.view is None:
            raise InputError("expected an embedded picture before this order, got none; embed it first")
        return self.view


def ways_of(kind: str) -> dict[str, Any]:
    """Say what a kind of everything mode is for `Model.everything`.

    Args:
        kind: "objects", "regions", "gridN" or "hierarchicalN".

    Raises:
        InputError: There is no such kind.

    Example:
        >>> ways_of("grid16")
        {'by': 'grid', 'grid': '16x16'}
    """
    if kind in ("objects", "regions"):
        return {"by": kind}
    found = _KIND.fullmatch(kind)
    if found is None:
        raise InputError(
            f"expected a kind of everything mode (objects, regions, grid16, hierarchical32), got {kind!r:.40}; "
            "choose some of them"
        )
    return {"by": found["way"], "grid": f"{found['side']}x{found['side']}"}


def _told(masks: Masks) -> dict[str, Any]:
    return {"masks": masks.to_rle(), "scores": [float(score) for score in masks.scores]}


def peak_mib() -> float | None:
    """Give the peak of this process's resident memory in MiB; None where the system does not tell."""
    status = Path("/proc/self/status")
    try:  # `ru_maxrss` would count what the parent held before the start too
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def main() -> int:
    """Read orders until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes our input
    # Whatever a runtime prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.obey(json.loads(line))
        except SamletError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0
