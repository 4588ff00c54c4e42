"""Models and data sets made in code for the tests of the evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.image import Image


@dataclass
class StubAnswer:
    """Masks at picture size, with logits that are the masks themselves."""

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]

    @property
    def hint(self) -> NDArray[np.float32]:
        return self.masks.astype(np.float32)

    def __getitem__(self, index: int) -> "StubAnswer":
        return StubAnswer(self.masks[index : index + 1], self.scores[index : index + 1])


class StubModel:
    """Answers each prompt with one mask; `answer` decides from the id map and the prompt."""

    card = SimpleNamespace(name="stub", digest="0" * 64)

    def __init__(self, id_maps: dict[str, NDArray[np.int32]] | None = None) -> None:
        self.id_maps = id_maps or {}
        self.embedded: list[str] = []
        self.calls: list[dict[str, Any]] = []

    def embed(self, image: Image) -> Any:
        name = Path(image.source).stem
        self.embedded.append(name)
        return SimpleNamespace(name=name, hw=image.hw)

    def segment(
        self,
        view: Any,
        *,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        hint: Any = None,
        multimask: bool = False,
        zoom: str = "off",
    ) -> StubAnswer:
        self.calls.append(
            {
                "points": points,
                "labels": labels,
                "boxes": boxes,
                "hint": hint,
                "multimask": multimask,
                "zoom": zoom,
            }
        )
        count = len(points if points is not None else boxes)
        masks = np.stack(
            [
                self.answer(
                    view,
                    None if points is None else points[i],
                    None if labels is None else labels[i],
                    None if boxes is None else boxes[i],
                    None if hint is None else hint[i],
                )
                for i in range(count)
            ]
        )
        scores = np.full(count, 0.5, np.float32)
        if not multimask:
            return StubAnswer(masks, scores)
        nothing = np.zeros_like(masks)
        # The oracle's choice is the third; the model itself believes in the second.
        return StubAnswer(
            np.stack([nothing, nothing, masks], axis=1), np.tile(np.float32([0.1, 0.9, 0.3]), (count, 1))
        )

    def answer(self, view: Any, points: Any, labels: Any, box: Any, hint: Any) -> NDArray[np.bool_]:
        raise NotImplementedError


class OracleModel(StubModel):
    """Knows the truth: the region under the first click, or the one that fills the box best."""

    def answer(self, view: Any, points: Any, labels: Any, box: Any, hint: Any) -> NDArray[np.bool_]:
        id_map = self.id_maps[view.name]
        if points is not None:
            return id_map == id_map[int(points[0][1]), int(points[0][0])]
        for id_ in np.unique(id_map):
            rows, columns = np.nonzero(id_map == id_)
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            if id_ not in (0, 255) and tuple(box) == tight:
                return id_map == id_
        raise AssertionError(f"no region has the tight box {box}")


class EmptyModel(StubModel):
    """Answers with nothing."""

    def answer(self, view: Any, points: Any, labels: Any, box: Any, hint: Any) -> NDArray[np.bool_]:
        return np.zeros(view.hw, np.bool_)


class PatchModel(StubModel):
    """Answers clicks with the 3 x 3 patches around the foreground ones, less the background ones'."""

    def answer(self, view: Any, points: Any, labels: Any, box: Any, hint: Any) -> NDArray[np.bool_]:
        mask = np.zeros(view.hw, np.bool_)
        for (x, y), label in zip(points.astype(int), labels, strict=True):
            mask[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = label == 1
        return mask


def make_set(root: Path, id_maps: dict[str, NDArray[np.int32]], *, human: Sequence[int] = ()) -> Path:
    """Write a set with the given maps; with `human`, the map goes into NAME_h<number>.png for each number."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name, id_map in id_maps.items():
        pixels = np.repeat((id_map % 251).astype(np.uint8)[..., None] * 40, 3, axis=2)
        PillowImage.fromarray(pixels).save(root / "images" / f"{name}.png")
        for suffix in [f"_h{number}" for number in human] or [""]:
            PillowImage.fromarray(id_map.astype(np.uint8)).save(root / "masks" / f"{name}{suffix}.png")
    return root


def two_squares() -> NDArray[np.int32]:
    """Region 1 is 8 x 8 with an ignored ring on its right; region 2 has two separate parts."""
    id_map = np.zeros((30, 40), np.int32)
    id_map[4:12, 4:12] = 1
    id_map[4:12, 12:14] = 255
    id_map[18:28, 2:9] = 2
    id_map[20:24, 30:36] = 2
    return id_map
