"""Models in processes of their own, as seen from the one that asks them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet import errors
from samlet.errors import BackendError, InputError, SamletError
from samlet.rle import Rle, rle_to_mask

_PATIENCE = 5.0
"""Seconds that a process has to end by itself."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How every model is loaded.

    Attributes:
        backend: As for `samlet.load`.
        shape: As for `samlet.load`.
        threads: As for `samlet.load`; None lets the runtime decide.
    """

    backend: str = "onnx"
    shape: str = "auto"
    threads: int | None = None


USUAL = Setup()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered to prompts, or found by itself.

    Attributes:
        ms: Milliseconds that the model took.
        rles: One run-length code a mask.
        scores: (N,) the model's own.
    """

    ms: float
    rles: Sequence[Rle]
    scores: Sequence[float]

    def __len__(self) -> int:
        """Give the number of masks."""
        return len(self.rles)

    def masks(self) -> Iterator[NDArray[np.bool_]]:
        """Make the masks (H, W), one after the other."""
        return (rle_to_mask(rle) for rle in self.rles)


@dataclass(slots=True)
class Contestant:
    """One model in its process.

    Attributes:
        words: What the user called it.
        label: Its name in tables and pictures: the last part of its path.
        facts: What its card says, its parameters and bytes; see `samlet.compare.worker`.
    """

    words: str
    label: str
    process: "subprocess.Popen[str]"
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finds_regions(self) -> bool:
        """Whether it chooses among regions instead of decoding prompts."""
        return bool(self.facts["family"] == "fastsam")

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """Give one order, and wait for the answer.

        Args:
            what: Which.
            **details: What belongs to it.

        Raises:
            SamletError: What the process said was wrong.
            BackendError: The process ended without an answer.
        """
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            stdin, stdout = self.process.stdin, self.process.stdout
            if stdin is not None and stdout is not None:
                stdin.write(json.dumps({"do": what, **details}) + "\n")
                stdin.flush()
                answer = stdout.readline()
        if not answer:
            code = self.process.wait()
            reason = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise BackendError(
                f"expected an answer from the process of {self.label}, but it {reason}; free some memory, or leave "
                "the model out"
            )
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            kind = getattr(errors, found["error"], SamletError)
            raise kind(f"{self.label}: {found['message']}")
        return found

    def segment(self, prompt: Mapping[str, Any]) -> Reply:
        """Answer prompts on the picture that was embedded last; see `Model.segment`."""
        return _reply(self.ask("segment", prompt=dict(prompt)))

    def everything(self, kind: str) -> Reply:
        """Find everything in the picture that was embedded last, which is not encoded again."""
        return _reply(self.ask("everything", kind=kind))

    def end(self) -> None:
        """Let the process go."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Contest:
    """Some models at once, each in its process, and the picture that they all look at."""

    def __init__(self, contestants: Sequence[Contestant], folder: Path) -> None:
        """Take models that are loaded; `contest` loads them.

        Args:
            contestants: The models.
            folder: Where pictures lie while they are handed over.
        """
        self.contestants = tuple(contestants)
        self._folder = folder

    def show(self, pixels: NDArray[np.uint8]) -> None:
        """Give all models a picture, RGB (H, W, 3), not encoded yet."""
        path = self._folder / "picture.npy"
        np.save(path, pixels, allow_pickle=False)
        for contestant in self.contestants:
            contestant.ask("picture", path=str(path))

    def named(self, words: str) -> Contestant:
        """Find a model by what the user called it."""
        return next(one for one in self.contestants if one.words == words)


@contextlib.contextmanager
def contest(models: Sequence[str], setup: Setup = USUAL) -> Iterator[Contest]:
    """Load models, each in a process of its own, and end the processes afterwards.

    Args:
        models: Names or paths, as for `samlet.load`; those that come twice are taken once.
        setup: How to load them.

    Yields:
        The models, loaded, in order.

    Raises:
        InputError: There is no name.
        SamletError: A model cannot be loaded, as `samlet.load` says.
    """
    words = list(dict.fromkeys(models))
    if not words:
        raise InputError("expected models to compare, got none; name some, such as nano,mobile_sam.pt")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samlet-compare-")))
        found = []
        for one, label in zip(words, labels(words), strict=True):
            contestant = Contestant(one, label, _process())
            stack.callback(contestant.end)
            options = {"backend": setup.backend, "shape": setup.shape, "threads": setup.threads}
            contestant.facts = contestant.ask("load", model=one, **options)
            found.append(contestant)
        yield Contest(found, folder)


def labels(words: Sequence[str]) -> list[str]:
    """Name models for tables: by the last part of their paths, where that tells them apart.

    Example:
        >>> labels(["nano", "weights/mobile_sam.pt"]), labels(["a/x.pt", "b/x.pt"])
        (['nano', 'mobile_sam.pt'], ['a/x.pt', 'b/x.pt'])
    """
    short = [os.path.basename(one) or one for one in words]
    return [brief if short.count(brief) == 1 else full for brief, full in zip(short, words, strict=True)]


def _process() -> "subprocess.Popen[str]":
    # The child finds the same samlet, wherever it was imported from.
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in paths if part)}
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from samlet.compare.worker import main; sys.exit(main())"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    )


def _reply(answer: Mapping[str, Any]) -> Reply:
    return Reply(float(answer["ms"]), answer["masks"], answer["scores"])
