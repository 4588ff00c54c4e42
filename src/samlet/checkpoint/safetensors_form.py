"""The safetensors form: a JSON header with names, kinds, shapes and places, and then the numbers."""

import json
from math import prod
from typing import Any, NamedTuple

from samlet.checkpoint.elements import KINDS, Array, Growth, Kind, check_counts, check_shape, row_major, view
from samlet.checkpoint.refusal import RefusedError, shown
from samlet.limits import ModelFileLimits

_FIELDS = {"dtype", "shape", "data_offsets"}
_METADATA = "__metadata__"


class _Place(NamedTuple):
    start: int
    end: int
    name: str
    kind: Kind
    shape: tuple[int, ...]


def looks_like(data: memoryview) -> bool:
    """Say whether bytes begin as this form does: a length, and then a JSON object."""
    return len(data) >= 10 and data[8] == ord("{")


def read(data: memoryview, limits: ModelFileLimits) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Every byte behind the header must belong to exactly one tensor: no gaps, no overlaps, nothing behind.

    Raises:
        RefusedError: The file does not keep to the form.
    """
    header, start = _header(data, limits)
    metadata = _metadata(header)
    if len(header) > limits.max_tensors:
        raise RefusedError(f"it claims {len(header):,} tensors, more than {limits.max_tensors:,}")
    places = sorted(_place(name, entry, limits) for name, entry in header.items())
    body, growth, end = data[start:], Growth(len(data), limits), 0
    arrays = {}
    for place in places:
        if place.start != end:
            what = "overlap" if place.start < end else "leave a gap"
            raise RefusedError(f"the tensors in it {what} at {shown(place.name)}")
        end = place.end
        if end > len(body):
            raise RefusedError(f"it ends before its tensor {shown(place.name)} does")
        strides = row_major(place.shape)
        arrays[place.name] = view(body[place.start : end], place.kind, place.shape, strides, growth)
    if end != len(body):
        raise RefusedError(f"it has {len(body) - end:,} bytes behind its last tensor")
    return {name: arrays[name] for name in header}, metadata


def read_metadata(data: memoryview, limits: ModelFileLimits) -> dict[str, str]:
    """Read the metadata alone, without looking at the tensors.

    Raises:
        RefusedError: The header does not keep to the form.
    """
    return _metadata(_header(data, limits)[0])


def _header(data: memoryview, limits: ModelFileLimits) -> tuple[dict[str, Any], int]:
    """Parse the header; return it with the place of the first byte behind it."""
    length = int.from_bytes(data[:8], "little")
    if length > limits.max_header_bytes:
        raise RefusedError(f"it claims a header of {length:,} bytes, more than {limits.max_header_bytes:,}")
    if 8 + length > len(data):
        raise RefusedError("it ends before its header does")
    text = bytes(data[8 : 8 + length])
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RefusedError(f"its header is no JSON text ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise RefusedError("its header is no JSON object")
    return header, 8 + length


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what JSON readers disagree about: a key that comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("a name comes twice in its header")
    return found


def _no_constant(name: str) -> None:
    raise RefusedError(f"its header holds {name}, which is no JSON")


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise RefusedError("its metadata are not texts by name")
    return metadata


def _place(name: str, entry: object, limits: ModelFileLimits) -> _Place:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise RefusedError(
            f"its header describes {shown(name)} in another way than by dtype, shape and offsets"
        )
    kind = KINDS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if kind is None:
        raise RefusedError(
            f"its tensor {shown(name)} holds {shown(entry['dtype'])} numbers",
            f"save it with one of {', '.join(KINDS)}",
        )
    if not isinstance(entry["shape"], list) or not isinstance(entry["data_offsets"], list):
        raise RefusedError(f"the shape and the offsets of {shown(name)} are no lists")
    shape = check_shape(entry["shape"], limits)
    offsets = check_counts(entry["data_offsets"])
    if len(offsets) != 2 or offsets[1] - offsets[0] != prod(shape) * kind.size:
        raise RefusedError(f"the shape of {shown(name)} does not fit its bytes")
    return _Place(offsets[0], offsets[1], name, kind, shape)
