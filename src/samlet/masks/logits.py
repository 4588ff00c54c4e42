"""What a prompt answers: parallel arrays of low-resolution logits and scores, full-size masks on demand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.geometry import Frame, nms
from samlet.image import Image
from samlet.masks.takeaway import TakeAway
from samlet.prompt import Prompt
from samlet.upscale import Upscale, enlarge, measure, paired, stability_of


@dataclass(frozen=True, eq=False, repr=False)
class Masks(TakeAway):
    """N masks of one picture, or N prompts with C candidates each.

    The logits stay on the network's own grid; a full-size mask is made when somebody asks for it. `masks`
    keeps what it made, `iter_masks`, the boxes, the areas and every codec hold one full-size mask at a time.

    Attributes:
        logits: (N, h, w), or (N, C, h, w) with the candidates in the network's order; positive means inside.
        scores: (N,) or (N, C), the network's own estimate of each mask's overlap with the truth, about 0 to
            1.
        frame: How the picture lies in the network's input, of which the logits are a coarser grid.
        upscale: "fast" goes from the logits to the picture in one bilinear step, "exact" in SAM's two.
        threshold: Logits above it are inside.
        image: The picture, so that `draw` needs no argument.
        prompt: What was asked, drawn by `draw`.

    Raises:
        InputError: The arrays do not fit each other.

    Example:
        >>> frame = Frame.fit((2, 4), 4)
        >>> masks = Masks(np.ones((1, 4, 4), np.float32), np.array([0.9], np.float32), frame)
        >>> masks.masks.shape, masks.areas.tolist()
        ((1, 2, 4), [8])
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    frame: Frame
    upscale: Upscale = "fast"
    threshold: float = 0.0
    image: Image | None = None
    prompt: Prompt | None = None
    # Arrays already made, by name, all parallel to the logits. Threads that meet here do the work twice, no
    # harm.
    _made: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the arrays belong together."""
        logits, scores = paired(self.logits, self.scores)
        if self.upscale not in ("fast", "exact"):
            raise InputError(
                f"expected upscale 'fast' or 'exact', got {self.upscale!r}; choose one of the two"
            )
        if self.image is not None and tuple(self.image.hw) != tuple(self.frame.image_hw):
            raise InputError(
                f"expected the picture of the frame, {_by(self.frame.image_hw)}, got one of "
                f"{_by(self.image.hw)}; "
                "pass the picture that was embedded"
            )
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "scores", scores)

    def __repr__(self) -> str:
        """Say what it holds in one line."""
        candidates = f" x {self.logits.shape[1]} candidates" if self.is_multimask else ""
        return f"<Masks: {len(self)}{candidates} of {_by(self.frame.image_hw)} pixels>"

    def __len__(self) -> int:
        """Count the prompts answered, N."""
        return len(self.logits)

    def __iter__(self) -> Iterator[Self]:
        """Go through the answers, one by one."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | Sequence[bool] | NDArray[Any]) -> Self:
        """Take some of the answers.

        Args:
            index: A number (gives a `Masks` of length one), a slice, an array of numbers or a bool array of
                length N.

        Returns:
            The chosen answers; what was already computed is taken along.

        Raises:
            IndexError: A number is out of range, or a bool array has another length.

        Example:
            >>> masks = Masks(np.zeros((3, 4, 4)), np.array([0.25, 0.75, 0.5]), Frame.fit((4, 4), 4))
            >>> masks[masks.scores > 0.4].scores.tolist()
            [0.75, 0.5]
        """
        chosen = np.asarray(index, np.int64) if isinstance(index, list | tuple) and not index else index
        picked: NDArray[np.int64] = np.atleast_1d(np.arange(len(self))[chosen])
        return replace(
            self,
            logits=self.logits[picked],
            scores=self.scores[picked],
            prompt=_pick_prompt(self.prompt, picked, len(self)),
            _made={name: array[picked] for name, array in self._made.items()},
        )

    @property
    def is_multimask(self) -> bool:
        """Whether each prompt still has several candidates."""
        return self.logits.ndim == 4

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Full-size masks (N, H, W) or (N, C, H, W), made at the first use and kept."""
        if "masks" not in self._made:
            image_hw = self.frame.image_hw
            flat = np.empty((self.scores.size, *image_hw), np.bool_)
            for index, logits in enumerate(self._flat_logits()):
                np.greater(self._enlarged(logits), self.threshold, out=flat[index])
            self._keep("masks", flat.reshape(*self.scores.shape, *image_hw))
        return self._made["masks"]

    def iter_masks(self) -> Iterator[NDArray[np.bool_]]:
        """Make the full-size masks one at a time, for pictures whose masks do not fit into memory together.

        Yields:
            (H, W) for each mask; candidates of a prompt follow each other.
        """
        if "masks" in self._made:
            yield from self._made["masks"].reshape(-1, *self.frame.image_hw)
            return
        for logits in self._flat_logits():
            yield self._enlarged(logits) > self.threshold

    def full_logits(self, index: int) -> NDArray[np.float32]:
        """Enlarge the logits of one answer to the size of the picture.

        Args:
            index: Which answer, 0 to N - 1 or negative from the end.

        Returns:
            (H, W), or (C, H, W) while the answer has candidates.

        Raises:
            IndexError: There is no such answer.
        """
        logits = self.logits[index]
        if not self.is_multimask:
            return self._enlarged(logits)
        return np.stack([self._enlarged(candidate) for candidate in logits])

    @property
    def boxes_xyxy(self) -> NDArray[np.int64]:
        """Bounding boxes x0, y0, x1, y1 in picture pixels, (N, 4) or (N, C, 4).

        The end is exclusive: the width is x1 - x0. The box of an empty mask is all zeros.
        """
        self._measure()
        return self._made["boxes"]

    @property
    def areas(self) -> NDArray[np.int64]:
        """Numbers of pixels inside, (N,) or (N, C)."""
        self._measure()
        return self._made["areas"]

    def stability(self, offset: float = 1.0) -> NDArray[np.float32]:
        """Rate how little each mask changes when the threshold moves, SAM's stability score.

        Args:
            offset: How far the threshold is moved up and down, in logits, above 0.

        Returns:
            Area at the higher threshold over the area at the lower one, in [0, 1], counted on the logits' own
            grid where the picture lies; 0 where both are empty; (N,) or (N, C).

        Raises:
            InputError: The offset is not above 0.
        """
        return stability_of(self.logits, self.frame, self.threshold, offset)

    @property
    def hint(self) -> NDArray[np.float32]:
        """Logits (N, h, w) to hand to the next `segment` as `hint=`, of the best candidate each."""
        return self.best().logits

    def best(self) -> Self:
        """Keep the candidate with the highest score of each prompt.

        Returns:
            `Masks` without the candidate axis; itself if there is none.

        Example:
            >>> masks = Masks(np.zeros((1, 3, 4, 4)), np.array([[0.25, 0.75, 0.5]]), Frame.fit((4, 4), 4))
            >>> masks.best().scores.tolist()
            [0.75]
        """
        if not self.is_multimask:
            return self
        rows, chosen = np.arange(len(self)), self.scores.argmax(axis=1)
        made = {name: array[rows, chosen] for name, array in self._made.items()}
        return replace(self, logits=self.logits[rows, chosen], scores=self.scores[rows, chosen], _made=made)

    def nms(self, iou: float = 0.7) -> Self:
        """Drop masks whose box overlaps the box of a better scored one too much.

        Args:
            iou: Largest overlap of boxes that is kept, in [0, 1].

        Returns:
            The survivors, best score first.

        Raises:
            InputError: The prompts still have several candidates.

        Example:
            >>> masks = Masks(np.ones((2, 4, 4)), np.array([0.25, 0.75]), Frame.fit((4, 4), 4))
            >>> masks.nms(0.5).scores.tolist()
            [0.75]
        """
        self._require_single("nms")
        return self[nms(self.boxes_xyxy.astype(np.float64), self.scores, iou)]

    def filter(
        self,
        *,
        min_score: float | None = None,
        min_area: int | None = None,
        min_stability: float | None = None,
    ) -> Self:
        """Keep the masks that reach every bound given.

        Args:
            min_score: Lowest score.
            min_area: Lowest area in picture pixels.
            min_stability: Lowest `stability()`.

        Returns:
            The masks kept, in their order.

        Raises:
            InputError: The prompts still have several candidates.
        """
        self._require_single("filter")
        keep = np.ones(len(self), bool)
        if min_score is not None:
            keep &= self.scores >= min_score
        if min_stability is not None:
            keep &= self.stability() >= min_stability
        if min_area is not None:
            keep &= self.areas >= min_area
        return self[keep]

    def _flat_logits(self) -> NDArray[np.float32]:
        return self.logits.reshape(-1, *self.logits.shape[-2:])

    def _enlarged(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return enlarge(logits, self.frame, self.upscale)

    def _keep(self, name: str, array: NDArray[Any]) -> None:
        array.flags.writeable = False  # handed out again and again: nobody may change it for the others
        self._made[name] = array

    def _measure(self) -> None:
        if "areas" not in self._made:
            boxes, areas = measure(self.iter_masks(), self.scores.size)
            self._keep("boxes", boxes.reshape(*self.scores.shape, 4))
            self._keep("areas", areas.reshape(self.scores.shape))


def _by(size_hw: Sequence[int]) -> str:
    return f"{size_hw[0]} x {size_hw[1]}"


def _pick_prompt(prompt: Prompt | None, picked: NDArray[np.int64], count: int) -> Prompt | None:
    if prompt is None or len(prompt) != count or not len(picked):
        return None
    parts = {name: getattr(prompt, name) for name in ("points", "labels", "boxes", "hint")}
    return replace(prompt, **{name: None if part is None else part[picked] for name, part in parts.items()})
