"""The two halves of a result: boxes and masks, with the attributes that Ultralytics' users read."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from samlet import codecs
from samlet.compat.ultralytics.arrays import HostArray, host
from samlet.masks import Masks as Answer


class _Part:
    """What boxes and masks have in common: rows of `data` for one picture."""

    orig_shape: tuple[int, int]

    @property
    def data(self) -> HostArray:
        """The rows."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return tuple(self.data.shape)

    def __len__(self) -> int:
        """Count the objects, N."""
        return len(self.data)

    def __getitem__(self, index: Any) -> Self:
        """Take some of the objects; a number gives a part of length one."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Self]:
        """Go through the objects, one by one."""
        return (self[row] for row in range(len(self)))

    def cpu(self) -> Self:
        """Give itself: everything is in the computer's own memory."""
        return self

    def cuda(self, *_: Any, **__: Any) -> Self:
        """Give itself: there is no other device."""
        return self

    def numpy(self) -> Self:
        """Give itself: the arrays are numpy's already."""
        return self

    def to(self, *_: Any, **__: Any) -> Self:
        """Give itself: devices change nothing."""
        return self


class Boxes(_Part):
    """N boxes with a confidence and a class each.

    Attributes:
        data: (N, 6) float32: x0, y0, x1, y1 in picture pixels with exclusive ends, confidence, class.
        orig_shape: Height and width of the picture.
        id: None; objects are not tracked.
        is_track: False.

    Example:
        >>> Boxes(np.array([[0, 0, 4, 2, 0.9, 0]]), (10, 20)).xywhn.tolist()
        [[0.10000000149011612, 0.10000000149011612, 0.20000000298023224, 0.20000000298023224]]
    """

    id = None
    is_track = False

    def __init__(self, boxes: NDArray[Any], orig_shape: tuple[int, int]) -> None:
        """Wrap rows of six numbers.

        Args:
            boxes: (N, 6), or (6,) for one box.
            orig_shape: Height and width of the picture.
        """
        self._data = host(np.asarray(boxes, np.float32).reshape(-1, 6))
        self.orig_shape = orig_shape

    def __repr__(self) -> str:
        """Say what it holds in one line."""
        return f"<Boxes: {len(self)} of {self.orig_shape[0]} x {self.orig_shape[1]} pixels>"

    def __getitem__(self, index: Any) -> Self:
        """Take some of the boxes; a number gives boxes of length one."""
        return type(self)(self._data.numpy()[index], self.orig_shape)

    @property
    def data(self) -> HostArray:
        """All numbers, (N, 6)."""
        return self._data

    @property
    def xyxy(self) -> HostArray:
        """Corners x0, y0, x1, y1 in picture pixels, (N, 4)."""
        return host(self._data[:, :4])

    @property
    def conf(self) -> HostArray:
        """Confidences, (N,): for SAM the network's estimate of the overlap with the truth."""
        return host(self._data[:, 4])

    @property
    def cls(self) -> HostArray:
        """Class numbers, (N,), all 0."""
        return host(self._data[:, 5])

    @property
    def xywh(self) -> HostArray:
        """Centres and sizes: x, y, width, height in picture pixels, (N, 4)."""
        low, high = self.xyxy[:, :2], self.xyxy[:, 2:]
        return host(np.concatenate(((low + high) / 2, high - low), axis=1))

    @property
    def xyxyn(self) -> HostArray:
        """Corners divided by the picture's width and height, (N, 4) in 0 to 1."""
        return host(self.xyxy / self._whwh)

    @property
    def xywhn(self) -> HostArray:
        """Centres and sizes divided by the picture's width and height, (N, 4) in 0 to 1."""
        return host(self.xywh / self._whwh)

    @property
    def _whwh(self) -> NDArray[np.float32]:
        return np.array([*self.orig_shape[::-1]] * 2, np.float32)


class Masks(_Part):
    """N masks of one picture; pixels and outlines are made when somebody asks for them, and kept.

    Attributes:
        data: (N, H, W) bool at the size of the picture.
        orig_shape: Height and width of the picture.

    Example:
        >>> Masks(np.ones((1, 2, 3), bool), (2, 3)).xy[0].tolist()
        [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]]
    """

    def __init__(self, masks: Answer | NDArray[Any], orig_shape: tuple[int, int]) -> None:
        """Wrap masks.

        Args:
            masks: What samlet answered, or an array (N, H, W), or (H, W) for one mask; non-zero is inside.
            orig_shape: Height and width of the picture.
        """
        self._answer = masks if isinstance(masks, Answer) else None
        if not isinstance(masks, Answer):
            self.__dict__["data"] = host(np.asarray(masks).astype(np.bool_).reshape(-1, *orig_shape))
        self.orig_shape = orig_shape

    def __repr__(self) -> str:
        """Say what it holds in one line."""
        return f"<Masks: {len(self)} of {self.orig_shape[0]} x {self.orig_shape[1]} pixels>"

    def __len__(self) -> int:
        """Count the masks, N."""
        return len(self.data) if self._answer is None else len(self._answer)

    def __getitem__(self, index: Any) -> Self:
        """Take some of the masks; a number gives masks of length one."""
        made = "data" in self.__dict__ or self._answer is None
        # Pixels that exist already are shared; else none are made for masks that nobody asked for.
        return type(self)(self.data.numpy()[index] if made else self._chosen(index), self.orig_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`, known without making it."""
        return (len(self), *self.orig_shape)

    @cached_property
    def data(self) -> HostArray:
        """All masks, (N, H, W) bool; yours to write into."""
        masks = np.zeros(self.shape, np.bool_)
        for row, mask in enumerate(self.iter_masks()):
            masks[row] = mask
        return host(masks)

    @cached_property
    def xy(self) -> list[NDArray[np.float32]]:
        """Outlines in picture pixels: one ring (K, 2) float32 for each mask, (0, 2) for an empty one.

        Points lie on the corners between pixels, so that filling a ring gives the mask back exactly; parts
        and holes are joined into the one ring by bridges of no width.
        """
        rings = (codecs.join_polygons(codecs.mask_to_polygons(mask)) for mask in self.iter_masks())
        return [ring.astype(np.float32) for ring in rings]

    @cached_property
    def xyn(self) -> list[NDArray[np.float32]]:
        """Outlines divided by the picture's width and height: (K, 2) float32 in 0 to 1 for each mask."""
        size = np.array(self.orig_shape[::-1], np.float32)
        return [ring / size for ring in self.xy]

    def iter_masks(self) -> Iterator[NDArray[np.bool_]]:
        """Give the masks (H, W) one after the other, without making all of them at once."""
        if self._answer is None or "data" in self.__dict__:
            return iter(self.data.numpy())
        return self._answer.iter_masks()

    def _chosen(self, index: Any) -> Any:
        answer = self._answer
        return None if answer is None else answer[np.asarray(index) if isinstance(index, list) else index]
