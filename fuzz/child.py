"""One process that reads mutants under a memory limit and tells what came of each; run by fuzz.mutants."""

import argparse
import faulthandler
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from fuzz.targets import TARGETS, Target

ROOM = 512 * 2**20
"""Memory that a reader may take on top of what the process has when it begins, in bytes of address space."""


def outcome(target: Target, data: bytes) -> str:
    """Read one input; "read", "refused", or what is wrong with the way it was refused."""
    try:
        target.read(data)
    except target.refuses as error:
        sentence = str(error)
        return (
            "refused"
            if "\n" not in sentence and sentence
            else f"a refusal of several lines: {sentence!r:.300}"
        )
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)!r:.300}{_place(error)}"
    return "read"


def _place(error: BaseException) -> str:
    last, step = "", error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        last = f" at {Path(code.co_filename).name}:{step.tb_lineno}"
        step = step.tb_next
    return last


def main(targets: Mapping[str, Target] = TARGETS) -> None:
    import resource  # Linux has it, and /proc

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=targets)
    parser.add_argument("start", type=int)
    parser.add_argument("end", type=int)
    args = parser.parse_args()
    faulthandler.enable()
    target = targets[args.target]
    stock = target.stock()
    for data in target.seeds():  # what is imported late and cached once is not the mutants' memory
        found = outcome(target, data)
        assert found == "read", f"{target.name} does not take its own good file: {found}"
    room = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    for index in range(args.start, args.end):
        data = target.mutant(index, stock)
        print(index, flush=True)
        wall, processor = time.perf_counter(), time.process_time()
        found = outcome(target, data)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(json.dumps([found, round(wall, 4), round(processor, 4)]), flush=True)
    print(json.dumps({"peak": _status("VmHWM")}), flush=True)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    sys.exit(main())
