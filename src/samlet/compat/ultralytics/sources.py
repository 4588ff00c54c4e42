"""Where pictures come from: paths, folders, patterns, lists, Pillow images and arrays in BGR order."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.errors import ImageError, InputError
from samlet.image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".mpo")
"""Files of a folder or a pattern that count as pictures."""
_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif")
_URL_STARTS = ("http:/", "https:/", "rtsp:/", "rtmp:/", "tcp:/", "ftp:/")  # Path() halves the two slashes


@dataclass(frozen=True)
class Source:
    """One picture.

    Attributes:
        image: The picture.
        path: Its file, or "image0.jpg", "image1.jpg", ... for pictures that were in memory.
    """

    image: Image
    path: str


def pictures(source: Any) -> Iterator[Source]:
    """Load pictures one after the other.

    Args:
        source: A path, a folder (its pictures by name), a pattern such as "photos/*.jpg", a Pillow image, an
            array (H, W), (H, W, 3) or (H, W, 4) of uint8 with the channels in BGR order, encoded bytes, an
            `Image`, or a list of these.

    Yields:
        The pictures in order.

    Raises:
        InputError: The source is a URL, a video or a camera, or an empty list.
        ImageError: There is no picture, or a broken one.
        LimitError: A picture is too large.

    Example:
        >>> [each.path for each in pictures([np.zeros((2, 3, 3), np.uint8)] * 2)]
        ['image0.jpg', 'image1.jpg']
    """
    items = list(source) if isinstance(source, list | tuple) else [source]
    if not items:
        raise InputError("expected at least one picture, got an empty list; pass a path or an array")
    for number, item in enumerate(items):
        if isinstance(item, str | Path):
            for path in _files(item):
                yield Source(Image.load(path), path)
        else:
            yield Source(_in_memory(item), f"image{number}.jpg")


def bgr(image: Image) -> NDArray[np.uint8]:
    """Give a picture as Ultralytics' users expect it: (H, W, 3) uint8 in BGR order, a copy.

    Example:
        >>> bgr(Image.load(np.array([[[1, 2, 3]]], np.uint8))).tolist()
        [[[3, 2, 1]]]
    """
    return np.ascontiguousarray(image.pixels[..., ::-1])


def from_bgr(array: NDArray[Any]) -> Image:
    """Make a picture of an array whose channels are in BGR (or BGRA) order; gray ones have no order.

    Raises:
        ImageError: The array is not a picture.
        LimitError: It is too large.
    """
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    return Image.load(array)


def _in_memory(item: Any) -> Image:
    if isinstance(item, np.ndarray):
        return from_bgr(np.asarray(item))
    if isinstance(item, bool | int):
        raise InputError(
            f"expected pictures, got the camera {item}; grab frames yourself and pass them as arrays"
        )
    if isinstance(item, bytearray | memoryview):
        return Image.load(bytes(item))
    if isinstance(item, Image | PillowImage.Image | bytes):
        return Image.load(item)
    raise ImageError(
        f"expected a path, a folder, a Pillow image or a numpy array in BGR order, got {type(item).__name__}; "
        "convert it to a (H, W, 3) uint8 array"
    )


def _files(item: str | Path) -> list[str]:
    """Find the files that a path, a folder or a pattern names."""
    text = str(item)
    if text.lower().startswith(_URL_STARTS):
        raise InputError(
            f"expected a file on this computer, got the address {text!r:.100}; nothing is fetched from the "
            "network, so download the picture and pass its path"
        )
    path = Path(item)
    if path.is_dir():
        found = sorted(str(each) for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
    elif glob.has_magic(text) and not path.exists():
        found = sorted(each for each in glob.glob(text, recursive=True) if each.lower().endswith(SUFFIXES))
    elif path.suffix.lower() in _VIDEOS:
        raise InputError(
            f"expected a picture, got the video {path.name!r:.100}; save its frames as pictures or pass them "
            "as arrays"
        )
    else:
        return [text]
    if not found:
        raise ImageError(f"{text}: expected pictures ({', '.join(SUFFIXES)}), found none; check the path")
    return found
