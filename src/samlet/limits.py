"""Every bound on outside input, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what comes from outside; the operator may change them, a request never may.

    Attributes:
        max_bytes: Largest encoded picture in memory (an upload), in bytes.
        max_file_bytes: Largest picture file opened from a local path, in bytes.
        max_pixels: Largest picture, in pixels, read from the header before anything is decoded.
        max_side: Longest side of a picture, in pixels.
        max_frames: Most frames of a picture; one means that animations are refused.
        formats: Names of the picture formats that may be decoded, as Pillow spells them.
        max_points: Most points of one prompt.
        max_prompts: Most prompts of one call.
        max_hint_side: Longest side of a mask hint, in cells of the network's own grid (SAM's is 256 x 256).

    Example:
        >>> Limits(max_pixels=1_000_000).max_side
        16384
    """

    max_bytes: int = 32 * 2**20
    max_file_bytes: int = 512 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_frames: int = 1
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
    max_points: int = 1024
    max_prompts: int = 4096
    max_hint_side: int = 1024


DEFAULT_LIMITS = Limits()
