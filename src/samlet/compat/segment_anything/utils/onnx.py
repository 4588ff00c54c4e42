"""Where the original keeps its export wrapper; samlet exports by a command of its own."""

from typing import NoReturn

from samlet.errors import MissingExtraError


class SamOnnxModel:
    """The original's wrapper around a torch decoder for `torch.onnx.export`; there is none here."""

    def __init__(self, *_arguments: object, **_options: object) -> NoReturn:
        """Say where the export is.

        Raises:
            MissingExtraError: Always.
        """
        raise MissingExtraError(
            "expected samlet's own way to export, got SamOnnxModel, which wraps torch modules; "
            "run `samlet export` for ONNX files with the same inputs and outputs"
        )
