"""One spelling for every weight: the names of the official files, whoever saved them and how."""

from collections.abc import Callable, Mapping

from samlet.checkpoint.elements import Array
from samlet.checkpoint.form import Checkpoint
from samlet.checkpoint.tree import NESTED
from samlet.errors import CheckpointError

ENCODER, PROMPTS, DECODER = "image_encoder.", "prompt_encoder.", "mask_decoder."

_WRAPPERS = {"model": "", "state_dict": ""}
_DECODER_PARTS = {"PromtEncoder": PROMPTS, "MaskDecoder": DECODER}  # sic: as the published file spells it
_ENCODER_MARKS = (
    "patch_embed.seq.0.c.weight",  # TinyViT
    "patch_embed.proj.weight",  # SAM's ViT
    "backbone.stages.0.op_list.0.conv.weight",  # EfficientViT
)
_PARALLEL = "module."
_STRAY = ("pixel_mean", "pixel_std")  # buffers that some versions saved; cards hold these numbers
_STRAY_ENDS = (".ab", ".attention_bias_idxs")  # caches that TinyViT computes from its parameters


def canonical(checkpoint: Checkpoint, *, origin: str) -> dict[str, Array]:
    """Give the arrays of a file their official names.

    Wrappers go ({"model": ...}, {"state_dict": ...}, and {"PromtEncoder": ..., "MaskDecoder": ...} of MobileSAMv2's
    decoder), so does the "module." of data-parallel training; a file with an encoder alone gets its
    "image_encoder." in front. Caches and constants that are no weights (`*.ab`, `*.attention_bias_idxs`, `pixel_mean`,
    `pixel_std`) are left out. Everything else stays as it is.

    Args:
        checkpoint: As parsed.
        origin: What to call the file in a message.

    Returns:
        Arrays by official name: `image_encoder.*`, `prompt_encoder.*`, `mask_decoder.*` or `model.<i>.*`.

    Raises:
        CheckpointError: The file holds several sets of weights, or two names become one.
    """
    named = _unwrapped(checkpoint.arrays, origin)
    named = _renamed(named, lambda name: name.removeprefix(_PARALLEL), origin)
    kept = {name: array for name, array in named.items() if not _is_stray(name)}
    if any(mark in kept for mark in _ENCODER_MARKS):
        foreign = (ENCODER, PROMPTS, DECODER)
        kept = _renamed(kept, lambda name: name if name.startswith(foreign) else ENCODER + name, origin)
    return kept


def _unwrapped(arrays: Mapping[str, Array], origin: str) -> dict[str, Array]:
    wrappers = {name.partition(NESTED)[0] if NESTED in name else "" for name in arrays} or {""}
    if wrappers == set(_DECODER_PARTS):
        prefixes = _DECODER_PARTS
    elif len(wrappers) == 1 and wrappers <= _WRAPPERS.keys() | {""}:
        prefixes = {**_WRAPPERS, "": ""}
    else:
        found = ", ".join(sorted(f"{{{name!r}: ...}}" if name else "tensors" for name in wrappers))
        raise CheckpointError(
            f"expected one set of weights in {origin} (tensors, {{'model': ...}}, {{'state_dict': ...}} or "
            f"{{'PromtEncoder': ..., 'MaskDecoder': ...}}), got {found:.200}; save the wanted one alone"
        )

    def rename(name: str) -> str:
        wrapper, _, inner = name.rpartition(NESTED)
        # Before prefixes are added, or "module." would hide behind them.
        return prefixes[wrapper] + inner.removeprefix(_PARALLEL)

    return _renamed(arrays, rename, origin)


def _renamed(arrays: Mapping[str, Array], rename: Callable[[str], str], origin: str) -> dict[str, Array]:
    """Rename, and refuse what would let one weight replace another."""
    renamed: dict[str, Array] = {}
    for old, array in arrays.items():
        new = rename(old)
        if new in renamed:
            raise CheckpointError(
                f"expected each weight once in {origin}, but {new:.120} comes in two spellings; "
                "save the wanted one alone"
            )
        renamed[new] = array
    return renamed


def _is_stray(name: str) -> bool:
    return name in _STRAY or name.endswith(_STRAY_ENDS)
