"""How well an object is followed while the camera moves, and how fast.

    python -m benchmarks.sequence_moved ../shared/data/bench/grabcut45

The folder holds images/ and masks/ (1 is the object). Each picture becomes a clip: a window of it that wanders,
turns and grows a little, warped together with the true mask. This is camera motion over a still picture: nothing moves
against anything else, nothing changes its shape, nothing is hidden; a real video is harder.

The prompt is the true box in the first frame. J is the mean overlap with the truth over the frames after the first.
"box" answers the true box of each frame anew, which nobody has; "still" keeps the first mask where it was.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

import samlet
from samlet.geometry import mask_iou
from samlet.sequence import Following, follow

SIDE = 256


def clip_of(
    image: Path, mask: Path, frames: int
) -> list[tuple[samlet.Image, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Give frames with the true mask and the pixels that count (void ones do not)."""
    with PillowImage.open(image) as opened, PillowImage.open(mask) as labels:
        photo, truth = opened.convert("RGB"), labels.copy()
    width, height = photo.size
    made = []
    for index in range(frames):
        t = 2 * math.pi * index / frames
        scale = min(width, height) * (0.8 + 0.1 * math.cos(t)) / SIDE
        angle = 0.15 * math.sin(t)
        cx = width / 2 + 0.08 * width * math.sin(t)
        cy = height / 2 + 0.08 * height * (math.cos(t) - 1) / 2
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        warp = (cos, -sin, cx - (cos - sin) * SIDE / 2, sin, cos, cy - (sin + cos) * SIDE / 2)
        how = PillowImage.Transform.AFFINE
        seen = photo.transform((SIDE, SIDE), how, warp, PillowImage.Resampling.BICUBIC)
        ids = np.asarray(truth.transform((SIDE, SIDE), how, warp, PillowImage.Resampling.NEAREST))
        made.append((samlet.Image.load(seen), ids == 1, ids != 255))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", type=int, help="longest side in the network (default: the model's own)")
    parser.add_argument("--margin", type=float, default=Following().margin)
    parser.add_argument("--no-hint", action="store_true", help="without the last logits")
    parser.add_argument("--only-followed", action="store_true", help="spare the columns for comparison")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--every", type=int, default=3, help="of so many pictures one")
    args = parser.parse_args()
    model = samlet.load(args.model, size=args.size)
    how = Following(margin=args.margin, hint=not args.no_hint)
    rows: list[dict[str, float]] = []
    seconds, count, lost = 0.0, 0, 0
    for mask in sorted((args.folder / "masks").iterdir())[:: args.every]:
        image = next((args.folder / "images").glob(f"{mask.stem}.*"))
        made = clip_of(image, mask, args.frames)
        if any(truth.sum() < 50 for _, truth, _ in made):
            continue
        start = time.perf_counter()
        steps = list(follow(model, (one for one, _, _ in made), boxes=_box(made[0][1]), following=how))
        seconds += time.perf_counter() - start
        count += len(steps)
        lost += sum(not step.found for step in steps)
        rows.append({"followed": _mean([step.mask for step in steps[1:]], made[1:])})
        if not args.only_followed:
            box = [next(model.segment(one, boxes=_box(truth)).iter_masks()) for one, truth, _ in made[1:]]
            rows[-1] |= {
                "box": _mean(box, made[1:]),
                "still": _mean([steps[0].mask] * (len(made) - 1), made[1:]),
            }
    means = {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}
    print(
        json.dumps(
            {
                "clips": len(rows),
                "frames": count,
                "side": SIDE,
                "in the network": model.card.side,
                "margin": args.margin,
                **{f"J, {name}": value for name, value in means.items()},
                "worst clip": round(min(row["followed"] for row in rows), 3),
                "lost": lost,
                "frames a second": round(count / seconds, 1),
            }
        )
    )


def _mean(
    masks: list[NDArray[np.bool_]], made: list[tuple[samlet.Image, NDArray[np.bool_], NDArray[np.bool_]]]
) -> float:
    return float(np.mean([mask_iou(mask & counts, truth & counts) for mask, (_, truth, counts) in
                          zip(masks, made, strict=True)]))  # fmt: skip


def _box(truth: NDArray[np.bool_]) -> list[int]:
    y, x = np.nonzero(truth)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


if __name__ == "__main__":
    main()
