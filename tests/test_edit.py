"""Edits: what each does to pixels inside, outside and at the edge of a mask, and the command."""

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet import codecs, edit
from samlet.cli import main
from samlet.errors import InputError, MissingExtraError
from samlet.image import Image
from samlet.window_sums import window_means, window_sums

HW = (60, 80)
HAS_CV = importlib.util.find_spec("cv2") is not None


def box(x0: int, y0: int, x1: int, y1: int, hw: tuple[int, int] = HW) -> np.ndarray:
    mask = np.zeros(hw, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A green thing on purple ground, both a little noisy, with an edge of mixed colours three pixels wide."""
    random = np.random.default_rng(0)
    share = np.clip((np.arange(HW[1]) - 28.5) / 3, 0, 1) * np.clip((58.5 - np.arange(HW[1])) / 3, 0, 1)
    share = np.broadcast_to(share, HW)[..., None]
    pixels = share * np.array([20, 180, 40]) + (1 - share) * np.array([140, 20, 160])
    return np.uint8(pixels + random.integers(0, 6, (*HW, 3))), box(30, 0, 58, 60)


def test_window_sums_are_sums_over_windows() -> None:
    random = np.random.default_rng(1).integers(0, 9, (7, 11))
    for reach in (0, 1, 3, 20):
        slow = [
            [
                random[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].sum()
                for x in range(11)
            ]
            for y in range(7)
        ]
        assert window_sums(random, reach).tolist() == slow
    assert window_means(np.full((5, 6, 3), 7.0), 2) == pytest.approx(np.full((5, 6, 3), 7.0))


ONE, TWO, THREE = box(0, 0, 40, 60), box(20, 0, 60, 60), box(30, 0, 80, 60)


@pytest.mark.parametrize(
    ("way", "columns"),
    [("union", range(80)), ("and", range(30, 40)), ("minus", range(20))],
)
def test_masks_are_combined(way: str, columns: range) -> None:
    found = edit.combine([ONE, TWO, THREE], way)
    assert found.dtype == np.bool_ and np.flatnonzero(found[0]).tolist() == list(columns)
    alone = edit.combine([ONE], way)
    assert np.array_equal(alone, ONE) and alone is not ONE
    alone[:] = False
    assert ONE.any()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: edit.combine([], "union"), "masks of one size, got none"),
        (lambda: edit.union(ONE, ONE[:5]), "80 x 5 and 80 x 60"),
        (lambda: edit.minus(ONE, ONE[:5]), "masks of one size"),
        (lambda: edit.combine([ONE], "xor"), "union, minus, and"),
    ],
)
def test_masks_that_cannot_be_combined(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


def test_masks_grow_and_shrink() -> None:
    mask = box(20, 20, 30, 40)
    assert np.array_equal(edit.grown(mask, 3), box(17, 17, 33, 43))
    assert np.array_equal(edit.grown(mask, -3), box(23, 23, 27, 37)) and not edit.grown(mask, -5).any()
    assert np.array_equal(edit.grown(mask, 0), mask)
    assert np.array_equal(
        edit.grown(box(0, 0, 30, 60), -2), box(0, 0, 28, 60)
    )  # the picture's edge is no edge


def guided_slowly(guide: np.ndarray, target: np.ndarray, reach: int, epsilon: float) -> np.ndarray:
    """The guided filter as its paper writes it, window by window."""
    height, width = target.shape

    def window(y: int, x: int) -> tuple[slice, slice]:
        return slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)

    fits = np.zeros((height, width, 4))
    for y, x in np.ndindex(height, width):
        colours, values = guide[window(y, x)].reshape(-1, 3), target[window(y, x)].ravel()
        centred = colours - colours.mean(axis=0)
        spread = centred.T @ centred / len(values) + epsilon * np.eye(3)
        slope = np.linalg.solve(spread, centred.T @ (values - values.mean()) / len(values))
        fits[y, x] = (*slope, values.mean() - slope @ colours.mean(axis=0))
    found = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        slope = fits[window(y, x)].reshape(-1, 4).mean(axis=0)
        found[y, x] = slope[:3] @ guide[y, x] + slope[3]
    return found


def test_the_matte_is_the_guided_filter_near_the_edge_and_the_mask_elsewhere() -> None:
    random = np.random.default_rng(2)
    pixels = random.integers(0, 255, (24, 30, 3), np.uint8)
    mask = box(8, 6, 22, 18, (24, 30))
    soft = edit.matte(pixels, mask, radius=2, epsilon=1e-3)
    slow = np.clip(guided_slowly(pixels / 255, mask.astype(float), 2, 1e-3), 0, 1)
    near = edit.grown(mask, 2) & ~edit.grown(mask, -2)
    assert near.sum() == 18 * 16 - 10 * 8
    assert soft[near] == pytest.approx(slow[near], abs=1e-5) and 0.1 < soft[near].std()
    assert np.array_equal(soft[~near], mask[~near].astype(np.float32))


def test_the_matte_follows_colours(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, mask = scene
    ragged = mask.copy()
    ragged[::4, 26:30] = True  # teeth into the ground
    soft = edit.matte(pixels, ragged, radius=5)
    assert soft.dtype == np.float32
    assert (
        soft[20:40, 26].mean() < 0.2 < soft[20:40, 30].mean() < soft[20:40, 33].mean() and soft[30, 40] == 1
    )
    assert edit.matte(pixels, ragged, radius=0).tolist() == ragged.astype(float).tolist()
    assert not edit.matte(pixels, mask & False).any() and edit.matte(pixels, ~mask | True).all()
    for wrong in (dict(radius=-1), dict(radius=999), dict(epsilon=0.0)):
        with pytest.raises(InputError, match="expected a radius"):
            edit.matte(pixels, mask, **wrong)


def test_a_cut_out_has_its_own_colours_at_the_edge(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, mask = scene
    whole = edit.cut_out(pixels, mask, crop=False)
    assert whole.shape == (*HW, 4) and whole[30, 45, 3] == 255
    mixed = (whole[..., 3] > 20) & (whole[..., 3] < 235)
    assert mixed.any()
    # The ground is purple: in the photograph red and blue reach far into the edge, in the cut-out they do not.
    assert pixels[mixed][:, 0].mean() > 60 and whole[mixed][:, 0].mean() < pixels[mixed][:, 0].mean() / 1.5
    assert not whole[whole[..., 3] == 0].any()
    cropped = edit.cut_out(pixels, mask)
    rows, columns = np.nonzero(whole[..., 3])
    assert np.array_equal(cropped, whole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    hard = edit.cut_out(Image.load(pixels), mask, soft=False)
    assert (
        hard.shape == (60, 28, 4)
        and (hard[..., 3] == 255).all()
        and np.array_equal(hard[..., :3], pixels[mask].reshape(60, 28, 3))
    )
    with pytest.raises(InputError, match="got an empty one"):
        edit.cut_out(pixels, mask & False)


def test_another_background(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, mask = scene
    red = edit.replace_background(pixels, mask, (200, 0, 0))
    assert np.array_equal(red[:, 36:52], pixels[:, 36:52]) and (red[:, :20] == (200, 0, 0)).all()
    # A wide picture is scaled to the height, and its left and right quarters are cut off.
    behind = np.zeros((30, 80, 3), np.uint8)
    behind[:, 40:] = 250
    other = edit.replace_background(pixels, mask, behind, soft=False)
    assert other[:, :28].max() == 0 and other[:, 60:].min() == 250
    assert np.array_equal(edit.replace_background(pixels, mask, Image.load(behind), soft=False), other)
    for wrong in ((300, 0, 0), (1, 2), (0.5, 0, 0)):
        with pytest.raises(InputError, match=r"\(red, green, blue\)"):
            edit.replace_background(pixels, mask, wrong)  # type: ignore[arg-type]


def test_a_blurred_background_holds_nothing_of_the_object() -> None:
    pixels = np.zeros((*HW, 3), np.uint8)
    mask = box(30, 20, 50, 40)
    pixels[mask] = (0, 255, 0)  # bright green before stripes of red
    pixels[:, ::2, 0] = np.where(mask[:, ::2], 0, 200)
    blurred = edit.blur_background(pixels, mask, sigma=6, soft=False)
    assert np.array_equal(blurred[mask], pixels[mask])
    assert blurred[~mask][:, 1].max() == 0  # no green has run out
    assert (
        blurred[~mask][:, 0].std() < 12 < pixels[~mask][:, 0].std() and 80 < blurred[~mask][:, 0].mean() < 120
    )
    assert np.array_equal(edit.blur_background(pixels, ~mask | True, sigma=6, soft=False), pixels)
    for wrong in (0.0, -1.0, 1000.0):
        with pytest.raises(InputError, match="expected a blur"):
            edit.blur_background(pixels, mask, sigma=wrong)


def test_the_blur_has_the_width_that_was_asked_for() -> None:
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[:, 50] = 255
    line = edit.blur_background(pixels, np.zeros((101, 101), bool), sigma=5.5, soft=False)[50, :, 0].astype(
        float
    )
    places = np.arange(101) - 50
    assert np.sqrt((line * places**2).sum() / line.sum()) == pytest.approx(5.5, abs=0.1)


def test_another_colour_keeps_light_and_shade(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, mask = scene
    pixels = np.uint8(pixels * np.linspace(0.2, 1, HW[0])[:, None, None])
    blue = edit.recolour(pixels, mask, (40, 60, 220), soft=False)
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(blue @ luma - pixels @ luma)[mask].max() <= 1
    assert np.array_equal(blue[~mask], pixels[~mask])
    assert (blue[mask][:, 2] >= blue[mask][:, 1]).all() and blue[mask][:, 2].max() > 200
    grey = edit.recolour(pixels, mask, (128, 128, 128), soft=False)[mask]
    assert np.ptp(grey, axis=1).max() <= 1
    half = edit.recolour(pixels, mask, (40, 60, 220), strength=0.5, soft=False).astype(int)
    assert np.abs(half - (blue.astype(int) + pixels) / 2).max() <= 1
    assert np.array_equal(edit.recolour(pixels, mask, (1, 2, 3), strength=0.0), pixels)
    for wrong in (dict(colour=(0, 0, 256)), dict(colour=(0, 0, 1), strength=2.0)):
        with pytest.raises(InputError, match="expected a colour"):
            edit.recolour(pixels, mask, **wrong)


@pytest.mark.skipif(not HAS_CV, reason="needs OpenCV")
@pytest.mark.parametrize("method", edit.METHODS)
def test_an_erased_thing_is_gone_and_the_rest_untouched(method: str) -> None:
    ground = np.uint8(np.linspace(40, 200, HW[1]))[None, :, None] * np.ones((HW[0], 1, 3), np.uint8)
    pixels, thing = ground.copy(), box(35, 25, 45, 33)
    pixels[edit.grown(thing, 1)] = (255, 0, 0)  # the mask is a pixel too small
    found = edit.erase(pixels, thing, method=method)
    hole = edit.grown(thing, 3)
    assert np.array_equal(found[~hole], pixels[~hole])
    assert np.abs(found[hole].astype(int) - ground[hole]).max() <= 24
    assert np.abs(edit.erase(pixels, thing, grow=0, method=method).astype(int) - ground)[thing].max() > 60
    assert np.array_equal(edit.erase(pixels, thing & False), pixels)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(grow=-1), "grow of 0 or more"),
        (dict(reach=0.0), "reach above 0"),
        (dict(method="magic"), "telea, navier-stokes"),
        (dict(grow=80), "got one that fills the picture"),
    ],
)
def test_what_cannot_be_erased(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        edit.erase(np.zeros((*HW, 3), np.uint8), box(3, 3, 9, 9), **arguments)


def test_erasing_without_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'samlet\[cv\]'"):
        edit.erase(np.zeros((*HW, 3), np.uint8), box(3, 3, 9, 9))


EVERY: list[Callable[[Any, Any], np.ndarray]] = [
    edit.matte,
    edit.cut_out,
    lambda picture, mask: edit.replace_background(picture, mask, (1, 2, 3)),
    edit.blur_background,
    lambda picture, mask: edit.recolour(picture, mask, (1, 2, 3)),
    pytest.param(edit.erase, marks=pytest.mark.skipif(not HAS_CV, reason="needs OpenCV")),  # type: ignore[list-item]
]


@pytest.mark.parametrize("function", EVERY)
def test_no_edit_changes_what_it_was_given(
    function: Callable[[Any, Any], np.ndarray], scene: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels, mask = scene
    copies = pixels.copy(), mask.copy()
    found = function(pixels, mask)
    assert np.array_equal(pixels, copies[0]) and np.array_equal(mask, copies[1])
    assert not np.shares_memory(found, pixels)
    assert np.array_equal(function(Image.load(pixels), mask), found)
    with pytest.raises(InputError, match="mask of the picture's size 80 x 60, got one of 80 x 10"):
        function(pixels, mask[:10])
    with pytest.raises(InputError, match=r"expected a picture as RGB uint8"):
        function(pixels[..., 0], mask)
    with pytest.raises(InputError, match=r"expected a picture as RGB uint8"):
        function("photo.jpg", mask)


@pytest.fixture
def folder(tmp_path: Path, scene: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture and two masks of it, and a mask of another size."""
    monkeypatch.chdir(tmp_path)
    PillowImage.fromarray(scene[0]).save("thing.png")
    codecs.atomic_write(tmp_path / "thing.mask.png", codecs.mask_to_png_bytes(scene[1]))
    codecs.atomic_write(tmp_path / "top.png", codecs.mask_to_png_bytes(box(0, 0, 80, 30)))
    codecs.atomic_write(tmp_path / "other.png", codecs.mask_to_png_bytes(np.ones((5, 5), bool)))
    return tmp_path


def edited(path: Path) -> np.ndarray:
    with PillowImage.open(path) as picture:
        return np.asarray(picture)


MASK = ["thing.png", "--mask", "thing.mask.png", "--hard"]


def test_the_command_does_what_the_functions_do(
    folder: Path, scene: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, mask = scene
    kept = mask & ~box(0, 0, 80, 30)
    runs: list[tuple[list[str], np.ndarray]] = [
        (["cutout", *MASK], edit.cut_out(pixels, mask, soft=False)),
        (["cutout", "thing.png", "--mask", "thing.mask.png", "--edge", "2"], edit.cut_out(pixels, mask, radius=2)),
        (["cutout", *MASK, "--mask", "top.png", "--combine", "minus"], edit.cut_out(pixels, kept, soft=False)),
        (["background", *MASK, "--with", "#0a0b0c"], edit.replace_background(pixels, mask, (10, 11, 12), soft=False)),
        (["background", *MASK, "--with", "top.png"],
         edit.replace_background(pixels, mask, Image.load("top.png"), soft=False)),
        (["blur", *MASK, "--blur", "4"], edit.blur_background(pixels, mask, sigma=4, soft=False)),
        (["recolour", *MASK, "--with", "blue", "--strength", "0.5", "--invert"],
         edit.recolour(pixels, ~mask, (0, 0, 255), strength=0.5, soft=False)),
    ]  # fmt: skip
    if HAS_CV:
        runs.append((["erase", *MASK, "--grow", "1"], edit.erase(pixels, mask, grow=1)))
    for words, expected in runs:
        assert main(["edit", *words, "--output", "out", "--json"]) == 0, words
        told = json.loads(capsys.readouterr().out)
        assert told["file"] == str(Path("out", f"thing.{words[0]}.png")) and told["action"] == words[0]
        assert np.array_equal(edited(Path(told["file"])), expected), words
    assert main(["edit", "cutout", *MASK]) == 0
    assert re.match(r"thing\.png: cutout, 35\.0 % of the picture -> samlet-out", capsys.readouterr().out)


def test_prompts_and_masks_together(
    tmp_path: Path,
    sample: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The mask file comes first, then the box; minus leaves the frame around the thing that the box holds."""
    monkeypatch.chdir(tmp_path)
    with PillowImage.open(sample("coffee")) as photo:
        photo.convert("RGB").resize((300, 200)).save("cup.png")
    codecs.atomic_write(Path("all.png"), codecs.mask_to_png_bytes(np.ones((200, 300), bool)))
    common = ["cup.png", "--box", "35,5,230,195", "--threads", "1", "--hard", "--quiet"]
    assert main(["segment", *common[:-2], "--format", "mask", "--output", "out"]) == 0
    mask = edited(Path("out/cup.mask.png")) > 0
    assert 0.1 < mask.mean() < 0.9
    assert main(["edit", "cutout", *common, "--mask", "all.png", "--combine", "minus"]) == 0
    found = edited(Path("samlet-out/cup.cutout.png"))[..., 3] > 0
    rows, columns = np.nonzero(~mask)
    assert np.array_equal(found, ~mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["cutout", "thing.png"], 2, "expected a prompt or a mask, got neither"),
        (["paint", *MASK], 2, "invalid choice|invalid ACTION|choose from"),
        (["background", *MASK], 2, "expected --with for background"),
        (["background", *MASK, "--with", "nocolour"], 2, "expected a colour or a picture after --with"),
        (["recolour", *MASK, "--with", "thing.png"], 2, "expected a colour after --with"),
        (["blur", *MASK, "--with", "red"], 2, "expected --with for background or recolour"),
        (["blur", *MASK, "--blur", "0"], 2, "after --blur"),
        (["cutout", "thing.png", "--mask", "none.png"], 2, "expected a mask at none.png"),
        (["cutout", "thing.png", "--mask", "other.png"], 2, "80 x 60, but other.png is 5 x 5"),
        (["cutout", *MASK, "--mask", "thing.mask.png", "--combine", "minus"], 2, "got an empty mask"),
        (["cutout", "thing.png", "--point", "900,5"], 2, "inside the picture"),
    ],
)
def test_what_cannot_be_edited(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, sentence: str
) -> None:
    assert main(["edit", *words, "--output", "out"]) == code
    assert re.search(sentence, capsys.readouterr().err)
    assert not (folder / "out").exists()


def test_the_how_to_runs(
    tmp_path: Path, sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not HAS_CV:
        pytest.skip("needs OpenCV")
    text = (Path(__file__).parent.parent / "docs/how-to/edit.md").read_text("utf-8")
    blocks = [part.split("```", 1)[0] for part in text.split("```python\n")[1:]]
    with PillowImage.open(sample("astronaut")) as photo:
        photo.save(tmp_path / "astronaut.jpg")
        photo.resize((90, 60)).save(tmp_path / "beach.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "astronaut.cutout.png").exists() and blocks
