"""Weights as files: safetensors, and the layouts in which the authors published theirs."""

import json
from collections.abc import Callable, Mapping

import numpy as np

from samlet.checkpoint.elements import KINDS, Array, raw_bytes
from samlet.checkpoint.identity import identify
from samlet.checkpoint.names import DECODER, ENCODER, PROMPTS
from samlet.checkpoint.torch_writer import Nested, torch_zip
from samlet.errors import InputError

_DTYPES = {
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}


def to_safetensors(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """Write arrays and texts as a safetensors file; equal input gives equal bytes.

    Args:
        arrays: By name; float16, float32, float64, whole numbers or truth values.
        metadata: Texts by name.

    Raises:
        InputError: An array is of another kind.

    Example:
        >>> from samlet.checkpoint import parse
        >>> data = to_safetensors({"a": np.ones(2, np.float32)}, {"made": "here"})
        >>> parse(data, origin="x").arrays["a"].tolist()
        [1.0, 1.0]
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    body: list[memoryview] = []
    end = 0
    # The widest first, so that each array begins at a multiple of its own number's size.
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        kind = kind_of(arrays[name], name)
        content = raw_bytes(arrays[name], KINDS[kind])
        shape = list(arrays[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + len(content)]}
        body.append(content)
        end += len(content)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *body))


def to_pt(arrays: Mapping[str, Array], layout: str = "official") -> bytes:
    r"""Write arrays as a file for `torch.load(..., weights_only=True)`; equal input gives equal bytes.

    Args:
        arrays: By canonical name.
        layout: A key of `LAYOUTS`.

    Returns:
        A zip archive as torch writes it, without pickled classes.

    Raises:
        InputError: The layout is unknown, or the arrays lack what it is for; or they have more than 4 GiB.

    Example:
        >>> to_pt({"a": np.ones(2, np.float32)})[:4]
        b'PK\x03\x04'
    """
    if layout not in LAYOUTS:
        raise InputError(f"expected a layout ({', '.join(LAYOUTS)}), got {layout!r:.40}; name one of them")
    tree = LAYOUTS[layout](arrays)
    return torch_zip(tree, lambda name, array: KINDS[kind_of(array, name)])


def halved(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Store float32 as float16, half the size; other kinds stay.

    Raises:
        InputError: A weight is beyond float16's range (65,504).
    """
    half: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.dtype != np.float32:
            half[name] = array
            continue
        with np.errstate(over="ignore"):
            half[name] = array.astype(np.float16)
        if not np.array_equal(np.isfinite(half[name]), np.isfinite(array)):
            raise InputError(
                f"expected weights within float16's range, but {name} goes beyond 65,504; "
                "convert without --half"
            )
    return half


def kind_of(array: Array, name: str) -> str:
    """Name the kind of an array's numbers as safetensors does.

    Raises:
        InputError: It has none.
    """
    kind = _DTYPES.get(array.dtype.name)
    if kind is None:
        raise InputError(f"expected numbers in {name}, got {array.dtype}; convert them first")
    return kind


def _official(arrays: Mapping[str, Array]) -> Nested:
    """Choose the layout in which this network was published."""
    found = identify(arrays)
    if (found.architecture or "").startswith("efficientvit"):
        return _state_dict(arrays)
    if arrays and all(name.startswith((PROMPTS, DECODER)) for name in arrays):
        return _decoder(arrays)
    return dict(arrays)


def _encoder(arrays: Mapping[str, Array]) -> Nested:
    """The encoder alone, as MobileSAMv2 reads it."""
    own = {name: array for name, array in arrays.items() if name.startswith(ENCODER)}
    if not own:
        raise InputError(
            "expected a network of the SAM family for the encoder's layout; choose another layout"
        )
    architecture = identify(arrays).architecture or ""
    if architecture.startswith("efficientvit"):
        return {"state_dict": own}
    bare = {name.removeprefix(ENCODER): array for name, array in own.items()}
    return {"model": bare} if architecture.startswith("tiny_vit") else dict(bare)


def _decoder(arrays: Mapping[str, Array]) -> Nested:
    """The prompt encoder and the decoder alone, as MobileSAMv2 reads them."""
    parts = {
        "PromtEncoder": {n.removeprefix(PROMPTS): a for n, a in arrays.items() if n.startswith(PROMPTS)},
        "MaskDecoder": {n.removeprefix(DECODER): a for n, a in arrays.items() if n.startswith(DECODER)},
    }
    if not all(parts.values()):
        raise InputError("expected a network with SAM's decoder for this layout; choose another layout")
    return dict(parts)


def _model(arrays: Mapping[str, Array]) -> Nested:
    return {"model": dict(arrays)}


def _state_dict(arrays: Mapping[str, Array]) -> Nested:
    return {"state_dict": dict(arrays)}


LAYOUTS: dict[str, Callable[[Mapping[str, Array]], Nested]] = {
    "official": _official,
    "encoder": _encoder,
    "v2-decoder": _decoder,
    "model": _model,
    "state_dict": _state_dict,
}
"""How arrays are put into a .pt file: as the network was published, or in one of the ways that loaders expect."""
