"""Pictures and a quick teacher for the tests of distillation: discs on a coloured ground, nano at 128 pixels."""

import io
import tarfile

import numpy as np
from PIL import Image as PILImage

SIZE = 128  # longest side of nano's canvas here


def disc_picture(number, hw=(48, 64)):
    rng = np.random.default_rng(number)
    y, x = np.mgrid[: hw[0], : hw[1]]
    pixels = np.full((*hw, 3), rng.integers(0, 120, 3), np.uint8)
    ids = np.zeros(hw, np.uint8)
    for k, cx in enumerate((hw[1] // 4, 3 * hw[1] // 4), start=1):
        disc = (y - hw[0] / 2) ** 2 + (x - cx) ** 2 < rng.integers(8, 13) ** 2
        pixels[disc], ids[disc] = rng.integers(150, 255, 3), k
    return pixels, ids


def folder_of(root, count=6, hw=(48, 64)):
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        # every other picture is upright
        PILImage.fromarray(disc_picture(i, hw if i % 2 else hw[::-1])[0]).save(root / f"{i:02d}.png")
    return root


def set_of(root, count=6):
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        pixels, ids = disc_picture(i)
        PILImage.fromarray(pixels).save(root / "images" / f"{i}.png")
        PILImage.fromarray(ids).save(root / "masks" / f"{i}.png")
    return root


def tar_of(path, folder):
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            data = file.read_bytes()
            info = tarfile.TarInfo(file.name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            tar.addfile(tarfile.TarInfo(f"{file.stem}.json"))
    return path
