"""Bringing onnxruntime-web into the cache: only the pinned files, whole, with their licence; and serving them."""

import hashlib
import io
import json
import subprocess
import tarfile

import pytest

from samlet.errors import ChecksumError, ModelError, OutputError
from samlet.server import web_runtime


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def contents(monkeypatch):
    """Three small files that stand for the real ones."""
    made = {name: f"// {name}".encode() for name in web_runtime.FILES}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
    monkeypatch.setattr(web_runtime, "FILES", digests)
    return made


def unpacked(folder, contents):
    (folder / "dist").mkdir(parents=True)
    for name, data in contents.items():
        (folder / "dist" / name).write_bytes(data)
    return folder


def packed(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", ["package", "node_modules", "project", "tgz"])
def test_every_form_of_the_package_is_taken(tmp_path, cache, contents, form):
    source = {
        "package": lambda: unpacked(tmp_path / "onnxruntime-web", contents),
        "node_modules": lambda: unpacked(tmp_path / "onnxruntime-web", contents).parent,
        "project": lambda: unpacked(tmp_path / "node_modules" / "onnxruntime-web", contents).parent.parent,
        "tgz": lambda: packed(tmp_path / "package.tgz", contents),
    }[form]()
    assert web_runtime.installed() is None and json.loads(web_runtime.facts()) == {}
    place = web_runtime.install(source)
    assert place == web_runtime.installed() == cache / "web" / f"onnxruntime-web-{web_runtime.VERSION}"
    assert {path.name for path in place.iterdir()} == {*contents, web_runtime.LICENCE}
    assert "MIT License" in (place / web_runtime.LICENCE).read_text("utf-8")
    assert json.loads(web_runtime.facts())["module"] == f"{web_runtime.VERSION}/{web_runtime.MODULE}"


def test_a_file_that_was_changed_later_is_not_used(tmp_path, contents):
    place = web_runtime.install(unpacked(tmp_path / "package", contents))
    (place / web_runtime.MODULE).write_bytes(b"evil()")
    assert web_runtime.installed() is None


@pytest.mark.parametrize("as_archive", [False, True])
def test_another_version_is_refused_and_nothing_is_written(tmp_path, cache, contents, as_archive):
    contents[web_runtime.MODULE] += b" "
    source = packed(tmp_path / "p.tgz", contents) if as_archive else unpacked(tmp_path / "package", contents)
    with pytest.raises(
        ChecksumError, match=r"expected ort.wasm.min.mjs of onnxruntime-web .*, got a file with other"
    ):
        web_runtime.install(source)
    assert not cache.exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "no archive", "half an archive", "lacks a file"])
def test_what_is_no_package_is_refused_in_one_sentence(tmp_path, contents, kind):
    source = tmp_path / "source"
    if kind == "empty":
        source.mkdir()
    elif kind == "no archive":
        source.write_bytes(b"hello")
    elif kind == "half an archive":
        packed(source, contents)
        source.write_bytes(source.read_bytes()[:100])
    elif kind == "lacks a file":
        packed(source, {web_runtime.MODULE: contents[web_runtime.MODULE]})
    with pytest.raises(ModelError, match=r"^expected the npm package onnxruntime-web in .*; run npm"):
        web_runtime.install(source)


def test_a_cache_that_cannot_be_written_is_told(tmp_path, cache, contents):
    cache.write_text("a file")
    with pytest.raises(OutputError, match="set SAMLET_CACHE"):
        web_runtime.install(unpacked(tmp_path / "package", contents))


def test_npm_is_asked_for_exactly_the_pinned_version(tmp_path, contents, monkeypatch):
    asked = []

    def npm(command, *, cwd, **_):
        asked.append(command[1:3])
        packed(f"{cwd}/onnxruntime-web-{web_runtime.VERSION}.tgz", contents)

    monkeypatch.setattr(web_runtime.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(web_runtime.subprocess, "run", npm)
    assert web_runtime.main([]) == 0
    assert asked == [["pack", f"onnxruntime-web@{web_runtime.VERSION}"]]
    assert web_runtime.installed() is not None


@pytest.mark.parametrize("there_is_npm", [False, True])
def test_without_npm_or_network_the_command_says_what_to_do(monkeypatch, capsys, there_is_npm):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr=b"npm error network no such host\nmore\n")

    monkeypatch.setattr(web_runtime.shutil, "which", lambda name: "/bin/npm" if there_is_npm else None)
    monkeypatch.setattr(web_runtime.subprocess, "run", fail)
    assert web_runtime.main([]) == 3
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("samlet: expected npm ")
    assert ("no such host" in told) == there_is_npm


def test_the_server_gives_the_files_their_types_and_nothing_else(tmp_path, contents):
    pytest.importorskip("fastapi", reason="needs samlet[server]")
    testclient = pytest.importorskip("fastapi.testclient", reason="needs httpx")
    from samlet.backends.fake import FakeBackend
    from samlet.model import load
    from samlet.server import Settings, create_app

    app = create_app({"nano": load("nano", backend=FakeBackend())}, Settings(hosts=()))
    with testclient.TestClient(app) as client:
        assert client.get("/runtime/runtime.json").json() == {}
        path = f"/runtime/{web_runtime.VERSION}"
        assert client.get(f"{path}/{web_runtime.MODULE}").status_code == 404
        web_runtime.install(unpacked(tmp_path / "package", contents))
        assert client.get("/runtime/runtime.json").json()["module"].endswith(web_runtime.MODULE)
        for name, kind in (
            (web_runtime.MODULE, "text/javascript"),
            ("ort-wasm-simd-threaded.wasm", "application/wasm"),
            (web_runtime.LICENCE, "text/plain"),
        ):
            answer = client.get(f"{path}/{name}")
            assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
            assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
            assert "immutable" in answer.headers["cache-control"]
        for wrong in (
            f"{path}/..%2f..%2ffirst_use.json",
            f"{path}/other.js",
            f"/runtime/9.9.9/{web_runtime.MODULE}",
        ):
            assert client.get(wrong).status_code == 404
