"""One HTTPS request with the standard library: who may be asked, which redirects are followed, what went wrong.

HTTPS only; plain HTTP is for this computer itself (a mirror behind a local proxy, tests). The settings of the
environment for proxies and certificates (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE) are honoured by `urllib`.
"""

import email.utils
import http.client
import ipaddress
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from samlet.errors import InputError

TIMEOUT = 30.0
"""Seconds without a single byte after which a connection counts as dead."""

_MOST_HOPS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0
_TOKEN_HOST = "huggingface.co"
_HANDLERS = (
    urllib.request.ProxyHandler,
    urllib.request.UnknownHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
)


class FailedError(Exception):
    """An address did not give the file. Never leaves this package.

    Attributes:
        again: Whether the same address may be worth another try.
        wait: Seconds that the server asked to wait before it.
        wrong: Whether it gave other bytes than expected.
    """

    def __init__(self, reason: str, *, again: bool = False, wait: float = 0.0, wrong: bool = False) -> None:
        super().__init__(reason)
        self.again, self.wait, self.wrong = again, wait, wrong


class RangeError(FailedError):
    """The server has nothing at the place where we wanted to go on."""


def is_allowed(url: str, *, after: str = "") -> bool:
    """Whether an address may be asked: HTTPS, or HTTP on this computer.

    Args:
        url: The address.
        after: The address that redirected to it, if any; one by HTTPS may not lead to HTTP.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        named = bool(host) and parts.username is None and (parts.port or 1) > 0
    except ValueError:
        return False
    if parts.scheme == "http":
        return named and _is_loopback(host) and not after.startswith("https:")
    return named and parts.scheme == "https"


def request(url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    """Ask for a file and follow redirects; the caller closes the response.

    Args:
        url: The address.
        headers: What else to send; the user's token is added where it belongs.

    Raises:
        FailedError: There is no answer that could be used.
    """
    current = url
    for _ in range(_MOST_HOPS + 1):
        answer = _once(current, headers)
        if not isinstance(answer, str):
            return answer
        following = urllib.parse.urljoin(current, answer)
        if not is_allowed(following, after=current):
            raise FailedError(f"it redirects to {following[:100]!r}, which is not HTTPS")
        current = following
    raise FailedError(f"it redirects more than {_MOST_HOPS} times")


def _once(url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse | str:
    """Give the response, or the address it redirects to."""
    asked = urllib.request.Request(
        url, headers={"User-Agent": "samlet", "Accept-Encoding": "identity", **headers}
    )
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and _may_see_token(url):
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise InputError(
                "expected HF_TOKEN without spaces and special characters; set it again or unset it"
            )
        asked.add_unredirected_header("Authorization", f"Bearer {token}")
    opener = urllib.request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    try:
        response = opener.open(asked, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            location = error.headers.get("Location")
            if error.code in _REDIRECTS and location:
                return str(location)
            raise _refusal(error, url) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise failure(error) from None
    if not isinstance(response, http.client.HTTPResponse):
        raise FailedError("it gives no answer")
    return response


def _may_see_token(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" and parts.hostname == _TOKEN_HOST and parts.port in (None, 443)


def failure(error: Exception) -> FailedError:
    """Say what a connection died of, and whether trying again may help."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return FailedError(f"no answer within {TIMEOUT:g} s", again=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FailedError(f"its certificate is not trusted ({cause.verify_message}); see SSL_CERT_FILE")
    if isinstance(cause, socket.gaierror):
        return FailedError("its name cannot be resolved, there seems to be no network")
    reason = _line(cause)
    hopeless = isinstance(cause, ConnectionRefusedError | http.client.InvalidURL | str) or (
        isinstance(cause, ValueError) and not isinstance(cause, OSError)
    )
    return FailedError(reason, again=not hopeless)


def _refusal(error: urllib.error.HTTPError, url: str) -> FailedError:
    reason = f"{error.code} {_line(error.reason)}".strip()
    if error.code == 416:
        return RangeError(reason)
    if error.code in (401, 403) and _may_see_token(url):
        reason += ", set HF_TOKEN if the repository is private"
    if error.code not in _TRY_AGAIN:
        return FailedError(reason)
    wait = _retry_after(error.headers.get("Retry-After"))
    if wait > _LONGEST_WAIT:
        return FailedError(f"{reason}, asks to wait {wait:.0f} s")
    return FailedError(reason, again=True, wait=wait)


def _retry_after(value: str | None) -> float:
    """Read a Retry-After header, seconds or a date; 0 if there is none or it makes no sense."""
    if value is None:
        return 0.0
    if re.fullmatch(r"\s*\d{1,9}\s*", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _line(error: object) -> str:
    """Give the first line of a foreign message, short enough for one sentence."""
    text = str(getattr(error, "strerror", None) or error).strip().split("\n", 1)[0][:160]
    return "".join(c if c.isprintable() else "?" for c in text) or type(error).__name__
