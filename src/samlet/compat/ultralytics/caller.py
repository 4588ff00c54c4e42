"""What SAM and FastSAM have in common: pictures in, results out, and the calls that both of them lack."""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn, Self

import numpy as np

import samlet.model
from samlet.backends.base import Backend
from samlet.compat.ultralytics.results import NAMES, Results
from samlet.compat.ultralytics.runs import Run
from samlet.compat.ultralytics.settings import Settings
from samlet.compat.ultralytics.sources import Source, bgr, pictures
from samlet.embedding import Embedding
from samlet.errors import InputError, ModelError
from samlet.masks import Masks as Answer
from samlet.model import Model

_LOG = logging.getLogger("samlet.compat.ultralytics")
_OTHERS = ("sam2", "sam3", "yolo")


class MissingCallError(ModelError, NotImplementedError):
    """A call of Ultralytics that has no counterpart here; the message says what to do instead."""

    http_status = 501


@dataclass
class View:
    """One picture, and its embedding once somebody needed it."""

    source: Source
    made: tuple[Any, Embedding] | None = None

    def embedded(self, embed: Callable[[], Embedding], *, key: Any = None) -> Embedding:
        """Give the embedding; the expensive half is done once for each key.

        Args:
            embed: Makes it.
            key: What else it depends on.
        """
        if self.made is None or self.made[0] != key:
            self.made = (key, embed())
        return self.made[1]


class Caller(ABC):
    """A model with Ultralytics' way of calling it.

    Any number of threads may use one, as long as they name their pictures: a call without a source asks about
    the picture that was last, whoever passed it. That picture and its embedding stay in memory.

    Attributes:
        model: samlet's own model, for everything beyond this interface.
        names: Names by class number: {0: "object"}.
        task: "segment".
    """

    task = "segment"
    device = "cpu"

    def __init__(
        self, model: str | Path | Model, *, backend: str | Backend = "onnx", threads: int | None = None
    ) -> None:
        """Load a model.

        Args:
            model: A file, a name that `samlet.models` lists or that Ultralytics uses (mobile_sam.pt, sam_b.pt,
                FastSAM-s.pt, ...), or a model that `samlet.load` gave.
            backend: As for `samlet.load`.
            threads: As for `samlet.load`.

        Raises:
            UnknownModelError: There is no model of that name.
            ModelError: A file is missing, damaged, or of another kind of network.
        """
        self.names = dict(NAMES)
        self.model = model if isinstance(model, Model) else _loaded(model, backend, threads)
        self._last: View | None = None
        self._warned = False
        self._check()

    def __repr__(self) -> str:
        """Say which model it is."""
        return f"<{type(self).__name__}: {self.model.card.name}>"

    def info(self, detailed: bool = False, verbose: bool = True) -> dict[str, Any]:
        """Tell what the model is.

        Args:
            detailed: Whether to list the files and the paper as well.
            verbose: Whether to print it.

        Returns:
            The facts of its card.
        """
        card = self.model.card
        facts: dict[str, Any] = {
            "name": card.name,
            "title": card.title,
            "family": card.family,
            "side": card.side,
            "bytes": sum(file.size for file in card.files),
            "licence": card.licence,
        }
        if detailed:
            facts["paper"] = card.paper
            facts["files"] = {file.file_name: file.sha256 for file in card.files}
        if verbose:
            print(
                f"{facts['title']}: {facts['bytes'] / 2**20:.1f} MiB, {facts['side']} px, {facts['licence']}"
            )
        return facts

    def export(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the networks run as ONNX already.

        Raises:
            MissingCallError: Always.
        """
        raise MissingCallError(
            "expected a call that samlet has here, got export(); its networks run as ONNX without an export "
            "(see the package's graphs/), and `samlet convert` writes a model's weights into other files"
        )

    def train(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: training is a program of its own.

        Raises:
            MissingCallError: Always.
        """
        raise MissingCallError(
            "expected a call that samlet has here, got train(); training is a program of its own, start it with "
            "python -m samlet.train.recipes.prompts --help"
        )

    def track(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: objects are not followed from picture to picture.

        Raises:
            MissingCallError: Always.
        """
        raise MissingCallError(
            "expected a call that samlet has here, got track(); objects are not followed from picture to picture, "
            "call predict() for each frame"
        )

    def val(self, data: str | Path | None = None, *, limit: int | None = None, **_: Any) -> dict[str, float]:
        """Measure the model: mean IoU of its answer to each object's tight box.

        Args:
            data: A folder with images/NAME.jpg and masks/NAME.png, as for `samlet evaluate`.
            limit: Only the first so many pictures.
            **_: Ultralytics' other keywords, which do nothing here.

        Returns:
            "miou_box" (0 to 1), "objects" and "pictures".

        Raises:
            InputError: There is no such folder, or no object in it.
        """
        if data is None or not Path(data).is_dir():
            raise InputError(
                f"expected data to be a folder with images/ and masks/, got {str(data)!r:.100}; a YAML file of "
                "boxes has no masks to compare with"
            )
        from samlet.evaluate import Dataset, Plan, evaluate_set

        plan = Plan(protocols=("box",), grabcut=False)
        found = evaluate_set(self.model, Dataset.open(data).select(limit=limit), plan=plan)
        values = found.values("box")
        if not values:
            raise InputError(f"expected objects in the masks of {data}, found none; check the folder")
        return {
            "miou_box": float(np.mean(values)),
            "objects": float(len(values)),
            "pictures": float(found.pictures),
        }

    def to(self, device: Any = None, *_: Any, **__: Any) -> Self:
        """Give itself, with a warning if another device than the processor was meant."""
        self._check_device(device)
        return self

    def cpu(self) -> Self:
        """Give itself."""
        return self

    def eval(self) -> Self:
        """Give itself: there is no other mode."""
        return self

    def fuse(self) -> Self:
        """Give itself: convolutions and norms are folded when the weights are read."""
        return self

    def look(self, source: Any) -> None:
        """Take a picture that later calls without a source ask about; it is encoded by the first of them.

        Args:
            source: One picture, as for `predict`; None forgets the last one.

        Raises:
            ImageError: There is no picture, or a broken one.
        """
        self._last = None if source is None else View(next(pictures(source)))

    @abstractmethod
    def _check(self) -> None:
        """Make sure that the model is of this kind."""

    @abstractmethod
    def _answer(self, view: View, settings: Settings, call: Any) -> tuple[Answer | None, Any]:
        """Find the objects of one picture: masks (None for nothing), and their boxes if known."""

    def _start(self, source: Any, settings: Settings, call: Any, *, stream: bool) -> Any:
        """Answer a call whose arguments are known to be good: a list of results, or a generator."""
        self._check_device(settings.device)
        if source is None and self._last is None:
            raise InputError(
                "expected a picture, got no source and no call before this one; pass a path or array"
            )
        results = self._results(source, settings, call)
        return results if stream else list(results)

    def _results(self, source: Any, settings: Settings, call: Any) -> Iterator[Results]:
        run, number = Run(settings), 0
        views = self._views(source)
        while True:
            begin = perf_counter()
            view = next(views, None)
            if view is None:
                return
            read = perf_counter()
            answer, boxes = self._answer(view, settings, call)
            answered = perf_counter()
            result = _result(view.source, answer, boxes)
            times = np.diff([begin, read, answered, perf_counter()]) * 1000
            result.speed = dict(zip(("preprocess", "inference", "postprocess"), times.tolist(), strict=True))
            self._last, number = view, number + 1
            if settings.verbose:
                size = f"{result.orig_shape[0]}x{result.orig_shape[1]}"
                _LOG.info("image %d %s: %s %s%.1fms", number, result.path, size, result.verbose(), times[1])
            run.save(result)
            if settings.show:
                result.show(**settings.drawing)
            yield result

    def _views(self, source: Any) -> Iterator[View]:
        if source is None and self._last is not None:
            return iter([self._last])
        return (View(each) for each in pictures(source))

    def _check_device(self, device: Any) -> None:
        if device is not None and str(device).lower() not in ("", "cpu", "none") and not self._warned:
            self._warned = True
            warnings.warn(
                f"the model stays where its backend runs; device {str(device)!r:.40} changes nothing",
                stacklevel=4,
            )


def _loaded(name: str | Path, backend: str | Backend, threads: int | None) -> Model:
    if Path(name).name.lower().startswith(_OTHERS) and not Path(name).is_file():
        raise ModelError(
            f"expected SAM, MobileSAM or FastSAM, got {str(name)!r:.80}; samlet has no SAM 2, SAM 3 or YOLO, use "
            "mobile_sam.pt or nano"
        )
    found = Path(name) if Path(name).is_file() else name
    return samlet.model.load(found, backend=backend, threads=threads)


def _result(source: Source, answer: Answer | None, boxes: Any) -> Results:
    """Put a picture's objects together, with their boxes measured on the full-size masks if need be."""
    if answer is None or not len(answer):
        return Results(bgr(source.image), source.path)
    return Results(bgr(source.image), source.path).holding(answer, boxes)
