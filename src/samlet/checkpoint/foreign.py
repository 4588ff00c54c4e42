"""Files that are no weights: recognised so that the message can say what they are. None of them is read."""

from samlet.checkpoint.refusal import RefusedError

_WEIGHTS = "give a .pt, .pth or .safetensors file with the weights of a network"
_GRAPH_FIELDS = 64


def refusal(data: memoryview) -> RefusedError:
    """Say what a file is that is neither safetensors nor written by torch.

    Args:
        data: The whole file.

    Returns:
        The exception to raise.
    """
    if not len(data):
        return RefusedError("it is empty", "download it again")
    start = bytes(data[:512])
    known = next((found for magic, found in _BEGINNINGS if start.startswith(magic)), None)
    if known is not None:
        return RefusedError(*known)
    if start.lstrip()[:1] == b"<":
        return RefusedError("it is a web page", "download the file itself, not the page that offers it")
    if start[257:262] == b"ustar":
        return RefusedError("it is a tar archive", "unpack it and give a file inside")
    if looks_like_onnx(data):
        return RefusedError(
            "it is an ONNX graph, and samlet runs only the graphs of its own package",
            "give the weights that it was made from",
        )
    return RefusedError("it is neither a safetensors file nor one that torch wrote", _WEIGHTS)


def looks_like_onnx(data: memoryview) -> bool:
    """Say whether bytes begin as an ONNX model: its version, and then fields of a model up to its graph.

    The graph itself is not looked into: whatever it holds, it is not run.
    """
    position = 0
    for field in range(_GRAPH_FIELDS):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if not field and tag != 0x08:  # ir_version comes first
            return False
        if number in (7, 8) and wire == 2:  # graph, opset_import
            return True
        if wire not in (0, 2) or number not in (*range(1, 7), 14, 20, 25):
            return False
        value, position = _varint(data, position)
        position += value if wire == 2 else 0
    return False


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read a whole number of protocol buffers; behind the end there are zeros, which are no valid tag."""
    value = 0
    for shift, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, position + shift + 1
    return 0, len(data)


_BEGINNINGS = (
    (
        b"version https://git-lfs",
        (
            "it is a pointer of Git LFS, a few lines in place of the file",
            "fetch the file itself: git lfs pull",
        ),
    ),
    (b"\x1f\x8b", ("it is compressed with gzip", "unpack it and give the file inside")),
    (b"PK\x05\x06", ("it is an empty zip archive", "download it again")),
    (b"GGUF", ("it is a GGUF file", _WEIGHTS)),
    (b"\x89HDF", ("it is an HDF5 file", _WEIGHTS)),
)
