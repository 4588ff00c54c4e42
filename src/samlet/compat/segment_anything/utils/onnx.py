"""Where the original keeps its export wrapper; samlet runs ONNX without one and writes no files for others yet."""

from typing import NoReturn

from samlet.errors import MissingExtraError


class SamOnnxModel:
    """The original's wrapper around a torch decoder for `torch.onnx.export`; there is none here."""

    def __init__(self, *_arguments: object, **_options: object) -> NoReturn:
        """Say that there is none.

        Raises:
            MissingExtraError: Always.
        """
        raise MissingExtraError(
            "expected a call that samlet has, got SamOnnxModel, which wraps torch modules; samlet runs checkpoints on "
            "ONNX Runtime as they are, and to write ONNX files for other tools use the original package"
        )
