"""Take the pictures of docs/how-to/web-page.md: python docs/images/web-page.py (needs what tests/web_page.py needs)."""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.web_page import Visitor, browser, camera_flags, moving, serving  # noqa: E402

import samlet  # noqa: E402  the line above finds the tests

SAMPLES = HERE.parent.parent / "samples"
PHONE = {
    "viewport": {"width": 390, "height": 780},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def shoot(visitor, name):
    """Save what the visitor sees."""
    visitor.settle()
    visitor.page.screenshot(path=HERE / f"web-page-{name}.jpg", type="jpeg", quality=82)


def named(visitor, name):
    """Name the newest object."""
    field = visitor.page.locator("[data-part=name]").last
    field.fill(name)
    field.press("Enter")
    visitor.page.focus("#stage")


def start(chrome, url):
    """The page before a picture is there."""
    visitor = Visitor(chrome, url, viewport={"width": 1200, "height": 760}).visit()
    visitor.page.wait_for_load_state("networkidle")
    shoot(visitor, "start")
    visitor.close()


def objects(chrome, url):
    """Three objects, and a preview of a fourth."""
    visitor = Visitor(chrome, url, viewport={"width": 1200, "height": 760}).visit(local=True)
    visitor.open_file(SAMPLES / "astronaut.jpg", local=True)
    for name, box in (
        ("astronaut", (15, 10, 370, 512)),
        ("helmet", (330, 335, 480, 512)),
        ("shuttle", (392, 48, 470, 250)),
    ):
        visitor.drag(*box)
        if name == "astronaut":
            for flag in ((20, 30), (20, 250), (40, 200)):
                visitor.click(*flag, shift=True)
            visitor.page.keyboard.press("n")
        named(visitor, name)
    visitor.page.keyboard.press("n")
    visitor.page.mouse.move(*visitor.at(60, 150))
    visitor.page.wait_for_selector('#stage:not([data-preview=""])')
    shoot(visitor, "objects")
    visitor.close()


def everything(chrome, url):
    """All that was found, with one thing under the pointer, in the dark."""
    visitor = Visitor(chrome, url, viewport={"width": 1200, "height": 760}, color_scheme="dark").visit()
    visitor.open_file(SAMPLES / "coffee.jpg")
    visitor.page.click("#everything")
    visitor.page.wait_for_selector("#picking:not([hidden])")
    visitor.page.mouse.move(*visitor.at(362, 283))
    shoot(visitor, "everything")
    visitor.close()


def phone(chrome, url):
    """A tap on a phone."""
    visitor = Visitor(chrome, url, **PHONE).visit(local=True)
    visitor.open_file(SAMPLES / "chelsea.jpg", local=True)
    visitor.page.touchscreen.tap(*visitor.at(230, 150))
    shoot(visitor, "phone")
    visitor.close()


def camera(name, **options):
    """The camera at work, with the mask under the pointer."""
    with tempfile.TemporaryDirectory() as scratch:
        film = Path(scratch) / "walk.mjpeg"
        moving(SAMPLES / "coffee.jpg", film, zoom=1.06)
        with browser(*camera_flags(film)) as chrome, serving(samlet.load()) as url:
            visitor = Visitor(chrome, url, **options).visit(local=True)
            visitor.page.click("#camera")
            visitor.page.wait_for_selector("#live-take:not([disabled])")
            box = visitor.page.locator("#live-stage").bounding_box()
            left, top, scale = (
                float(visitor.page.get_attribute("#live-stage", f"data-{what}"))
                for what in ("left", "top", "scale")
            )
            # The wall of the cup, which stays there wherever the film wanders.
            visitor.page.mouse.move(box["x"] + 2 + left + 325 * scale, box["y"] + 2 + top + 260 * scale)
            visitor.page.wait_for_selector('#live-stage[data-preview]:not([data-preview=""])')
            visitor.page.wait_for_timeout(4000)
            shoot(visitor, name)
            visitor.close()


if __name__ == "__main__":
    camera("camera", viewport={"width": 1200, "height": 760})
    with browser() as chrome, serving(samlet.load()) as url:
        for scene in (start, objects, everything, phone):
            scene(chrome, url)
