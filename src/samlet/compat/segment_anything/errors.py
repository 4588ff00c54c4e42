"""samlet's errors in the classes that the original raises, so that existing `except` clauses go on working.

NoImageError    InputError   and RuntimeError    a prompt came before a picture
UsageError      PromptError  and AssertionError  what the original checks with `assert`
ShapeError      PromptError  and RuntimeError    arrays that do not fit each other
PictureError    ImageError   and RuntimeError, TypeError    not an array of RGB bytes
"""

from samlet.errors import ImageError, InputError, PromptError


class NoImageError(InputError, RuntimeError):
    """A prompt came before a picture."""


class UsageError(PromptError, AssertionError):
    """Arguments that the original refuses with an assertion."""


class ShapeError(PromptError, RuntimeError):
    """Arrays that do not fit each other or the model."""


class PictureError(ImageError, RuntimeError, TypeError):
    """Not an array of RGB bytes."""
