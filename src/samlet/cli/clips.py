"""Frames from folders, animations and videos, and clips made of them."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import pictures
from samlet.errors import ImageError, InputError, MissingExtraError, OutputError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from samlet.image import Image

ANIMATIONS = {".gif": "GIF", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP"}
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm")
CLIPS = ("gif", "apng", "mp4")


def frames(names: Sequence[str], *, at_most: int) -> Iterator["Image"]:
    """Read frames one after the other.

    Args:
        names: One folder, animation or video, or several pictures, which are frames in the order given; those of a
            folder come in the order of their names.
        at_most: Most frames.

    Yields:
        The frames.

    Raises:
        InputError: There is nothing to read, or it cannot be read.
        MissingExtraError: A video needs av, which is not installed.
    """
    from samlet.image import Image

    first = Path(names[0])
    if len(names) == 1 and first.suffix.lower() in VIDEOS:
        yield from _of_video(first, at_most)
    elif len(names) == 1 and first.is_file() and first.suffix.lower() in ANIMATIONS:
        yield from _of_animation(first, at_most)
    else:
        found, _ = pictures.find(list(names))
        for path in found[:at_most]:
            if isinstance(path, InputError):
                raise path
            yield Image.load(path)


def _of_animation(path: Path, at_most: int) -> Iterator["Image"]:
    from PIL import Image as PillowImage
    from PIL import ImageSequence

    from samlet.image import Image

    try:
        with PillowImage.open(path, formats=(ANIMATIONS[path.suffix.lower()],)) as opened:
            for index, frame in enumerate(ImageSequence.Iterator(opened)):
                if index >= at_most:
                    return
                yield Image.load(frame, name=f"{path.name}, frame {index}")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path}: expected an animation, got something that does not read ({error}); save it again"
                         ) from error  # fmt: skip


def _of_video(path: Path, at_most: int) -> Iterator["Image"]:
    from samlet.image import Image

    av = _av("to read a video")
    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index >= at_most:
                    return
                yield Image.load(frame.to_ndarray(format="rgb24"), name=f"{path.name}, frame {index}")
    except (av.FFmpegError, IndexError) as error:
        raise ImageError(
            f"{path}: expected a video, got something that does not read ({error}); convert it to .mp4"
        ) from error


def clip(drawn: "Sequence[PillowImage.Image]", kind: str, *, fps: float) -> bytes:
    """Make a clip of pictures of one size.

    Args:
        drawn: The pictures, at least one.
        kind: One of `CLIPS`.
        fps: Pictures a second.

    Returns:
        The bytes of the file.

    Raises:
        MissingExtraError: "mp4" needs av, which is not installed.
    """
    buffer = io.BytesIO()
    if kind == "mp4":
        return _mp4(drawn, fps)
    settings: dict[str, Any] = {"save_all": True, "duration": round(1000 / fps), "loop": 0}
    if kind == "apng":
        drawn[0].save(buffer, "PNG", append_images=drawn[1:], **settings)
    else:
        colours = [picture.quantize(128) for picture in drawn]
        colours[0].save(buffer, "GIF", append_images=colours[1:], **settings)
    return buffer.getvalue()


class Film:
    """An mp4 that grows picture by picture; see `film`."""

    def __init__(self, container: Any) -> None:
        """Begin one in an open container of av."""
        self._container, self._last = container, -1
        self._stream: Any = None

    def add(self, picture: "PillowImage.Image", seconds: float) -> None:
        """Add a picture.

        Args:
            picture: RGB, all of one size.
            seconds: When it is to be seen, after the beginning; later than the one before.
        """
        from fractions import Fraction

        av = _av("to write an mp4")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=1000, options={"preset": "veryfast"})
            # Its colours are stored for every second pixel, so sides have to be even.
            self._stream.width, self._stream.height = (side + side % 2 for side in picture.size)
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, 1000)
        size = self._stream.width, self._stream.height
        frame = av.VideoFrame.from_image(picture if picture.size == size else picture.resize(size))
        self._last = max(self._last + 1, round(1000 * seconds))
        frame.pts, frame.time_base = self._last, Fraction(1, 1000)
        self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        """Write what is still on its way."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())


@contextmanager
def film(path: Path) -> Iterator[Film]:
    """Write an mp4 while its pictures come; under its name it is there only when it is whole.

    Args:
        path: Its name.

    Yields:
        Where pictures are added.

    Raises:
        MissingExtraError: av is not installed.
        OutputError: The file cannot be written.
    """
    av = _av("to write an mp4")
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(half), "w", format="mp4") as container:
            made = Film(container)
            yield made
            made.end()
        os.replace(half, path)
    except OSError as error:
        raise OutputError(
            f"expected to write {str(path)!r:.200}, but it failed ({error.strerror or error}); choose another place"
        ) from error
    finally:
        with suppress(OSError):  # it is not there, nor perhaps its folder
            half.unlink()


def _mp4(drawn: "Sequence[PillowImage.Image]", fps: float) -> bytes:
    from fractions import Fraction

    av = _av("to write an mp4")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        # Its colours are stored for every second pixel, so sides have to be even.
        stream.width, stream.height = (side + side % 2 for side in drawn[0].size)
        stream.pix_fmt = "yuv420p"
        for picture in drawn:
            even = picture.resize((stream.width, stream.height)) if picture.size != (stream.width, stream.height) \
                else picture  # fmt: skip
            container.mux(stream.encode(av.VideoFrame.from_image(even)))
        container.mux(stream.encode())
    return buffer.getvalue()


def _av(why: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            f"expected av {why}, but it is not installed; pip install 'samlet[video]', or use a folder of frames"
        ) from error
    return av
