"""How the readers of model files say no: one exception inside, turned into one sentence at the door."""

PUBLISHER = "get the file again from its publisher"
"""What to do about a file that is damaged or was made to do harm."""


class RefusedError(Exception):
    """A file is not read further; `parse` makes it a `CheckpointError` that names the file.

    Attributes:
        reason: What came, as it goes after "but": "its header is not JSON".
        advice: What to do, without a full stop.
    """

    def __init__(self, reason: str, advice: str = PUBLISHER) -> None:
        super().__init__(reason)
        self.reason, self.advice = reason, advice


def shown(text: object) -> str:
    """Show a word from a file in a message: quoted, short, without control characters."""
    word = text if isinstance(text, str) else type(text).__name__
    return ascii(word[:60])
