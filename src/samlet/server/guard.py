"""The door: who may ask, what every answer carries, and what becomes of a fault."""

import base64
import binascii
import hmac
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samlet.server.bodies import drain
from samlet.server.metrics import Metrics
from samlet.server.refusals import ForbiddenError, GoneError, UnauthorizedError, refusal
from samlet.server.settings import PAGE_POLICY, Settings

_API_CSP = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_API_PATHS = ("/v1/", "/predict", "/setup", "/webhook", "/api/", "/health", "/metrics", "/openapi.json")
"""Where no page is: their answers may load nothing at all."""

_OPEN_PATH = "/health"  # what watches over a server need not know its token

_CLIENT_LEFT = 499


class Guard:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        """Wrap an application.

        Args:
            app: The application.
            settings: Hosts, token and frames.
            metrics: Where answers are counted.
        """
        self._app, self._settings, self._metrics = app, settings, metrics
        ancestors = " ".join(settings.frame_ancestors) or "'none'"
        self._page_csp = f"{PAGE_POLICY}; frame-ancestors {ancestors}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, csp=_API_CSP if _is_api(scope["path"]) else self._page_csp)
        started = time.perf_counter()
        try:
            self._check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except GoneError:
            exchange.status = exchange.status or _CLIENT_LEFT
        except Exception as error:
            if exchange.status:  # half an answer cannot be taken back: closing tells that it is not whole
                refusal(error)
                raise
            status, body, headers = refusal(error)
            await JSONResponse(body, status, headers)(scope, exchange.receive, exchange.send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, scope["method"], str(exchange.status or _CLIENT_LEFT)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self._settings.hosts and name.lower() not in self._settings.hosts:
            raise ForbiddenError(
                "expected to be asked by one of this server's names, got another; see --allow-host of samlet serve"
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise ForbiddenError("expected a request of this server's own page, got one of another site's")
        token = self._settings.token
        if token is not None and scope["path"] != _OPEN_PATH and not _knows(headers, token):
            raise UnauthorizedError(
                "expected the server's token, got none or another; send it as 'Authorization: Bearer TOKEN', or type "
                "it as the password"
            )


class _Exchange:
    """One request with its answer: what was read, what was sent, and the headers of every answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, csp: str) -> None:
        self._scope, self._receive, self._send, self._csp = scope, receive, send, csp
        self._body_is_read = False
        self._told_to_close = False
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_is_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._dress(MutableHeaders(raw=message["headers"]))
        elif self._told_to_close and not message.get("more_body", False):
            # The answer goes out first; then the rest of what the client sends is thrown away for a moment,
            # because closing at once would take the answer from its hands.
            await self._send({**message, "more_body": True})
            await drain(self._receive)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    def _dress(self, headers: MutableHeaders) -> None:
        headers.setdefault("Content-Security-Policy", self._csp)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Embedder-Policy"] = "require-corp"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers.setdefault("Cache-Control", "no-store")
        if not self._body_is_read and _has_body(self._scope):
            self._told_to_close = True
            headers["Connection"] = "close"


def _is_api(path: str) -> bool:
    return path.startswith(_API_PATHS)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _knows(headers: Headers, token: str) -> bool:
    """Whether a client shows the token: as a bearer, as X-AnyLabeling does, or as the password of a browser."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    shown = [headers.get("token", "")]
    if kind.lower() == "bearer":
        shown.append(value.strip())
    elif kind.lower() == "basic":
        shown.append(_password(value))
    # Compared whole each, so that the time tells nothing of how much of it was right.
    return any([hmac.compare_digest(each.encode(), token.encode()) for each in shown])


def _password(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
