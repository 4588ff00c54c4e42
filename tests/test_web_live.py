"""The page with a camera, and as an app that works without network: Chromium's fake camera sees a film of ours."""

import functools
import http.server
import io
import json
import runpy
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet
from samlet.cli import main
from samlet.rle import rle_to_mask
from samlet.server import static_page
from samlet.server.settings import PAGE_POLICY
from tests.test_web_modules import WEB
from tests.test_web_screens import lowest_contrast
from tests.test_web_static import Plain
from tests.web_page import (
    Visitor,
    answer,
    browser,
    camera_flags,
    carried_along,
    film_frames,
    film_place,
    iou,
    live_view,
    moving,
    serving,
)

ICONS = Path(__file__).parent.parent / "docs" / "images" / "web-icons.py"
PHONE = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}
FILM_HW = (480, 640)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export as it comes: weights in float16, with the page."""
    pytest.importorskip("onnx", reason="needs samlet[export]")
    from samlet.server import web_runtime

    if web_runtime.installed() is None:
        pytest.skip("needs onnxruntime-web: python -m samlet.server.web_runtime")
    where = tmp_path_factory.mktemp("app")
    assert main(["export", "nano", "--format", "web", "--output", str(where)]) == 0
    return where


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """What the camera sees: a walk over a photograph."""
    path = tmp_path_factory.mktemp("film") / "walk.mjpeg"
    places = moving(Path(__file__).parent.parent / "samples" / "coffee.jpg", path, hw=FILM_HW, reach=0.15)
    return path, places


@pytest.fixture(scope="module")
def filming(film):
    with browser(*camera_flags(film[0])) as started:
        yield started


class Host:
    """A static host without any headers of its own, which can be switched off."""

    def __init__(self, folder):
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Plain, directory=str(folder))
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(30)


@pytest.fixture
def host(folder):
    made = Host(folder)
    yield made
    made.close()


def stage(visitor, name):
    return visitor.page.get_attribute("#live-stage", f"data-{name}")


def watch(visitor):
    visitor.page.click("#camera")
    visitor.page.wait_for_selector("#live-take:not([disabled])")


def box_on_screen(visitor, x0, y0, x1, y1):
    """Drag over shares of the picture that the camera shows."""
    place = visitor.page.locator("#live-stage").bounding_box()
    left, top, scale = (float(stage(visitor, name)) for name in ("left", "top", "scale"))
    border = 2

    def at(x, y):
        return (
            place["x"] + border + left + x * FILM_HW[1] * scale,
            place["y"] + border + top + y * FILM_HW[0] * scale,
        )

    visitor.page.mouse.move(*at(x0, y0))
    visitor.page.mouse.down()
    visitor.page.mouse.move(*at((x0 + x1) / 2, (y0 + y1) / 2))
    visitor.page.mouse.move(*at(x1, y1))
    visitor.page.mouse.up()


def painted_share(visitor, layer):
    """Share of a layer's pixels that are painted."""
    return visitor.page.evaluate(
        """(id) => {
          const canvas = document.getElementById(id);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let count = 0;
          for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
          return count / (data.length / 4);
        }""",
        layer,
    )


def test_the_export_as_it_comes_answers_as_the_library_does(filming, host, sample):
    guest = Visitor(filming, host.url).visit(local=True)
    guest.open_file(sample("coffee"), local=True)
    guest.drag(170, 15, 415, 310)
    model = samlet.load()
    mine = rle_to_mask(json.loads(guest.save("coco")[1])["annotations"][0]["segmentation"])
    assert iou(mine, answer(guest, model, model.embed(sample("coffee")), boxes=[(170, 15, 415, 310)])) > 0.97
    guest.close()


def test_what_is_boxed_is_followed_and_a_picture_can_be_taken(filming, film, host):
    guest = Visitor(filming, host.url).visit(local=True)
    watch(guest)
    assert stage(guest, "state") == "looking" and painted_share(guest, "live-masks") == 0
    place = guest.page.locator("#live-stage").bounding_box()
    guest.page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    guest.page.wait_for_selector('#live-stage[data-preview]:not([data-preview=""])')
    box_on_screen(guest, 0.18, 0.01, 0.78, 0.86)  # round the cup, wherever the film is
    guest.page.wait_for_selector("#live-stage[data-state=following]")
    path, places = film
    frames = film_frames(path)
    (start, first), *later = (live_view(guest) for _ in range(4))
    assert 0.3 < first.mean() < 0.55
    for picture, mask in later:  # the cup wanders, and it still has it
        truth, counts = carried_along(
            first, places[film_place(start, frames)], places[film_place(picture, frames)]
        )
        assert iou(mask & counts, truth & counts) > 0.7
    assert stage(guest, "state") == "following"
    words = guest.page.inner_text("#live-rate")
    assert "frames/s" in words and "following" in words and float(words.split()[0]) > 0
    guest.page.click("#live-let-go")
    guest.page.wait_for_selector("#live-stage[data-state=looking]")
    guest.page.press("#live-stage", "Enter")  # without a mouse: what is in the middle
    guest.page.wait_for_selector("#live-stage:is([data-state=following], [data-state=lost])")
    guest.page.click("#live-take")
    guest.wait_until_ready(local=True)
    assert guest.status.startswith("camera.jpg: 640 by 480 pixels")
    assert not guest.page.is_visible("#live")
    assert guest.page.evaluate("document.querySelectorAll('video').length") == 0
    guest.close()


def test_a_server_gives_the_page_what_it_needs_to_be_live(filming, runtime):
    runtime()
    with serving(samlet.load()) as url:
        guest = Visitor(filming, url).visit(local=True)
        asked = []
        guest.page.on(
            "request", lambda request: asked.append((request.method, request.url.removeprefix(url)))
        )
        watch(guest)
        assert guest.page.evaluate("crossOriginIsolated")
        assert ("GET", "v1/models/nano/encoder.bin") in asked
        assert not any(method == "POST" for method, _ in asked)  # no frame goes to the server
        guest.page.click("#live-stop")
        assert guest.page.is_visible("#start") and not guest.page.is_visible("#live")
        guest.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_camera_on_a_phone_fits_and_can_be_read(filming, host, scheme):
    guest = Visitor(filming, host.url, color_scheme=scheme, **PHONE).visit(local=True)
    guest.page.tap("#camera")
    guest.page.wait_for_selector("#live-take:not([disabled])")
    assert guest.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert lowest_contrast(guest.page) >= 4.5
    place = guest.page.locator("#live-stage").bounding_box()
    guest.page.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    guest.page.wait_for_selector("#live-stage:is([data-state=following], [data-state=lost])")
    guest.page.tap("#live-stop")  # Chromium's fake camera opens no second time while it still runs
    assert guest.page.is_visible("#start")
    guest.close()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("NotAllowedError", "The camera was not allowed; allow it for this page in the browser's settings."),
        ("NotFoundError", "There is no camera here; connect one, or open a file."),
        ("NotReadableError", "The camera is in use by another program; close that first."),
        (
            None,
            "A browser gives the camera to secure pages only; open this one by https, as samlet serve --tls has it.",
        ),
    ],
)
def test_a_camera_that_cannot_be_had_is_told_in_one_sentence(filming, host, fault, sentence):
    guest = Visitor(filming, host.url)
    given = "undefined" if fault is None else (
        f"{{ getUserMedia: () => Promise.reject(new DOMException('no', '{fault}')) }}"
    )  # fmt: skip
    guest.page.add_init_script(f"Object.defineProperty(navigator, 'mediaDevices', {{ value: {given} }})")
    guest.visit(local=True)
    guest.page.click("#camera")
    guest.page.wait_for_selector("#alert:not([hidden])")
    assert guest.alert.startswith(sentence)
    assert guest.page.is_visible("#start")
    guest.close()


def test_it_is_an_app_that_works_without_network(filming, host, sample):
    guest = Visitor(filming, host.url, service_workers="allow").visit(local=True)
    assert not guest.page.evaluate("crossOriginIsolated")  # the host sends no headers
    guest.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    session = guest.context.new_cdp_session(guest.page)
    assert session.send("Page.getAppManifest")["errors"] == []
    assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] in (
        [],
        [{"errorId": "in-incognito", "errorArguments": []}],  # Playwright's contexts are
    )
    host.close()
    guest.context.set_offline(True)
    guest.page.reload()
    assert guest.page.evaluate("crossOriginIsolated")  # its own service worker does
    guest.open_file(sample("coffee"), local=True)
    guest.drag(170, 15, 415, 310)
    assert guest.objects == 1 and "in this browser" in guest.status
    guest.context.set_offline(False)
    guest.close()


def test_all_files_are_kept_and_another_export_is_another_version(folder, tmp_path):
    def facts(where):
        lines = (where / "service-worker.js").read_text("utf-8").splitlines()
        found = {
            name: next(line for line in lines if line.startswith(f"const {name} ="))
            for name in ("VERSION", "FILES")
        }
        return found["VERSION"].split('"')[1], json.loads(found["FILES"].split("=", 1)[1].strip(" ;"))

    version, names = facts(folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(names) == there - {"service-worker.js"} and len(version) == 16
    for content in ("{}", '{"another": 1}'):
        (tmp_path / "manifest.json").write_text(content)
        static_page.write_static(tmp_path)
        assert facts(tmp_path)[0] != version
        version = facts(tmp_path)[0]
    assert f'http-equiv="Content-Security-Policy" content="{PAGE_POLICY}"' in (
        folder / "index.html"
    ).read_text("utf-8")
    assert "unsafe-inline" not in PAGE_POLICY and "http" not in PAGE_POLICY


def test_the_icons_are_those_drawn_and_of_the_sizes_named():
    drawn = runpy.run_path(str(ICONS))["ICONS"]
    manifest = json.loads((WEB / "app.webmanifest").read_text("utf-8"))
    assert {icon["src"] for icon in manifest["icons"]} == {*drawn, "favicon.svg"}
    for icon in manifest["icons"]:
        data = (WEB / icon["src"]).read_bytes()
        if icon["src"] == "favicon.svg":
            continue
        with PillowImage.open(io.BytesIO(data)) as opened:
            assert "x".join(map(str, opened.size)) == icon["sizes"]
            there = np.asarray(opened.convert("RGBA"), int)
        wanted = np.asarray(drawn[icon["src"]], int)
        assert np.abs(there - wanted)[wanted[..., 3] > 250].mean() < 4  # 64 colours are kept of it
