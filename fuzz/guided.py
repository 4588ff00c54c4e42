"""Search for inputs that reach code no other input has reached, and see that none gets through.

python -m fuzz.guided --seconds 60                   every target for a minute
python -m fuzz.guided --seconds 600 png pickle       some of them for longer
python -m fuzz.guided --seconds 60 --keep 40         then keep the inputs that add the most, as fuzz/corpus

It takes [atheris](https://pypi.org/project/atheris/), which puts counters into samlet's Python code, and libFuzzer
within it; half of the steps are libFuzzer's own, half the damage of fuzz.mutate. Every target has a process of its own,
with a bound on memory and on the time for one input. Exit code 1 if something got through; the input is kept then.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # samlet has to be imported by atheris, which puts its counters in
    from fuzz.targets import Target

SECONDS_AN_INPUT = 60
"""By the wall clock, which also counts what others do on a busy computer."""
MEBIBYTES = 2048
LONGEST = 4096
Trace = Callable[[FrameType, str, Any], Any]
_DONE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


def fuzz(name: str, options: list[str]) -> None:
    """Run libFuzzer on one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["samlet"]):
        from fuzz.child import outcome
        from fuzz.targets import TARGETS

        for data in TARGETS[name].seeds():  # what the readers import when they are first called
            assert outcome(TARGETS[name], data) == "read"
    target = TARGETS[name]
    stock = target.stock()

    def one(data: bytes) -> None:
        found = outcome(target, data)
        if found not in ("read", "refused"):
            raise RuntimeError(found)

    def mutated(data: bytes, longest: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.5:
            return atheris.Mutate(data, longest)
        from fuzz import mutate

        how = mutate.reworded if rng.random() < (0.8 if target.is_text else 0.1) else mutate.damaged
        changed = how(data or b" ", stock.all, rng)
        if target.repaired is not None:
            changed = target.repaired(changed)
        return changed[:longest]

    atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutated)
    atheris.Fuzz()


def search(name: str, seconds: int, folder: Path, found: Path) -> tuple[int, str]:
    """Run the search for one target in a process of its own.

    Args:
        name: The target.
        seconds: For how long.
        folder: The growing corpus.
        found: Where inputs that get through are kept.

    Returns:
        The process's exit code, and libFuzzer's messages.
    """
    from fuzz.targets import TARGETS

    for number, data in enumerate(TARGETS[name].stock().all):
        (folder / f"seed-{number}").write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS_AN_INPUT}",
        f"-rss_limit_mb={MEBIBYTES}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={found}/{name}-",
        "-use_value_profile=1" if TARGETS[name].is_text else "-use_value_profile=0",
        "-seed=1",
        str(folder),
    ]
    command = [sys.executable, "-m", "fuzz.guided", "--inside", name, "--", *options]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, done.stdout + done.stderr


def keep(name: str, folder: Path, at_most: int, longest: int = 2048) -> int:
    """Keep the inputs that add most to what the good files reach, small ones first; how many.

    Args:
        name: The target.
        folder: The corpus of a search.
        at_most: Most inputs.
        longest: Most bytes of one: the corpus is part of the repository.
    """
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    inputs = {path.read_bytes() for path in folder.iterdir()}
    small = sorted((data for data in inputs if len(data) <= longest), key=lambda data: (len(data), data))
    known: set[tuple[str, int, int]] = set()
    for data in target.seeds():
        known |= steps(target, data)
    kept = []
    for data in small:
        reached = steps(target, data)
        if not reached <= known and len(kept) < at_most:
            known |= reached
            kept.append(data)
    target.corpus.mkdir(parents=True, exist_ok=True)
    for path in target.corpus.iterdir():
        path.unlink()
    for data in kept:
        (target.corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return len(kept)


def steps(target: "Target", data: bytes) -> set[tuple[str, int, int]]:
    """Find which line of samlet follows which when an input is read."""
    import samlet
    from fuzz.child import outcome

    inside = str(Path(samlet.__file__).parent)
    seen: set[tuple[str, int, int]] = set()

    def local(before: int) -> Trace:
        def trace(frame: FrameType, event: str, _: object) -> Trace:
            nonlocal before
            if event == "line":
                seen.add((frame.f_code.co_filename, before, frame.f_lineno))
                before = frame.f_lineno
            return trace

        return trace

    def called(frame: FrameType, _: str, __: object) -> Trace | None:
        code = frame.f_code
        return local(-code.co_firstlineno) if code.co_filename.startswith(inside) else None

    sys.settrace(called)
    try:
        outcome(target, data)
    finally:
        sys.settrace(None)
    return seen


def main() -> int:
    if "--inside" in sys.argv:
        at = sys.argv.index("--inside")
        fuzz(sys.argv[at + 1], sys.argv[at + 3 :])
        return 0
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument(
        "--keep", type=int, default=0, metavar="N", help="replace the corpus by the N best inputs"
    )
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="folder for what gets through")
    args = parser.parse_args()
    if unknown := set(args.targets) - TARGETS.keys():
        parser.error(f"expected targets of {', '.join(TARGETS)}, got {', '.join(sorted(unknown))}")
    args.found.mkdir(parents=True, exist_ok=True)
    failed = False
    print("| target | inputs tried | code edges | inputs that reach new ones | got through |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for name in args.targets or TARGETS:
        with tempfile.TemporaryDirectory() as temporary:
            code, told = search(name, args.seconds, Path(temporary), args.found)
            if args.keep:
                keep(name, Path(temporary), args.keep)
        tried = re.findall(r"^#(\d+)", told, re.M)
        edges = _DONE.findall(told)
        failed = failed or code != 0
        if not edges or code:
            print(told[-3000:], file=sys.stderr)
        row = (tried[-1], edges[-1][0], edges[-1][2]) if tried and edges else ("0", "0", "0")
        print(f"| {name} | {int(row[0]):,} | {row[1]} | {row[2]} | {int(code != 0)} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
