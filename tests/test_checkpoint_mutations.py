"""Whatever bytes are given, the reader answers with arrays or with a CheckpointError."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from attacks.assembly import (
    MAGIC,
    START,
    STOP,
    called,
    legacy_file,
    name,
    number,
    numbers,
    storage,
    tensor,
    text,
    torch_file,
    weights,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from samlet.checkpoint import canonical, identify, parse, parse_metadata, to_pt, to_safetensors
from samlet.errors import CheckpointError

MUTATIONS = 1_000
ARRAYS = {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.arange(3), "b": np.ones(2, np.float16)}


def _legacy() -> bytes:
    held = (
        b"(" + text("storage") + name("torch", "FloatStorage") + text("1") + text("cpu") + number(4) + b"NtQ"
    )
    pickle = START + b"}" + text("a") + tensor(held) + b"s" + STOP
    return legacy_file(pickle, keys=("1",), tail=(4).to_bytes(8, "little") + bytes(16))


def _module() -> bytes:
    made = name("ultralytics.nn.tasks", "SegmentationModel") + b")\x81}("
    made += text("_parameters") + b"}" + text("w") + tensor() + b"s"
    made += text("names") + b"}K\x00" + text("object") + b"s" + text("stride") + tensor() + b"ub"
    return torch_file(START + b"}" + text("model") + made + b"s" + STOP).bytes()


FILES = {
    "safetensors": to_safetensors(ARRAYS, {"made": "here"}),
    "zip": to_pt(ARRAYS, "model"),
    "assembled": torch_file(weights(called(name("torch", "Size"), numbers(1, 2)))).bytes(),
    "module": _module(),
    "legacy": _legacy(),
}


def answers(data: bytes) -> bool:
    """Read bytes to the end; say whether they were accepted. Anything but a CheckpointError fails the test."""
    try:
        found = parse(data, origin="x")
        identify(canonical(found, origin="x"))
        for array in found.arrays.values():
            array.sum()
    except CheckpointError as error:
        assert "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("kind", FILES)
def test_the_files_are_good(kind: str) -> None:
    assert answers(FILES[kind])


def mutants(data: bytes, rng: random.Random) -> Iterator[bytes]:
    for _ in range(MUTATIONS // len(FILES)):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(changed))
            what = rng.randrange(5)
            if what == 0:
                changed[at] ^= 1 << rng.randrange(8)
            elif what == 1:
                changed[at] = rng.randrange(256)
            elif what == 2:
                del changed[at : at + rng.randrange(1, 9)]
            elif what == 3:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
            else:
                changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
            changed = changed or bytearray(1)
        yield bytes(changed)


@pytest.mark.parametrize("kind", FILES)
def test_mutants(kind: str) -> None:
    rng = random.Random(f"mutants of {kind}")
    outcomes = [answers(data) for data in mutants(FILES[kind], rng)]
    assert len(outcomes) == MUTATIONS // len(FILES)
    assert outcomes.count(False) > len(outcomes) // 4


def _pickle_of(data: bytes) -> tuple[int, int]:
    """Where the pickle of the first entry begins and ends."""
    start = data.index(START)
    return start, data.index(b"PK", start)


@pytest.mark.parametrize("kind", ["zip", "assembled", "module"])
def test_mutants_of_the_pickle_alone(kind: str) -> None:
    """Checksums catch most mutants of an archive; here they are made right again, so that the machine is met."""
    data = FILES[kind]
    start, end = _pickle_of(data)
    pickle, rng = data[start:end].rstrip(b"\0"), random.Random(f"pickles of {kind}")
    for mutant in mutants(pickle, rng):
        answers(torch_file(mutant).bytes())


@pytest.mark.parametrize("kind", FILES)
def test_truncations(kind: str) -> None:
    data = FILES[kind]
    for length in range(0, len(data), max(1, len(data) // 100)):
        assert not answers(data[:length])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=400), st.sampled_from(("", "zip", "pickle", "legacy", "length", "onnx")))
def test_any_bytes(data: bytes, wrapper: str) -> None:
    wrapped = {
        "": data,
        "zip": b"PK\x03\x04" + data,
        "pickle": torch_file(START + data).bytes(),
        "legacy": START + number(MAGIC) + STOP + START + number(1001) + STOP + START + data,
        "length": len(data).to_bytes(8, "little") + b"{" + data,
        "onnx": b"\x08\x08" + data,
    }[wrapper]
    answers(wrapped)
    try:
        parse_metadata(wrapped, origin="x")
    except CheckpointError:
        return


OPCODES = b"(01\x95N\x88\x89JKM\x8aGX\x8cTUBC)t\x85\x86\x87]ae}su\x8f\x90\x91qrhjcR\x81bQ\x94\x93"


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([bytes((code,)) for code in OPCODES]),
            st.sampled_from([tensor(), storage(), text("a"), number(3), numbers(1, 2), b"h\0", b"q\0"]),
            st.sampled_from(
                [
                    name(*path.split(" "))
                    for path in (
                        "collections OrderedDict",
                        "torch._utils _rebuild_tensor_v2",
                        "torch._utils _rebuild_parameter",
                        "torch Size",
                        "torch device",
                        "torch FloatStorage",
                        "__builtin__ getattr",
                        "__builtin__ set",
                        "builtins slice",
                        "_codecs encode",
                        "numpy dtype",
                        "numpy.core.multiarray scalar",
                        "pathlib PosixPath",
                        "ultralytics.nn.tasks Model",
                    )
                ]
            ),
        ),
        max_size=40,
    )
)
def test_any_program(steps: list[bytes]) -> None:
    """Programs of valid instructions in any order meet every check of the machine."""
    answers(torch_file(START + b"".join(steps) + STOP).bytes())
