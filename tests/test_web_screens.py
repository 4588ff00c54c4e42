"""The page for everybody: without a mouse, on a phone, in the dark, with a screen reader, and when things go wrong."""

import json

import pytest

from samlet.server.settings import Settings
from tests.web_page import Visitor, answer, assert_painted, serving

CUP = (280, 60)
PHONE = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True,
}  # fmt: skip


def test_the_keyboard_alone_is_enough(visitor, web_model, sample):
    page = visitor.visit().page
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Coffee":
            break
    assert outline_width(page) >= 2  # where the focus is can be seen
    page.keyboard.press("Enter")
    visitor.wait_until_ready()
    assert page.evaluate("document.activeElement.id") == "stage"
    page.keyboard.press("ArrowUp")  # a cross appears in the middle, and moves
    assert "Cross at 300, " in visitor.status
    for _ in range(3):
        page.keyboard.press("Shift+ArrowLeft")
    where = [float(part.strip()) for part in visitor.status.split("at ")[1].split(" of")[0].split(",")]
    assert where[0] == 297
    page.keyboard.press("Enter")
    visitor.settle()
    assert visitor.objects == 1 and visitor.status.startswith("Cut out in ")
    first = visitor.painted((400, 600))
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Enter")
    visitor.settle()
    assert (visitor.painted((400, 600)) != first).any()
    page.keyboard.press("Backspace")  # the last click goes
    visitor.settle()
    assert (visitor.painted((400, 600)) == first).all()
    page.keyboard.press("n")
    page.keyboard.press("b")
    for key in ("ArrowRight", "ArrowDown"):
        for _ in range(6):
            page.keyboard.press(key)
    page.keyboard.press("b")
    visitor.settle()
    assert visitor.objects == 2
    page.keyboard.press("1")
    page.keyboard.press("Delete")
    assert visitor.objects == 1
    with page.expect_download() as waiting:
        page.keyboard.press("Control+s")
    assert waiting.value.suggested_filename == "coffee.cutout.png"
    page.keyboard.press("?")
    assert page.is_visible("#help-dialog")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help-dialog")


def outline_width(page):
    return float(page.evaluate("getComputedStyle(document.activeElement).outlineWidth").removesuffix("px"))


def test_single_letters_can_be_switched_off_and_fields_keep_theirs(coffee):
    page = coffee.page
    coffee.drag(170, 15, 415, 310)
    field = page.locator("[data-part=name]")
    field.fill("")
    field.press_sequentially("rhx")  # shortcuts elsewhere
    field.press("Enter")
    assert field.input_value() == "rhx"
    assert page.get_attribute("#stage", "data-tool") == "select"
    page.click("#help")
    page.uncheck("#letters")
    page.keyboard.press("Escape")
    page.focus("#stage")
    page.keyboard.press("r")
    assert page.get_attribute("#stage", "data-tool") == "select"
    page.keyboard.press("Control+z")
    assert field.input_value() == "Object 1"


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_a_phone_sees_all_of_it_and_fingers_do_what_they_mean(visitor, web_model, sample):
    page = visitor.visit().page
    assert overflow(page) <= 0
    visitor.open_file(sample("coffee"))
    assert overflow(page) <= 0
    for target in ("#stage", "#tools", "#objects", "#new-object"):
        assert page.locator(target).first.is_visible()
    for button in page.locator("#tools button:visible").all():
        box = button.bounding_box()
        assert box["width"] >= 40 and box["height"] >= 40  # large enough for a finger
        assert 0 <= box["x"] and box["x"] + box["width"] <= 390
    page.touchscreen.tap(*visitor.at(*CUP))
    visitor.settle()
    view = web_model.embed(sample("coffee"))
    assert_painted(
        visitor, answer(visitor, web_model, view, points=[CUP]), margin=6
    )  # the outline is as wide as ever
    page.tap("[data-sign=remove]")
    page.touchscreen.tap(*visitor.at(150, 200))
    visitor.settle()
    assert_painted(
        visitor, answer(visitor, web_model, view, points=[CUP, (150, 200)], labels=[1, 0]), margin=6
    )
    pinch(visitor, CUP, 40, 100)
    assert float(page.get_attribute("#stage", "data-scale")) > 1
    assert visitor.objects == 1  # two fingers make no prompt
    save = page.locator("[data-save=svg]")
    save.scroll_into_view_if_needed()
    assert visitor.save("svg")[0] == "coffee.svg"


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def pinch(visitor, place, near, far):
    """Two fingers on either side of a place, moving apart."""
    tool = visitor.context.new_cdp_session(visitor.page)
    x, y = visitor.at(*place)
    for kind, apart in (("touchStart", near), ("touchMove", (near + far) / 2), ("touchMove", far)):
        fingers = [{"x": x - apart / 2, "y": y, "id": 0}, {"x": x + apart / 2, "y": y, "id": 1}]
        tool.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    tool.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    visitor.settle()


@pytest.mark.parametrize("visitor", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True)
def test_light_and_dark_follow_the_system_until_chosen_and_text_can_be_read(visitor, sample):
    page = visitor.visit().page
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (brightness(page) < 60) == is_dark
    assert lowest_contrast(page) >= 4.5
    visitor.open_file(sample("coffee"))
    visitor.drag(170, 15, 415, 310)
    assert lowest_contrast(page) >= 4.5
    page.click("#theme")
    assert (brightness(page) < 60) != is_dark
    assert lowest_contrast(page) >= 4.5


def brightness(page):
    numbers = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    return sum(numbers[:3]) / 3


def lowest_contrast(page):
    """The lowest contrast between a visible, enabled text and what lies behind it, by WCAG's formula."""
    return page.evaluate(
        """() => {
          const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
          const light = ([r, g, b]) => {
            const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
            return 0.2126 * x + 0.7152 * y + 0.0722 * z;
          };
          const behind = (element) => {
            for (let at = element; at; at = at.parentElement) {
              const colour = channels(getComputedStyle(at).backgroundColor);
              if (colour.length === 3 || colour[3] === 1) return colour;
            }
            return [255, 255, 255];
          };
          let lowest = 21;
          for (const element of document.querySelectorAll("body *")) {
            const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
            if (!own || !element.checkVisibility() || element.closest(":disabled, .unseen, .skip")) continue;
            const [a, b] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
            lowest = Math.min(lowest, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
          }
          return lowest;
        }"""
    )


def test_a_screen_reader_finds_a_name_for_everything(coffee):
    coffee.drag(170, 15, 415, 310)
    nameless = coffee.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role], canvas")].filter((one) => {
          if (one.matches("canvas")) return one.getAttribute("aria-hidden") !== "true";
          if (!one.checkVisibility() || one.matches("[role=status], [role=alert]")) return false;
          const label = one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent ?? one.textContent;
          return !label.trim();
        }).map((one) => one.outerHTML)"""
    )
    assert nameless == []
    status, stage = coffee.page.locator("#status"), coffee.page.locator("#stage")
    assert status.get_attribute("aria-live") == "polite"
    assert stage.get_attribute("aria-label") == "Picture coffee.jpg"
    for role, name in (("button", "Undo"), ("button", "Choose Object 1"), ("textbox", "By words")):
        assert coffee.page.get_by_role(role, name=name).count() == 1
    assert coffee.page.get_attribute("html", "lang") == "en"


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        (b"not a picture", "x.png", "This browser cannot show that file; choose a JPEG, PNG or WebP."),
        (b"hello", "x.txt", "Expected a picture, got x.txt; choose a JPEG, PNG or WebP."),
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(visitor, tmp_path, content, name, sentence):
    (tmp_path / name).write_bytes(content)
    visitor.visit().page.set_input_files("#file", tmp_path / name)
    visitor.page.wait_for_selector("#alert:not([hidden])")
    assert visitor.page.inner_text("#alert-text") == sentence
    assert visitor.page.is_visible("#start")


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (413, {"error": "expected at most 32 MiB, got more; scale it down", "id": "1"},
         "Expected at most 32 MiB, got more; scale it down."),
        (429, None, "The server is busy; try again in a moment."),
        (502, None, "The server answered with status 502; try again, or look at its log."),
        (None, None, "The server cannot be reached; is samlet serve still running?"),
    ],
)  # fmt: skip
def test_a_servers_refusal_is_told_in_its_own_sentence(visitor, sample, status, body, sentence):
    visitor.visit()

    def refuse(route):
        if status is None:
            route.abort()
        else:
            route.fulfill(status=status, body="<h1>no</h1>" if body is None else json.dumps(body))

    visitor.page.route("**/v1/embeddings?*", refuse)
    visitor.page.set_input_files("#file", sample("coffee"))
    visitor.page.wait_for_selector("#alert:not([hidden])")
    assert visitor.page.inner_text("#alert-text") == sentence
    assert visitor.page.is_visible("#start")  # one can go on at once
    visitor.page.unroute("**/v1/embeddings?*")
    visitor.open_file(sample("coffee"))
    assert visitor.alert == ""


def test_a_click_that_fails_is_taken_back(coffee):
    coffee.page.route("**/segment", lambda route: route.abort())
    coffee.click(*CUP)
    assert coffee.page.inner_text("#alert-text").startswith("The server cannot be reached")
    assert coffee.objects == 0
    assert coffee.page.is_disabled("[data-do=redo]")
    coffee.page.unroute("**/segment")
    coffee.click(*CUP)
    assert coffee.objects == 1 and coffee.alert == ""


def test_words_are_refused_by_a_server_that_cannot_read_and_found_by_one_that_can(coffee):
    coffee.page.fill("#text", "a cup")
    coffee.page.click("#text-form button")
    coffee.page.wait_for_selector("#alert:not([hidden])")
    assert coffee.page.inner_text("#alert-text").startswith("Expected ")
    assert coffee.objects == 0
    found = {
        "masks": [
            {
                "score": 0.9,
                "label": "a cup",
                "rle": {"size": [400, 600], "counts": [400 * 100, 4000, 400 * 490]},
            }
        ]
    }
    coffee.page.route("**/text", lambda route: route.fulfill(json=found))
    coffee.page.press("#text", "Enter")
    coffee.page.wait_for_selector("#objects li")
    assert coffee.page.locator("[data-part=name]").input_value() == "a cup"
    assert coffee.status.startswith("Found 1 for “a cup” in ")
    coffee.settle()
    assert coffee.painted((400, 600))[:, 101:109].all()


def test_taking_away_from_nothing_says_what_to_do(coffee):
    coffee.click(*CUP, shift=True)
    assert coffee.page.inner_text("#alert-text") == (
        "There is nothing to take away from yet; click on an object first."
    )
    coffee.page.keyboard.press("Escape")
    assert coffee.alert == ""


def test_everything_mode_can_be_stopped(coffee):
    held = []
    coffee.page.route("**/everything", lambda route: held.append(route))
    coffee.page.click("#everything")
    coffee.page.click("#busy-stop")
    coffee.page.wait_for_selector("#busy", state="hidden")
    assert coffee.status == "Stopped."
    assert held and not coffee.page.is_visible("#picking")


def test_a_server_that_wants_a_token_gets_it_from_the_browser(chrome, web_model, sample):
    known = {"username": "anyone", "password": "open-sesame"}  # what a person types when the browser asks
    with serving(web_model, Settings(token="open-sesame")) as url:
        guest = Visitor(chrome, url, http_credentials=known)
        guest.visit().open_file(sample("coffee"))
        guest.click(*CUP)
        assert guest.objects == 1
        guest.close()


def test_a_token_that_no_longer_holds_is_asked_for_in_the_page(chrome, web_model, sample):
    def changed(route):
        """Answer as a server does that was started again with another token than the browser knows."""
        if route.request.headers.get("authorization") == "Bearer open-sesame":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "expected a token", "id": "1"})

    with serving(web_model, Settings(token="open-sesame")) as url:
        guest = Visitor(chrome, url, http_credentials={"username": "x", "password": "open-sesame"})
        guest.page.route("**/v1/**", changed)
        guest.visit()
        guest.page.fill("#token", "wrong-token")
        guest.page.click("#token-dialog .primary")
        guest.page.wait_for_selector("#token-dialog[open]")
        guest.page.fill("#token", "open-sesame")
        guest.page.click("#token-dialog .primary")
        guest.page.wait_for_selector("#token-dialog", state="hidden")
        guest.open_file(sample("coffee"))
        guest.click(*CUP)
        assert guest.objects == 1
        guest.page.reload()
        guest.page.wait_for_selector("#token-dialog[open]")  # it was kept in the page alone
        guest.close()
