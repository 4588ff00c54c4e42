"""What a batch costs beyond its pictures: a ledger of a million, memory, and the rate beside a bare loop.

python -m benchmarks.batch_scale ledger            # plans a million names, opens, compares and scans them again
python -m benchmarks.batch_scale memory            # peak memory of driver and workers, 1,000 and 10,000 pictures
python -m benchmarks.batch_scale rate --photos FOLDER   # nano on photographs: a bare loop, then a batch of one worker
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import batch_kills

from samlet.batch.ledger import Ledger
from samlet.batch.plan import plan
from samlet.batch.record import Report

MILLION = 1_000_000


def ledger(folder: Path) -> dict[str, float]:
    """Names without files: what is measured is the ledger, not the disk that the pictures are on."""
    names = folder / "names.txt"
    names.write_text("".join(f"{number:07d}.jpg\n" for number in range(MILLION)))
    found: dict[str, float] = {}
    start = time.perf_counter()
    with Ledger(folder / "ledger.sqlite") as book:
        plan(book, [str(names)])
        found["plan, s"] = time.perf_counter() - start
        with book.transaction() as db:
            db.execute("UPDATE items SET state = 1 WHERE number < 500000")
            db.execute("UPDATE shards SET state = 1 WHERE last < 500000")
    start = time.perf_counter()
    with Ledger(folder / "ledger.sqlite") as book:
        book.counts()
        next(book.pending())
        found["go on without inputs, s"] = time.perf_counter() - start
        start = time.perf_counter()
        for _ in book.rows():
            pass
        found["read every row, s"] = time.perf_counter() - start
        start = time.perf_counter()
        plan(book, [str(names)])
        found["list again and compare, s"] = time.perf_counter() - start
        start = time.perf_counter()
        for _, task in zip(range(100), book.pending(), strict=False):
            book.record(Report(task.shard, [(item.number, 1, "") for item in task.items]), 1)
        found["note down a shard, ms"] = (time.perf_counter() - start) * 10
    found["size, MB"] = (folder / "ledger.sqlite").stat().st_size / 1e6
    return found


def memory(folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for count in (1000, 10_000):
        place = folder / str(count)
        place.mkdir()
        batch_kills.make_inputs(place, count, bad=0)
        code = (
            "import resource, sys; from pathlib import Path; from tests.batch_kills import drive; "
            f"code = drive(Path({str(place)!r}), Path({str(place / 'out')!r}), engine='local', "
            "formats=('coco', 'tar'), shard=64); "
            "print(*(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        driver, worker = (int(word) / 1024 for word in done.stdout.split())
        found[f"{count} pictures, driver, MB"], found[f"{count} pictures, largest worker, MB"] = (
            driver,
            worker,
        )
    return found


def rate(folder: Path, photos: Path) -> dict[str, float]:
    """The bare loop finds what a worker finds, in one process with one thread, and writes nothing."""
    bare = (
        "import json, sys, time, numpy, samlet; from pathlib import Path; "
        f"paths = sorted(Path({str(photos)!r}).iterdir()); model = samlet.load(threads=1); rows = []; "
        "model.everything(str(paths[0])); start = time.perf_counter()\n"
        "for path in paths:\n"
        "    masks = model.everything(path.read_bytes()); rows.append((masks.scores.tolist(), masks.to_rle()))\n"
        "print(time.perf_counter() - start, len(paths))"
    )
    batched = (
        "import time; from samlet.batch import Recipe, run; from samlet.batch.local import Local; times = []; "
        f"run([{str(photos)!r}], {str(folder / 'out')!r}, recipe=Recipe(), engine=Local(1), threads=1, shard=8, "
        "progress=lambda counts: times.append((time.perf_counter(), counts.pending))); "
        "first, last = times[1], times[-1]; print(last[0] - first[0], first[1] - last[1])"
    )
    found: dict[str, float] = {}
    for name, code in (("bare loop", bare), ("batch", batched), ("bare loop again", bare)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, count = (float(word) for word in done.stdout.split())
        found[f"{name}, ms a picture"] = 1000 * seconds / count
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ledger", "memory", "rate"))
    parser.add_argument("--photos", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", "src")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = rate(folder, args.photos.resolve()) if args.what == "rate" else globals()[args.what](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {key: round(value, 3) for key, value in found.items()} | {"peak of this process, MB": round(peak)}
        )
    )


if __name__ == "__main__":
    main()
