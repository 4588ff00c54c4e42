"""Safetensors files that break the promises of the form."""

import json

from attacks.table import Attack, collect

SAFETENSORS: list[Attack] = []
_file = collect("safetensors", SAFETENSORS)


def _raw(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def _entry(shape: object, start: object, end: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _made(body: int, **entries: object) -> bytes:
    return _raw(json.dumps(entries).encode(), bytes(body))


@_file("claims a header of 9,223")
def header_of_2_to_63() -> bytes:
    """Claim a header longer than any memory."""
    return (2**63).to_bytes(8, "little") + b"{}"


@_file("claims a header of 536")
def header_of_half_a_gigabyte() -> bytes:
    """Claim a header that a reader may allocate before it looks."""
    return (2**29).to_bytes(8, "little") + b"{" + bytes(100)


@_file("its header describes 'a' in another way than by dtype, shape and offsets")
def header_full_of_lists() -> bytes:
    """Fill the header with what takes twenty times its size once parsed."""
    return _raw(b'{"a":[' + b"[]," * 650_000 + b"[]]}")


@_file("it claims a header of 33,000,010 bytes, more than 2,097,152")
def header_longer_than_allowed() -> bytes:
    """Fill a header of 32 MB with lists."""
    return _raw(b'{"a":[' + b"[]," * 11_000_000 + b"[]]}")


@_file("its header is no JSON text (RecursionError)")
def deep_nesting() -> bytes:
    """Nest the header so deep that a reader that calls itself runs out of stack."""
    return _raw(b'{"a":' * 100_000)


@_file("a name comes twice in its header")
def names_that_come_twice() -> bytes:
    """Describe one tensor twice, so that two readers see two networks."""
    one, two = json.dumps(_entry([1], 0, 4)), json.dumps(_entry([1], 4, 8))
    return _raw(f'{{"a":{one},"a":{two}}}'.encode(), bytes(8))


@_file("a name comes twice in its header")
def fields_that_come_twice() -> bytes:
    """Give one tensor two kinds of numbers."""
    return _raw(b'{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}', bytes(4))


@_file("its header holds NaN, which is no JSON")
def not_a_number() -> bytes:
    """Hold constants that JSON does not have."""
    return _raw(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,Infinity]}}')


@_file("its header is no JSON text (UnicodeDecodeError)")
def not_utf8() -> bytes:
    """Name a tensor in bytes that are no text."""
    return _raw(b'{"\xff\xfe":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4))


@_file("its header is no JSON text (ValueError)")
def number_of_a_million_digits() -> bytes:
    """Write a size whose conversion takes quadratic time."""
    return _raw(b'{"a":{"dtype":"F32","shape":[' + b"9" * 1_000_000 + b'],"data_offsets":[0,4]}}', bytes(4))


@_file("the tensors in it overlap at 'b'")
def tensors_that_overlap() -> bytes:
    """Let two tensors share their bytes."""
    return _made(8, a=_entry([2], 0, 8), b=_entry([1], 4, 8))


@_file("the tensors in it leave a gap at 'b'")
def gap_between_tensors() -> bytes:
    """Hide bytes between two tensors."""
    return _made(16, a=_entry([1], 0, 4), b=_entry([1], 12, 16))


@_file("it has 396 bytes behind its last tensor")
def bytes_behind_the_tensors() -> bytes:
    """Hide bytes behind the last tensor."""
    return _made(400, a=_entry([1], 0, 4))


@_file("it ends before its tensor 'a' does")
def tensor_beyond_the_end() -> bytes:
    """Read behind the end of the file."""
    return _made(4, a=_entry([2**30], 0, 2**32))


@_file("a tensor in it claims more numbers than any computer holds")
def product_that_overflows() -> bytes:
    """Overflow 64 bits with a shape, so that it seems to fit its bytes."""
    return _made(0, a=_entry([2**32, 2**32], 0, 0))


@_file("a tensor in it claims more numbers than any computer holds")
def empty_but_enormous() -> bytes:
    """Hide sizes beyond any memory behind a zero."""
    return _made(0, a=_entry([0, 2**47, 2**47, 2**47], 0, 0))


@_file("a tensor in it has a size or a place that is no whole number from zero on")
def negative_shape() -> bytes:
    """Count backwards."""
    return _made(4, a=_entry([-1, -1], 0, 4))


@_file("a tensor in it has a size or a place that is no whole number from zero on")
def negative_offset() -> bytes:
    """Begin before the numbers do, in the header."""
    return _made(4, a=_entry([2], -4, 4))


@_file("a tensor in it has a size or a place that is no whole number from zero on")
def truth_as_a_size() -> bytes:
    """Put a truth value where a size belongs."""
    return _made(4, a=_entry([True], 0, 4))


@_file("a tensor in it has 10000 axes, more than 8")
def thousands_of_axes() -> bytes:
    """Have more axes than any array library takes."""
    return _made(4, a=_entry([1] * 10_000, 0, 4))


@_file("its metadata are not texts by name")
def metadata_that_are_no_texts() -> bytes:
    """Put objects where texts belong."""
    return _made(0, __metadata__={"card": {"run": ["os.system"]}})


@_file("its tensor 'a' holds 'dict' numbers")
def kind_that_does_not_exist() -> bytes:
    """Name a kind of number that is none."""
    return _made(4, a=_entry([1], 0, 4, {"__reduce__": "os.system"}))


@_file("it claims 30,000 tensors, more than 10,000")
def more_tensors_than_any_network() -> bytes:
    """Describe 30,000 empty tensors."""
    entry = json.dumps(_entry([0], 0, 0))
    return _raw(("{" + ",".join(f'"{index}":{entry}' for index in range(30_000)) + "}").encode())
