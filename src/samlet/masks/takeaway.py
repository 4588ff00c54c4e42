"""What people take away from masks: run lengths, polygons, COCO, labelme, YOLO, drawings and files."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet import codecs
from samlet.errors import InputError
from samlet.geometry import Frame
from samlet.image import Image
from samlet.polygons import Polygon
from samlet.prompt import Prompt
from samlet.rle import Rle


class TakeAway:
    """The half of `Masks` that turns masks into other people's formats; it needs `iter_masks` and the frame.

    Every method works on one mask a prompt, in their order, and holds one full-size mask at a time.
    """

    if TYPE_CHECKING:  # what `Masks` has
        scores: NDArray[np.float32]
        frame: Frame
        image: Image | None
        prompt: Prompt | None

        @property
        def is_multimask(self) -> bool:
            """Whether each prompt still has several candidates."""

        def __len__(self) -> int:
            """Count the prompts."""

        def iter_masks(self) -> Iterator[NDArray[np.bool_]]:
            """Make the full-size masks one at a time."""

        def best(self) -> Self:
            """Keep the best candidate of each prompt."""

    def to_rle(self, *, compressed: bool = True) -> list[Rle]:
        """Code the masks as run lengths.

        Args:
            compressed: COCO's string, which pycocotools reads, or plain integers.

        Returns:
            One code for each mask.

        Raises:
            InputError: The prompts still have several candidates.
        """
        self._require_single("to_rle")
        encode = codecs.mask_to_compressed_rle if compressed else codecs.mask_to_rle
        return [encode(mask) for mask in self.iter_masks()]

    def to_polygons(self, *, tolerance: float = 1.0) -> list[list[Polygon]]:
        """Trace the masks into polygons.

        Args:
            tolerance: Simplification in picture pixels, 0 is exact.

        Returns:
            For each mask its parts, each with an exterior (K, 2) and holes.

        Raises:
            InputError: The prompts still have several candidates.
        """
        self._require_single("to_polygons")
        return [codecs.mask_to_polygons(mask, tolerance=tolerance) for mask in self.iter_masks()]

    def to_coco(
        self,
        *,
        image_id: int = 1,
        file_name: str | None = None,
        labels: Sequence[str] | None = None,
        segmentation: Literal["rle", "polygons"] = "rle",
        tolerance: float = 0.0,
    ) -> dict[str, Any]:
        """Describe the masks as a COCO data set with scores; see `codecs.to_coco`.

        Args:
            image_id: Number of the picture in the data set.
            file_name: Name of the picture; its own if None.
            labels: Category name of each mask; all "object" if None.
            segmentation: "rle" (exact) or "polygons".
            tolerance: Simplification of polygons in pixels, 0 is exact.

        Returns:
            A dict ready for `json.dumps`.

        Raises:
            InputError: The prompts still have several candidates, or labels do not match the masks in number.

        Example:
            >>> from samlet.masks import Masks
            >>> masks = Masks(np.ones((1, 2, 2)), np.ones(1), Frame.fit((2, 2), 2))
            >>> masks.to_coco()["annotations"][0]["area"]
            4
        """
        self._require_single("to_coco")
        return codecs.to_coco(
            self.iter_masks(),
            self.frame.image_hw,
            image_id=image_id,
            file_name=self._file_name(file_name),
            scores=self.scores,
            labels=labels,
            segmentation=segmentation,
            tolerance=tolerance,
        )

    def to_labelme(
        self, *, file_name: str | None = None, labels: Sequence[str] | None = None, tolerance: float = 1.0
    ) -> dict[str, Any]:
        """Describe the masks as labelme's JSON; see `codecs.to_labelme`.

        Args:
            file_name: Path of the picture, relative to the JSON file; its own name if None.
            labels: Name of each mask; all "object" if None.
            tolerance: Simplification in pixels, 0 is exact.

        Returns:
            A dict ready for `json.dumps`.

        Raises:
            InputError: The prompts still have several candidates, or labels do not match the masks in number.
        """
        self._require_single("to_labelme")
        return codecs.to_labelme(
            self.iter_masks(),
            self.frame.image_hw,
            file_name=self._file_name(file_name),
            labels=labels,
            tolerance=tolerance,
        )

    def to_yolo(self, *, classes: Sequence[int] | None = None, tolerance: float = 1.0) -> str:
        """Describe the masks in YOLO's segmentation format; see `codecs.to_yolo`.

        Args:
            classes: Class number of each mask; all 0 if None.
            tolerance: Simplification in pixels, 0 is exact.

        Returns:
            One line for each mask that is not empty.

        Raises:
            InputError: The prompts still have several candidates, or classes do not match the masks in
                number.
        """
        self._require_single("to_yolo")
        return codecs.to_yolo(self.iter_masks(), self.frame.image_hw, classes=classes, tolerance=tolerance)

    def draw(self, path: str | Path | None = None, *, image: Image | None = None) -> PillowImage.Image:
        """Draw the masks and the prompt over the picture.

        Args:
            path: Where to save the drawing as well (.png, .jpg or .webp); nowhere if None.
            image: The picture; not needed for masks that came from a `Model`.

        Returns:
            The drawing, at the size of the picture.

        Raises:
            InputError: There is no picture, it has another size, or the file name has no picture's suffix.
            OutputError: The file cannot be written.

        Example:
            >>> from samlet.masks import Masks
            >>> masks = Masks(np.ones((1, 2, 2)), np.ones(1), Frame.fit((20, 20), 2))
            >>> masks.draw(image=Image.load(np.zeros((20, 20, 3), np.uint8))).size
            (20, 20)
        """
        from samlet import drawing  # late: it brings fonts, filters and more, and most masks are not drawn

        picture = image if image is not None else self.image
        if picture is None:
            raise InputError("expected a picture to draw on, got none with these masks; pass draw(image=...)")
        content_of = drawing.picture_encoder(path) if path is not None else None
        drawn = drawing.overlay(picture, self.best(), prompt=self.prompt)
        if path is not None and content_of is not None:
            codecs.atomic_write(path, content_of(drawn))
        return drawn

    def save(self, path: str | Path) -> Path:
        """Save the masks in the format that the file's suffix names; the file appears whole or not at all.

        Args:
            path: .png for one mask (255 inside), .json for COCO, .txt for YOLO.

        Returns:
            The path.

        Raises:
            InputError: The suffix is another, the prompts have several candidates, or .png is to hold several
                masks.
            OutputError: The file cannot be written.

        Example:
            >>> from samlet.masks import Masks
            >>> Masks(np.ones((1, 2, 2)), np.ones(1), Frame.fit((2, 2), 2)).save("a.gif")
            Traceback (most recent call last):
            samlet.errors.InputError: expected a name ending in .png, .json or .txt, got 'a.gif'; choose one
        """
        self._require_single("save")
        suffix = (target := Path(path)).suffix.lower()
        if suffix == ".json":
            return codecs.atomic_write(target, json.dumps(self.to_coco()))
        if suffix == ".txt":
            return codecs.atomic_write(target, self.to_yolo())
        if suffix != ".png":
            raise InputError(
                f"expected a name ending in .png, .json or .txt, got {target.name!r}; choose one"
            )
        if len(self) != 1:
            raise InputError(
                f"expected one mask for {target.name!r}, got {len(self)}; index one, use save_all, or save "
                "as .json"
            )
        return codecs.atomic_write(target, codecs.mask_to_png_bytes(next(self.iter_masks())))

    def save_all(self, folder: str | Path, *, stem: str = "mask") -> list[Path]:
        """Save every mask as a PNG of its own, named `stem_0.png`, `stem_1.png` and so on.

        Args:
            folder: Where; it must exist.
            stem: First part of the file names.

        Returns:
            The paths in the order of the masks.

        Raises:
            InputError: The prompts still have several candidates.
            OutputError: A file cannot be written.
        """
        self._require_single("save_all")
        digits = len(str(max(0, len(self) - 1)))
        names = (Path(folder) / f"{stem}_{index:0{digits}d}.png" for index in range(len(self)))
        files = zip(names, self.iter_masks(), strict=True)
        return [codecs.atomic_write(path, codecs.mask_to_png_bytes(mask)) for path, mask in files]

    def _require_single(self, what: str) -> None:
        if self.is_multimask:
            raise InputError(
                f"expected one mask a prompt for {what}, got {self.scores.shape[1]} candidates each; call "
                "best() first"
            )

    def _file_name(self, file_name: str | None) -> str:
        source = self.image.source if self.image is not None else ""
        return Path(source).name if file_name is None else file_name
