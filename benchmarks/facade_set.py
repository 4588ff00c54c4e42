"""Make a set of buildings of LabelMeFacade, for samlet evaluate --protocol buildings:

    python -m benchmarks.facade_set ../shared/data/train/labelmefacade /tmp/facades

The set's masks number the connected pieces of all classes and do not say which are buildings. In 41 of the 60
pictures the largest piece is the facade, seen by eye; in the others it is the road, the sky or a tree, and they are
left out. The facade becomes region 1. Windows and doors, which are classes of their own, stay holes in it; other
buildings of the picture count as background, since nothing says that they are buildings; what the set ignores stays
ignored.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

NO_FACADE = "001 003 007 009 013 017 019 021 053 055 061 065 071 073 077 087 089 103 113".split()
IGNORE = 255


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", type=Path, help="labelmefacade, with images/ and masks/")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    for folder in ("images", "masks"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    count = 0
    for path in sorted((options.set / "masks").glob("*.png")):
        if path.stem.removeprefix("lmf_") in NO_FACADE:
            continue
        ids = np.asarray(PillowImage.open(path))
        numbers, areas = np.unique(ids[(ids > 0) & (ids != IGNORE)], return_counts=True)
        mask = (ids == numbers[areas.argmax()]).astype(np.uint8)
        mask[ids == IGNORE] = IGNORE
        PillowImage.fromarray(mask).save(options.out / "masks" / path.name)
        (picture,) = (options.set / "images").glob(f"{path.stem}.*")
        shutil.copy(picture, options.out / "images")
        count += 1
    print(f"{count} pictures in {options.out}")


if __name__ == "__main__":
    main()
