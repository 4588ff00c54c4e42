"""`Sam` with the original's attributes and its end-to-end call, around a samlet session."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.compat.segment_anything.arrays import Tensor, loaded_torch, to_numpy, to_tensor
from samlet.compat.segment_anything.decoding import Sizes, answer, decode, prompt_of
from samlet.compat.segment_anything.errors import ShapeError
from samlet.errors import ModelError
from samlet.families.sam import on_canvas
from samlet.geometry import Frame
from samlet.session import Session
from samlet.upscale import enlarge

__all__ = ["ImageEncoder", "Sam"]


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """The encoder as the original's users see it: its input size, and a call.

    Attributes:
        session: The model.
    """

    session: Session

    @property
    def img_size(self) -> int:
        """Side of the square canvas, in pixels: 1024 for SAM."""
        return self.session.card.side

    def __call__(self, x: Tensor) -> Tensor:
        """Embed preprocessed pictures, one after the other.

        Args:
            x: (B, 3, img_size, img_size), what `Sam.preprocess` gave.

        Returns:
            (B, 256, h, w) float32.

        Raises:
            ShapeError: It has another shape.
            BackendError: The runtime failed.
        """
        pixels = to_numpy(x).astype(np.float32, copy=False)
        side = self.img_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side) or not len(pixels):
            raise ShapeError(
                f"expected pictures of shape (B, 3, {side}, {side}), got {pixels.shape}; use Sam.preprocess"
            )
        frame = Frame((side, side), (side, side), (side, side))
        views = [self.session.encode({"image": np.ascontiguousarray(one[None])}, frame) for one in pixels]
        return to_tensor(np.concatenate([view.arrays["image_embeddings"] for view in views]), x)


class Sam:
    """A model of the SAM family under the original's name; it computes, but has no torch parameters.

    Attributes:
        session: samlet's own model, for everything that goes beyond the original.
        image_encoder: Knows the input size.
        mask_threshold: Where a mask begins, in logits.
        image_format: Order of the channels that the network expects.
    """

    mask_threshold: float = 0.0
    image_format: str = "RGB"

    def __init__(self, session: Session) -> None:
        """Wrap a session; most people call an entry of `sam_model_registry` instead.

        Args:
            session: A model of the SAM family in a square canvas.

        Raises:
            ModelError: The session's model is of another kind.
        """
        card = session.card
        if card.family != "sam" or card.pad != "square":
            raise ModelError(
                f"expected a model of the SAM family in a square canvas, got {card.name} ({card.family}, "
                f"padded to {card.pad}); use samlet.load for it"
            )
        self.session = session
        self.image_encoder = ImageEncoder(session)

    def __getattr__(self, name: str) -> NoReturn:
        """Say what is missing and where it is, for names that only a torch module has."""
        raise AttributeError(
            f"expected an attribute of samlet's Sam, got {name!r:.80}: it has no torch modules inside; "
            "use the methods of Sam and SamPredictor, or samlet's own interface for the rest"
        )

    @property
    def card(self) -> Card:
        """What the model is and where it comes from."""
        return self.session.card

    @property
    def device(self) -> Any:
        """Where tensors are expected: the CPU, whatever runs the network (a torch.device if torch is loaded)."""
        torch = loaded_torch()
        return "cpu" if torch is None else torch.device("cpu")

    @property
    def pixel_mean(self) -> Tensor:
        """(3, 1, 1) float32, RGB, 0 to 255."""
        return to_tensor(np.array(self.card.mean, np.float32).reshape(3, 1, 1))

    @property
    def pixel_std(self) -> Tensor:
        """(3, 1, 1) float32, in units of 0 to 255."""
        return to_tensor(np.array(self.card.std, np.float32).reshape(3, 1, 1))

    def to(self, *arguments: Any, **options: Any) -> Self:
        """Stay where the backend runs, so that code which moves its model goes on working.

        Warns:
            UserWarning: Another device than the CPU was asked for; the backend decides where a model runs.
        """
        for wanted in (*arguments, *options.values()):
            if str(wanted).split(":")[0] in ("cuda", "mps", "xpu") or type(wanted) is int:
                _warn_stays(wanted)
                break
        return self

    def cuda(self, device: Any = "cuda") -> Self:
        """Stay where the backend runs; see `to`."""
        _warn_stays(device)
        return self

    def cpu(self) -> Self:
        """Give itself."""
        return self

    def eval(self) -> Self:
        """Give itself; there is no other mode."""
        return self

    def float(self) -> Self:
        """Give itself; it is float32."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Give itself for `train(False)`.

        Raises:
            ModelError: Training was asked for.
        """
        if mode:
            raise ModelError(
                "expected a model to be used, got train(), but samlet's Sam has no torch parameters; "
                "train with `samlet distill` or on samlet.nets"
            )
        return self

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise pictures and pad them to the canvas.

        Args:
            x: (3, h, w) or (B, 3, h, w), RGB, 0 to 255, already resized.

        Returns:
            (3, S, S) or (B, 3, S, S) float32 of the same kind, S being `image_encoder.img_size`.

        Raises:
            ShapeError: It has another shape, or exceeds the canvas.
        """
        pixels, side = to_numpy(x), self.image_encoder.img_size
        if pixels.ndim not in (3, 4) or pixels.shape[-3] != 3 or not 0 < max(pixels.shape[-2:]) <= side:
            raise ShapeError(
                f"expected pictures of shape (3, h, w) or (B, 3, h, w) of at most {side} pixels a side, got "
                f"{pixels.shape}; resize with ResizeLongestSide({side}) first"
            )
        flat = pixels.reshape(-1, *pixels.shape[-3:])
        done = [on_canvas(one.transpose(1, 2, 0), (side, side), self.card) for one in flat]
        return to_tensor(np.concatenate(done).reshape(*pixels.shape[:-2], side, side), x)

    def postprocess_masks(
        self, masks: Tensor, input_size: Sequence[int], original_size: Sequence[int]
    ) -> Tensor:
        """Enlarge low-resolution logits to the picture's size in two bilinear steps, cutting the padding off.

        Args:
            masks: (B, C, h, w) logits of the whole canvas.
            input_size: (height, width) of the resized picture in the canvas, in pixels.
            original_size: (height, width) of the picture.

        Returns:
            (B, C, H, W) float32 logits of the same kind.

        Raises:
            ShapeError: The logits have another number of axes.
        """
        logits, side = to_numpy(masks).astype(np.float32, copy=False), self.image_encoder.img_size
        if logits.ndim != 4:
            raise ShapeError(
                f"expected logits of shape (B, C, h, w), got {logits.shape}; add the missing axes"
            )
        frame = Frame(pair(original_size), pair(input_size), (side, side))
        full = np.empty((*logits.shape[:2], *frame.image_hw), np.float32)
        for index in np.ndindex(logits.shape[:2]):
            full[index] = enlarge(logits[index], frame, "exact")
        return to_tensor(full, masks)

    def forward(
        self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool
    ) -> list[dict[str, Tensor]]:
        """Go from resized pictures and prompts to masks.

        Args:
            batched_input: One dict a picture: "image" (3, h, w), already resized; "original_size" (H, W); and
                where there are any "point_coords" (B, K, 2) with "point_labels" (B, K), "boxes" (B, 4),
                "mask_inputs" (B, 1, 256, 256), all in the network's pixels.
            multimask_output: Three masks a prompt instead of one.

        Returns:
            One dict a picture: "masks" (B, C, H, W) bool, "iou_predictions" (B, C), "low_res_logits"
            (B, C, 256, 256).

        Raises:
            PromptError: A part has the wrong shape.
            BackendError: The runtime failed.
        """
        return [self._one(record, multimask_output) for record in batched_input]

    __call__ = forward

    def _one(self, record: Mapping[str, Any], multimask: bool) -> dict[str, Tensor]:
        if len(record["image"].shape) != 3:
            raise ShapeError(
                f"expected an image of shape (3, h, w), got {tuple(record['image'].shape)}; give one picture "
                "a dict"
            )
        prompt = prompt_of(
            record.get("point_coords"),
            record.get("point_labels"),
            record.get("boxes"),
            record.get("mask_inputs"),
        )
        features = to_numpy(self.image_encoder(self.preprocess(record["image"])[None]))
        sizes = Sizes(pair(record["original_size"]), pair(record["image"].shape[-2:]))
        found = answer(
            decode(self.session, features, sizes, prompt=prompt, multimask=multimask), self.mask_threshold
        )
        tensors: dict[str, NDArray[Any]] = {
            "masks": found.masks,
            "iou_predictions": found.scores,
            "low_res_logits": found.logits,
        }
        return {name: to_tensor(array, record["image"]) for name, array in tensors.items()}


def pair(size: Sequence[int]) -> tuple[int, int]:
    """Give a size as two plain integers, whatever kind of sequence it was.

    Raises:
        ShapeError: It has another length.
    """
    if len(size) != 2:
        raise ShapeError(f"expected a size (height, width), got {len(size)} numbers; pass image.shape[:2]")
    return int(size[0]), int(size[1])


def _warn_stays(device: object) -> None:
    warnings.warn(
        f"samlet's Sam stays where its backend runs, so {device!s:.40} is not used; for a GPU build it with "
        "backend=samlet.backends.torch.TorchBackend(device=...)",
        stacklevel=3,
    )
