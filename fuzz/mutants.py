"""Give every reader thousands of damaged files, in processes with little memory, and count what is no plain refusal.

python -m fuzz.mutants                          10,000 mutants for each target: what CI's small version does a little of
python -m fuzz.mutants --count 500 png rle      fewer, for some of them
python -m fuzz.mutants --show png 4711          write one mutant to the output

A fault is a process that died, an exception that is not the target's refusal, a mutant that took more than a second of
processor time, or one that did not end. Exit code 1 if there was any.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fuzz.targets import TARGETS

SECONDS = 1.0
"""Most processor time for one mutant; the wall clock would count the work of others."""
HANGS = 30.0
"""Seconds without an answer after which a process is killed."""


@dataclass
class Report:
    """What became of the mutants of one target."""

    target: str
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    slowest_wall: float = 0.0
    peak: int = 0

    def add(self, index: int, found: str, wall: float, processor: float) -> None:
        self.slowest, self.slowest_wall = max(self.slowest, processor), max(self.slowest_wall, wall)
        if found not in ("read", "refused"):
            self.fault(index, "foreign", found)
        elif processor > SECONDS:
            self.fault(index, "slow", f"{processor:.2f} s, then {found}")
        else:
            self.outcomes[found] += 1

    def fault(self, index: int, kind: str, told: str) -> None:
        self.outcomes[kind] += 1
        self.faults.append((index, f"{kind}: {told}"))


def run(name: str, count: int, *, module: str = "fuzz.child", hangs: float = HANGS) -> Report:
    """Give a target its mutants; a process that dies is replaced by one that goes on after it.

    Args:
        name: The target.
        count: How many mutants.
        module: What the processes run.
        hangs: Seconds without an answer to a mutant after which a process is killed.
    """
    report, begin = Report(name), 0
    while begin < count:
        begin = _one_process(report, module, (begin, count), hangs)
    return report


def _one_process(report: Report, module: str, span: tuple[int, int], hangs: float) -> int:
    """Run one process to its end; where to go on."""
    begin, end = span
    command = [sys.executable, "-m", module, report.target, str(begin), str(end)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        assert process.stdout is not None
        at: int | None = None  # the mutant that is being read
        for line in _lines(process.stdout, hangs):
            value = json.loads(line)
            if isinstance(value, int):
                at = value
            elif isinstance(value, dict):
                report.peak = max(report.peak, value["peak"])
            else:
                assert at is not None
                report.add(at, *value)
                begin, at = at + 1, None
        hung = process.poll() is None and at is not None and not _ended(process)
        if hung:
            process.kill()
        code = process.wait()
        process.stdout.close()
        errors.seek(0)
        told = errors.read()[-400:].strip().replace("\n", " | ")
    if code == 0 and begin == end:
        return end
    if at is None:
        raise RuntimeError(f"the process for {report.target} ended with {code} between mutants: {told}")
    report.fault(at, "hung" if hung else "died", f"exit code {code}; {told}")
    return at + 1


def _lines(stream: IO[bytes], hangs: float) -> Iterator[bytes]:
    """Give lines until the stream ends, or is silent for too long; the start may take any time.

    Silence is counted by the second, so that a computer that slept meanwhile has slept one second.
    """
    buffer, begun, silent = b"", False, 0
    while silent < hangs or not begun:
        if not select.select([stream], [], [], 1)[0]:
            silent += 1
            continue
        chunk = os.read(stream.fileno(), 2**16)
        if not chunk:
            return
        *lines, buffer = (buffer + chunk).split(b"\n")
        yield from lines
        begun, silent = True, 0


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a process whose output has ended, or is silent, ends by itself in a moment."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return False
    return True


def table(reports: list[Report]) -> str:
    """Write Markdown."""
    rows = [
        "| target | mutants | read | refused | died or hung | foreign exceptions | over 1 s | slowest | peak memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in reports:
        seen = each.outcomes
        rows.append(
            f"| {each.target} | {sum(seen.values()):,} | {seen['read']:,} | {seen['refused']:,} | "
            f"{seen['died'] + seen['hung']} | {seen['foreign']} | {seen['slow']} | {1000 * each.slowest:.0f} ms | "
            f"{each.peak / 2**20:.0f} MiB |"
        )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="folder for the mutants at fault")
    parser.add_argument(
        "--show", type=int, metavar="NUMBER", help="write this mutant of the one target named"
    )
    args = parser.parse_args()
    if unknown := set(args.targets) - TARGETS.keys():
        parser.error(f"expected targets of {', '.join(TARGETS)}, got {', '.join(sorted(unknown))}")
    names = args.targets or list(TARGETS)
    if args.show is not None:
        target = TARGETS[names[0]]
        sys.stdout.buffer.write(target.mutant(args.show, target.stock()))
        return 0
    reports = []
    for name in names:
        reports.append(run(name, args.count))
        for index, told in reports[-1].faults[:20]:
            print(f"{name} {index}: {told}", file=sys.stderr, flush=True)
        if args.keep:
            _keep(args.keep, reports[-1])
        print(f"{name}: {dict(reports[-1].outcomes)}", file=sys.stderr, flush=True)
    print(table(reports))
    return int(any(report.faults for report in reports))


def _keep(folder: Path, report: Report) -> None:
    target = TARGETS[report.target]
    stock = target.stock()
    folder.mkdir(parents=True, exist_ok=True)
    for index, _ in report.faults:
        (folder / f"{target.name}-{index}").write_bytes(target.mutant(index, stock))


if __name__ == "__main__":
    sys.exit(main())
