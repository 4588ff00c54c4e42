"""The web page in headless Chromium: prompts become the library's own masks, on the right pixels."""

import json
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from samlet.rle import rle_to_mask
from tests.web_page import Visitor, agrees, answer, assert_painted
from tests.web_page import iou as overlap_of

CUP = (280, 60)  # in samples/coffee.jpg
BOX = (170, 15, 415, 310)
PLACES = pytest.mark.parametrize("local", [False, True], ids=["server", "browser"])


@pytest.fixture(scope="module")
def view(web_model, sample):
    return web_model.embed(sample("coffee"))


PROMPTS = {
    "click": (lambda guest: guest.click(*CUP), {"points": [CUP]}),
    "box": (lambda guest: guest.drag(*BOX), {"boxes": [BOX]}),
    "box and click": (
        lambda guest: (guest.drag(*BOX), guest.click(310, 250)),
        {"boxes": [BOX], "points": [(310, 250)]},
    ),
    "shift click": (
        lambda guest: (guest.click(*CUP), guest.click(150, 200, shift=True)),
        {"points": [CUP, (150, 200)], "labels": [1, 0]},
    ),
    "right click": (
        lambda guest: (guest.click(*CUP), guest.click(150, 200, button="right")),
        {"points": [CUP, (150, 200)], "labels": [1, 0]},
    ),
}


@PLACES
def test_prompts_paint_the_librarys_masks(visitor, runtime, sample, web_model, view, local):
    if local:
        runtime()
    visitor.visit(local=local).open_file(sample("coffee"), local=local)
    for name, (act, prompt) in PROMPTS.items():
        act(visitor)
        assert_painted(visitor, answer(visitor, web_model, view, **prompt))
        assert visitor.objects == 1, name
        place = "in this browser" if local else "on the server"
        assert visitor.status.startswith("Cut out in ") and place in visitor.status
        if local and name == "box":
            saved = json.loads(visitor.save("coco")[1])["annotations"][0]["segmentation"]
            assert overlap_of(rle_to_mask(saved), answer(visitor, web_model, view, **prompt)) > 0.999
        visitor.page.keyboard.press("Delete")
    hover(visitor, web_model, view)


def hover(visitor, web_model, view):
    """The mask is shown before the click, and nothing of it stays."""
    visitor.page.mouse.move(*visitor.at(*CUP))
    visitor.page.wait_for_selector('#stage:not([data-preview=""])')
    visitor.settle()
    mask = answer(visitor, web_model, view, points=[CUP])
    inside, outside = agrees(visitor.painted(mask.shape, "overlay"), mask)
    assert inside > 0.99 and outside < 0.01
    assert not visitor.painted(mask.shape).any()
    assert visitor.objects == 0
    visitor.page.mouse.move(5, 5)  # off the picture
    visitor.page.wait_for_selector('#stage[data-preview=""]')
    visitor.settle()
    assert not visitor.painted(mask.shape, "overlay").any()


def test_undo_and_redo_walk_through_every_step(coffee, web_model, view):
    first = answer(coffee, web_model, view, points=[CUP])
    second = answer(coffee, web_model, view, points=[CUP, (150, 200)], labels=[1, 0])
    coffee.click(*CUP)
    coffee.click(150, 200, shift=True)
    assert_painted(coffee, second)
    coffee.page.click("[data-do=undo]")
    coffee.settle()
    assert_painted(coffee, first)
    coffee.page.keyboard.press("Control+z")
    coffee.settle()
    assert coffee.objects == 0
    assert not coffee.painted(first.shape).any()
    assert coffee.page.is_disabled("[data-do=undo]")
    coffee.page.keyboard.press("Control+Shift+z")
    coffee.page.keyboard.press("Control+y")
    coffee.settle()
    assert_painted(coffee, second)
    assert coffee.page.is_disabled("[data-do=redo]")


def test_objects_have_names_and_colours_and_can_be_hidden_and_removed(coffee, web_model, view):
    coffee.drag(*BOX)
    coffee.page.click("#new-object")
    coffee.click(80, 350)
    assert coffee.objects == 2
    colours = [field.input_value() for field in coffee.page.locator("[data-part=colour]").all()]
    assert len(set(colours)) == 2
    names = coffee.page.locator("[data-part=name]")
    names.first.fill("cup")
    names.first.press("Enter")
    coffee.page.locator("[data-part=colour]").first.fill("#00ff00")
    assert coffee.page.locator("[data-part=name]").first.input_value() == "cup"
    coffee.page.get_by_role("button", name="Remove Object 2").click()
    coffee.settle()
    assert_painted(coffee, answer(coffee, web_model, view, boxes=[BOX]))
    assert pixel(coffee, 290, 160)[:3] == [0, 255, 0]
    coffee.page.get_by_role("button", name="Show cup").click()
    coffee.settle()
    assert not coffee.painted((400, 600)).any()
    assert coffee.page.is_disabled("[data-save=mask]")


def pixel(visitor, x, y):
    return visitor.page.evaluate(
        """([x, y]) => {
          const { scale, left, top } = document.querySelector("#stage").dataset;
          const canvas = document.getElementById("masks");
          const at = [x * scale + Number(left), y * scale + Number(top)].map(Math.round);
          return Array.from(canvas.getContext("2d").getImageData(...at, 1, 1).data);
        }""",
        [x, y],
    )


def test_the_networks_other_proposals_can_be_tried(coffee, web_model, view):
    coffee.click(*CUP)
    three = answer(coffee, web_model, view, points=[CUP], multimask=True)
    for mask in three:
        coffee.page.keyboard.press("c")
        coffee.settle()
        assert_painted(coffee, mask)
    coffee.page.click("#candidate")
    coffee.settle()
    assert_painted(coffee, answer(coffee, web_model, view, points=[CUP]))


def test_the_brush_adds_and_takes_away_and_survives_another_click(coffee):
    coffee.drag(*BOX)
    coffee.page.keyboard.press("r")
    coffee.drag(40, 380, 90, 380)  # on the table
    assert coffee.painted((400, 600))[380, 42:88].all()
    coffee.page.keyboard.press("x")
    coffee.drag(250, 160, 330, 160)  # into the cup
    assert not coffee.painted((400, 600))[160, 256:324].any()
    coffee.page.keyboard.press("p")
    coffee.page.keyboard.press("x")
    coffee.click(310, 250)
    painted = coffee.painted((400, 600))
    assert painted[380, 42:88].all() and not painted[160, 256:324].any()
    coffee.page.keyboard.press("Control+z")
    coffee.page.keyboard.press("Control+z")
    coffee.settle()
    assert coffee.painted((400, 600))[160, 256:324].all()


def test_everything_mode_offers_what_was_found_and_keeps_what_is_clicked(coffee, web_model, view):
    coffee.page.click("#everything")
    coffee.page.wait_for_selector("#picking:not([hidden])")
    found = web_model.everything(view)
    assert f"Found {len(found)} things in " in coffee.status
    column, row = map(int, coffee.hit(290, 200))
    at = [mask for mask in found.masks if mask[row, column]]
    smallest = min(at, key=lambda mask: mask.sum())
    quiet = coffee.painted((400, 600))
    assert quiet[np.any(found.masks, axis=0)].mean() > 0.99
    before = pixel(coffee, 290, 200)
    coffee.page.mouse.move(*coffee.at(290, 200))
    coffee.settle()
    assert pixel(coffee, 290, 200) != before  # the thing under the pointer stands out
    coffee.click(290, 200)
    assert coffee.objects == 1
    coffee.page.click("#picking-done")
    coffee.settle()
    assert_painted(coffee, smallest)
    coffee.page.keyboard.press("e")
    coffee.page.wait_for_selector("#picking:not([hidden])")
    coffee.page.keyboard.press("a")
    coffee.settle()
    assert coffee.objects == 1 + len(found)
    coffee.page.keyboard.press("Control+z")
    assert coffee.objects == 1  # all that was kept at once is one step


def test_zooming_keeps_the_place_under_the_pointer_and_moves_the_masks_along(coffee, web_model, view):
    coffee.drag(*BOX)
    mask = answer(coffee, web_model, view, boxes=[BOX])
    under = coffee.hit(290, 160)
    before = coffee.at(290, 160)
    coffee.page.mouse.move(*before)
    coffee.page.mouse.wheel(0, -400)
    coffee.settle()
    assert np.allclose(coffee.spot(*under), before, atol=0.01)
    assert float(coffee.page.get_attribute("#stage", "data-scale")) > 2
    coffee.page.keyboard.press("h")
    x, y = coffee.at(290, 160)
    coffee.drag(290, 160, 270, 140)
    assert coffee.at(290, 160)[0] < x and coffee.at(290, 160)[1] < y
    coffee.click(290, 160)
    assert coffee.objects == 1  # the hand makes no prompts
    coffee.page.keyboard.press("0")
    coffee.settle()
    assert_painted(coffee, mask)


def test_a_click_before_the_picture_is_encoded_waits_for_it(visitor, sample, web_model, view):
    visitor.visit()
    held = []
    visitor.page.route("**/v1/embeddings?*", lambda route: held.append(route))
    visitor.page.set_input_files("#file", sample("coffee"))
    visitor.page.wait_for_selector("#stage[data-scale]")
    visitor.page.wait_for_selector("#busy:not([hidden])")
    visitor.page.mouse.click(*visitor.at(*CUP))
    assert visitor.objects == 1
    assert not visitor.painted((400, 600)).any()
    held[0].continue_()
    visitor.wait_until_ready()
    visitor.settle()
    assert_painted(visitor, answer(visitor, web_model, view, points=[CUP]))


def test_a_picture_can_be_dropped_pasted_or_taken_from_the_examples(visitor, sample):
    visitor.visit()
    data = list(sample("chelsea").read_bytes())
    for kind in ("drop", "paste"):
        visitor.page.evaluate(
            """([kind, data]) => {
              const files = new DataTransfer();
              files.items.add(new File([new Uint8Array(data)], "cat.jpg", { type: "image/jpeg" }));
              const event = kind === "drop" ? new DragEvent(kind, { dataTransfer: files, cancelable: true })
                : new ClipboardEvent(kind, { clipboardData: files, cancelable: true });
              document.querySelector("#stage").dataset.ready = "false";
              window.dispatchEvent(event);
            }""",
            [kind, data],
        )
        visitor.wait_until_ready()
        assert visitor.status.startswith("cat.jpg: 451 by 300 pixels, looked at in ")
    visitor.page.goto(visitor.url)
    for name in ("Coffee", "Chelsea the cat", "Astronaut"):
        visitor.page.goto(visitor.url)
        visitor.page.get_by_role("button", name=name).click()
        visitor.wait_until_ready()


def test_two_visitors_see_nothing_of_each_other_and_nothing_stays(chrome, page_url, sample, web_model):
    first, second = (Visitor(chrome, page_url).visit() for _ in range(2))
    first.open_file(sample("coffee"))
    second.open_file(sample("chelsea"))
    first.click(*CUP)
    second.click(230, 150)
    first.click(150, 200, shift=True)
    wanted = {"points": [CUP, (150, 200)], "labels": [1, 0]}
    assert_painted(first, answer(first, web_model, sample("coffee"), **wanted))
    assert_painted(second, answer(second, web_model, sample("chelsea"), points=[(230, 150)]))
    for guest in (first, second):
        stored = guest.page.evaluate(
            "async () => [localStorage.length, sessionStorage.length, document.cookie, "
            "(await indexedDB.databases()).length, (await caches.keys()).length]"
        )
        assert stored == [0, 0, "", 0, 0]
        guest.page.reload()
        assert guest.page.is_visible("#start")
        guest.close()


def test_the_server_forgets_a_picture_that_is_replaced_or_left(visitor, page_url, sample):
    visitor.visit()
    ids = []
    for name in ("coffee", "chelsea"):
        visitor.open_file(sample(name))
        with visitor.page.expect_request("**/segment") as waiting:
            visitor.click(200, 150)
        ids.append(waiting.value.url.split("/")[-2])
    first, second = ids
    assert [status(f"{page_url}v1/embeddings/{id}") for id in (first, second)] == [404, 200]
    visitor.page.goto(f"{page_url}health")
    visitor.page.wait_for_load_state("networkidle")
    assert status(f"{page_url}v1/embeddings/{second}") == 404


def status(address):
    try:
        with urlopen(address) as answer:
            return answer.status
    except HTTPError as error:
        with error:
            return error.code
