"""Calls leave nothing behind: the small version of `make memory`, counted by Python's own tracer."""

import tracemalloc
from collections.abc import Iterator

import pytest
from benchmarks.memory_slope import MOST, decode, encode, slope
from benchmarks.serving_process import fake_model


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held() -> int:
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize(("make", "calls"), [(decode, 400), (encode, 80)])
def test_memory_does_not_grow_with_calls(make, calls: int, traced: None) -> None:
    call = make(fake_model())
    assert slope(call, calls, held) < MOST


def test_what_is_kept_is_noticed(traced: None) -> None:
    kept = []
    call = decode(fake_model())
    assert slope(lambda number: kept.append((call(number), bytearray(MOST_KEPT))), 200, held) >= MOST


MOST_KEPT = int(MOST)
