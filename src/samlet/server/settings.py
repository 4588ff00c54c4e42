"""What the operator decides when the server starts; a request changes none of it."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from samlet.errors import InputError
from samlet.limits import SERVER_LIMITS, ServerLimits

_LEAST_CACHE = 64 * 2**20
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self' blob: data:; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""What the page may load (Content-Security-Policy): its own files and nothing else, from a server or a static host."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server is run.

    Attributes:
        workers: Requests worked on at a time.
        queue: Most requests that wait; 0 means 16 for each worker, which bounds what waiting adds to an answer.
        cache_bytes: Bytes of embeddings kept in this process.
        cache_url: Redis or Valkey shared by several servers; None keeps everything in this process.
        cache_seconds: Seconds after which an unused embedding is forgotten.
        token: What clients have to show; None lets everybody in.
        hosts: Host names under which the server is asked, without port; empty means any. Names of this machine
            alone keep pages of other sites from reaching it by a name that they point at 127.0.0.1.
        frame_ancestors: Origins whose pages may show this one in a frame.
        label_studio_url: Where Label Studio runs; its uploads are fetched from there and from nowhere else. None
            fetches nothing.
        label_studio_key: Label Studio's API key for that.
        limits: Bounds on what comes from outside.

    Example:
        >>> Settings(workers=2).queue
        32
    """

    workers: int = field(default_factory=lambda: min(8, max(2, os.cpu_count() or 2)))
    queue: int = 0
    cache_bytes: int = 512 * 2**20
    cache_url: str | None = None
    cache_seconds: float = 3600.0
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = LOOPBACK_HOSTS
    frame_ancestors: tuple[str, ...] = ()
    label_studio_url: str | None = None
    label_studio_key: str | None = field(default=None, repr=False)
    limits: ServerLimits = SERVER_LIMITS

    def __post_init__(self) -> None:
        """Check what would otherwise fail late.

        Raises:
            InputError: A number is too small, the token too short, or an address is none.
        """
        if self.queue == 0:
            object.__setattr__(self, "queue", 16 * self.workers)
        if self.workers < 1 or self.queue < 1 or self.cache_seconds < 1:
            raise InputError(
                f"expected at least one worker, place in the queue and second, got {self.workers}, {self.queue} and "
                f"{self.cache_seconds:g}; pass positive numbers"
            )
        if self.cache_bytes < _LEAST_CACHE:
            raise InputError(
                f"expected a cache of at least {_LEAST_CACHE:,} bytes, got {self.cache_bytes:,}; one picture has to fit"
            )
        if self.token is not None and not (len(self.token) >= 8 and self.token.isascii()):
            raise InputError(
                "expected a token of at least 8 ASCII characters, got another; choose a longer one"
            )
        if self.label_studio_url is not None:
            parts = urlsplit(self.label_studio_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise InputError(
                    "expected the address of Label Studio as http://HOST:PORT, got another; correct it"
                )
