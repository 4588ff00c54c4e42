"""Make everything-thirty.png, and count what everything mode misses; from the project's root:

    python docs/images/everything-thirty.py ../shared/data/bench/voc2007_seg_val

Every seventh picture of the set. The sheet holds masks and no photographs, which may not be passed on;
`--photographs DIR` writes sheets with the photographs too, to look at and to keep.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

import samlet
from samlet import drawing
from samlet.evaluate.datasets import Dataset, Sample
from samlet.geometry import mask_iou

EVERY, COUNT = 7, 30
FIRST = 10  # best masks that are drawn
PAPER, GREYS, INK = (255, 255, 255), ((196, 196, 196), (214, 214, 214), (228, 228, 228)), (60, 60, 60)
SIZES = (("small", 32**2), ("medium", 96**2), ("large", float("inf")))


def best(sample: Sample, found: list) -> list[tuple[int, float]]:
    """Give for each object the mask that overlaps it most, and how much; what is to be ignored does not count."""
    answers = []
    for region in sample.regions:
        overlaps = [mask_iou(mask & ~sample.ignore, region.mask) for mask in found]
        row = int(np.argmax(overlaps)) if overlaps else -1
        answers.append((row, overlaps[row] if overlaps else 0.0))
    return answers


def outline(mask: np.ndarray) -> np.ndarray:
    """Mark the pixels at the border of a mask."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def painted(sample: Sample, found: list, answers: list[tuple[int, float]]) -> PillowImage.Image:
    """Paint the ten best masks, and all that match, beside the objects; what matches has the object's colour."""
    height, width = sample.ignore.shape
    left, right = (np.full((height, width, 3), PAPER, np.uint8) for _ in range(2))
    colours = {row: number for number, (row, overlap) in enumerate(answers) if overlap >= 0.5}
    order = sorted(range(min(FIRST, len(found))), key=lambda row: -found[row].sum())
    for step, row in enumerate([*(row for row in order if row not in colours), *sorted(colours)]):
        left[found[row]] = drawing.color(colours[row]) if row in colours else GREYS[step % len(GREYS)]
        left[outline(found[row])] = INK
    for number, (region, (_, overlap)) in enumerate(zip(sample.regions, answers, strict=True)):
        right[region.mask] = drawing.color(number) if overlap >= 0.5 else PAPER
        right[outline(region.mask)] = INK
    return PillowImage.fromarray(
        np.concatenate((left, np.full((height, 12, 3), INK, np.uint8), right), axis=1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", help="folder with images/ and masks/")
    parser.add_argument("--photographs", type=Path, metavar="DIR")
    options = parser.parse_args()
    model = samlet.load()
    sheets, captions, photographs = [], [], []
    tally = {name: [0, 0, 0, 0] for name, _ in SIZES}  # objects, found, found well, found among the first ten
    for sample in Dataset.open(options.set).select(every=EVERY, limit=COUNT).samples(broken=[]):
        image = sample.load_image()
        masks = model.everything(image)
        found = list(masks.iter_masks())
        answers, first = best(sample, found), best(sample, found[:FIRST])
        for region, (_, overlap), (_, early) in zip(sample.regions, answers, first, strict=True):
            size = next(name for name, most in SIZES if np.count_nonzero(region.mask) <= most)
            for place, yes in enumerate((True, overlap >= 0.5, overlap >= 0.75, early >= 0.5)):
                tally[size][place] += yes
        hits = sum(overlap >= 0.5 for _, overlap in answers)
        print(sample.name, f"{hits} of {len(answers)}", [round(overlap, 2) for _, overlap in answers])
        sheets.append(painted(sample, found, answers))
        captions.append(f"{sample.name}: {hits} of {len(answers)}")
        if options.photographs:
            photographs.append(drawing.overlay(image, masks[:FIRST]))
    sheet = drawing.contact_sheet(sheets, 5, captions, cell=300)
    sheet.convert("P", palette=PillowImage.Palette.ADAPTIVE, colors=64).save(
        Path(__file__).parent / "everything-thirty.png", optimize=True
    )
    print("size: objects, found, found to 0.75, found among the first ten:", tally)
    for number in range(0, len(photographs), 10):
        options.photographs.mkdir(parents=True, exist_ok=True)
        part = slice(number, number + 10)
        page = drawing.contact_sheet(
            [side for pair in zip(photographs[part], sheets[part], strict=True) for side in pair],
            4,
            [caption for one in captions[part] for caption in (one, "")],
            cell=380,
        )
        page.save(options.photographs / f"thirty-{number // 10 + 1}.png")


if __name__ == "__main__":
    main()
