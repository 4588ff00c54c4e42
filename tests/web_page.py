"""A visitor of the web page: headless Chromium from the system, driven by Playwright, on a server in this process."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import samlet

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000  # of a loaded machine; nothing here waits so long when it works


def chromium() -> str:
    """Find the browser, or skip."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    found = os.environ.get("SAMLET_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("needs Chromium: apt install chromium, or set SAMLET_CHROMIUM to one")
    return found


def moving(
    photo: Path, target: Path, *, hw=(480, 640), frames=48, zoom=1.25, reach=0.4
) -> list[tuple[int, int]]:
    """Write what a camera sees that wanders over a photograph, as JPEGs in a row, which is what Chromium takes.

    `reach` is how far it goes, as a share of what lies beyond the frame.
    Gives the place of each frame's corner in the photograph, enlarged to the height of the frames.
    """
    from PIL import Image

    with Image.open(photo) as opened:
        large = opened.convert("RGB")
    scale = zoom * max(hw[0] / large.height, hw[1] / large.width)
    large = large.resize((round(large.width * scale), round(large.height * scale)))
    spare = large.width - hw[1], large.height - hw[0]
    places = []
    with target.open("wb") as file:
        for turn in np.linspace(0, 2 * np.pi, frames, endpoint=False):
            x, y = (
                round(side * (0.5 + reach * part))
                for side, part in zip(spare, (np.sin(turn), np.cos(turn)), strict=True)
            )
            large.crop((x, y, x + hw[1], y + hw[0])).save(file, "JPEG", quality=90)
            places.append((x, y))
    return places


def film_frames(film: Path) -> list[np.ndarray]:
    """Read the frames that `moving` wrote: (H, W, 3) each."""
    from io import BytesIO

    from PIL import Image

    begin = b"\xff\xd8\xff\xe0"
    return [np.asarray(Image.open(BytesIO(begin + part))) for part in film.read_bytes().split(begin)[1:]]


def live_view(visitor: "Visitor", *, after: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Wait for some more frames, and take what the camera's stage shows at one moment.

    Gives the picture (H, W, 3) and what is painted over it (H, W), in the frame's pixels.
    """
    before = int(visitor.page.get_attribute("#live-stage", "data-frames"))
    picture, bits, hw = visitor.page.evaluate(
        """async (wanted) => {
          const stage = document.getElementById("live-stage");
          const next = () => new Promise((done) => requestAnimationFrame(done));
          while (Number(stage.dataset.frames) < wanted) await next();
          await next();  // a layer is painted in a frame of the screen; all of them in the same one
          const { scale, left, top } = stage.dataset;
          const layer = (id) => {
            const canvas = document.getElementById(id);
            return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          };
          const [picture, masks] = [layer("live-picture"), layer("live-masks")];
          const dense = picture.width / document.getElementById("live-picture").clientWidth;
          const [height, width] = [480, 640];
          const [colours, painted] = [[], []];
          for (let y = 0; y < height; y += 4) {
            for (let x = 0; x < width; x += 4) {
              const column = Math.floor(((x + 2) * scale + Number(left)) * dense);
              const at = 4 * (Math.floor(((y + 2) * scale + Number(top)) * dense) * picture.width + column);
              colours.push(picture.data[at], picture.data[at + 1], picture.data[at + 2]);
              painted.push(masks.data[at + 3] > 0 ? 1 : 0);
            }
          }
          return [colours, painted, [height / 4, width / 4]];
        }""",
        before + after,
    )
    return np.array(picture, float).reshape(*hw, 3), np.array(bits, bool).reshape(hw)


def film_place(picture: np.ndarray, frames: list[np.ndarray]) -> int:
    """Tell which frame of a film `live_view` saw."""
    return int(np.argmin([np.abs(picture - frame[2::4, 2::4]).mean() for frame in frames]))


def carried_along(
    mask: np.ndarray, before: tuple, now: tuple, *, pixels: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Move a mask, which has one cell for so many pixels, as the film moves between two places of its corner.

    Gives it, and what was in sight both times.
    """
    x, y = (round((there - here) / pixels) for there, here in zip(before, now, strict=True))
    both = []
    for layer in (mask, np.ones_like(mask)):
        moved = np.zeros_like(layer)
        height, width = layer.shape
        moved[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)] = layer[
            max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)
        ]
        both.append(moved)
    return both[0], both[1]


def camera_flags(film: Path) -> list[str]:
    """Let Chromium take a film for its camera, without asking anybody."""
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]


@contextmanager
def browser(*flags: str) -> Iterator[object]:
    """Start the browser."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield started
        started.close()


class Visitor:
    """One browser context on the page, with the few things that a person does there."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(
            **{
                "viewport": {"width": 1200, "height": 800},
                "accept_downloads": True,
                "service_workers": "block",  # what one test keeps is not for the next
            }
            | options
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.url, self.faults, self.strangers = url, [], []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request):
        parts, home = urlsplit(request.url), urlsplit(self.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != home.netloc:
            self.strangers.append(request.url)

    def close(self):
        self.context.close()
        assert self.faults == []
        assert self.strangers == []  # the page never asks another host for anything

    def visit(self, *, local=False):
        """Open the page; without `local` it is told that there is no onnxruntime-web."""
        if not local:
            self.page.route("**/runtime/runtime.json", lambda route: route.fulfill(json={}))
        self.page.goto(self.url)
        return self

    def open_file(self, path, *, local=False):
        self.page.set_input_files("#file", path)
        self.wait_until_ready(local=local)

    def wait_until_ready(self, *, local=False):
        self.page.wait_for_selector("#stage[data-ready=true]")
        if local:
            self.page.wait_for_selector("#stage[data-where=browser]")

    def spot(self, x, y):
        """Where a place of the picture is on the screen."""
        left, top, scale = self._frame()
        return left + x * scale, top + y * scale

    def at(self, x, y):
        """The same, to the whole pixel that a mouse can hit."""
        across, down = self.spot(x, y)
        return round(across), round(down)

    def hit(self, x, y):
        """The place of the picture that a click on (x, y) really hits."""
        left, top, scale = self._frame()
        across, down = self.at(x, y)
        return (across - left) / scale, (down - top) / scale

    def _frame(self):
        box = self.page.locator("#stage").bounding_box()
        left, top, scale = (
            float(self.page.get_attribute("#stage", f"data-{name}")) for name in ("left", "top", "scale")
        )
        border = 2  # CSS pixels; the stage's own
        return box["x"] + border + left, box["y"] + border + top, scale

    def click(self, x, y, *, shift=False, button="left"):
        if shift:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(*self.at(x, y), button=button)
        if shift:
            self.page.keyboard.up("Shift")
        self.settle()

    def drag(self, x0, y0, x1, y1):
        self.page.mouse.move(*self.at(x0, y0))
        self.page.mouse.down()
        self.page.mouse.move(*self.at((x0 + x1) / 2, (y0 + y1) / 2))
        self.page.mouse.move(*self.at(x1, y1))
        self.page.mouse.up()
        self.settle()

    def settle(self):
        """Wait until no answer is on its way, and what came is painted."""
        self.page.wait_for_selector("#objects:not(:has([aria-busy=true]))", state="attached")
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    @property
    def status(self):
        return self.page.inner_text("#status")

    @property
    def alert(self):
        return self.page.inner_text("#alert") if self.page.is_visible("#alert") else ""

    @property
    def objects(self):
        return int(self.page.get_attribute("#work", "data-objects"))

    def painted(self, image_hw, layer="masks"):
        """Tell for each pixel of the picture whether something is painted over its centre: (H, W) bool."""
        bits = self.page.evaluate(
            """([layer, height, width]) => {
              const { scale, left, top } = document.querySelector("#stage").dataset;
              const canvas = document.getElementById(layer);
              const dense = canvas.width / canvas.clientWidth;
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              const place = (value, shift) => Math.floor(((value + 0.5) * scale + Number(shift)) * dense);
              const rows = [];
              for (let y = 0; y < height; y++) {
                const row = place(y, top) * canvas.width;
                let text = "";
                for (let x = 0; x < width; x++) text += data[4 * (row + place(x, left)) + 3] ? "1" : "0";
                rows.push(text);
              }
              return rows;
            }""",
            [layer, *image_hw],
        )
        return np.array([list(row) for row in bits]) == "1"

    def save(self, kind):
        """Click a button under Save; gives name and bytes of the file."""
        with self.page.expect_download() as waiting:
            self.page.click(f"[data-save={kind}]")
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def agrees(painted, mask, *, margin=3):
    """Compare what is painted with a mask away from its border, which the outline covers: (share inside, outside)."""
    sure_in, sure_out = mask.copy(), ~mask
    for _ in range(margin):
        sure_in, sure_out = _shrunk(sure_in), _shrunk(sure_out)
    assert sure_in.any() and sure_out.any()
    return painted[sure_in].mean(), painted[sure_out].mean()


def _shrunk(mask):
    padded = np.pad(mask, 1, mode="edge")
    return padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def iou(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


@contextmanager
def serving(model, settings=None) -> Iterator[str]:
    """Serve a model on a free port of this machine; gives the page's address."""
    pytest.importorskip("fastapi", reason="needs samlet[server]")
    uvicorn = pytest.importorskip("uvicorn", reason="needs samlet[server]")
    from samlet.server import create_app

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app({model.card.name: model}, settings), log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(30)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def web_model():
    """The built-in model, as the page's server has it."""
    return samlet.load()


@pytest.fixture(scope="module")
def chrome():
    """The browser; for a module only, because a running Playwright leaves no room for other event loops."""
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def page_url(chrome, web_model):
    """The address of the page, from a server in this process."""
    with serving(web_model) as address:
        yield address


@pytest.fixture
def visitor(chrome, page_url, request):
    """A visitor who has not yet opened the page; parametrize indirectly with options of a browser context."""
    guest = Visitor(chrome, page_url, **getattr(request, "param", {}))
    yield guest
    guest.close()


@pytest.fixture
def coffee(visitor, sample):
    """A visitor with coffee.jpg open, whose masks the server makes."""
    visitor.visit().open_file(sample("coffee"))
    return visitor


@pytest.fixture
def runtime():
    """Give the folder of onnxruntime-web when called, or skip the test."""

    def found():
        from samlet.server import web_runtime

        place = web_runtime.installed()
        if place is None:
            pytest.skip("needs onnxruntime-web: python -m samlet.server.web_runtime")
        return place

    return found


def answer(visitor, model, view, **prompt):
    """The library's mask for what the visitor's hand really hits."""
    if "points" in prompt:
        prompt["points"] = [visitor.hit(*point) for point in prompt["points"]]
    if "boxes" in prompt:
        prompt["boxes"] = [[*visitor.hit(*box[:2]), *visitor.hit(*box[2:])] for box in prompt["boxes"]]
    return model.segment(view, **prompt).masks[0]


def assert_painted(visitor, mask, *, margin=3):
    inside, outside = agrees(visitor.painted(mask.shape), mask, margin=margin)
    assert inside > 0.999
    assert outside < 0.001
