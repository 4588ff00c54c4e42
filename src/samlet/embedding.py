"""What the encoder made of one picture: compute it once, prompt it as often as you like, keep it on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samlet.atomic import atomic_write
from samlet.errors import EmbeddingError, SamletError
from samlet.geometry import Frame
from samlet.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from samlet.card import Card
    from samlet.image import Image

_KEY = "samlet.embedding"
_FORMAT = 1
_FIELDS = {"format", "frame", "model", "digest"}
_BOX_AND_SCORE = 5


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The expensive half of the work for one picture.

    Attributes:
        arrays: Named float32 arrays, read-only; "image_embeddings" is (1, C, h, w) on the network's grid. A detector
            gives "candidates" (M, 5 + K) instead, and with masks also "protos" (K, h, w).
        frame: How the picture's pixels map to the network's.
        model: Name of the model that made it.
        digest: Digest of that model's card; only a model with the same digest can read the arrays.
        image: The picture itself, kept in memory for drawing and zooming; None after loading from disk.

    Example:
        >>> import samlet
        >>> view = samlet.load().embed("samples/dogs.jpg")  # doctest: +SKIP
        >>> view.save("dogs.embedding.safetensors")  # doctest: +SKIP
    """

    arrays: Mapping[str, NDArray[np.float32]]
    frame: Frame
    model: str
    digest: str
    image: "Image | None" = field(default=None, repr=False)
    # What a family worked out from the arrays and wants again for the next prompt, by name; never copied or saved.
    # Threads that meet here do the work twice, no harm.
    derived: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Freeze the arrays, because many prompts and threads share them."""
        frozen = {}
        for name, array in self.arrays.items():
            view = array.view()
            view.flags.writeable = False
            frozen[name] = view
        object.__setattr__(self, "arrays", MappingProxyType(frozen))

    def check(self, card: "Card") -> None:
        """Make sure that a model can read this embedding.

        Raises:
            EmbeddingError: Another model, or another version of it, made the embedding.
        """
        if self.digest != card.digest:
            raise EmbeddingError(
                f"expected an embedding made by {card.name} ({card.digest[:12]}), got one made by "
                f"{self.model} ({self.digest[:12]}); embed the picture again with {card.name}"
            )

    def to_bytes(self) -> bytes:
        """Give what `save` writes: the arrays and the frame in safetensors form, without the picture."""
        from safetensors.numpy import save

        facts = {"format": _FORMAT, "frame": self.frame.to_dict(), "model": self.model, "digest": self.digest}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        return save(arrays, metadata={_KEY: json.dumps(facts, sort_keys=True)})

    def save(self, path: str | PathLike[str]) -> None:
        """Write the arrays and the frame to a safetensors file, atomically; the picture itself is not saved.

        Raises:
            OutputError: The file cannot be written.
        """
        atomic_write(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> "Embedding":
        """Read an embedding that `save` wrote; masks made from it are the same as before saving.

        Args:
            path: The safetensors file.
            limits: Bounds on the file and on the picture size it claims.

        Raises:
            EmbeddingError: The file is missing, damaged, or no embedding.
        """
        return cls.from_bytes(_read(Path(path), limits.max_file_bytes), origin=str(path), limits=limits)

    @classmethod
    def from_bytes(
        cls, data: bytes, *, origin: str = "bytes", limits: Limits = DEFAULT_LIMITS
    ) -> "Embedding":
        """Read what `to_bytes` gave; outside input, everything in it is checked.

        Args:
            data: The bytes.
            origin: Where they come from, for messages.
            limits: Bounds on the picture size they claim.

        Raises:
            EmbeddingError: They are damaged, or no embedding.
        """
        arrays, facts = _parse(data, origin)
        try:
            if facts.keys() != _FIELDS or facts["format"] != _FORMAT:
                raise ValueError("unknown format")
            if not isinstance(facts["model"], str) or not isinstance(facts["digest"], str):
                raise ValueError("model and digest must be texts")
            frame = Frame.from_dict(facts["frame"])
            _check_frame(frame, limits)
            _check_arrays(arrays, frame)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, SamletError) as error:
            raise _unreadable(origin, error) from None
        return cls(arrays=arrays, frame=frame, model=facts["model"], digest=facts["digest"])


def _read(path: Path, at_most: int) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(at_most + 1)
    except (OSError, ValueError) as error:
        raise EmbeddingError(
            f"expected an embedding file at {path}, but it cannot be read "
            f"({getattr(error, 'strerror', None) or error}); correct the path"
        ) from None
    if len(data) > at_most:
        raise EmbeddingError(
            f"expected an embedding file of at most {at_most:,} bytes, but {path} is longer; "
            "embed the picture again"
        )
    return data


def _parse(data: bytes, origin: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Let the safetensors library check the layout, then read the metadata from the header it accepted."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        facts = json.loads(header["__metadata__"][_KEY])
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _unreadable(origin, error) from None
    if not isinstance(facts, dict):
        raise _unreadable(origin, ValueError("its metadata is no JSON object"))
    return arrays, facts


def _check_frame(frame: Frame, limits: Limits) -> None:
    """Refuse a frame that would make later steps divide by zero or fill the memory."""
    sizes = (*frame.image_hw, *frame.scaled_hw, *frame.canvas_hw)
    if not all(type(size) is int and 1 <= size <= limits.max_side for size in sizes):
        raise ValueError(f"sizes must be whole numbers from 1 to {limits.max_side:,}")
    if frame.image_hw[0] * frame.image_hw[1] > limits.max_pixels:
        raise ValueError(f"the picture may have {limits.max_pixels:,} pixels at most")
    if not frame.fits():
        raise ValueError("the scaled picture is larger than its canvas")


def _check_arrays(arrays: Mapping[str, NDArray[Any]], frame: Frame) -> None:
    """Refuse arrays that the decoder could not have got from an encoder."""
    if not arrays.keys() & {"image_embeddings", "candidates"}:
        raise ValueError("it has no image_embeddings")
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite float32 numbers")
    if "image_embeddings" in arrays:
        main = arrays["image_embeddings"]
        if main.ndim != 4 or main.shape[0] != 1 or 0 in main.shape:
            raise ValueError(f"image_embeddings must have the shape (1, C, h, w), not {main.shape}")
        _check_grid("image_embeddings", main.shape, frame)
    if "candidates" in arrays:
        _check_detections(arrays["candidates"], arrays.get("protos"), frame)


def _check_detections(rows: NDArray[Any], protos: NDArray[Any] | None, frame: Frame) -> None:
    if rows.ndim != 2 or rows.shape[1] < _BOX_AND_SCORE:
        raise ValueError(f"candidates must have the shape (M, 5 + K), not {rows.shape}")
    if protos is not None:
        if protos.ndim != 3 or 0 in protos.shape or len(protos) != rows.shape[1] - _BOX_AND_SCORE:
            raise ValueError(f"protos must have the shape (K, h, w), not {protos.shape}")
        _check_grid("protos", protos.shape, frame)


def _check_grid(name: str, shape: tuple[int, ...], frame: Frame) -> None:
    (height, width), (canvas_h, canvas_w) = shape[-2:], frame.canvas_hw
    if canvas_h % height or canvas_w % width or canvas_h // height != canvas_w // width:
        raise ValueError(f"{name} {shape} do not fit the canvas {frame.canvas_hw}")


def _unreadable(origin: str, error: Exception) -> EmbeddingError:
    reason = str(error).strip().split("\n", 1)[0][:160]
    return EmbeddingError(
        f"expected an embedding saved by samlet in {origin}, but it cannot be used ({reason}); "
        "embed the picture again"
    )
