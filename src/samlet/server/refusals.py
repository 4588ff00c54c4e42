"""What the server says when it will not or cannot answer: a sentence, an id for the log, and nothing of its inside."""

import logging
import secrets

from samlet.errors import BusyError, InputError, MissingExtraError, SamletError, UnknownModelError

log = logging.getLogger("samlet.server")


class GoneError(Exception):
    """The client has left; there is nobody to answer."""


class SlowError(InputError):
    """The client takes too long to send its request."""

    http_status = 408


class UnauthorizedError(InputError):
    """The token is missing or wrong."""

    http_status = 401


class ForbiddenError(InputError):
    """A page of another origin, or a host name that is not this server's."""

    http_status = 403


class UnknownEmbeddingError(InputError):
    """There is no such embedding, or no longer."""

    http_status = 404


class QueueFullError(BusyError):
    """Too many requests wait already.

    Attributes:
        retry_after: Seconds after which it is worth to try again.
    """

    def __init__(self, sentence: str, retry_after: int = 1) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class UnavailableError(QueueFullError):
    """The server cannot take this now, but may in a moment."""

    http_status = 503


class UnsupportedError(InputError):
    """The server was started without what this needs."""

    http_status = 501


_TELLING = (InputError, BusyError, UnknownModelError, MissingExtraError)
"""Errors whose sentence is meant for whoever asked; those of models name paths on this machine."""


def refusal(error: Exception) -> tuple[int, dict[str, str], dict[str, str]]:
    """Decide what a client is told about an error, and log what it is not told.

    Args:
        error: What went wrong.

    Returns:
        HTTP status, JSON body with the sentence and an id, and further headers.

    Example:
        >>> status, body, _ = refusal(InputError("expected a picture, got none; send one"))
        >>> status, body["error"]
        (400, 'expected a picture, got none; send one')
    """
    number = secrets.token_hex(6)
    status = error.http_status if isinstance(error, SamletError) else 500
    headers: dict[str, str] = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(getattr(error, "retry_after", 1))
    if isinstance(error, UnauthorizedError):
        # Browsers ask for a password then, and send it with all that the page loads.
        headers["WWW-Authenticate"] = 'Basic realm="samlet", charset="UTF-8"'
    if isinstance(error, _TELLING):
        sentence = str(error)
        log.info("%s %d %s", number, status, sentence)
    else:
        sentence = f"something went wrong in the server; tell its operator the id {number}"
        log.error("%s %d", number, status, exc_info=error)
    return status, {"error": sentence, "id": number}, headers
