"""A batch under a supervisor that kills it at random moments, and compares the results with an unbroken run's.

    python -m tests.batch_kills --pictures 10000 --kills 200 --engine local
    python -m tests.batch_kills --pictures 10000 --kills 20 --engine ray --longest 40
    python -m tests.batch_kills --pictures 10000 --full-disk

The model is the fake one: what is tried is everything around it. Prints one line of JSON.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

ROOT = Path(__file__).parent.parent
FORMATS = ("coco", "parquet", "tar")
CARD = """
name = "tiny"
aliases = []
family = "sam"
title = "a card for the fake backend"
licence = "Apache-2.0"
weights_licence = "none"
paper = ""
side = 64
pad = "square"
mean = [127.0, 127.0, 127.0]
std = [128.0, 128.0, 128.0]
embedding_channels = 4
mask_grid = 32
zoom_below = 0.35
zoom_margin = 0.4
notes = "It draws shapes."
[graphs]
encoder = "nano_encoder.onnx"
decoder = "nano_decoder.onnx"
objects = "nano_objects.onnx"
[settings]
[quality]
[[files]]
role = "weights"
path = "none.safetensors"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
size = 1
"""


def make_inputs(folder: Path, pictures: int, *, bad: float = 0.01, seed: int = 0) -> Path:
    """Write small pictures, a share of them broken, and the card of the fake model beside them."""
    rng = np.random.default_rng(seed)
    inputs = folder / "pictures"
    for number in range(pictures):
        place = inputs / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{number:06d}.png"
        if number % round(1 / bad) == 7 if bad else False:
            path.write_bytes([b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)][number % 3])
        else:
            pixels = rng.integers(0, 255, (24, 32, 3), np.uint8)
            PillowImage.fromarray(pixels).save(path, compress_level=0)
    (folder / "tiny.toml").write_text(CARD)
    return inputs


def drive(folder: Path, output: Path, *, engine: str, formats: tuple[str, ...], shard: int) -> int:
    """Run the batch in this process, as the command line would."""
    from samlet.batch import Recipe, run
    from samlet.batch.engine import Engine
    from samlet.batch.local import Local
    from samlet.errors import SamletError

    who: Engine = Local(2)
    if engine.startswith("ray"):
        from samlet.batch.ray import Ray

        who = Ray(address=engine.partition(":")[2] or None, workers=(2, 2), cpus=0.5)
    recipe = Recipe(model=str(folder / "tiny.toml"), backend="fake", formats=formats)
    try:
        run([str(folder / "pictures")], output, recipe=recipe, engine=who, shard=shard, threads=1)
    except SamletError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def start(folder: Path, output: Path, *, engine: str = "local", formats: tuple[str, ...] = FORMATS, shard: int = 16,
          **more: Any) -> "subprocess.Popen[bytes]":  # fmt: skip
    """Run `drive` in a process group of its own."""
    words = [str(folder), str(output), engine, ",".join(formats), str(shard)]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.batch_kills", "--drive", *words],
        cwd=ROOT, env=environment, start_new_session=True, **more,
    )  # fmt: skip


def children(pid: int) -> list[int]:
    """List the processes that a process started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def actors() -> list[int]:
    """List Ray's actors of this computer that do our work."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"ray::") and b"_Actor" in words:
                found.append(int(entry.name))
    return found


def kill(pid: int, *, group: bool = False) -> bool:
    """Kill without mercy; False if there was nobody."""
    try:
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def differences(reference: Path, output: Path) -> list[str]:
    """Compare two outputs byte for byte, their ledgers row for row, and look for what kills may have left."""
    found = []
    mine, theirs = _files(output), _files(reference)
    found += [f"only in one of them: {name}" for name in sorted(mine.keys() ^ theirs.keys())]
    found += [
        f"different bytes: {name}"
        for name in sorted(mine.keys() & theirs.keys())
        if mine[name] != theirs[name]
    ]
    rows, expected = _rows(output), _rows(reference)
    found += [f"different row: {row[:3]}" for row, other in zip(rows, expected, strict=False) if row != other]
    found += ["another number of rows"] * (len(rows) != len(expected))
    found += [f"not ended: {row[:3]}" for row in rows if row[2] not in (1, 2)]
    lines = [line for path in (output / "records").iterdir() for line in path.read_text("utf-8").splitlines()]
    records = Counter(json.loads(line)["name"] for line in lines)
    found += [f"{count} records of {name}" for name, count in records.items() if count != 1]
    found += ["another number of records"] * (len(records) != len(rows))
    return found


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("ledger.")
    }


def _rows(folder: Path) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(folder / "ledger.sqlite")
    try:
        return database.execute(
            "SELECT number, name, state, masks, reason FROM items ORDER BY number"
        ).fetchall()
    finally:
        database.close()


def unbroken(folder: Path, *, shard: int = 16, formats: tuple[str, ...] = FORMATS) -> Path:
    """Run the batch once without disturbing it, unless that was done before."""
    reference = folder / "reference"
    if (
        not reference.exists()
        and (code := start(folder, reference, shard=shard, formats=formats).wait()) != 0
    ):
        raise RuntimeError(f"the unbroken run ended with {code}")
    return reference


def fill_disk(folder: Path, *, engine: str, steps: int = 6) -> dict[str, Any]:
    """Run the batch on a disk that is too small, and make it larger step by step; needs root, to mount a tmpfs."""
    reference = unbroken(folder)
    need = sum(path.stat().st_size for path in reference.rglob("*") if path.is_file())
    place, codes = folder / "disk", []
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={need // steps}", "none", str(place)], check=True)
    try:
        while (code := start(folder, place / "output", engine=engine, stderr=subprocess.DEVNULL).wait()) != 0:
            codes.append(code)
            size = need * (len(codes) + 1) // steps
            subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)
        wrong = differences(reference, place / "output")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    return {"exit codes on the full disk": codes, "wrong": wrong}


def supervise(
    folder: Path, *, kills: int, engine: str, seed: int, longest: float, shard: int = 16,
    formats: tuple[str, ...] = FORMATS,
) -> dict[str, Any]:  # fmt: skip
    """Run the batch again and again, kill it until there were enough kills, and compare every result.

    Args:
        folder: Where `make_inputs` wrote.
        kills: How many.
        engine: "local", "ray" or "ray:ADDRESS".
        seed: Of the random moments.
        longest: Seconds; the next kill comes after a random time below it.
        shard: Pictures of a shard.
        formats: What is written.
    """
    rng, done, victims, jobs, wrong = random.Random(seed), 0, Counter[str](), 0, []
    reference = unbroken(folder, shard=shard, formats=formats)
    lives = 0
    while done < kills:
        output = folder / f"output-{jobs}"
        while True:
            lives += 1
            driver = start(folder, output, engine=engine, shard=shard, formats=formats)
            code = None
            while code is None and done < kills:
                try:
                    code = driver.wait(rng.uniform(0, longest))
                except subprocess.TimeoutExpired:
                    victim = rng.choice(("driver", "worker", "all"))
                    done += _kill(victim, driver.pid, engine, rng)
                    victims[victim] += 1
            code = driver.wait()
            if code == 0:
                break
            if code != -signal.SIGKILL:
                raise RuntimeError(f"expected a driver that ends well or is killed, got exit code {code}")
        jobs += 1
        wrong += differences(reference, output)
        shutil.rmtree(output)
    return {"kills": done, "victims": dict(victims), "jobs": jobs, "lives": lives, "wrong": wrong}


def _kill(victim: str, pid: int, engine: str, rng: random.Random) -> bool:
    workers = children(pid) if engine == "local" else actors()
    if victim == "worker":
        return bool(workers) and kill(rng.choice(workers))
    if victim == "all" and engine == "local":
        return kill(pid, group=True)
    return kill(pid)


def main() -> int:
    if sys.argv[1:2] == ["--drive"]:
        folder, output, engine, formats, shard = sys.argv[2:]
        return drive(
            Path(folder), Path(output), engine=engine, formats=tuple(formats.split(",")), shard=int(shard)
        )
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=4.0)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--full-disk", action="store_true", help="instead of killing (needs root)")
    args = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        make_inputs(Path(name), args.pictures)
        if args.full_disk:
            result = fill_disk(Path(name), engine=args.engine)
        else:
            result = supervise(
                Path(name),
                kills=args.kills,
                engine=args.engine,
                seed=args.seed,
                longest=args.longest,
                formats=tuple(args.formats.split(",")),
            )
    print(json.dumps({"pictures": args.pictures, **result, "seconds": round(time.monotonic() - begun)}))
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
