"""What settings of ONNX Runtime's sessions do to samlet's times: each in processes of its own, which take turns.

    python -m benchmarks.session_options --photo samples/coffee.jpg force_spinning_stop=0 intra_op.allow_spinning=0

Each word is one setting "KEY=VALUE" (without the leading "session."), or several joined by commas; samlet's own come
first. MobileSAM's weights are random, which changes no time. Figures are milliseconds, medians over the rounds of a
round's median, with the least and the most: an embedding, clicks on it one and sixteen at once, and a photograph with a
click, where encoder and decoder follow each other.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

THREADS = 2


def median_ms(do, times):
    """Milliseconds of one call, the first left out."""
    found = []
    for number in range(times + 1):
        started = time.perf_counter()
        do()
        if number:
            found.append((time.perf_counter() - started) * 1e3)
    return statistics.median(found)


def measure(weights, photo, settings):
    """Open both models with the settings and give times by name; to be called in a process of its own."""
    import onnxruntime

    import samlet

    plain = onnxruntime.InferenceSession

    def opened(model, options, **others):
        for setting in filter(None, settings.split(",")):
            key, _, value = setting.partition("=")
            options.add_session_config_entry(f"session.{key}", value)
        return plain(model, options, **others)

    onnxruntime.InferenceSession = opened
    pixels = np.asarray(PILImage.open(photo).convert("RGB").resize((1280, 720)))
    random = np.random.default_rng(0)
    rows = {}
    for name, which, times in (("MobileSAM", weights, 4), ("nano", "nano", 12)):
        model = samlet.load(which, threads=THREADS)
        view = model.embed(pixels)
        rows[f"{name}, embed"] = median_ms(lambda model=model: model.embed(pixels), times)
        for count in (1, 16):
            points = random.uniform(100, 700, (count, 1, 2))
            rows[f"{name}, {count} clicks"] = median_ms(
                lambda model=model, view=view, points=points: model.segment(view, points=points), times
            )
        rows[f"{name}, photo and click"] = median_ms(
            lambda model=model: model.segment(pixels, points=[640, 360]), times
        )
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", metavar="WEIGHTS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.worker, args.photo, args.settings[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "mobile_sam.pt")
        code = "import sys; from tests.random_mobile_sam import save; save(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, weights], check=True)
        ways = ["", *args.settings]
        found = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way in ways:
                words = [sys.executable, "-m", "benchmarks.session_options", "--photo", str(args.photo)]
                done = subprocess.run(
                    [*words, "--worker", weights, way], check=True, capture_output=True, text=True
                )
                found[way].append(json.loads(done.stdout))
    print("| " + " | ".join(["", *(way or "as samlet sets them" for way in ways)]) + " |")
    print("|---" * (1 + len(ways)) + "|")
    for name in found[""][0]:
        cells = [[round_[name] for round_ in found[way]] for way in ways]
        shown = [f"{statistics.median(cell):.0f} ({min(cell):.0f} to {max(cell):.0f})" for cell in cells]
        print("| " + " | ".join([name, *shown]) + " |")


if __name__ == "__main__":
    main()
