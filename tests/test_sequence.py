"""An object followed: moving shapes with a scripted model, and a moving cut-out of a photograph with nano itself."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

import samlet
from samlet.cli import clips, main
from samlet.errors import ImageError, InputError, MissingExtraError
from samlet.geometry import Frame, mask_iou
from samlet.image import Image
from samlet.masks import Masks
from samlet.sequence import Following, Step, follow
from tests.web_page import carried_along, film_frames, moving

SIZE = 64
RED, GREEN = (210, 40, 40), (40, 180, 60)


def disc(x: float, y: float, radius: float = 9) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    return np.hypot(columns - x, rows - y) < radius


def frame(*discs: tuple[float, float, tuple[int, int, int]], radius: float = 9) -> Image:
    pixels = np.full((SIZE, SIZE, 3), 225, np.uint8)
    for x, y, colour in discs:
        pixels[disc(x, y, radius)] = colour
    return Image.load(pixels)


class Coloured:
    """A model that answers with everything in the box that is no background, in the colour that most of it has."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def embed(self, image: Image) -> Any:
        return image

    def segment(self, view: Any, **asked: Any) -> Masks:
        self.asked.append({name: np.asarray(part) for name, part in asked.items()})
        if "boxes" in asked:
            x0, y0, x1, y1 = np.round(np.asarray(asked["boxes"], float).reshape(-1)[:4]).astype(int)
        else:
            x, y = np.asarray(asked["points"]).reshape(-1).astype(int)
            x0, y0, x1, y1 = x, y, x + 1, y + 1
        window = np.zeros((SIZE, SIZE), bool)
        window[y0:y1, x0:x1] = True
        inside = np.zeros((SIZE, SIZE), bool)
        for colour in (RED, GREEN):
            here = (view.pixels == colour).all(axis=2)
            if (here & window).sum() > (inside & window).sum():
                inside = here
        logits = np.where(inside, 6.0, -6.0).astype(np.float32)[None]
        count = np.asarray(asked.get("boxes", [[0] * 4])).reshape(-1, 4).shape[0]
        return Masks(
            np.repeat(logits, count, 0), np.full(count, 0.9, np.float32), Frame.fit((SIZE, SIZE), SIZE)
        )


def steps(frames: list[Image], model: Any = None, **more: Any) -> list[Step]:
    given = more if {"points", "boxes"} & more.keys() else {**more, "boxes": [10, 20, 30, 42]}
    return list(follow(model or Coloured(), frames, **given))


def test_a_moving_disc() -> None:
    places = [(20 + 4 * index, 31 + index) for index in range(9)]
    model = Coloured()
    found = steps([frame((x, y, RED)) for x, y in places], model)
    assert all(
        step.found and mask_iou(step.mask, disc(*place)) == 1
        for step, place in zip(found, places, strict=True)
    )
    assert [step.index for step in found] == list(range(9))
    assert found[3].score == np.float32(0.9) and found[3].colours > 0.99
    assert "hint" not in model.asked[0] and all("hint" in asked for asked in model.asked[1:])
    assert (model.asked[4]["hint"][0] > 0).sum() == disc(*places[3]).sum()
    # The box moves on as the disc does: its middle is nearer to where the disc is than to where it was.
    middle = model.asked[5]["boxes"][0][[0, 2]].mean()
    assert abs(middle - places[5][0]) < abs(middle - places[4][0])


def test_an_object_that_leaves_is_lost_and_found_again() -> None:
    frames = [
        frame((20, 31, RED)),
        frame((22, 31, RED)),
        frame(),
        frame(),
        frame((24, 33, RED)),
        frame((25, 33, RED)),
    ]
    found = steps(frames)
    assert [step.found for step in found] == [True, True, False, False, True, True]
    assert not found[2].mask.any() and found[2].score == 0
    assert mask_iou(found[4].mask, disc(24, 33)) == 1


@pytest.mark.parametrize(
    ("other", "change"),
    [
        (frame((22, 31, GREEN)), {}),
        (frame((22, 31, RED), radius=20), {}),
        (frame((22, 31, RED), radius=4), {}),
        (frame((22, 31, RED)), {"min_score": 0.95}),
    ],
)
def test_what_does_not_fit_is_not_the_object(other: Image, change: dict[str, float]) -> None:
    found = steps([frame((20, 31, RED)), other], following=Following(**change))
    assert [step.found for step in found] == [True, False]
    if change == {}:
        wide = Following(min_colours=0, max_growth=100, min_agreement=0)
        assert all(step.found for step in steps([frame((20, 31, RED)), other], following=wide))


class Doubtful(Coloured):
    """Trusts no answer to which it was led by a hint."""

    def segment(self, view: Any, **asked: Any) -> Masks:
        found = super().segment(view, **asked)
        return replace(found, scores=found.scores * 0) if "hint" in asked else found


def test_what_does_not_fit_is_found_by_a_wider_second_look() -> None:
    model = Doubtful()
    found = steps([frame((20, 31, RED)), frame((25, 31, RED))], model)
    first, second = model.asked[1:]
    assert found[1].found and "hint" in first and "hint" not in second
    (narrow, wide) = (asked["boxes"][0] for asked in (first, second))
    assert (wide[2:] - wide[:2]).tolist() == pytest.approx((2 * (narrow[2:] - narrow[:2])).tolist())


def test_a_jump_is_seen_in_the_pixels() -> None:
    model = Coloured()
    found = steps([frame((20, 31, RED)), frame((37, 31, RED))], model)
    assert found[1].found and len(model.asked) == 2
    assert model.asked[1]["boxes"][0] == pytest.approx([28, 22, 46, 40], abs=1)


def test_a_mask_that_grows_little_by_little_is_lost_at_twice_the_first() -> None:
    """Each frame's answer fits the last one, and none of the pixels has moved."""
    still = frame((31, 31, RED))

    class Creeping(Coloured):
        def segment(self, view: Any, **asked: Any) -> Masks:
            logits = np.where(disc(31, 31, 9 + len(self.asked)), 6.0, -6.0).astype(np.float32)[None]
            self.asked.append(asked)
            return Masks(logits, np.full(1, 0.9, np.float32), Frame.fit((SIZE, SIZE), SIZE))

    found = steps([still] * 9, Creeping(), following=Following(min_colours=0))
    areas = [int(step.mask.sum()) for step in found]
    assert found[3].found and max(areas) <= 2 * areas[0] and not found[-1].found


def test_a_click_will_do_and_one_frame_too() -> None:
    (only,) = steps([frame((20, 31, RED))], points=[20, 31])
    assert only.found and mask_iou(only.mask, disc(20, 31)) == 1


@pytest.mark.parametrize(
    ("frames", "more", "message"),
    [
        ([], {}, "expected frames, got none"),
        ([frame()], {}, "got an empty mask"),
        ([frame((20, 31, RED))], {"boxes": [[10, 20, 30, 42], [1, 1, 9, 9]]}, "follow one at a time"),
        ([frame((20, 31, RED)), Image.load(np.zeros((8, 9, 3), np.uint8))], {}, "got 9 x 8 in frame 1"),
    ],
)
def test_what_is_refused(frames: list[Image], more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        steps(frames, **more)


@pytest.mark.parametrize(
    "change", [{"margin": -1}, {"max_growth": 1.0}, {"min_score": 2.0}, {"min_colours": float("nan")}]
)
def test_settings_that_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="correct them"):
        Following(**change)


def moved_cup(sample: Any, count: int) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
    """Move the coffee cup's surroundings through a window, as a camera that pans would."""
    with PillowImage.open(sample("coffee")) as opened:
        photo = opened.convert("RGB")
    for index in range(count):
        left, top = 120 - 8 * index, 30 + 3 * index
        yield Image.load(photo.crop((left, top, left + 320, top + 320)))


def test_nano_follows_a_cup(sample: Any) -> None:
    """The mask of the first frame, moved as the window moves, is what the others are measured against."""
    found = list(follow(samlet.load(), moved_cup(sample, 6), boxes=[40, 50, 300, 270]))
    assert all(step.found for step in found)
    overlaps = []
    for index, step in enumerate(found):
        still = np.roll(found[0].mask, (-3 * index, 8 * index), axis=(0, 1))
        overlaps.append(mask_iou(step.mask[20:-20, 60:-20], still[20:-20, 60:-20]))
    assert min(overlaps) > 0.6, overlaps


def test_a_mask_does_not_run_over_its_surroundings(sample: Any, tmp_path: Path) -> None:
    """What is boxed is a part of a cup with a weak edge; prompted by its own last mask it took the whole frame."""
    places = moving(sample("coffee"), tmp_path / "film.mjpeg", frames=16)
    frames = map(Image.load, film_frames(tmp_path / "film.mjpeg"))
    first, *later = follow(samlet.load(size=256), frames, boxes=[200, 100, 480, 400])
    for step, place in zip(later, places[1:], strict=True):
        truth, counts = carried_along(first.mask, places[0], place, pixels=1)
        assert step.found and mask_iou(step.mask & counts, truth & counts) > 0.6


# -- the command and its clips ---------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("samlet.cli.run.load_model", lambda args: Coloured())
    for index in range(4):
        PillowImage.fromarray(frame((20 + 3 * index, 31, RED)).pixels).save(f"{index}.png")
    PillowImage.fromarray(frame().pixels).save("4.png")

    def say(*words: str) -> tuple[int, str, str]:
        code = main(["sequence", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return say


BOX = ("--box", "10,20,30,42")


def test_the_command(command: Any) -> None:
    code, out, _ = command(".", *BOX, "--output", "out")
    assert code == 0 and re.match(r"5 frames, found in 4, [\d.]+ a second -> 7 files in out", out)
    with PillowImage.open("out/00003.mask.png") as opened:
        assert mask_iou(np.asarray(opened) > 0, disc(29, 31)) == 1
    with PillowImage.open("out/00004.mask.png") as opened:
        assert not np.asarray(opened).any()
    with PillowImage.open("out/clip.gif") as opened:
        assert (opened.n_frames, opened.size, opened.info["duration"]) == (5, (SIZE, SIZE), 100)
    rows = json.loads(Path("out/summary.json").read_text())["frames"]
    assert [row["found"] for row in rows] == [True] * 4 + [False] and rows[0]["image"] == "./0.png"


@pytest.mark.parametrize("kind", ["gif", "apng", "mp4"])
def test_clips_come_back_as_frames(command: Any, kind: str) -> None:
    if kind == "mp4":
        pytest.importorskip("av")
    name = f"out/clip.{'png' if kind == 'apng' else kind}"
    assert command("0.png", "1.png", "2.png", *BOX, "--clip", kind, "--fps", "5", "--output", "out")[0] == 0
    back = list(clips.frames([name], at_most=10))
    assert len(back) == 3 and {image.hw for image in back} == {(SIZE, SIZE)}
    inside, outside = back[2].pixels[31, 26].astype(int), back[2].pixels[5, 60].astype(int)
    assert (
        outside.min() > 200 and inside.min() < 150
    )  # the disc below its overlay, where it is in the third frame
    assert len(list(clips.frames([name], at_most=2))) == 2


def test_json_and_no_clip(command: Any) -> None:
    code, out, _ = command("0.png", "1.png", *BOX, "--clip", "none", "--json", "--output", "out")
    assert code == 0 and [json.loads(line)["frame"] for line in out.splitlines()] == [0, 1]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "00000.mask.png",
        "00001.mask.png",
        "summary.json",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("0.png",), "expected a prompt"),
        (("0.png", *BOX, "--box", "1,1,5,5"), "run samlet once for each"),
        (("gone.png", *BOX), "gone.png"),
        (("bad.gif", *BOX), "expected an animation"),
        (("0.png", *BOX, "--fps", "0"), "--fps"),
    ],
)
def test_what_the_command_refuses(command: Any, words: tuple[str, ...], message: str) -> None:
    Path("bad.gif").write_bytes(b"GIF89a but no more")
    code, _, err = command(*words)
    assert code == 2 and message in err


def test_a_video_without_av(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"samlet\[video\]"):
        list(clips.frames([str(tmp_path / "a.mp4")], at_most=1))


def test_a_broken_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(ImageError, match="expected a video"):
        list(clips.frames([str(tmp_path / "a.mp4")], at_most=1))
