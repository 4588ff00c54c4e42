"""What a model can be exported as, and the one way there: make, check what was written, publish."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from samlet.card import Card
from samlet.errors import InputError
from samlet.export import assembly
from samlet.export.job import Job, Made, Options
from samlet.export.proof import Agreement
from samlet.export.staging import publish, staged


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export has brought.

    Attributes:
        files: Files and folders, where they were wanted.
        agreement: How far they answer as samlet does; None if nothing on this computer can open them.
        notes: Sentences for the user.
    """

    files: tuple[Path, ...]
    agreement: Agreement | None
    notes: tuple[str, ...]


def _made_by(module: str, *words: str) -> Callable[[Job], Made]:
    """Name a maker without importing it: each needs a package of its own."""

    def make(job: Job) -> Made:
        maker: Callable[..., Made] = import_module(f"samlet.export.{module}").make
        return partial(maker, job)(*words)

    return make


FORMATS: Mapping[str, Callable[[Job], Made]] = {
    "onnx": _made_by("onnx_files"),
    "anylabeling": _made_by("labelling", "anylabeling"),
    "x-anylabeling": _made_by("labelling", "x-anylabeling"),
    "web": _made_by("web"),
    "openvino": _made_by("openvino_files"),
    "torchscript": _made_by("torchscript"),
    **{runtime: _made_by("devices", runtime) for runtime in ("coreml", "executorch", "litert")},
}
"""Format to what makes it; the one place to extend for a new one."""


def export(card: Card, *, format: str, folder: Path, options: Options) -> Exported:
    """Write a model in a form that other programs open, after checking that it answers as samlet does.

    Args:
        card: The model.
        format: A key of `FORMATS`.
        folder: Where the files go; it is made if it does not exist. Files of the same names there are replaced, all
            others stay.
        options: What the format can vary.

    Raises:
        InputError: There is no such format, or it has no use for an option or a model.
        ModelError: A file of the model is missing or damaged.
        MissingExtraError: The format needs a package that is not installed.
        BackendError: The files do not answer as samlet does; nothing stays.
        OutputError: The folder cannot be written to; nothing stays.

    Example:
        >>> from samlet.registry import resolve
        >>> export(resolve("nano"), format="onnx", folder=Path("out"), options=Options())  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise InputError(f"expected a format ({', '.join(FORMATS)}), got {format!r:.80}; name one of them")
    roles = ("encoder", "decoder") if "decoder" in card.graphs else tuple(card.graphs)
    with staged(folder) as inside:
        weights = assembly.read_weights(card, roles)
        made = FORMATS[format](Job(card, weights, inside, options))
        return Exported(tuple(publish(made.files, folder)), made.agreement, made.notes)
