"""Pictures that Label Studio holds itself: fetched from the one address that the operator named, and from no other."""

import asyncio
import http.client
import posixpath
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit

from samlet.errors import ImageError, InputError, LimitError
from samlet.server.refusals import QueueFullError, UnavailableError
from samlet.server.settings import Settings

_SECONDS = 10.0
_AT_ONCE = 4
_WAITING = 16
_FOLDER = "/data/"  # where Label Studio serves uploads and local files


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects lead elsewhere, for instance into the operator's own network."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        raise InputError(
            "expected Label Studio to serve the picture itself, but it redirects; import it as an upload"
        )


class Downloads:
    """Fetches uploads from Label Studio, a few at a time."""

    def __init__(self, settings: Settings) -> None:
        """Prepare.

        Args:
            settings: Label Studio's address and key; without an address everything is refused.
        """
        self._base = settings.label_studio_url
        self._key = settings.label_studio_key
        self._most = settings.limits.picture.max_bytes
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="samlet-download")
        self._pending = 0
        # No proxies from the environment: they would decide where a request goes.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())

    async def fetch(self, named: str) -> bytes:
        """Fetch the picture that a task names.

        Args:
            named: A path below /data/, or an address of Label Studio itself.

        Raises:
            InputError: No address was configured, or the picture lies elsewhere.
            ImageError: There is none.
            LimitError: It is too large.
            UnavailableError: Label Studio does not answer.
        """
        address = self.address(named)
        if self._pending >= _AT_ONCE + _WAITING:
            raise QueueFullError("expected room for another download, but many wait already; try again soon")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._get, address)
        finally:
            self._pending -= 1

    def address(self, named: str) -> str:
        """Decide where a picture is fetched from.

        Raises:
            InputError: Nowhere: no address was configured, or the picture lies elsewhere.
        """
        if self._base is None:
            raise InputError(
                "expected the picture as a data: URI, got an address, and this server fetches none; its operator may "
                "allow Label Studio's uploads with --label-studio"
            )
        home = urlsplit(self._base)
        wanted = urlsplit(urljoin(self._base, named))
        path = unquote(wanted.path)
        same = (wanted.scheme, wanted.netloc.lower()) == (home.scheme, home.netloc.lower())
        prefix = home.path.rstrip("/") + _FOLDER
        straight = posixpath.normpath(path) == path and "\\" not in path and path.isprintable()
        if not (same and straight and path.startswith(prefix)) or " " in named:
            raise InputError(
                "expected a picture that Label Studio itself holds below /data/, got another address; import it as an "
                "upload"
            )
        return wanted.geturl()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _get(self, address: str) -> bytes:
        request = urllib.request.Request(address)
        if self._key is not None:
            request.add_header("Authorization", f"Token {self._key}")
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                data: bytes = answer.read(self._most + 1)
        except urllib.error.HTTPError as error:
            raise ImageError(
                f"expected Label Studio to hand out the picture, but it answered {error.code}; check its API key"
            ) from None
        except (OSError, http.client.HTTPException, ValueError):
            raise UnavailableError(
                "expected Label Studio to hand out the picture, but it does not answer; try again later"
            ) from None
        if len(data) > self._most:
            raise LimitError(
                f"expected a picture of at most {self._most:,} bytes, got more; import a smaller one"
            )
        return data
