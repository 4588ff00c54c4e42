"""The page without a server: `samlet export --format web` gives a folder that any static host can serve."""

import functools
import http.server
import json
import threading
import typing

import numpy as np
import pytest

import samlet
from samlet.cli import main
from samlet.errors import ModelError
from samlet.rle import rle_to_mask
from samlet.server import static_page
from tests.web_page import Visitor, answer, iou

BOX = (170, 15, 415, 310)


class Plain(http.server.SimpleHTTPRequestHandler):
    """As `python -m http.server`: no headers that isolate the page, so no threads in it."""

    asked: typing.ClassVar = []

    def log_message(self, *_):
        self.asked.append(self.command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export with a page; weights in float32, so that its masks are the library's."""
    pytest.importorskip("onnx", reason="needs samlet[export]")
    from samlet.server import web_runtime

    if web_runtime.installed() is None:
        pytest.skip("needs onnxruntime-web: python -m samlet.server.web_runtime")
    where = tmp_path_factory.mktemp("page")
    words = ["export", "nano", "--format", "web", "--weights", "float32", "--output", str(where)]
    assert main(words) == 0
    return where


@pytest.fixture
def static(chrome, folder):
    handler = functools.partial(Plain, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    guest = Visitor(chrome, f"http://127.0.0.1:{server.server_port}/")
    yield guest.visit(local=True)
    guest.close()
    server.shutdown()
    server.server_close()
    thread.join(30)


def test_a_folder_encodes_and_decodes_in_the_browser(static, sample):
    Plain.asked.clear()
    static.open_file(sample("coffee"), local=True)
    assert "looked at in" in static.status
    static.drag(*BOX)
    assert "in this browser" in static.status
    model = samlet.load()
    mine = rle_to_mask(json.loads(static.save("coco")[1])["annotations"][0]["segmentation"])
    # The photo itself differs a little: browsers and Pillow decode JPEG in their own ways.
    assert iou(mine, answer(static, model, model.embed(sample("coffee")), boxes=[BOX])) > 0.97
    assert set(Plain.asked) == {"GET"}  # nothing was sent
    static.page.click("#everything")
    static.page.wait_for_selector("#picking:not([hidden])")
    assert "things in " in static.status
    static.page.keyboard.press("a")
    assert static.objects > 4
    static.page.fill("#text", "a cup")
    static.page.press("#text", "Enter")
    static.page.wait_for_selector("#alert:not([hidden])")
    assert static.alert.startswith("Finding by words needs samlet serve")


def test_a_broken_export_is_told_in_one_sentence(static, folder, sample):
    manifest = folder / "manifest.json"
    content = manifest.read_text("utf-8")
    try:
        manifest.write_text(json.dumps({**json.loads(content), "version": 99}), "utf-8")
        static.page.reload()
        static.page.wait_for_selector("#alert:not([hidden])")
        assert static.page.inner_text("#alert-text") == (
            "The model beside this page is of another version; export the page again."
        )
    finally:
        manifest.write_text(content, "utf-8")


def test_files_that_the_page_needs_are_all_there(folder):
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert all((folder / name).stat().st_size == facts["size"] for name, facts in manifest["files"].items())
    facts = json.loads((folder / "runtime" / "runtime.json").read_text("utf-8"))
    assert (folder / "runtime" / facts["module"]).is_file()
    assert 'content="browser"' in (folder / "index.html").read_text("utf-8")
    assert np.all(
        [(folder / f"examples/{name}.jpg").is_file() for name in ("coffee", "chelsea", "astronaut")]
    )


def test_without_a_model_or_a_runtime_there_is_no_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=r"found no manifest\.json"):
        static_page.write_static(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match=r"run python -m samlet\.server\.web_runtime"):
        static_page.write_static(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_the_export_says_when_it_goes_without_a_page(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx", reason="needs samlet[export]")
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "empty"))
    assert main(["export", "nano", "--format", "web", "--output", str(tmp_path / "out")]) == 0
    assert "no page beside it: onnxruntime-web is not in samlet's cache" in capsys.readouterr().out
    assert not (tmp_path / "out" / "index.html").exists()
