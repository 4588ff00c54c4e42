"""Texts as CLIP's token numbers, by the file tokenizer.json that comes with the model."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.errors import CheckpointError, MissingExtraError, PromptError

MAX_TOKENS = 77
"""Longest text of a CLIP, start and end included."""

_MAX_CHARACTERS = 2000


class Tokens:
    """Reads texts with a tokenizer of the `tokenizers` package."""

    def __init__(self, description: bytes, *, origin: str, length: int = MAX_TOKENS) -> None:
        """Read a tokenizer.

        Args:
            description: Content of a tokenizer.json.
            origin: Its name, for messages.
            length: Most tokens of a text, start and end included; what goes beyond is cut off.

        Raises:
            MissingExtraError: The package is not installed.
            CheckpointError: The file is no tokenizer.
        """
        make = package()
        try:
            self._tokenizer: Any = make.from_str(description.decode("utf-8"))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(max_length=length)
        except Exception as error:  # the package raises plain Exception
            raise CheckpointError(
                f"expected a tokenizer in {origin}, but it cannot be read ({str(error)[:80]}); take the "
                "tokenizer.json that lies beside the model"
            ) from None

    def __call__(self, text: str) -> NDArray[np.int64]:
        """Number the tokens of a text.

        Returns:
            (K,) with the tokens for start and end.

        Raises:
            PromptError: There is no text, or it is far too long.
        """
        if not isinstance(text, str) or not text.strip() or len(text) > _MAX_CHARACTERS:
            shown = f"{len(text)} characters" if isinstance(text, str) and text.strip() else repr(text)[:80]
            raise PromptError(
                f"expected a phrase of 1 to {_MAX_CHARACTERS} characters, got {shown}; give a few words"
            )
        return np.array(self._tokenizer.encode(text).ids, np.int64)


def is_installed() -> bool:
    """Whether the `tokenizers` package is there."""
    try:
        package()
    except MissingExtraError:
        return False
    return True


def package() -> Any:
    """Give the class that reads tokenizers.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        return import_module("tokenizers").Tokenizer
    except ImportError:
        raise MissingExtraError(
            "reading texts for CLIP needs the package tokenizers; install it with pip install 'samlet[text]'"
        ) from None
