"""The cache of embeddings: bounded in bytes, forgetful when told so; alone, and shared through a real Redis."""

import shutil
import subprocess
import threading
import time

import numpy as np
import pytest

pytest.importorskip("fastapi")
from samlet.embedding import Embedding
from samlet.errors import InputError, LimitError
from samlet.geometry import Frame
from samlet.server.cache import Kept, MemoryCache
from samlet.server.refusals import UnavailableError, UnknownEmbeddingError
from samlet.server.settings import Settings
from tests.server_running import Client, fake_model, picture_bytes, running

ARRAY = 256 * 4 * 4 * 4  # bytes of the embedding below
STORE = shutil.which("valkey-server") or shutil.which("redis-server")


def kept(tint: float = 0.0, picture: bytes = b"p" * 100) -> Kept:
    array = np.full((1, 256, 4, 4), tint, np.float32)
    frame = Frame((32, 32), (32, 32), (32, 32))
    return Kept(Embedding({"image_embeddings": array}, frame, "nano", "digest"), picture)


def hint(size: int = 4) -> np.ndarray:
    return np.arange(size * size, dtype=np.float32).reshape(1, size, size)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_longest_unused_leaves_first():
    cache = MemoryCache(3 * (ARRAY + 100))
    names = [cache.put(kept(i)) for i in range(3)]
    cache.get(names[0])
    newest = cache.put(kept(3))
    with pytest.raises(UnknownEmbeddingError):
        cache.get(names[1])
    for name in (names[0], names[2], newest):
        assert cache.get(name) is not None
    assert cache.facts() == {
        "bytes": 3 * (ARRAY + 100), "entries": 3, "hits": 4, "misses": 1, "evicted": 1
    }  # fmt: skip


def test_hints_count_and_the_oldest_leave_first():
    cache = MemoryCache(10 * ARRAY, max_answers=2)
    name = cache.put(kept())
    answers = [cache.keep_hint(name, hint() + i) for i in range(3)]
    with pytest.raises(UnknownEmbeddingError):
        cache.hint(name, answers[0])
    np.testing.assert_array_equal(cache.hint(name, answers[2]), hint() + 2)
    assert cache.facts()["bytes"] == ARRAY + 100 + 2 * hint().nbytes
    assert cache.remove(name)
    assert cache.facts()["bytes"] == 0 and not cache.remove(name)


def test_one_picture_s_answers_make_room_for_each_other():
    cache = MemoryCache(ARRAY + 100 + 3 * hint(32).nbytes, max_answers=99)
    name = cache.put(kept())
    answers = [cache.keep_hint(name, hint(32)) for _ in range(5)]
    assert cache.get(name) is not None
    assert cache.facts()["bytes"] <= cache.most_bytes
    assert len([a for a in answers if _knows(cache, name, a)]) == 3


def _knows(cache, name, answer):
    try:
        cache.hint(name, answer)
    except UnknownEmbeddingError:
        return False
    return True


def test_a_hint_for_what_was_forgotten_is_not_counted():
    cache = MemoryCache(10 * ARRAY)
    name = cache.put(kept())
    cache.remove(name)
    cache.keep_hint(name, hint())
    assert cache.facts()["bytes"] == 0


def test_too_large_for_the_cache_is_said():
    with pytest.raises(LimitError, match="fits into the cache"):
        MemoryCache(ARRAY).put(kept())


def test_unused_ones_are_forgotten_in_time():
    clock = Clock()
    cache = MemoryCache(10 * ARRAY, ttl=60, clock=clock)
    used, unused = cache.put(kept()), cache.put(kept())
    clock.now = 50
    cache.get(used)
    clock.now = 100
    cache.sweep()
    assert cache.facts()["entries"] == 1 and cache.get(used) is not None
    clock.now = 200
    with pytest.raises(UnknownEmbeddingError):
        cache.get(used)
    with pytest.raises(UnknownEmbeddingError):
        cache.get(unused)
    assert cache.facts()["bytes"] == 0


def test_a_picture_is_found_by_its_digest_until_it_leaves():
    cache = MemoryCache(10 * ARRAY)
    name = cache.put(kept(), digest="d")
    assert cache.find("d") == name
    again = cache.put(kept(), digest="d")
    assert cache.find("d") == again
    cache.remove(name)
    assert cache.find("d") == again
    cache.remove(again)
    assert cache.find("d") is None


def test_many_threads_never_break_the_sum():
    cache = MemoryCache(20 * ARRAY, max_answers=3)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        names: list[str] = []
        for _ in range(300):
            action = rng.integers(4)
            if action == 0 or not names:
                names.append(cache.put(kept(seed), digest=str(rng.integers(5))))
            elif action == 1:
                cache.keep_hint(names[rng.integers(len(names))], hint(int(rng.integers(1, 20))))
            elif action == 2:
                cache.remove(names.pop(rng.integers(len(names))))
            else:
                try:
                    assert (
                        cache.get(names[rng.integers(len(names))]).embedding.arrays["image_embeddings"][
                            0, 0, 0, 0
                        ]
                        == seed
                    )
                except UnknownEmbeddingError:
                    pass
            assert cache.facts()["bytes"] <= cache.most_bytes

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    assert cache.facts()["bytes"] == cache.facts()["entries"] == 0


# --- shared ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A real Redis or Valkey that lives as long as these tests, reached through a socket file."""
    if STORE is None:
        pytest.skip("needs valkey-server or redis-server (Debian: apt-get install redis-server)")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "s"
    command = [STORE, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([*command, "--maxmemory", "64mb"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()
    yield f"unix://{path}"
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture
def two(store):
    """Two servers' caches over one store."""
    from samlet.server.shared_cache import SharedCache

    caches = [SharedCache(store, 10 * ARRAY, ttl=60, max_answers=2) for _ in range(2)]
    yield caches
    for cache in caches:
        cache.close()


def test_what_one_server_embedded_the_other_finds(two):
    one, other = two
    name = one.put(kept(0.5, b"picture"), digest="digest of it")
    found = other.get(name)
    np.testing.assert_array_equal(
        found.embedding.arrays["image_embeddings"], kept(0.5).embedding.arrays["image_embeddings"]
    )
    assert (found.picture, found.embedding.frame) == (b"picture", kept().embedding.frame)
    assert other.find("digest of it") == name
    assert other.get(name) is found  # from memory the second time


def test_what_one_server_forgets_all_forget(two):
    one, other = two
    name = one.put(kept())
    other.get(name)
    assert one.remove(name)
    for cache in two:
        with pytest.raises(UnknownEmbeddingError):
            cache.get(name)
    assert other.facts()["entries"] == 0


def test_answers_are_refined_by_the_other_server(two):
    one, other = two
    name = one.put(kept())
    answers = [one.keep_hint(name, hint(8) + i) for i in range(3)]
    np.testing.assert_array_equal(other.hint(name, answers[2]), hint(8) + 2)
    with pytest.raises(UnknownEmbeddingError):
        other.hint(name, answers[0])
    one.remove(name)
    with pytest.raises(UnknownEmbeddingError):
        other.hint(name, answers[2])


def test_everything_in_the_store_has_an_end(two, store):
    import redis

    one, _ = two
    name = one.put(kept(), digest="x")
    one.keep_hint(name, hint())
    with redis.Redis.from_url(store) as client:
        keys = client.keys("samlet:*")
        assert len(keys) >= 5
        assert all(0 < client.ttl(key) <= 60 for key in keys)


def test_what_does_not_belong_there_is_not_believed(two, store):
    import redis

    one, other = two
    name = one.put(kept())
    with redis.Redis.from_url(store) as client:
        for junk in (b"junk", b"\x80\x04\x95cos\nsystem\n(S'true'\ntR."):
            client.set(f"samlet:1:embedding:{name}", junk)
            with pytest.raises(UnknownEmbeddingError):
                other.get(name)
        client.hset(f"samlet:1:hints:{name}", "answer-of-it", b"\x01\x00\x00\x00\xff\xff\xff\x7f" + b"x" * 9)
        with pytest.raises(UnknownEmbeddingError):
            other.hint(name, "answer-of-it")


def test_a_full_store_is_a_sentence_and_not_a_fault(two, store):
    import redis

    one, _ = two
    with redis.Redis.from_url(store) as client:
        client.config_set("maxmemory", "1mb")
        try:
            with pytest.raises(UnavailableError, match="shared cache"):
                for _ in range(100):
                    one.put(kept(picture=b"x" * 100_000))
        finally:
            client.config_set("maxmemory", "64mb")


def test_a_store_that_is_away_is_a_sentence_without_its_address(tmp_path):
    from samlet.server.shared_cache import SharedCache

    cache = SharedCache(f"unix://{tmp_path}/nobody", 10 * ARRAY)
    with pytest.raises(UnavailableError) as caught:
        cache.put(kept())
    assert "nobody" not in str(caught.value)
    cache.close()
    with pytest.raises(InputError, match="redis://"):
        SharedCache("http://127.0.0.1", 10 * ARRAY)


def test_two_servers_share_their_pictures(store):
    settings = Settings(workers=2, cache_url=store)
    with running(settings=settings) as first, running(settings=settings) as second:
        one, other = Client(first), Client(second)
        name = one.embed(picture_bytes())
        here = one.post(f"/v1/embeddings/{name}/segment", {"points": [[20, 20]]}).json()
        there = other.post(
            f"/v1/embeddings/{name}/segment", {"points": [[40, 20]], "hint_from": here["id"]}
        ).json()
        model = fake_model()
        view = model.embed(picture_bytes())
        expected = model.segment(view, points=[40, 20], hint=model.segment(view, points=[20, 20]).hint)
        assert there["masks"][0]["area"] == int(expected.areas[0])
        assert other.send("DELETE", f"/v1/embeddings/{name}").status == 204
        assert one.post(f"/v1/embeddings/{name}/segment", {"points": [[20, 20]]}).status == 404
        for client in (one, other):
            client.close()
