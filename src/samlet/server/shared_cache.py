"""Embeddings shared by several servers through Redis or Valkey, with the ones in use kept here as well."""

import secrets
from typing import Any

import numpy as np

from samlet.embedding import Embedding
from samlet.errors import EmbeddingError, InputError, MissingExtraError
from samlet.limits import SERVER_LIMITS, Limits
from samlet.server.cache import Hint, Kept, MemoryCache, unknown
from samlet.server.refusals import UnavailableError, UnknownEmbeddingError, log

_PREFIX = "samlet:1:"
_SECONDS = 5.0  # longest wait for the store


class SharedCache:
    """Keeps embeddings in Redis, where every server finds them, and the last used ones in memory.

    The store is asked at each use whether the embedding is still wanted, so that what one server was told to forget
    is forgotten by all. How much the store may hold is its own setting (`maxmemory`, with `allkeys-lru`).
    """

    def __init__(
        self,
        url: str,
        most_bytes: int,
        *,
        ttl: float = 3600.0,
        limits: Limits = SERVER_LIMITS.picture,
        max_answers: int = SERVER_LIMITS.max_answers,
    ) -> None:
        """Connect at the first use.

        Args:
            url: redis://, rediss:// or unix://.
            most_bytes: Bound on what is held in this process besides.
            ttl: Seconds after which an unused embedding is forgotten.
            limits: Bounds on pictures that embeddings in the store claim.
            max_answers: Most answers kept for one picture.

        Raises:
            MissingExtraError: The package redis is not installed.
            InputError: The address is none.
        """
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise MissingExtraError(
                "a shared cache needs the package redis; install it with pip install 'samlet[redis]'"
            ) from None
        self.ttl, self._limits, self._max_answers = ttl, limits, max_answers
        self._near = MemoryCache(most_bytes, ttl=ttl, max_answers=max_answers)
        self._failure: type[Exception] = redis.RedisError
        try:
            self._store: Any = redis.Redis.from_url(
                url,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                # One retry: a connection that idled may have been closed by the store.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError:
            raise InputError(
                "expected an address such as redis://localhost:6379/0 for the shared cache, got another form; "
                "correct it"
            ) from None

    def put(self, kept: Kept, *, digest: str | None = None) -> str:
        """Keep one; see `Cache.put`."""
        # Here first: what is too large for this process must not be stored. Should the store fail, `get` forgets it.
        name, seconds = self._near.put(kept), int(self.ttl)
        with self._asking() as batch:
            batch.set(_key("embedding", name), kept.embedding.to_bytes(), ex=seconds)
            batch.set(_key("picture", name), kept.picture, ex=seconds)
            if digest is not None:
                batch.set(_key("digest", digest), name, ex=seconds)
            batch.execute()
        return name

    def get(self, name: str) -> Kept:
        """Give one; see `Cache.get`."""
        seconds = int(self.ttl)
        with self._asking() as batch:
            batch.expire(_key("embedding", name), seconds)
            batch.expire(_key("picture", name), seconds)
            there = all(batch.execute())
        if not there:
            self._near.remove(name)
            raise unknown()
        try:
            return self._near.get(name)
        except UnknownEmbeddingError:
            return self._fetched(name)

    def find(self, digest: str) -> str | None:
        """Give an id; see `Cache.find`."""
        with self._asking() as batch:
            batch.get(_key("digest", digest))
            (found,) = batch.execute()
        return None if found is None else found.decode("ascii", "replace")

    def remove(self, name: str) -> bool:
        """Forget one; see `Cache.remove`."""
        self._near.remove(name)
        with self._asking() as batch:
            batch.delete(*(_key(kind, name) for kind in ("embedding", "picture", "hints", "answers")))
            (count,) = batch.execute()
        return bool(count)

    def keep_hint(self, name: str, hint: Hint) -> str:
        """Keep logits; see `Cache.keep_hint`."""
        answer = secrets.token_urlsafe(9)
        head = np.array(hint.shape, "<i4").tobytes()
        key, order = _key("hints", name), _key("answers", name)
        with self._asking() as batch:
            batch.hset(key, answer, head + np.ascontiguousarray(hint, "<f4").tobytes())
            batch.rpush(order, answer)
            batch.expire(key, int(self.ttl))
            batch.expire(order, int(self.ttl))
            count = batch.execute()[1]
        if count > self._max_answers:
            with self._asking() as batch:
                batch.lpop(order)
                (oldest,) = batch.execute()
            if oldest is not None:
                with self._asking() as batch:
                    batch.hdel(key, oldest)
                    batch.execute()
        return answer

    def hint(self, name: str, answer: str) -> Hint:
        """Give logits; see `Cache.hint`."""
        with self._asking() as batch:
            batch.hget(_key("hints", name), answer)
            (data,) = batch.execute()
        if data is None:
            raise unknown("answer to refine")
        try:
            shape = np.frombuffer(data[:12], "<i4")
            return np.frombuffer(data[12:], "<f4").astype(np.float32).reshape(shape)
        except ValueError:
            raise unknown("answer to refine") from None

    def sweep(self) -> None:
        """Forget what nobody used for long; the store does so by itself."""
        self._near.sweep()

    def facts(self) -> dict[str, int]:
        """Say how full the part in this process is; see `Cache.facts`."""
        return self._near.facts()

    def close(self) -> None:
        """Forget what is held here, and hang up; the store keeps its own."""
        self._near.close()
        self._store.close()

    def _fetched(self, name: str) -> Kept:
        with self._asking() as batch:
            batch.get(_key("embedding", name))
            batch.get(_key("picture", name))
            data, picture = batch.execute()
        if data is None or picture is None:
            raise unknown()
        try:
            embedding = Embedding.from_bytes(data, origin="the shared cache", limits=self._limits)
        except EmbeddingError as error:
            log.warning("the shared cache holds something else than an embedding: %s", error)
            raise unknown() from None
        kept = Kept(embedding, picture)
        self._near.put(kept, name=name)
        return kept

    def _asking(self) -> "_Batch":
        return _Batch(self._store, self._failure)


class _Batch:
    """Commands that go to the store together; its failures become one sentence without an address."""

    def __init__(self, store: Any, failure: type[Exception]) -> None:
        self._store, self._failure = store, failure

    def __enter__(self) -> Any:
        self._pipeline = self._store.pipeline(transaction=False)
        return self._pipeline

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._pipeline.reset()
        if isinstance(error, self._failure):
            log.error("the shared cache failed: %s", error)
            raise UnavailableError(
                "expected to reach the shared cache, but it does not answer or is full; try again later"
            ) from None


def _key(kind: str, name: str) -> str:
    return f"{_PREFIX}{kind}:{name}"
