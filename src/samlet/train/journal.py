"""What a run tells while it goes: `metrics.jsonl`, `curves.png`, and TensorBoard's events if wanted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samlet.atomic import atomic_write
from samlet.errors import MissingExtraError
from samlet.train.curves import draw

METRICS = "metrics.jsonl"


class Journal:
    """The log of a run. A resumed run first drops the rows behind its state, for it will write them again."""

    def __init__(self, out: Path, *, from_step: int, tensorboard: bool = False, active: bool = True) -> None:
        """Open the log.

        Args:
            out: The run's folder.
            from_step: The step at which the run begins or goes on; 0 begins a new log.
            tensorboard: Write events into `out`/tensorboard too.
            active: False writes nothing, as every process but one of several.

        Raises:
            MissingExtraError: TensorBoard is wanted and not installed.
        """
        self._path, self._active, self._events = out / METRICS, active, None
        if not active:
            return
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if _at_most(line, from_step)]
            atomic_write(self._path, "".join(line + "\n" for line in kept) if from_step else "")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MissingExtraError(
                    "this needs TensorBoard; install it with pip install 'samlet[train]'"
                ) from None
            self._events = SummaryWriter(str(out / "tensorboard"), purge_step=from_step or None)

    def row(self, numbers: Mapping[str, Any]) -> None:
        """Write one row of numbers; nested ones go to TensorBoard as "held_out/box"."""
        if not self._active:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(numbers) + "\n")
        if self._events is not None:
            for key, value in numbers.items():
                inside = value.items() if isinstance(value, dict) else [(None, value)]
                for name, number in inside:
                    self._events.add_scalar(f"{key}/{name}" if name else key, number, numbers["step"])
            self._events.flush()

    def draw(self) -> None:
        """Draw `curves.png`.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        if self._active:
            draw(self._path.parent)


def _at_most(line: str, step: int) -> bool:
    """Whether a row belongs to the part of the run that its state holds; a row cut off by a kill does not."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
