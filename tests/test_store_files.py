"""Where files are looked for, what is said when they are not there, and what damaged ones are worth."""

import hashlib
import json
import logging
import random
import re
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samlet import store
from samlet.card import CardFile
from samlet.errors import ChecksumError, InputError, MissingExtraError, ModelError, OutputError
from samlet.store import layout
from tests.bad_server import BadServer

CONTENT = random.Random(2).randbytes(5000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.org/weights/model.pt"
FILE = CardFile("weights", None, URL, DIGEST, len(CONTENT), "someone/some-repo")
UNPUBLISHED = replace(FILE, sha256="", size=0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SAMLET_MIRROR", "HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("SAMLET_OFFLINE", "1")
    return tmp_path / "cache"


def put(path: Path, data: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


class TestCacheFolder:
    def test_the_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAMLET_CACHE", "~/elsewhere")
        assert store.cache_folder() == Path.home() / "elsewhere"

    @pytest.mark.parametrize(
        ("platform", "variables", "expected"),
        [
            ("linux", {}, "/home/me/.cache/samlet"),
            ("linux", {"XDG_CACHE_HOME": "/big/cache"}, "/big/cache/samlet"),
            ("linux", {"XDG_CACHE_HOME": "not/absolute"}, "/home/me/.cache/samlet"),
            ("darwin", {"XDG_CACHE_HOME": "/big/cache"}, "/home/me/Library/Caches/samlet"),
            ("win32", {"LOCALAPPDATA": "/c/local"}, "/c/local/samlet"),
            ("win32", {}, "/home/me/AppData/Local/samlet"),
        ],
    )
    def test_the_usual_place(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
    ) -> None:
        for name in ("SAMLET_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
        monkeypatch.setattr(layout.sys, "platform", platform)
        assert store.cache_folder() == Path(expected)

    def test_nobody_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        for name in ("SAMLET_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name)
        monkeypatch.setattr(Path, "home", homeless)
        with pytest.raises(InputError, match="set SAMLET_CACHE to a folder"):
            store.cache_folder()


class TestOffline:
    """No network at all, and a message that says what to put where."""

    def test_the_message(self, cache: Path) -> None:
        with pytest.raises(ModelError) as caught:
            store.fetch(FILE)
        assert str(caught.value) == (
            "expected the model file model.pt on this computer, but it is not here and SAMLET_OFFLINE is set; "
            f"download {URL} (5,000 bytes, sha256 {DIGEST}) elsewhere and put it at {cache}/by_hand/model.pt"
        )

    def test_locate_says_it_too(self, cache: Path) -> None:
        with pytest.raises(
            ModelError, match=f"fetch it with samlet fetch, or download {URL} .*by_hand/model.pt"
        ):
            store.locate(FILE)

    @pytest.mark.parametrize("where", ["by_hand/model.pt", f"files/{DIGEST}/model.pt"])
    def test_what_is_put_there_is_found(self, cache: Path, where: str) -> None:
        path = put(cache / where)
        assert store.locate(FILE) == store.fetch(FILE) == store.fetch(FILE, verify=True) == path
        assert store.read_verified(FILE) == CONTENT

    def test_another_file_put_there(self, cache: Path) -> None:
        path = put(cache / "by_hand" / "model.pt", CONTENT[::-1])
        with pytest.raises(
            ChecksumError, match=f"expected sha256 {DIGEST[:12]}.* download {URL} again and put it"
        ):
            store.read_verified(FILE)
        with pytest.raises(ChecksumError, match=f"expected sha256 {DIGEST}, found .* in {path}"):
            store.fetch(FILE, verify=True)
        assert path.exists(), "the user's own file is not ours to delete"

    @pytest.mark.parametrize(
        ("value", "offline"), [("", False), ("0", False), ("False", False), ("1", True), ("yes", True)]
    )
    def test_the_switch(self, monkeypatch: pytest.MonkeyPatch, value: str, offline: bool) -> None:
        monkeypatch.setenv("SAMLET_OFFLINE", value)
        assert layout.is_offline() is offline


def test_1000_flipped_bits_at_rest(cache: Path) -> None:
    path = put(cache / "files" / DIGEST / "model.pt")
    caught = 0
    for bit in random.Random(5).sample(range(8 * len(CONTENT)), 1000):
        damaged = bytearray(CONTENT)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ChecksumError, match="delete it to have it downloaded again"):
            store.read_verified(FILE)
        caught += 1
    assert caught == 1000


@pytest.mark.parametrize("length", [0, 1, 2500, 4999, 5001])
def test_another_length_at_rest(cache: Path, length: int) -> None:
    put(cache / "files" / DIGEST / "model.pt", (CONTENT + b"x")[:length])
    with pytest.raises(ChecksumError, match="expected 5,000 bytes"):
        store.read_verified(FILE)
    with pytest.raises(ChecksumError, match="expected sha256"):
        store.read_verified(replace(FILE, size=0))


def test_a_damaged_file_is_downloaded_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SAMLET_OFFLINE")
    path = put(cache / "files" / DIGEST / "model.pt", CONTENT[::-1])
    with BadServer(CONTENT) as server:
        file = replace(FILE, url=server.url("good"))
        assert store.fetch(file) == path, "without a look inside"
        assert store.fetch(file, verify=True) == path
        assert len(server.asked) == 1
    assert store.read_verified(FILE) == CONTENT
    assert "is damaged" in caplog.text


class TestHuggingFaceCache:
    """A copy that other programs left there is used where it lies, if it is the right one."""

    @pytest.fixture(params=["XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
    def hub(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv(request.param, str(tmp_path / "there"))
        below = {"XDG_CACHE_HOME": "huggingface/hub", "HF_HOME": "hub"}.get(request.param, ".")
        return tmp_path / "there" / below

    def test_by_digest(self, hub: Path, cache: Path) -> None:
        path = put(hub / "models--someone--some-repo" / "blobs" / DIGEST)
        assert store.locate(FILE) == store.fetch(FILE) == path
        assert store.read_verified(FILE) == CONTENT
        assert not cache.exists()

    @pytest.mark.parametrize(
        ("repo", "folder"),
        [
            ("someone/some-repo", "models--someone--some-repo"),
            ("spaces/someone/some-repo", "spaces--someone--some-repo"),
            ("datasets/someone/some-repo", "datasets--someone--some-repo"),
        ],
    )
    def test_by_name(self, tmp_path: Path, repo: str, folder: str) -> None:
        root = tmp_path / "xdg" / "huggingface" / "hub" / folder / "snapshots"
        put(root / "0000" / "model.pt", CONTENT[::-1])
        path = put(root / "1111" / "deep" / "model.pt")
        assert store.fetch(replace(FILE, repo=repo)) == path
        assert store.read_verified(replace(FILE, repo=repo)) == CONTENT

    @pytest.mark.parametrize("data", [CONTENT[::-1], b"short"])
    def test_a_wrong_copy_is_not_used(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
    ) -> None:
        put(tmp_path / "xdg" / "huggingface" / "hub" / "models--someone--some-repo" / "blobs" / DIGEST, data)
        with pytest.raises(ModelError, match="SAMLET_OFFLINE is set"):
            store.read_verified(FILE)
        monkeypatch.delenv("SAMLET_OFFLINE")
        with BadServer(CONTENT) as server:
            file = replace(FILE, url=server.url("good"))
            assert store.read_verified(file) == CONTENT
            assert store.fetch(file) == cache / "files" / DIGEST / "model.pt"
            assert len(server.asked) == 1

    def test_only_if_the_card_names_a_repository(self, tmp_path: Path) -> None:
        put(tmp_path / "xdg" / "huggingface" / "hub" / "models--someone--some-repo" / "blobs" / DIGEST)
        with pytest.raises(ModelError, match="is not here"):
            store.locate(replace(FILE, repo=""))


class TestUnpublished:
    """A file whose digest nobody published is never downloaded, and remembered once it is used."""

    def test_the_message(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SAMLET_OFFLINE")
        with pytest.raises(ModelError) as caught:
            store.fetch(UNPUBLISHED)
        assert str(caught.value) == (
            "expected the model file model.pt, but samlet does not download it because nobody published its digest; "
            f"download {URL} by hand and give its path as the model, or put it at {cache}/by_hand/model.pt"
        )

    def test_put_there_by_hand(self, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = put(cache / "by_hand" / "model.pt")
        assert store.read_verified(UNPUBLISHED) == store.read_verified(UNPUBLISHED) == CONTENT
        assert json.loads((cache / "first_use.json").read_text()) == {str(path): DIGEST}
        assert caplog.records == []
        put(path, b"another")
        assert store.read_verified(UNPUBLISHED) == b"another"
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert re.search(
            f"model.pt is not the file it was when it was first used .sha256 {DIGEST[:12]}..., now ",
            caplog.text,
        )


class TestFirstUse:
    def test_a_change_is_told_once(
        self, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        told = [store.record_first_use(tmp_path / name, digest) for name, digest in
                [("a.pt", "1"), ("a.pt", "1"), ("b.pt", "2"), ("a.pt", "2"), ("a.pt", "2"), ("b.pt", "2")]]  # fmt: skip
        assert told == [False, False, False, True, False, False]
        assert len(caplog.records) == 1 and caplog.records[0].name == "samlet.store"

    @pytest.mark.parametrize("damage", ["", "{", "[1]", "null", '{"x": 1}', "[" * 100_000])
    def test_a_broken_record_is_begun_again(self, cache: Path, tmp_path: Path, damage: str) -> None:
        put(cache / "first_use.json", damage.encode())
        assert store.record_first_use(tmp_path / "a.pt", "1") is False
        assert store.record_first_use(tmp_path / "a.pt", "2") is True

    def test_it_does_not_grow_for_ever(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("samlet.store.first_use._MOST", 3)
        for name in "abcde":
            store.record_first_use(tmp_path / name, "1")
        assert [Path(name).name for name in json.loads((cache / "first_use.json").read_text())] == [
            "c",
            "d",
            "e",
        ]

    def test_a_cache_that_cannot_be_written_is_no_obstacle(self, cache: Path, tmp_path: Path) -> None:
        cache.write_text("in the way")
        assert store.record_first_use(tmp_path / "a.pt", "1") is False


class TestCopyTo:
    def test_a_copy(self, cache: Path, tmp_path: Path) -> None:
        put(cache / "by_hand" / "model.pt")
        path = store.copy_to(FILE, tmp_path / "usb" / "stick")
        assert path == tmp_path / "usb" / "stick" / "model.pt"
        before = path.stat().st_ino
        assert store.copy_to(FILE, tmp_path / "usb" / "stick").stat().st_ino == before, "right already"
        path.write_bytes(b"old")
        assert store.copy_to(FILE, path.parent).read_bytes() == CONTENT
        assert [entry.name for entry in path.parent.iterdir()] == ["model.pt"]

    def test_a_damaged_source(self, cache: Path, tmp_path: Path) -> None:
        put(cache / "files" / DIGEST / "model.pt", CONTENT[::-1])
        with pytest.raises(ChecksumError, match="the file is damaged, delete it to have it downloaded again"):
            store.copy_to(FILE, tmp_path / "usb")
        assert list((tmp_path / "usb").iterdir()) == []

    def test_a_folder_that_is_a_file(self, cache: Path, tmp_path: Path) -> None:
        put(cache / "by_hand" / "model.pt")
        put(tmp_path / "usb")
        with pytest.raises(OutputError, match=r"could not write .*model\.pt"):
            store.copy_to(FILE, tmp_path / "usb")


class TestHub:
    """Files that a user names in a repository of his own, through huggingface_hub."""

    def test_without_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(MissingExtraError, match=r"install it with pip install 'samlet\[hub\]'"):
            store.fetch_from_hub("someone/private", "best.pt")

    def test_with_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        asked: list[dict[str, Any]] = []

        def hf_hub_download(**arguments: Any) -> str:
            asked.append(arguments)
            if arguments["filename"] == "gone.pt":
                raise RuntimeError("404 Client Error\nEntry Not Found")
            return str(tmp_path / "best.pt")

        fake = types.ModuleType("huggingface_hub")
        monkeypatch.setattr(fake, "hf_hub_download", hf_hub_download, raising=False)
        monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
        assert store.fetch_from_hub("someone/private", "best.pt", "v1") == tmp_path / "best.pt"
        monkeypatch.delenv("SAMLET_OFFLINE")
        with pytest.raises(
            ModelError, match=r"repository someone/private, but it failed \(404 Client Error\); check"
        ):
            store.fetch_from_hub("someone/private", "gone.pt")
        common = {"repo_id": "someone/private"}
        assert asked == [
            {**common, "filename": "best.pt", "revision": "v1", "local_files_only": True},
            {**common, "filename": "gone.pt", "revision": None, "local_files_only": False},
        ]

    @pytest.mark.parametrize(
        ("reference", "parts"),
        [
            ("hf://a/b/c.pt", ("a/b", "c.pt", None)),
            ("hf://a/b@v1.0/d/c.pt", ("a/b", "d/c.pt", "v1.0")),
            ("hf://a/b", None),
            ("hf://a/b/", None),
            ("hf://a/b/../c.pt", None),
            ("hf://a/b/./c.pt", None),
            ("https://a/b/c.pt", None),
            ("hf://a/b/c d.pt", None),
            ("hf://a/b/c.pt\n", None),
        ],
    )
    def test_references(self, reference: str, parts: tuple[str, str, str | None] | None) -> None:
        if parts is not None:
            assert store.parse_reference(reference) == parts
            return
        with pytest.raises(InputError, match="expected a file as hf://owner/repository/file"):
            store.parse_reference(reference)
