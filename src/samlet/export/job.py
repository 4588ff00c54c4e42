"""What every format is given, and what it gives back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samlet.card import Card
from samlet.export import assembly
from samlet.export.proof import Agreement
from samlet.export.storage import Precision


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose; a format refuses what it has no use for.

    Attributes:
        preprocess: Put the preprocessing into the encoder's graph.
        single: One mask a prompt instead of four tokens.
        whole_sizes: `orig_im_size` as int32.
        frame: Longest side of the picture in the contract, in pixels; None for the model's own canvas.
        precision: How weights are stored.
    """

    preprocess: bool = False
    single: bool = False
    whole_sizes: bool = False
    frame: int | None = None
    precision: Precision | None = None


@dataclass(frozen=True)
class Job:
    """One export under way.

    Attributes:
        card: The model.
        weights: All its weights, by official name.
        folder: An empty folder to write into.
        options: What the user chose.
    """

    card: Card
    weights: dict[str, NDArray[Any]]
    folder: Path
    options: Options = field(default_factory=Options)

    @property
    def is_sam(self) -> bool:
        """Whether the model has an encoder and a decoder, as SAM has."""
        return "decoder" in self.card.graphs

    def core(self, role: str) -> assembly.Assembly:
        """Bind weights to one of the model's graphs."""
        return assembly.core(assembly.graph_file(self.card, role), self.weights)


@dataclass(frozen=True, slots=True)
class Made:
    """What a format wrote.

    Attributes:
        files: Files or folders in the job's folder, the one that names the others last.
        agreement: How far they answer as samlet does; None if no runtime on this computer can open them.
        notes: Sentences for the user.
    """

    files: tuple[Path, ...]
    agreement: Agreement | None
    notes: tuple[str, ...] = ()
