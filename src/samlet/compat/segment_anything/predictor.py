"""The original's `SamPredictor`: set a picture once, prompt it as often as you like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.compat.segment_anything.arrays import Tensor, to_numpy, to_tensor
from samlet.compat.segment_anything.decoding import Answer, Sizes, answer, decode, prompt_of
from samlet.compat.segment_anything.errors import NoImageError, PictureError, ShapeError, UsageError
from samlet.compat.segment_anything.modeling import Sam, pair
from samlet.compat.segment_anything.utils.transforms import ResizeLongestSide
from samlet.image import Image


class SamPredictor:
    """Remembers one picture, as the original does; not for use by several threads at once.

    Its state is in public attributes, so that people who keep `features` for later may put them back together
    with `original_size`, `input_size` and `is_image_set`.

    Attributes:
        model: The model.
        transform: Maps pictures and prompts to the network's pixels.
        is_image_set: Whether there is a picture.
        features: (1, 256, h, w) what the encoder made of it, or None.
        original_size: (H, W) of the picture, or None.
        input_size: (h, w) of the resized picture in the network's canvas, or None.

    Example:
        >>> sam = sam_model_registry["vit_t"](checkpoint="mobile_sam.pt")  # doctest: +SKIP
        >>> predictor = SamPredictor(sam)  # doctest: +SKIP
        >>> predictor.set_image(np.zeros((720, 1280, 3), np.uint8))  # doctest: +SKIP
        >>> masks, scores, logits = predictor.predict(np.array([[640, 360]]), np.array([1]))  # doctest: +SKIP
    """

    features: Tensor | None
    original_size: tuple[int, int] | None
    input_size: tuple[int, int] | None

    def __init__(self, sam_model: Sam) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_encoder.img_size)
        self.reset_image()

    @property
    def device(self) -> Any:
        """Where tensors are expected; see `Sam.device`."""
        return self.model.device

    def set_image(self, image: NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Do the expensive half of the work for a picture.

        Args:
            image: (H, W, 3) uint8.
            image_format: "RGB" or "BGR", the order of its channels.

        Raises:
            UsageError: The format is another.
            PictureError: It is no such array.
            BackendError: The runtime failed.
        """
        if image_format not in ("RGB", "BGR"):
            raise UsageError(f"expected image_format 'RGB' or 'BGR', got {image_format!r:.80}; choose one")
        pixels = np.asarray(image)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise PictureError(
                f"expected a picture of shape (H, W, 3) and type uint8, got {pixels.shape} {pixels.dtype}; "
                "convert it, for instance a grey one with np.stack([grey] * 3, axis=-1)"
            )
        self.reset_image()
        view = self.model.session.embed(
            Image(pixels if image_format == self.model.image_format else pixels[..., ::-1])
        )
        self._set(view.arrays["image_embeddings"], Sizes(view.frame.image_hw, view.frame.scaled_hw))

    def set_torch_image(self, transformed_image: Tensor, original_image_size: Sequence[int]) -> None:
        """Do the same for a picture that `transform` has resized already.

        Args:
            transformed_image: (1, 3, h, w), RGB, 0 to 255, its longer side `transform.target_length` pixels.
            original_image_size: (H, W) before the resize.

        Raises:
            UsageError: It has another shape.
            BackendError: The runtime failed.
        """
        shape, side = tuple(transformed_image.shape), self.transform.target_length
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != side:
            raise UsageError(
                f"expected a picture of shape (1, 3, h, w) with a longer side of {side}, got {shape}; resize "
                f"with ResizeLongestSide({side}) first"
            )
        self.reset_image()
        features = self.model.image_encoder(self.model.preprocess(transformed_image))
        self._set(to_numpy(features), Sizes(pair(original_image_size), pair(shape[2:])))

    def predict(
        self,
        point_coords: NDArray[Any] | None = None,
        point_labels: NDArray[Any] | None = None,
        box: NDArray[Any] | None = None,
        mask_input: NDArray[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Cut out what one prompt points at, or what each of N boxes holds.

        Args:
            point_coords: (K, 2) as x, y in picture pixels.
            point_labels: (K,), 1 foreground, 0 background, -1 padding.
            box: (4,) as x0, y0, x1, y1 in picture pixels; or (N, 4), which the original cannot do.
            mask_input: (1, 256, 256) logits of an earlier answer; (N, 256, 256) with N boxes.
            multimask_output: Three masks for an ambiguous prompt instead of one.
            return_logits: Logits at the picture's size instead of bool masks.

        Returns:
            Masks (C, H, W), scores (C,) float32 and logits (C, 256, 256) float32, C being 3 or 1; with N > 1
            boxes each has a first axis of N.

        Raises:
            NoImageError: There is no picture yet.
            UsageError: Points came without labels.
            ShapeError: A part has the wrong shape.
            BackendError: The runtime failed.
        """
        original_size, _ = self._sizes()
        points = labels = boxes = hint = None
        if point_coords is not None:
            if point_labels is None:
                raise UsageError(
                    "expected point_labels along with point_coords, got none; give one label a point"
                )
            points = self.transform.apply_coords(
                _with_axes(point_coords, "point_coords", "K, 2"), original_size
            )[None]
            labels = _with_axes(point_labels, "point_labels", "K,")[None]
        if box is not None:
            boxes = self.transform.apply_boxes(to_numpy(box), original_size)
        if mask_input is not None:
            hint = _with_axes(mask_input, "mask_input", "1, h, w")[:, None]
        found = self._decode(
            (points, labels, boxes, hint), multimask=multimask_output, return_logits=return_logits
        )
        if len(found.masks) == 1:
            return found.masks[0], found.scores[0], found.logits[0]
        return found.masks, found.scores, found.logits

    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cut out what B prompts in the network's pixels point at.

        Args:
            point_coords: (B, K, 2), what `transform.apply_coords_torch` gave.
            point_labels: (B, K), 1 foreground, 0 background, -1 padding.
            boxes: (B, 4), what `transform.apply_boxes_torch` gave.
            mask_input: (B, 1, 256, 256) logits of an earlier answer.
            multimask_output: Three masks for an ambiguous prompt instead of one.
            return_logits: Logits at the picture's size instead of bool masks.

        Returns:
            Masks (B, C, H, W), scores (B, C) and logits (B, C, 256, 256), C being 3 or 1; tensors where torch
            is loaded, on the device of the first tensor given.

        Raises:
            NoImageError: There is no picture yet.
            UsageError: Points came without labels.
            ShapeError: A part has the wrong shape.
            BackendError: The runtime failed.
        """
        parts = point_coords, point_labels, boxes, mask_input
        found = self._decode(parts, multimask=multimask_output, return_logits=return_logits)
        return (
            to_tensor(found.masks, *parts),
            to_tensor(found.scores, *parts),
            to_tensor(found.logits, *parts),
        )

    def get_image_embedding(self) -> Tensor:
        """Give what the encoder made of the picture, (1, 256, h, w) float32.

        Raises:
            NoImageError: There is no picture yet.
        """
        self._sizes()
        features = self.features
        return to_tensor(features) if isinstance(features, np.ndarray) else features

    def reset_image(self) -> None:
        """Forget the picture, its sizes included."""
        self.is_image_set = False
        self.features = self.original_size = self.input_size = None

    def _set(self, features: NDArray[np.float32], sizes: Sizes) -> None:
        self.features = to_tensor(np.array(features))  # a copy: what the session gives is read-only
        self.original_size, self.input_size = sizes.original_hw, sizes.input_hw
        self.is_image_set = True

    def _sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        original, resized = self.original_size, self.input_size
        if not self.is_image_set or self.features is None or original is None or resized is None:
            raise NoImageError("expected a picture before a prompt, got none; call set_image first")
        return pair(original), pair(resized)

    def _decode(self, parts: tuple[Any, Any, Any, Any], *, multimask: bool, return_logits: bool) -> Answer:
        sizes = Sizes(*self._sizes())
        features = to_numpy(self.features).astype(np.float32, copy=False)
        masks = decode(self.model.session, features, sizes, prompt=prompt_of(*parts), multimask=multimask)
        return answer(masks, None if return_logits else self.model.mask_threshold)


def _with_axes(value: Any, name: str, form: str) -> NDArray[Any]:
    """Check the number of axes of one prompt's part, for a message that has the shape its user knows."""
    try:
        array = to_numpy(value).astype(np.float64)
    except (TypeError, ValueError):
        raise ShapeError(f"expected {name} as numbers, got {type(value).__name__}; pass an array") from None
    if array.ndim != len(form.rstrip(",").split(",")):
        raise ShapeError(f"expected {name} of shape ({form}), got {array.shape}; add or drop an axis")
    return array
