"""A window that shows pictures and takes clicks, and a camera to take pictures from; both are OpenCV's."""

import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from samlet.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from samlet.image import Image

_TITLE = "samlet"
_SLACK = 6  # pixels that a hand may tremble within a click
_QUIT, _LET_GO = (27, ord("q")), ord(" ")
_PATIENCE_SECONDS = 10.0


def opencv(why: str) -> Any:
    """Import OpenCV.

    Args:
        why: What for, as in "to read a camera".

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError(
            f"expected OpenCV {why}, but it is not installed; pip install opencv-python"
        ) from error
    return cv2


def why_no_window() -> str | None:
    """Say why no window can be opened here, or None if one can."""
    try:
        cv2 = opencv("to open a window")
    except MissingExtraError:
        return "OpenCV is not installed (pip install opencv-python)"
    line = next(
        (line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), ""
    )
    if line.split(":")[-1].strip() == "NONE":
        return "this OpenCV has no windows (pip uninstall opencv-python-headless, pip install opencv-python)"
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "there is no screen here"
    return None


class Window:
    """Shows pictures; a click or a dragged box is a prompt, Space lets go, Q or Escape ends.

    Attributes:
        asked: The newest prompt, as the arguments of `Model.segment`; whoever takes it sets None.
        let_go: Whether Space was pressed since somebody looked.
        is_over: Whether the window was closed, or Q or Escape pressed.
    """

    def __init__(self) -> None:
        """Open it."""
        self._cv2 = opencv("to open a window")
        self.asked: dict[str, Any] | None = None
        self.let_go = self.is_over = False
        self._corner: tuple[int, int] | None = None
        # Without Qt's own tools around the picture.
        self._cv2.namedWindow(_TITLE, self._cv2.WINDOW_AUTOSIZE | self._cv2.WINDOW_GUI_NORMAL)
        self._cv2.setMouseCallback(_TITLE, self._mouse)

    def show(self, picture: "PillowImage.Image") -> None:
        """Show a picture, and note what happened meanwhile.

        Args:
            picture: RGB.
        """
        self._cv2.imshow(_TITLE, _swapped(picture))
        key = self._cv2.waitKey(1) & 0xFF
        closed = self._cv2.getWindowProperty(_TITLE, self._cv2.WND_PROP_VISIBLE) < 1
        self.is_over = self.is_over or key in _QUIT or closed
        self.let_go = self.let_go or key == _LET_GO

    def close(self) -> None:
        """Close it."""
        self._cv2.destroyAllWindows()

    def _mouse(self, event: int, x: int, y: int, _flags: int, _: object) -> None:
        if event == self._cv2.EVENT_LBUTTONDOWN:
            self._corner = (x, y)
        elif event == self._cv2.EVENT_LBUTTONUP and self._corner is not None:
            x0, y0 = self._corner
            self._corner = None
            if max(abs(x - x0), abs(y - y0)) > _SLACK:
                self.asked = {"boxes": [[min(x0, x), min(y0, y), max(x0, x), max(y0, y)]]}
            else:
                self.asked = {"points": [[x, y]], "labels": [1]}


def camera(number: int) -> Iterator["Image"]:
    """Take frames from a camera, always the newest one: what comes while a frame is worked on is left out.

    Args:
        number: Which camera, from 0.

    Yields:
        Frames, until the camera ends.

    Raises:
        InputError: There is no such camera, or it gives no frames.
        MissingExtraError: OpenCV is not installed.
    """
    from samlet.image import Image

    cv2 = opencv("to read a camera")
    device = cv2.VideoCapture(number)
    if not device.isOpened():
        device.release()
        raise InputError(
            f"expected a camera of number {number}, found none; connect one, try another number, or name a video"
        )
    newest = _Newest(device)
    try:
        for index, pixels in enumerate(newest):
            yield Image.load(_swapped(pixels), name=f"camera {number}, frame {index}")
    finally:
        newest.stop()
        device.release()


def _swapped(pixels: Any) -> Any:
    """Turn RGB into OpenCV's BGR, or back."""
    import numpy as np  # late: the command's help needs none

    return np.ascontiguousarray(np.asarray(pixels)[..., ::-1])


class _Newest:
    """Reads a device on a thread of its own and keeps its last frame, because drivers queue old ones."""

    def __init__(self, device: Any) -> None:
        self._device, self._change = device, threading.Condition()
        self._frame: Any = None
        self._is_over = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._change:
                came = self._change.wait_for(
                    lambda: self._frame is not None or self._is_over, _PATIENCE_SECONDS
                )
                frame, self._frame = self._frame, None
            if frame is None:
                if not came:
                    raise InputError(
                        f"expected frames from the camera, got none for {_PATIENCE_SECONDS:.0f} seconds; "
                        "connect it again"
                    )
                return
            yield frame

    def stop(self) -> None:
        with self._change:
            self._is_over = True
        self._thread.join(_PATIENCE_SECONDS)

    def _read(self) -> None:
        while not self._is_over:
            good, frame = self._device.read()
            with self._change:
                self._is_over = self._is_over or not good
                self._frame = frame if good else self._frame
                self._change.notify_all()
