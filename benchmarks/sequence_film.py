"""Whether a mask that is followed for long stays on its object: hundreds of frames of the page's test camera.

    python -m benchmarks.sequence_film samples/coffee.jpg samples/chelsea.jpg samples/astronaut.jpg

The camera wanders in a circle over a photograph, and what is boxed may leave the frame for a while. The truth is the
first frame's own mask, moved as the camera moved: this measures what following adds to a mask's errors, and nothing
else. `--stride` is how many frames of the film go by for one that is encoded.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.web_page import carried_along, film_frames, moving

import samlet
from samlet.geometry import mask_iou
from samlet.sequence import follow

BOXES = [(128, 48, 512, 432), (200, 100, 480, 400), (60, 200, 300, 460)]


def overlaps(
    model: samlet.Model,
    frames: list[NDArray[np.uint8]],
    places: list[tuple[int, int]],
    box: tuple[int, int, int, int],
) -> list[float]:
    """Follow what a box has, and give the overlap of each mask after the first with the truth."""
    steps = list(follow(model, map(samlet.Image.load, frames), boxes=box))
    found = []
    for step, place in zip(steps[1:], places[1:], strict=True):
        truth, counts = carried_along(steps[0].mask, places[0], place, pixels=1)
        found.append(mask_iou(step.mask & counts, truth & counts))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=40, help="of each box")
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    model = samlet.load(size=args.size)
    every: list[float] = []
    for photo in args.photos:
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder, "film.mjpeg")
            corners = moving(photo, film)
            pictures = film_frames(film)
        order = [index * args.stride % len(pictures) for index in range(args.frames)]
        for box in BOXES:
            found = overlaps(model, [pictures[i] for i in order], [corners[i] for i in order], box)
            every += found
            print(json.dumps({"photo": photo.name, "box": box, **_row(found)}), flush=True)
    print(json.dumps({"frames": len(every), **_row(every)}))


def _row(found: list[float]) -> dict[str, float]:
    overlap = np.array(found)
    return {
        "IoU of 0.5 and more": round(float((overlap >= 0.5).mean()), 3),
        "mean": round(float(overlap.mean()), 3),
    }


if __name__ == "__main__":
    main()
