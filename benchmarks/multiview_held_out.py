"""How well masks lifted from one prompted view fit views with known masks, some of which took no part at all.

    python -m benchmarks.multiview_held_out ../shared/data/multiview/mv_lego

The folder holds transforms.json, images/ and masks/ of the same names. The prompt is the true box of one view.
Every fifth view is held out: neither embedded nor asked while the masks are lifted. "box" is the answer to the
true box of each view, which nobody has; it is there to compare with.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

import samlet
from samlet import multiview
from samlet.geometry import mask_iou

HELD_OUT = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument(
        "--views", type=int, nargs="*", default=[0, 7, 13], help="prompted views, one run each"
    )
    parser.add_argument("--voxels", type=int, default=64)
    args = parser.parse_args()
    cameras, paths = multiview.load_cameras(args.folder / "transforms.json")
    images = [samlet.Image.load(path) for path in paths]
    truths = [_truth(args.folder / "masks" / path.name) for path in paths]
    model = samlet.load(args.model)
    voxels = multiview.Voxels(*multiview.scene_bounds(cameras), args.voxels)
    boxes = [mask_iou(next(model.segment(image, boxes=_box(truth)).iter_masks()), truth)
             for image, truth in zip(images, truths, strict=True)]  # fmt: skip
    for view in args.views:
        kept = [index for index in range(len(cameras)) if index == view or (index - view) % HELD_OUT != 2]
        out = sorted(set(range(len(cameras))) - set(kept))
        start = time.perf_counter()
        lifted = multiview.lift(
            model,
            [cameras[index] for index in kept],
            [images[index] for index in kept],
            view=kept.index(view),
            boxes=_box(truths[view]),
            voxels=voxels,
        )
        seconds = time.perf_counter() - start
        others = [index for index in kept if index != view]
        found = {
            "masks": [mask_iou(lifted.masks[kept.index(index)], truths[index]) for index in others],
            "silhouettes": [mask_iou(lifted.silhouette(cameras[index]), truths[index]) for index in others],
            "box": [boxes[index] for index in others],
            "held out, masks": [
                mask_iou(lifted.ask(model, cameras[index], images[index])[0], truths[index]) for index in out
            ],
            "held out, silhouettes": [
                mask_iou(lifted.silhouette(cameras[index]), truths[index]) for index in out
            ],
            "held out, box": [boxes[index] for index in out],
        }
        row = {name: round(float(np.mean(values)), 3) for name, values in found.items()}
        print(json.dumps({
            "view": view, "views": len(kept), "held out": len(out), "trusted": int(lifted.trusted.sum()),
            "prompted": round(mask_iou(lifted.masks[kept.index(view)], truths[view]), 3), **row,
            "seconds": round(seconds, 1),
        }), flush=True)  # fmt: skip


def _truth(path: Path) -> NDArray[np.bool_]:
    with PillowImage.open(path) as opened:
        return np.asarray(opened) == 1


def _box(truth: NDArray[np.bool_]) -> list[int]:
    y, x = np.nonzero(truth)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


if __name__ == "__main__":
    main()
