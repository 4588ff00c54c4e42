"""Between a picture's pixels and those of the network: `ResizeLongestSide`, with the original's numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from samlet.compat.segment_anything.arrays import Tensor, is_tensor, loaded_torch, to_numpy
from samlet.compat.segment_anything.errors import PictureError, ShapeError
from samlet.geometry import Frame


class ResizeLongestSide:
    """Scales pictures, points and boxes so that the picture's longest side gets a given length.

    Attributes:
        target_length: The length, in pixels of the network; 1024 for SAM.

    Example:
        >>> ResizeLongestSide(1024).apply_coords(np.array([[640, 360]]), (720, 1280)).tolist()
        [[512.0, 288.0]]
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Resize a picture with Pillow's antialiased filter, the one SAM was trained behind.

        Args:
            image: (H, W, C) or (H, W) uint8.

        Returns:
            The same with its longest side at `target_length`.

        Raises:
            PictureError: It is no array of bytes in that shape.
        """
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise PictureError(
                f"expected a picture of shape (H, W, 3) and type uint8, got {pixels.shape} {pixels.dtype}; "
                "convert it first"
            )
        flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        return np.array(_resized(PILImage.fromarray(flat), self._shape(pixels.shape[:2])))

    def apply_coords(self, coords: NDArray[Any], original_size: Sequence[int]) -> NDArray[np.float64]:
        """Map points from picture pixels to the network's.

        Args:
            coords: (..., 2) as x, y in picture pixels.
            original_size: (H, W) of the picture.

        Returns:
            (..., 2), a new array.

        Raises:
            ShapeError: The last axis is not 2 long.
        """
        points = np.array(coords, np.float64)  # a copy: the caller keeps theirs
        self._scale(points, original_size)
        return points

    def apply_boxes(self, boxes: NDArray[Any], original_size: Sequence[int]) -> NDArray[np.float64]:
        """Map boxes from picture pixels to the network's.

        Args:
            boxes: (B, 4) or (4,) as x0, y0, x1, y1 in picture pixels.
            original_size: (H, W) of the picture.

        Returns:
            (B, 4), a new array.

        Raises:
            ShapeError: There are not four numbers a box.
        """
        return self.apply_coords(_corners(np.asarray(boxes)), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize pictures in floating point, with antialiasing; numbers differ from `apply_image` by up to one.

        Args:
            image: (B, C, H, W), a float tensor, or an array where torch is not loaded.

        Returns:
            (B, C, h, w) of the same kind.

        Raises:
            ShapeError: It has another number of axes.
        """
        if len(image.shape) != 4:
            raise ShapeError(
                f"expected pictures of shape (B, C, H, W), got {tuple(image.shape)}; add the missing axes"
            )
        size = self._shape(image.shape[2:])
        if is_tensor(image):
            resize = loaded_torch().nn.functional.interpolate
            return resize(image, size, mode="bilinear", align_corners=False, antialias=True)
        planes = np.asarray(image, np.float32).reshape(-1, *image.shape[2:])
        small = [np.asarray(_resized(PILImage.fromarray(plane), size)) for plane in planes]
        return np.stack(small).reshape(*image.shape[:2], *size)

    def apply_coords_torch(self, coords: Tensor, original_size: Sequence[int]) -> Tensor:
        """Do what `apply_coords` does, in float32, on a tensor (or an array where torch is not loaded)."""
        points = coords.clone().float() if is_tensor(coords) else np.array(coords, np.float32)
        self._scale(points, original_size)
        return points

    def apply_boxes_torch(self, boxes: Tensor, original_size: Sequence[int]) -> Tensor:
        """Do what `apply_boxes` does, in float32, on a tensor (or an array where torch is not loaded)."""
        kept = boxes if is_tensor(boxes) else to_numpy(boxes)
        return self.apply_coords_torch(_corners(kept), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Give (height, width) of a picture whose longest side becomes `long_side_length`, at least 1 pixel each.

        Example:
            >>> ResizeLongestSide.get_preprocess_shape(720, 1280, 1024)
            (576, 1024)
        """
        return Frame.fit((oldh, oldw), long_side_length).scaled_hw

    def _shape(self, hw: Sequence[int]) -> tuple[int, int]:
        return self.get_preprocess_shape(int(hw[0]), int(hw[1]), self.target_length)

    def _scale(self, points: Any, original_size: Sequence[int]) -> None:
        """Scale in place; arrays and tensors have the same operators."""
        if not points.shape or points.shape[-1] != 2:
            raise ShapeError(
                f"expected points as x, y pairs of shape (..., 2), got {tuple(points.shape)}; reshape them"
            )
        new_h, new_w = self._shape(original_size)
        points[..., 0] *= new_w / original_size[1]
        points[..., 1] *= new_h / original_size[0]


def _corners(boxes: Any) -> Any:
    if math.prod(boxes.shape) % 4:
        raise ShapeError(f"expected boxes of shape (B, 4), got {tuple(boxes.shape)}; give x0, y0, x1, y1")
    return boxes.reshape(-1, 2, 2)


def _resized(picture: PILImage.Image, hw: tuple[int, int]) -> PILImage.Image:
    return picture.resize((hw[1], hw[0]), PILImage.Resampling.BILINEAR)
