"""Every bound on outside input, in one place."""

from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True)
class ModelFileLimits:
    """Bounds on model files; each lets every published file through with room to spare.

    Attributes:
        max_bytes: Largest file: SAM's largest has 2.6 GB, and below 4 GiB a zip archive needs no 64-bit field.
        max_header_bytes: Longest safetensors header: a network of 600 arrays needs 0.1 MB.
        max_entries: Most entries of a zip archive: one for each tensor and a handful more.
        max_pickle_bytes: Longest pickle: a whole pickled detector needs 0.2 MB.
        max_opcodes: Most steps of the pickle machine, copied elements included: a detector needs 60,000.
            So many take less than 100 MB and about half a second.
        max_stack: Most values waiting on the machine's stack: writers hand over a thousand pairs at a time.
        max_marks: Most collections open within each other: modules nest a dozen deep.
        max_tensors: Most tensors of a file: published ones have fewer than 700.
        max_dims: Most axes of a tensor: convolutions have four.
        max_growth: How many times its file's size the arrays may take: float16 becomes float32 (twice), and
            tensors may share their numbers.
        max_facts: Most values kept from what stands beside the tensors, such as class names.

    Example:
        >>> ModelFileLimits().max_dims
        8
    """

    max_bytes: int = 4 * 2**30 - 1
    max_header_bytes: int = 2 * 2**20
    max_entries: int = 20_000
    max_pickle_bytes: int = 8 * 2**20
    max_opcodes: int = 400_000
    max_stack: int = 20_000
    max_marks: int = 256
    max_tensors: int = 10_000
    max_dims: int = 8
    max_growth: int = 4
    max_facts: int = 10_000


MODEL_FILE_LIMITS = ModelFileLimits()


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds on what reaches the server over the network; the operator may change them, a request never may.

    Attributes:
        picture: Bounds on pictures and prompts.
        max_body_bytes: Longest request with a picture: an upload of `picture.max_bytes`, a third more in base64.
        max_json_bytes: Longest request without one.
        max_bodies_bytes: Most bytes of requests held at a time, all of them together; above it the server is busy.
        max_head_bytes: Longest request line with headers, and longest stretch without content inside a body.
        max_parts: Most parts of a form.
        max_connections: Most open connections; further ones are told to come back.
        head_seconds: Longest time from the first byte of a request to the end of its headers.
        idle_seconds: Longest pause inside a body.
        body_seconds: Longest time for a whole body.
        write_seconds: Longest time that a client may leave an answer unread.
        wait_seconds: Longest time that a request waits for its turn.
        max_mask_pixels: Most pixels of all masks of one answer: 1,000 masks of a megapixel.
        max_refinable: Most masks of an answer that is kept to be refined later.
        max_answers: Most answers kept for one picture to be refined later.

    Example:
        >>> ServerLimits().picture.max_prompts
        256
    """

    picture: Limits = field(
        default_factory=lambda: Limits(max_prompts=256, formats=("JPEG", "PNG", "WEBP", "BMP"))
    )
    max_body_bytes: int = 44 * 2**20
    max_json_bytes: int = 2**20
    max_bodies_bytes: int = 256 * 2**20
    max_head_bytes: int = 64 * 2**10
    max_parts: int = 8
    max_connections: int = 400
    head_seconds: float = 10.0
    idle_seconds: float = 10.0
    body_seconds: float = 60.0
    write_seconds: float = 30.0
    wait_seconds: float = 30.0
    max_mask_pixels: int = 1_000_000_000
    max_refinable: int = 16
    max_answers: int = 8


SERVER_LIMITS = ServerLimits()
