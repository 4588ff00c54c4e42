"""Whether memory grows with the number of calls: bytes a call, by a line through the process's resident memory.

python -m benchmarks.memory_slope                   100,000 decodes and 10,000 encodes, fake backend
python -m benchmarks.memory_slope --model nano --decodes 10000 --encodes 1000       with real networks

A decode is a click on an embedded picture, with its mask at full size as run lengths; an encode is a picture file
that is read and embedded. Pictures and clicks differ. The first tenth of the calls does not count: until then memory
fills that is used again later. Exit code 1 if a slope is 1 kB a call or more.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.serving_process import fake_model, picture
from samlet.model import Model, load

MOST = 1024.0
SAMPLES = 200

Call = Callable[[int], object]


def resident() -> int:
    """Bytes of this process that lie in memory."""
    import os

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(call: Call, calls: int, held: Callable[[], int] = resident) -> float:
    """Call many times, and give the growth of memory in bytes a call.

    Args:
        call: What is called with the number of the call.
        calls: How often.
        held: Says how many bytes are held now.
    """
    every = max(1, calls // SAMPLES)
    numbers, found = [], []
    for number in range(calls):
        call(number)
        if number >= calls // 10 and number % every == 0:
            numbers.append(number)
            found.append(held())
    return float(np.polyfit(numbers, found, 1)[0])


def decode(model: Model) -> Call:
    """Clicks on one picture, each with its mask at full size."""
    view = model.embed(picture(0, (240, 320)))

    def call(number: int) -> object:
        point = [float(7 * number % 320), float(5 * number % 240)]
        return model.segment(view, points=point).to_rle()

    return call


def encode(model: Model) -> Call:
    """Different pictures, as files."""
    files = [picture(seed, (240, 320)) for seed in range(20)]
    return lambda number: model.embed(files[number % len(files)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a real model; the fake one if left out")
    parser.add_argument("--decodes", type=int, default=100_000)
    parser.add_argument("--encodes", type=int, default=10_000)
    args = parser.parse_args()
    model = load(args.model, threads=1) if args.model else fake_model()
    worst = 0.0
    for name, make, calls in (("decodes", decode, args.decodes), ("encodes", encode, args.encodes)):
        call = make(model)
        gc.collect()
        before, started = resident(), time.perf_counter()
        found = slope(call, calls)
        worst = max(worst, found)
        print(
            f"{calls:,} {name} in {time.perf_counter() - started:.0f} s: {found:+.1f} bytes a call; "
            f"{before / 2**20:.1f} MiB before, {resident() / 2**20:.1f} after",
            flush=True,
        )
    return int(worst >= MOST)


if __name__ == "__main__":
    sys.exit(main())
