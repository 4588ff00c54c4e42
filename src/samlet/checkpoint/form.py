"""The door for model files: bytes in, plain arrays out, whatever the file's name claims."""

from dataclasses import dataclass

from samlet.checkpoint import archive, foreign, safetensors_form, torch_forms
from samlet.checkpoint.elements import Array
from samlet.checkpoint.refusal import RefusedError
from samlet.errors import CheckpointError
from samlet.limits import MODEL_FILE_LIMITS, ModelFileLimits

_PICKLE = (
    b"\x80"  # the legacy form is a row of pickles; others are refused once they are found not to be torch's
)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a model file holds.

    Attributes:
        arrays: Arrays by name, in the file's order: float32 for every kind of floating number, whole numbers and
            truth values as they are; often read-only views of the file's bytes. Tensors of a dict within the
            file have its name and a slash in front: "model/patch_embed.seq.0.c.weight".
        metadata: Texts by name. Of a safetensors file its own; of a torch file the plain facts beside the tensors
            ("epoch", and "yaml", "names", "nc", "stride", "reg_max" of a pickled detector) as JSON.
        form: "safetensors", "zip" or "legacy".
    """

    arrays: dict[str, Array]
    metadata: dict[str, str]
    form: str


def parse(data: bytes, *, origin: str, limits: ModelFileLimits = MODEL_FILE_LIMITS) -> Checkpoint:
    r"""Read a model file without executing anything in it.

    What kind of file it is follows from its content: safetensors, torch's zip archive, or torch's legacy form; in
    the latter two also whole pickled detectors, whose tensors get the names of their state dict.

    Args:
        data: The whole file. Arrays may be views of it.
        origin: What to call the file in a message.
        limits: Bounds on the file.

    Raises:
        CheckpointError: The file is of another kind, damaged, or asks for something that no model needs.

    Example:
        >>> parse(b"\x02" + bytes(7) + b"{}", origin="nothing.safetensors").form
        'safetensors'
    """
    try:
        arrays, metadata, form = _read(memoryview(data), limits)
    except RefusedError as refusal:
        raise _error(refusal, origin) from None
    return Checkpoint(arrays, metadata, form)


def parse_metadata(
    data: bytes, *, origin: str, limits: ModelFileLimits = MODEL_FILE_LIMITS
) -> dict[str, str]:
    r"""Read the metadata texts of safetensors bytes, without looking at the arrays.

    Raises:
        CheckpointError: The bytes are no safetensors file.

    Example:
        >>> parse_metadata(b"\x02" + bytes(7) + b"{}", origin="nothing.safetensors")
        {}
    """
    view = memoryview(data)
    try:
        if not safetensors_form.looks_like(view):
            raise RefusedError("it is no safetensors file", "give one that samlet saved")
        return safetensors_form.read_metadata(view, limits)
    except RefusedError as refusal:
        raise _error(refusal, origin) from None


def _read(data: memoryview, limits: ModelFileLimits) -> tuple[dict[str, Array], dict[str, str], str]:
    if len(data) > limits.max_bytes:
        raise RefusedError(f"it has {len(data):,} bytes, more than {limits.max_bytes:,}")
    if data[:4] == archive.MAGIC:
        return *torch_forms.read_zip(data, limits), "zip"
    if safetensors_form.looks_like(data):
        return *safetensors_form.read(data, limits), "safetensors"
    if data[:1] == _PICKLE:
        return *torch_forms.read_legacy(data, limits), "legacy"
    raise foreign.refusal(data)


def _error(refusal: RefusedError, origin: str) -> CheckpointError:
    return CheckpointError(
        f"expected model weights that samlet can read in {origin}, but {refusal.reason}; {refusal.advice}"
    )
