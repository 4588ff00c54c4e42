"""Other people's ONNX files: refused if any tensor of theirs lies outside the file.

An ONNX tensor may name a file and an offset instead of holding its numbers. Runtimes have had to be mended
several times because such names led out of the model's folder, and older ones still read whatever they name
(CVE-2024-27318, CVE-2026-27489). So the file is walked before a runtime sees it. Of the protobuf format only what
leads to tensors is read; where the format allows several spellings, the unusual ones are refused too.
"""

from collections.abc import Iterator

from samlet.errors import CheckpointError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_DEPTH = 64  # graphs within graphs; an exported network has two or three
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14

# Message -> field number -> message in it, as far as tensors can be reached (onnx.proto).
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


class _OddError(Exception):
    """What is wrong with the bytes."""


def check_self_contained(data: bytes, *, origin: str) -> None:
    """Make sure that an ONNX file holds all of its numbers itself.

    Args:
        data: The whole file.
        origin: Its name, for messages.

    Raises:
        CheckpointError: It refers to another file, or is no ONNX file.

    Example:
        >>> check_self_contained(b"PK", origin="a.zip")
        Traceback (most recent call last):
        samlet.errors.CheckpointError: expected a complete ONNX file in a.zip, but it is not one (there is no graph \
in it); export or download it again
    """
    try:
        outside = _refers_outside(data)
    except _OddError as fault:
        raise CheckpointError(
            f"expected a complete ONNX file in {origin}, but it is not one ({fault}); export or download it again"
        ) from None
    if outside:
        raise CheckpointError(
            f"expected an ONNX file that holds its own weights, but {origin} refers to other files, which samlet "
            "never follows; export it as one file"
        )


def _refers_outside(data: bytes) -> bool:
    waiting: list[tuple[str, memoryview, int]] = [("model", memoryview(data), 0)]
    found_graph = False
    while waiting:  # a list, not recursion: the file decides how deep it nests
        kind, content, depth = waiting.pop()
        children = _CHILDREN[kind]
        for number, value in _fields(content):
            if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
                return True
            if number not in children:
                continue
            if isinstance(value, int):
                raise _OddError("a part is a number")
            child = children[number]
            found_graph |= child == "graph"
            if depth + (child == "graph") > _DEPTH:
                raise _OddError("its graphs nest too deep")
            waiting.append((child, value, depth + (child == "graph")))
    if not found_graph:
        raise _OddError("there is no graph in it")
    return False


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give field numbers with whole numbers or bytes."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        if number == 0 or key >= 2**32:
            raise _OddError("a field has no valid number")
        if wire == _VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(content, place)
        elif wire in _WIDTH:
            length = _WIDTH[wire]
        else:
            raise _OddError("it has fields of a kind that ONNX does not use")
        if length > len(content) - place:
            raise _OddError("it ends in the middle")
        yield number, content[place : place + length]
        place += length


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise _OddError("it ends in the middle")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _OddError("a number has too many digits")
