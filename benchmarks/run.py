"""samlet beside every peer that is installed: same weights, same pictures, same threads, taking turns.

    python -m benchmarks.run --photo samples/coffee.jpg --out docs/benchmarks
    python -m benchmarks.run --photo samples/coffee.jpg --out docs/benchmarks --part encoder,decoder --rounds 3

Each part can be run by itself; its rows replace those of the same part in OUT/results.json, and the tables and plots
are made anew from all of them. Weights are random, in the official layout, and the same for all, which changes no time.
A peer that is not installed gets a sentence in its place. Peers that cannot live beside the others are named by their
interpreters: --ultralytics (AGPL-3.0: never a dependency) and --samexporter. `--device cuda` asks the torch peers and
samlet's torch backend to run on a GPU.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import parts, report


def commit():
    """The commit that is measured, with a plus if files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def machine(threads, device):
    """Where it is measured, in words."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = f"{len(names)} x {names[0]}" if names else model
    return f"{model}, {threads} threads, device {device}, Python {platform.python_version()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True, help="a photograph, landscape")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for results.json, README.md and plots"
    )
    parser.add_argument("--part", default="all", help=f"some of {','.join(parts.PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each contestant gets")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ultralytics", metavar="PYTHON", help="interpreter that has ultralytics")
    parser.add_argument("--samexporter", metavar="PYTHON", help="interpreter that has samexporter")
    parser.add_argument(
        "--work", type=Path, help="folder for weights and pictures, kept (default: a temporary one)"
    )
    args = parser.parse_args()
    wanted = list(parts.PARTS) if args.part == "all" else args.part.split(",")
    unknown = sorted(set(wanted) - set(parts.PARTS))
    if unknown:
        parser.error(f"expected parts ({', '.join(parts.PARTS)}), got {unknown[0]}")
    args.out.mkdir(parents=True, exist_ok=True)
    stamp = {
        "commit": commit(),
        "machine": machine(args.threads, args.device),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    with tempfile.TemporaryDirectory() as temporary:
        setting = parts.Setting.prepare(args, args.work or Path(temporary))
        for part in wanted:
            print(f"== {part}", file=sys.stderr, flush=True)
            rows = [{"part": part, **row, **stamp} for row in parts.PARTS[part](setting)]
            keep(args.out / "results.json", part, rows)
    report.write(args.out)


def keep(path, part, rows):
    """Put rows in the place of earlier ones of the same part."""
    old = json.loads(path.read_text("utf-8")) if path.exists() else []
    kept = [row for row in old if row["part"] != part] + rows
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in kept) + "\n]\n", "utf-8")


if __name__ == "__main__":
    main()
