"""One contestant from nothing to a mask file: python -m benchmarks.start KIND WEIGHTS THREADS PHOTO."""

import sys
import tempfile
from pathlib import Path

from benchmarks.worker import contestant, peak_mib


def main():
    kind, weights, threads, photo = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "mask.png"
        if kind.startswith("samlet-"):
            import samlet

            model = samlet.load(weights, backend=kind.split("-", 1)[1], threads=int(threads))
            model.segment(photo, points=[640, 360]).save(target)
        else:
            import numpy as np
            from PIL import Image

            runner = contestant(kind)(kind, weights, int(threads), "cpu")
            runner.build()
            runner.picture(photo)
            runner.embed()
            mask = runner.prompts(np.array([[640.0, 360.0]]))
            Image.fromarray(np.asarray(mask).reshape(mask.shape[-2:])).save(target)
        if not target.stat().st_size:
            raise SystemExit(1)
    print(peak_mib())


if __name__ == "__main__":
    main()
