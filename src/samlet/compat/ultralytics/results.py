"""What `predict` gives for one picture, with the attributes and methods that Ultralytics' users call."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet import drawing
from samlet.atomic import atomic_write
from samlet.compat.ultralytics.parts import Boxes, Masks
from samlet.compat.ultralytics.plotting import PlotOptions, plot
from samlet.errors import MissingExtraError, OutputError
from samlet.masks import Masks as Answer
from samlet.masks import StoredMasks
from samlet.upscale import measure

NAMES = {0: "object"}
"""There is one class: these networks find objects and do not name them."""
_EAGER_BYTES = 256 * 2**20
_DRAWINGS = (".jpg", ".jpeg", ".png", ".webp")


class Results:
    """The objects of one picture: masks, boxes, and ways to look at them and to save them.

    Attributes:
        orig_img: The picture, (H, W, 3) uint8 in BGR order.
        orig_shape: Its height and width.
        path: Its file, or "image0.jpg" for a picture that was in memory.
        names: Names by class number: {0: "object"}.
        boxes: The boxes of the objects; empty if nothing was found.
        masks: The masks, or None if nothing was found.
        speed: Milliseconds by step: "preprocess" (reading the picture), "inference" (the networks with what
            they are fed) and "postprocess" (full-size masks and boxes).
        save_dir: The folder of this call's files, or None.
        probs: None, like `keypoints` and `obb`: these networks give no such thing.

    Example:
        >>> picture = np.zeros((10, 20, 3), np.uint8)
        >>> result = Results(picture, "a.jpg", boxes=np.array([[0, 0, 4, 2, 0.9, 0]]))
        >>> len(result), result.boxes.xyxy.tolist(), result.masks
        (1, [[0.0, 0.0, 4.0, 2.0]], None)
    """

    probs = keypoints = obb = None

    def __init__(
        self,
        orig_img: NDArray[np.uint8],
        path: str,
        names: Mapping[int, str] | None = None,
        boxes: Boxes | NDArray[Any] | None = None,
        masks: Masks | NDArray[Any] | None = None,
        speed: Mapping[str, float | None] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            orig_img: (H, W, 3) uint8 in BGR order.
            path: The picture's file.
            names: Names by class number.
            boxes: Boxes, or rows (N, 6) as in `Boxes.data`.
            masks: Masks, or (N, H, W).
            speed: Milliseconds by step.
        """
        self.orig_img = orig_img
        self.orig_shape: tuple[int, int] = (int(orig_img.shape[0]), int(orig_img.shape[1]))
        self.path = path
        self.names = dict(names or NAMES)
        rows = np.zeros((0, 6), np.float32) if boxes is None else boxes
        self.boxes = rows if isinstance(rows, Boxes) else Boxes(rows, self.orig_shape)
        self.masks = Masks(masks, self.orig_shape) if isinstance(masks, np.ndarray) else masks
        self.speed = dict(speed or {"preprocess": None, "inference": None, "postprocess": None})
        self.save_dir: str | None = None

    def __repr__(self) -> str:
        """Say what it holds in one line."""
        return f"<Results: {self.verbose().rstrip(', ')} in {self.path}>"

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Self:
        """Take some of the objects; a number gives a result with one."""
        masks = None if self.masks is None else self.masks[index]
        return self._with(self.boxes[index], masks if masks is not None and len(masks) else None)

    def __iter__(self) -> Iterator[Self]:
        """Go through the objects, one by one."""
        return (self[row] for row in range(len(self)))

    def new(self) -> Self:
        """Give a result for the same picture without objects."""
        return self._with(None, None)

    def holding(self, answer: Answer, boxes: NDArray[Any] | None = None) -> Self:
        """Give a result for the same picture with these objects.

        Args:
            answer: Their masks and scores.
            boxes: (N, 4) their boxes, or None to measure them on the masks.
        """
        masks = Masks(answer, self.orig_shape)
        if boxes is None:
            pixels = len(answer) * self.orig_shape[0] * self.orig_shape[1]
            if not isinstance(answer, StoredMasks) and pixels <= _EAGER_BYTES:
                _ = masks.data  # made now and kept: measuring and every later use share them
            boxes = measure(masks.iter_masks(), len(answer))[0]
        rows = np.concatenate((boxes, answer.scores[:, None], np.zeros((len(answer), 1))), axis=1)
        return self._with(Boxes(rows, self.orig_shape), masks)

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

    def verbose(self) -> str:
        """Say what was found, as in "3 objects, "."""
        if not len(self):
            return "(no detections), "
        counts = np.unique(self.boxes.cls.int().numpy(), return_counts=True)
        return "".join(
            f"{count} {self.name_of(number)}{'s' if count > 1 else ''}, "
            for number, count in zip(*(each.tolist() for each in counts), strict=True)
        )

    def name_of(self, number: float) -> str:
        """Give the name of a class; its number if it has none."""
        return self.names.get(int(number), str(int(number)))

    def plot(self, **options: Any) -> Any:
        """Draw the objects over the picture; see `plotting.PlotOptions` for the keywords.

        Returns:
            (H, W, 3) uint8 in BGR order, or a Pillow image with `pil=True`.

        Raises:
            InputError: A keyword is unknown.
            OutputError: With `save=True`, the file cannot be written.
        """
        wanted = PlotOptions.of(options)
        drawn = plot(self, wanted)
        if wanted.save:
            self._save_picture(drawn, wanted.filename)
        if wanted.show:
            _show(drawn)
        return drawn if wanted.pil else np.ascontiguousarray(np.asarray(drawn)[..., ::-1])

    def show(self, **options: Any) -> None:
        """Open a window with the drawing.

        Raises:
            OutputError: There is no screen.
        """
        _show(plot(self, PlotOptions.of(options)))

    def save(self, filename: str | Path | None = None, **options: Any) -> str:
        """Save the drawing.

        Args:
            filename: A name ending in .jpg, .png or .webp; "results_" and the picture's name if None.
            **options: As for `plot`.

        Returns:
            The file's name.

        Raises:
            InputError: The suffix is another, or a keyword is unknown.
            OutputError: The file cannot be written.
        """
        return self._save_picture(plot(self, PlotOptions.of(options)), filename)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Save the objects in YOLO's format, one a line: the class and the outline, divided by the size.

        An earlier file of that name is replaced, and a picture without objects gets an empty file. Objects
        without masks are written as boxes: class, centre, width and height.

        Args:
            txt_file: The file; its folder is made.
            save_conf: Whether each line ends in the confidence.

        Returns:
            The file's name.

        Raises:
            OutputError: The file cannot be written.
        """
        outlines = self.boxes.xywhn.numpy() if self.masks is None else self.masks.xyn
        lines = []
        for outline, conf, number in zip(outlines, self.boxes.conf, self.boxes.cls, strict=True):
            if len(outline) < 3:  # an empty mask
                continue
            numbers = [*outline.ravel(), *([conf] if save_conf else [])]
            lines.append(" ".join([str(int(number)), *(_short(float(value)) for value in numbers)]) + "\n")
        _make_folder(Path(txt_file).parent)
        return str(atomic_write(txt_file, "".join(lines)))

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> list[str]:
        """Save the part of the picture in each box: `save_dir/object/im.jpg`, `im2.jpg` and so on.

        Args:
            save_dir: The folder; it is made.
            file_name: Name of the first file; what comes later, or finds a file there, is numbered.

        Returns:
            The files' names, in the order of the objects; an empty box gives none.

        Raises:
            InputError: The suffix is not .jpg, .png or .webp.
            OutputError: A file cannot be written.
        """
        name = Path(file_name)
        content_of = drawing.picture_encoder(name if name.suffix else name.with_suffix(".jpg"))
        saved = []
        corners = self.boxes.xyxy.round().long().clip(0).tolist()
        for (x0, y0, x1, y1), number in zip(corners, self.boxes.cls.tolist(), strict=True):
            crop = self.orig_img[y0:y1, x0:x1, ::-1]
            if crop.size:
                folder = _make_folder(Path(save_dir) / self.name_of(number))
                target = _free(folder / (name.name if name.suffix else f"{name.name}.jpg"))
                saved.append(str(atomic_write(target, content_of(PillowImage.fromarray(crop.copy(), "RGB")))))
        return saved

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """List the objects as plain data.

        Args:
            normalize: Whether coordinates are divided by the picture's width and height.
            decimals: Digits kept.

        Returns:
            For each object "name", "class", "confidence", "box" (x1, y1, x2, y2) and, with masks, "segments"
            (all x, all y of the outline).
        """
        boxes = (self.boxes.xyxyn if normalize else self.boxes.xyxy).tolist()
        outlines = (
            [None] * len(self) if self.masks is None else self.masks.xyn if normalize else self.masks.xy
        )
        found = []
        for box, (conf, number), outline in zip(
            boxes, self.boxes.data[:, 4:].tolist(), outlines, strict=True
        ):
            row: dict[str, Any] = {
                "name": self.name_of(number),
                "class": int(number),
                "confidence": round(conf, decimals),
                "box": dict(zip(("x1", "y1", "x2", "y2"), _rounded(box, decimals), strict=True)),
            }
            if outline is not None:
                columns = outline.T.tolist()
                row["segments"] = {
                    key: _rounded(each, decimals) for key, each in zip("xy", columns, strict=True)
                }
            found.append(row)
        return found

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Give `summary` as JSON text."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    tojson = to_json

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Give `summary` as a data frame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise MissingExtraError(
                "expected pandas for to_df(), but it is not installed; pip install pandas, or use summary()"
            ) from error
        return pandas.DataFrame(self.summary(normalize, decimals))

    def _with(self, boxes: Boxes | None, masks: Masks | None) -> Self:
        other = type(self)(self.orig_img, self.path, self.names, boxes, masks, self.speed)
        other.save_dir = self.save_dir
        return other

    def _save_picture(self, drawn: PillowImage.Image, filename: str | Path | None) -> str:
        target = Path(filename) if filename is not None else Path(f"results_{drawing_name(self.path)}")
        return str(atomic_write(target, drawing.picture_encoder(target)(drawn)))


def drawing_name(path: str | Path) -> str:
    """Name the drawing of a picture: like the picture, as a JPEG unless a drawing can have its format.

    Example:
        >>> drawing_name("scans/a.tif"), drawing_name("b.png")
        ('a.jpg', 'b.png')
    """
    name = Path(path)
    return name.name if name.suffix.lower() in _DRAWINGS else f"{name.stem}.jpg"


def _show(drawn: PillowImage.Image) -> None:
    if os.name == "posix" and os.uname().sysname == "Linux" and not _has_screen():
        raise OutputError("expected a screen to show the drawing on, found none; use save() or plot()")
    drawn.show()


def _has_screen() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected a folder {folder}, but it cannot be made ({error.strerror}); choose another"
        ) from error
    return folder


def _free(path: Path) -> Path:
    """Number a file's name until there is no such file: im.jpg, im2.jpg, im3.jpg."""
    number, target = 1, path
    while target.exists():
        number += 1
        target = path.with_name(f"{path.stem}{number}{path.suffix}")
    return target


def _rounded(values: list[float], decimals: int) -> list[float]:
    return [round(float(value), decimals) for value in values]


def _short(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
