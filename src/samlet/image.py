"""Untrusted bytes, a path or an array, made into one plain RGB picture.

Sizes, frames and format are read from the header and checked before a single pixel is decoded.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from samlet.errors import ImageError, LimitError
from samlet.limits import DEFAULT_LIMITS, Limits

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {  # EXIF orientation -> what makes the picture upright
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_270,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_90,
}
_OTHER_FILES = (  # first bytes -> what to call a file that we do not read
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x7fELF", "a program"),
    (b"\x00\x00\x01\x00", "an ICO file"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL"),
)
_SNIFF_BYTES = 512
_Read = TypeVar("_Read")
_Decode = Callable[[IO[bytes], str, Limits], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Image:
    """A picture: RGB, 8 bits, upright, within `Limits`, and never changed.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous and read-only.
        source: Where it came from, for messages and names of output files.

    Example:
        >>> Image.load(np.zeros((2, 3), dtype=np.uint8)).hw
        (2, 3)
    """

    pixels: NDArray[np.uint8]
    source: str = "array"

    def __post_init__(self) -> None:
        """Refuse anything but RGB bytes, and take a copy of an array that could still be written to."""
        pixels = self.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ImageError(
                f"{self.source}: expected RGB pixels of shape (H, W, 3) and type uint8, got {pixels.shape}"
                f" {pixels.dtype}; use Image.load, which converts"
            )
        if pixels.flags.writeable or not pixels.flags.c_contiguous:
            pixels = np.array(pixels, order="C", copy=True)
            pixels.flags.writeable = False
            object.__setattr__(self, "pixels", pixels)

    @classmethod
    def load(
        cls,
        source: "str | Path | bytes | NDArray[Any] | PILImage.Image | Image",
        *,
        limits: Limits = DEFAULT_LIMITS,
        name: str | None = None,
    ) -> "Image":
        """Make a picture of whatever holds one.

        EXIF rotation is applied, transparency is put on white, 16 bits become 8, and colour profiles are
        dropped. An animated Pillow image gives the frame it stands at; an animated file is refused.

        Args:
            source: A path, encoded bytes, an array (H, W) or (H, W, 1|3|4) of uint8 or uint16 in RGB order, a
                Pillow image, or an `Image`, which is given back.
            limits: Bounds on what is accepted.
            name: Name for messages and output files; None takes the path, "bytes", "array" or "image".

        Returns:
            The picture.

        Raises:
            ImageError: There is no picture there, or one that cannot be read.
            LimitError: The file, a side, the number of pixels or of frames is over a bound.

        Example:
            >>> Image.load(np.full((4, 6, 4), 255, dtype=np.uint8), name="white").source
            'white'
        """
        if isinstance(source, Image):
            _check_size(name or source.source, source.width, source.height, limits)
            return source if name is None else cls(source.pixels, _printable(name))
        if isinstance(source, str | Path):
            title = _printable(name or str(source))
            return cls(_of_file(source, title, limits, _decode_stream), title)
        if isinstance(source, bytes | bytearray | memoryview):
            title = _printable(name or "bytes")
            return cls(_of_bytes(bytes(source), title, limits, _decode_stream), title)
        if isinstance(source, np.ndarray):
            title = _printable(name or "array")
            return cls(_pixels_of_array(source, title, limits), title)
        if isinstance(source, PILImage.Image):
            title = _printable(name or "image")
            _check_size(title, *source.size, limits)
            return cls(_decode(source, title), title)
        raise ImageError(
            f"expected a path, bytes, a numpy array or a Pillow image, got {type(source).__name__};"
            " convert it to a (H, W, 3) uint8 array"
        )

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    def digest(self) -> str:
        """Name the picture by its content.

        Returns:
            SHA-256 of size and pixels, in hex.

        Example:
            >>> Image.load(np.zeros((1, 2), dtype=np.uint8)).digest()[:8]
            'c4527ce7'
        """
        sha256 = hashlib.sha256(f"{self.height}x{self.width}".encode())
        sha256.update(self.pixels.data)
        return sha256.hexdigest()

    def resized(self, hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Resize with Pillow's antialiased bilinear filter, which is what SAM was trained behind.

        Args:
            hw: Size of the result, in pixels.

        Returns:
            (h, w, 3), RGB, read-only.

        Example:
            >>> Image.load(np.zeros((2, 3), dtype=np.uint8)).resized((4, 6)).shape
            (4, 6, 3)
        """
        if hw == self.hw:
            return self.pixels
        small = PILImage.fromarray(self.pixels).resize((hw[1], hw[0]), PILImage.Resampling.BILINEAR)
        return _read_only(np.asarray(small))


def load_reduced(
    source: str | Path | bytes, *, least: int, limits: Limits = DEFAULT_LIMITS, name: str | None = None
) -> Image:
    """Decode a JPEG at a half, a quarter or an eighth of its size; everything else as `Image.load` does.

    Args:
        source: A path, or encoded bytes.
        least: The longest side stays at least this long, in pixels.
        limits: As for `Image.load`, of the whole picture; so are the errors.
        name: As for `Image.load`.
    """
    read = partial(_decode_stream, least=least)
    if isinstance(source, bytes):
        title = _printable(name or "bytes")
        return Image(_of_bytes(source, title, limits, read), title)
    title = _printable(name or str(source))
    return Image(_of_file(source, title, limits, read), title)


def image_size(
    source: str | Path | bytes, *, limits: Limits = DEFAULT_LIMITS, name: str | None = None
) -> tuple[int, int]:
    """Read the size that a picture will have, from its header.

    Args:
        source: A path, or encoded bytes.
        limits: Bounds on what is accepted.
        name: Name for messages; None takes the path or "bytes".

    Returns:
        Height and width in pixels, upright by EXIF, as `Image.load` would give them.

    Raises:
        ImageError: There is no picture there, or its header cannot be read.
        LimitError: The file, a side or the number of pixels is over a bound.

    Example:
        >>> import io
        >>> PILImage.new("RGB", (6, 4)).save(file := io.BytesIO(), "PNG")
        >>> image_size(file.getvalue())
        (4, 6)
    """
    if isinstance(source, bytes):
        if not source:
            raise ImageError(
                f"{name or 'bytes'}: expected an encoded picture, got 0 bytes; give the whole file"
            )
        return _size_in_stream(BytesIO(source), _printable(name or "bytes"), limits)
    return _of_file(source, _printable(name or str(source)), limits, _size_in_stream)


def _size_in_stream(file: IO[bytes], title: str, limits: Limits) -> tuple[int, int]:
    head = file.read(_SNIFF_BYTES)
    file.seek(0)
    picture = _open_header(file, head, title, limits)
    _check_size(title, *picture.size, limits)
    turned = 5 <= _orientation(picture) <= 8  # a quarter turn, mirrored or not
    return (picture.width, picture.height) if turned else (picture.height, picture.width)


def _of_file(
    path: str | Path, title: str, limits: Limits, read: Callable[[IO[bytes], str, Limits], _Read]
) -> _Read:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{title}: expected a picture file, got a directory; name a file in it")
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may block or never end
            raise ImageError(
                f"{title}: expected a picture file, got a pipe or device; save it to a file first"
            )
        if found.st_size == 0:
            raise ImageError(f"{title}: expected a picture, got a file of 0 bytes; save or download it again")
        if found.st_size > limits.max_file_bytes:
            raise LimitError(_too_many_bytes(title, found.st_size, limits.max_file_bytes))
        with open(path, "rb") as file:
            return read(file, title, limits)
    except FileNotFoundError as error:
        advice = "download it first" if "://" in str(path) else "check the path"
        raise ImageError(f"{title}: expected a picture file, but there is none; {advice}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or _reason(error)
        raise ImageError(
            f"{title}: expected a readable file, but opening it failed ({reason}); check path and rights"
        ) from error


def _of_bytes(data: bytes, title: str, limits: Limits, read: _Decode) -> NDArray[np.uint8]:
    if not data:
        raise ImageError(f"{title}: expected an encoded picture, got 0 bytes; send the whole file")
    if len(data) > limits.max_bytes:
        raise LimitError(_too_many_bytes(title, len(data), limits.max_bytes))
    return read(BytesIO(data), title, limits)


def _pixels_of_array(array: NDArray[Any], title: str, limits: Limits) -> NDArray[np.uint8]:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        advice = "move the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else "reshape it"
        raise ImageError(f"{title}: expected shape (H, W) or (H, W, 1|3|4), got {array.shape}; {advice}")
    if array.size == 0:
        raise ImageError(
            f"{title}: expected at least one pixel, got an array of shape {array.shape}; pass a picture"
        )
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ImageError(
            f"{title}: expected uint8 (0 to 255) or uint16 (0 to 65535) values, got {array.dtype};"
            f" {_dtype_advice(array.dtype.kind)}"
        )
    _check_size(title, array.shape[1], array.shape[0], limits)
    eight = _to_eight_bits(array) if array.dtype.itemsize == 2 else array.astype(np.uint8, copy=False)
    if eight.ndim == 2:
        eight = eight[:, :, None]
    if eight.shape[2] == 4:
        return _read_only(np.asarray(_on_white(PILImage.fromarray(np.ascontiguousarray(eight)))))
    return _read_only(np.array(np.broadcast_to(eight, (*eight.shape[:2], 3)), order="C", copy=True))


def _decode_stream(
    file: IO[bytes], title: str, limits: Limits, *, least: int | None = None
) -> NDArray[np.uint8]:
    head = file.read(_SNIFF_BYTES)
    file.seek(0)
    picture = _open_header(file, head, title, limits)
    _check_size(title, *picture.size, limits)
    frames = _frames(picture, title, limits)
    if frames > limits.max_frames:
        raise LimitError(
            f"{title}: expected at most {limits.max_frames} frame(s), got an animation or a multi-page file;"
            " save the frame you want as a picture of its own"
        )
    if least is not None and picture.format in ("JPEG", "MPO"):
        scale = least / max(picture.size)
        # Rounded up, so that neither side comes out below its share.
        picture.draft(None, (-int(-picture.width * scale // 1), -int(-picture.height * scale // 1)))
    return _decode(picture, title)


def _open_header(file: IO[bytes], head: bytes, title: str, limits: Limits) -> PILImage.Image:
    factory = _reader(head, limits)
    if factory is None:
        allowed = ", ".join(limits.formats)
        raise ImageError(
            f"{title}: expected a picture of format {allowed}, got {_describe(head)};"
            " convert it to PNG or JPEG"
        )
    if (size := _webp_size(head)) is not None:  # its reader allocates the canvas before it tells the size
        _check_size(title, *size, limits)
    try:
        return factory(file, "")
    except Exception as error:  # Pillow's readers raise almost anything on hostile bytes
        raise _unreadable(error, title) from error


def _reader(head: bytes, limits: Limits) -> Callable[[IO[bytes], str | bytes], PILImage.Image] | None:
    """Find Pillow's reader for these first bytes, among the allowed formats only.

    `PIL.Image.open` is not used: it warns or raises by a process-wide bound before ours can be applied.
    """
    for name in limits.formats:
        if name not in PILImage.OPEN:
            PILImage.preinit()  # the five common ones; all forty take 20 ms
        if name not in PILImage.OPEN:
            PILImage.init()
        factory, accepts = PILImage.OPEN.get(name, (None, None))
        if factory is not None and accepts is not None and accepts(head[:16]) is True:
            return factory
    return None


def _check_size(title: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise LimitError(
            f"{title}: expected at most {limits.max_pixels:,} pixels, got {width} x {height} ="
            f" {width * height:,}; scale the picture down"
        )
    if max(width, height) > limits.max_side:
        raise LimitError(
            f"{title}: expected sides of at most {limits.max_side:,} pixels, got {width} x {height};"
            " scale or cut the picture"
        )


def _frames(picture: PILImage.Image, title: str, limits: Limits) -> int:
    # A phone's JPEG with a depth map or a preview behind the photo is an MPO; the photo comes first.
    if picture.format == "MPO":
        return 1
    try:
        # `n_frames` of a TIFF walks through the whole file; whether there is a second one is known at once.
        if limits.max_frames == 1:
            return 2 if getattr(picture, "is_animated", False) else 1
        return int(getattr(picture, "n_frames", 1))
    except Exception as error:  # as in _open_header
        raise _unreadable(error, title) from error


def _decode(picture: PILImage.Image, title: str) -> NDArray[np.uint8]:
    try:
        picture.load()
        orientation = _orientation(picture)
        rgb = _to_rgb(picture, title)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        return _read_only(np.asarray(rgb))
    except ImageError:
        raise
    except Exception as error:  # as in _open_header
        raise _unreadable(error, title) from error


def _orientation(picture: PILImage.Image) -> int:
    try:
        return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block is no reason to refuse a good picture
        return 1


def _to_rgb(picture: PILImage.Image, title: str) -> PILImage.Image:
    if picture.mode.startswith("I;16"):
        return PILImage.fromarray(_to_eight_bits(np.asarray(picture))).convert("RGB")
    if picture.mode in ("I", "F"):
        raise ImageError(
            f"{title}: expected 8 or 16 bits a channel, got 32-bit values of unknown range;"
            " scale them to 0-255 and save as 8 bits"
        )
    if picture.has_transparency_data:
        return _on_white(picture.convert("RGBA"))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _on_white(rgba: PILImage.Image) -> PILImage.Image:
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB")
    white = PILImage.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=alpha)
    return white


def _to_eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    # 65535 = 255 * 257, so this is the nearest of the 256 values; >> 8 alone would darken by up to one.
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """Read (width, height) of a WebP from its first bytes; None when these are not of a WebP."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _describe(head: bytes) -> str:
    for start, name in _OTHER_FILES:
        if head.startswith(start):
            return name
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    if b"<svg" in head.lower():
        return "an SVG"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 else "\0"
    return "a text file" if all(c.isprintable() or c.isspace() for c in text) else "something else"


def _unreadable(error: Exception, title: str) -> ImageError | LimitError:
    if isinstance(error, MemoryError | PILImage.DecompressionBombError):
        return LimitError(
            f"{title}: expected a picture that fits into memory, got one that does not; scale it down"
        )
    return ImageError(
        f"{title}: expected a complete picture, got a damaged one ({_reason(error)});"
        " save or download it again"
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    # Some readers put object addresses or raw bytes into their messages: no help to anybody.
    if not text or len(text) > 120 or "0x" in text or not text.isprintable():
        return type(error).__name__
    return text


def _dtype_advice(kind: str) -> str:
    return {
        "f": "if it spans 0 to 1, pass (array * 255).round().astype('uint8')",
        "b": "for a black-and-white picture pass array.astype('uint8') * 255",
    }.get(kind, "convert it with astype('uint8') once its values lie in 0 to 255")


def _too_many_bytes(title: str, size: int, bound: int) -> str:
    return (
        f"{title}: expected at most {bound / 2**20:g} MiB, got {size / 2**20:.1f} MiB;"
        " compress or scale it down"
    )


def _printable(name: str) -> str:
    """A name that cannot break a line or a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _read_only(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    array = np.ascontiguousarray(pixels, dtype=np.uint8)
    array.flags.writeable = False
    return array
