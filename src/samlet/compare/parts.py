"""How large a model is: parameters of its parts, bytes of its files."""

import math

from samlet import packed, store
from samlet.card import Card
from samlet.errors import ModelError

# What a file holds beside parameters: statistics of norms, tables worked out once, and random but fixed projections.
_BUFFERS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "attention_bias_idxs",
    "positional_encoding_gaussian_matrix",
)


def parameters(card: Card) -> dict[str, int]:
    """Count a model's parameters, as the official implementations count theirs: without buffers.

    Args:
        card: The model; its files need not be here.

    Returns:
        "encoder", "decoder" (SAM's prompt encoder and mask decoder, or nano's) and "all", which also has the rest, such
        as nano's object head. FastSAM has no decoder: its one network is "encoder".

    Example:
        >>> from samlet.registry import resolve
        >>> parameters(resolve("sam_vit_b"))["all"]
        93735472
    """
    counts = {"encoder": 0, "decoder": 0, "all": 0}
    seen: set[str] = set()
    for role, file_name in card.graphs.items():
        shapes = packed.read_graph(file_name).checkpoint
        size = sum(
            math.prod(shape)
            for name, shape in shapes.items()
            if name not in seen and not name.endswith(_BUFFERS)
        )
        seen |= shapes.keys()
        counts["all"] += size
        part = "encoder" if role == "network" else role
        if part in counts:
            counts[part] += size
    return counts


def file_bytes(card: Card) -> int:
    """Add up the bytes of a model's files as they lie on this computer.

    Raises:
        ModelError: A file is not here.
    """
    total = 0
    for file in card.files:
        path = store.fetch(file)
        try:
            total += path.stat().st_size
        except OSError as error:
            raise ModelError(
                f"expected the model file {path}, but it cannot be read ({error.strerror or error}); "
                "check its permissions"
            ) from None
    return total
