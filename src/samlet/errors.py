"""Every exception that samlet raises on purpose.

    SamletError              70  500   a fault of ours
      InputError              2  400   what the caller gave cannot be used
        ImageError            2  415   not a picture we accept, or a broken one
        LimitError            2  413   over a bound of Limits
        PromptError           2  422   points, labels, boxes or hint that make no sense
        EmbeddingError        2  422   an embedding that is unreadable or of another model
      ModelError              3  503   a model cannot be used
        UnknownModelError     3  404   no such model
        CheckpointError       3  503   a model file is broken or has the wrong keys
          ChecksumError       3  503   a model file is not the one that was pinned
        MissingExtraError     3  501   an optional package is not installed
      BusyError               4  429   too much work is queued
      BackendError            5  500   the inference runtime failed
      TrainingError           5  500   a training run cannot go on
      PartialFailureError     6  500   some items of many failed
      OutputError             7  507   a result cannot be written

The first number is the exit code of the command line, the second the HTTP status of the server.
A message is one sentence: what was expected, what came, what to do.
"""


class SamletError(Exception):
    """Root of the tree: catch it to catch everything samlet raises on purpose."""

    exit_code: int = 70
    http_status: int = 500


class InputError(SamletError):
    """What the caller gave cannot be used."""

    exit_code = 2
    http_status = 400


class ImageError(InputError):
    """Not a picture that we accept, or a broken one."""

    http_status = 415


class LimitError(InputError):
    """Over a bound of `Limits`."""

    http_status = 413


class PromptError(InputError):
    """Points, labels, boxes or a hint that make no sense."""

    http_status = 422


class EmbeddingError(InputError):
    """An embedding that is unreadable or was made by another model."""

    http_status = 422


class ModelError(SamletError):
    """A model cannot be used."""

    exit_code = 3
    http_status = 503


class UnknownModelError(ModelError):
    """There is no model of that name."""

    http_status = 404


class CheckpointError(ModelError):
    """A model file is broken or does not hold the expected keys."""


class ChecksumError(CheckpointError):
    """A model file is not the one that was pinned."""


class MissingExtraError(ModelError):
    """An optional package is not installed; the message names the extra that brings it."""

    http_status = 501


class BusyError(SamletError):
    """Too much work is queued; try again later."""

    exit_code = 4
    http_status = 429


class BackendError(SamletError):
    """The inference runtime failed."""

    exit_code = 5
    http_status = 500


class TrainingError(SamletError):
    """A training run cannot go on; its last good state is kept."""

    exit_code = 5


class PartialFailureError(SamletError):
    """Some items of many failed; the others are done."""

    exit_code = 6
    http_status = 500


class OutputError(SamletError):
    """A result cannot be written."""

    exit_code = 7
    http_status = 507
