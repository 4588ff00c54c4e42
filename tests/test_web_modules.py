"""The page's modules by themselves, in Node.js: syntax, and the same arithmetic as the library's."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samlet import edit
from samlet.geometry import Frame, resize_bilinear
from samlet.image import Image as Picture
from samlet.masks import Masks
from samlet.polygons import mask_to_polygons
from samlet.rle import mask_runs, mask_to_compressed_rle
from samlet.sequence import Following, Track, histogram, likeness
from samlet.upscale import measure, region_of

WEB = Path(str(files("samlet.server"))) / "web"
MODULES = sorted(WEB.glob("*.js"))
SIZES = [(1, 1), (7, 5), (300, 451), (64, 64), (2, 33)]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Run JavaScript that imports the page's modules; gives what it prints, as JSON."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("needs Node.js: apt install nodejs")
    folder = tmp_path_factory.mktemp("modules")
    (folder / "package.json").write_text('{"type": "module"}')
    for module in MODULES:
        shutil.copy(module, folder)

    def run(code, data=None):
        (folder / "data.json").write_text(json.dumps(data))
        (folder / "run.js").write_text(
            f'import {{ readFileSync }} from "node:fs";\nconst data = JSON.parse(readFileSync("data.json"));\n{code}'
        )
        done = subprocess.run([program, "run.js"], cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    run.check = lambda module: subprocess.run(
        [program, "--check", module.name], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return run


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_is_well_formed_and_short(node, module):
    done = node.check(module)
    assert done.returncode == 0, done.stderr
    lines = module.read_text("utf-8").splitlines()
    assert len(lines) < 500 and max(map(len, lines)) <= 130
    assert lines[0].startswith("// ")  # says what it is for


def test_nothing_comes_from_elsewhere_and_everything_named_is_there():
    text = {
        path.name: path.read_text("utf-8") for path in (*MODULES, *WEB.glob("*.html"), *WEB.glob("*.css"))
    }
    for name, content in text.items():
        found = set(re.findall(r"https?://[^\s\"')]+", content)) - {"http://www.w3.org/2000/svg"}
        assert found == set(), name
    for name, content in text.items():
        for wanted in re.findall(r'(?:from|src=|href=) ?"(?:\./)?([\w./-]+\.(?:js|css|svg))', content):
            assert (WEB / wanted).is_file(), (name, wanted)
    icons = set(re.findall(r'<symbol id="([\w-]+)"', (WEB / "icons.svg").read_text("utf-8")))
    used = set(re.findall(r"icons\.svg#([\w-]+)\"", text["index.html"]))
    assert used <= icons and icons - used <= {"eye-off"}
    ids = re.findall(r'\bid="([\w-]+)"', text["index.html"])
    assert len(ids) == len(set(ids))
    for name in ("app.js", "notices.js"):
        assert set(re.findall(r'\$\("([\w-]+)"\)', text[name])) <= set(ids)


def masks(seed, size):
    draw = np.random.default_rng(seed)
    yield np.zeros(size, bool)
    yield np.ones(size, bool)
    yield draw.random(size) > 0.5
    smooth = np.asarray(Image.fromarray(draw.random((4, 4), np.float32)).resize(size[::-1], 2))
    yield smooth > 0.5


CASES = [mask for size in SIZES for mask in masks(sum(size), size)]


def test_run_lengths_are_cocos_to_the_byte(node):
    packed = [mask_to_compressed_rle(mask) for mask in CASES]
    answers = node(
        """import { bitmapOf, covers, maskFromBitmap, maskFromRle, measure, pack } from "./masks.js";
        console.log(JSON.stringify(data.map((rle) => {
          const mask = maskFromRle(rle);
          const again = maskFromBitmap(bitmapOf(mask), mask.size);
          const plain = maskFromRle({ size: rle.size, counts: Array.from(mask.runs) });
          return {
            runs: Array.from(mask.runs), packed: pack(again.runs), plain: pack(plain.runs), ...measure(mask),
            corner: covers(mask, rle.size[1] - 1, rle.size[0] - 1), beyond: covers(mask, rle.size[1], 0),
          };
        })));""",
        packed,
    )
    for mask, rle, answer in zip(CASES, packed, answers, strict=True):
        assert answer["runs"] == mask_runs(mask).tolist()
        assert answer["packed"] == answer["plain"] == rle["counts"]
        boxes, areas = measure([mask], 1)
        assert answer["area"] == areas[0] and answer["box"] == boxes[0].tolist()
        assert answer["corner"] == mask[-1, -1] and answer["beyond"] is False


@pytest.mark.parametrize("image_hw", [(400, 600), (300, 451), (1000, 37), (512, 512), (3, 2000)])
def test_logits_are_enlarged_as_by_the_library(node, image_hw):
    frame = Frame.fit(image_hw, 512, multiple=32)
    grid = tuple(side // 2 for side in frame.canvas_hw)
    logits = np.random.default_rng(0).normal(size=grid).astype(np.float32)
    runs = node(
        """import { coveredCells, fitFrame } from "./geometry.js";
        import { enlarge, maskFromBitmap } from "./masks.js";
        const frame = fitFrame(data.image, 512, 32);
        const bitmap = enlarge(Float32Array.from(data.logits), data.grid, coveredCells(frame, data.grid), data.image);
        console.log(JSON.stringify({ frame, runs: Array.from(maskFromBitmap(bitmap, data.image).runs) }));""",
        {"image": image_hw, "grid": grid, "logits": logits.ravel().tolist()},
    )
    assert runs["frame"] == frame.to_dict()
    wanted = resize_bilinear(logits[None], image_hw, region_hw=region_of(frame, grid))[0] > 0
    inside = np.repeat(np.arange(len(runs["runs"])) % 2 == 1, runs["runs"]).reshape(image_hw[::-1]).T
    assert (inside != wanted).mean() < 1e-4  # where a logit is zero but for rounding


def test_outlines_leave_every_pixel_on_its_own_side(node):
    small = [mask for mask in CASES if mask.size < 5000]
    answers = node(
        """import { bitmapOf, maskFromRle } from "./masks.js";
        import { simplify, trace } from "./outlines.js";
        const crossed = (loops, x, y) => loops.reduce((count, loop) => {
          for (let i = 0, j = loop.length - 2; i < loop.length; j = i, i += 2) {
            const [ax, ay, bx, by] = [loop[j], loop[j + 1], loop[i], loop[i + 1]];
            if ((ay > y) !== (by > y) && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) count++;
          }
          return count;
        }, 0) % 2;
        console.log(JSON.stringify(data.map((rle) => {
          const mask = maskFromRle(rle);
          const loops = trace(bitmapOf(mask), mask.size);
          const rows = [];
          for (let y = 0; y < rle.size[0]; y++) {
            rows.push(Array.from({ length: rle.size[1] }, (_, x) => crossed(loops, x + 0.5, y + 0.5)));
          }
          const fewer = loops.map((loop) => simplify(loop, 1).length);
          return { loops: loops.length, rows, shorter: loops.every((loop, i) => fewer[i] <= loop.length) };
        })));""",
        [mask_to_compressed_rle(mask) for mask in small],
    )
    for mask, answer in zip(small, answers, strict=True):
        assert np.array_equal(np.array(answer["rows"], bool), mask)
        assert answer["loops"] == sum(1 + len(part.holes) for part in mask_to_polygons(mask))
        assert answer["shorter"]


def test_pictures_are_scaled_as_pillow_does(node, sample):
    photo = Picture.load(sample("chelsea"))
    frame = Frame.fit(photo.hw, 512, multiple=32)
    small = Frame.fit(photo.hw, 128, multiple=32)
    rgba = np.dstack([photo.pixels, np.full(photo.hw, 255, np.uint8)])
    for chosen in (frame, small):
        found = node(
            """import { resize } from "./resize.js";
            console.log(JSON.stringify(Array.from(resize(Uint8ClampedArray.from(data.rgba), data.from, data.to))));""",
            {"rgba": rgba.ravel().tolist(), "from": photo.hw, "to": chosen.scaled_hw},
        )
        wanted = photo.resized(chosen.scaled_hw).astype(int)
        assert np.abs(np.array(found).reshape(wanted.shape) - wanted).max() <= 1


def test_strokes_of_the_brush_are_as_wide_as_they_say(node):
    answer = node(
        """import { brushed } from "./brush.js";
        import { bitmapOf } from "./masks.js";
        const strokes = [
          { add: true, radius: 5, points: [[10, 20], [50, 20]] },
          { add: false, radius: 2, points: [[30, 20]] },
        ];
        console.log(JSON.stringify(Array.from(bitmapOf(brushed(null, strokes, [40, 60])))));"""
    )
    mask = np.array(answer, bool).reshape(60, 40).T
    y, x = np.mgrid[:40, :60] + 0.5
    inside = np.hypot(np.maximum(0, np.maximum(10 - x, x - 50)), y - 20) <= 5
    assert np.array_equal(mask, inside & ~(np.hypot(x - 30, y - 20) <= 2))


def rgba_of(pixels):
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate([pixels, alpha], axis=2).ravel().tolist()


def test_boolean_operations_are_the_librarys(node):
    size = (7, 5)
    parts = [*list(masks(12, size))[2:], np.eye(*size, dtype=bool)]
    found = node(
        """import { intersection, maskFromRle, minus, pack, union } from "./masks.js";
        const [first, ...others] = data.map(maskFromRle);
        console.log(JSON.stringify([union([first, ...others]), intersection([first, ...others]), minus(first, others)]
          .map(({ runs }) => pack(runs))));""",
        [mask_to_compressed_rle(mask) for mask in parts],
    )
    wanted = [edit.union(*parts), edit.intersection(*parts), edit.minus(*parts)]
    assert found == [mask_to_compressed_rle(mask)["counts"] for mask in wanted]


@pytest.mark.parametrize("colour", [(200, 30, 40), (0, 0, 255), (128, 128, 128), (255, 255, 0)])
def test_another_colour_is_the_librarys(node, colour):
    draw = np.random.default_rng(3)
    pixels, mask = draw.integers(0, 256, (9, 13, 3), np.uint8), draw.random((9, 13)) > 0.4
    found = node(
        """import { recolour } from "./editing.js";
        const rgba = Uint8ClampedArray.from(data.rgba);
        console.log(JSON.stringify(Array.from(recolour(rgba, Uint8Array.from(data.bits), [9, 13], data.colour))));""",
        {"rgba": rgba_of(pixels), "bits": mask.T.ravel().astype(int).tolist(), "colour": colour},
    )
    got = np.array(found).reshape(9, 13, 4)[..., :3]
    wanted = edit.recolour(pixels, mask, colour, soft=False).astype(int)
    assert np.abs(got - wanted).max() <= 1  # a half may be rounded either way


@pytest.mark.parametrize("size", [(40, 60), (33, 47), (1, 50)])
def test_what_is_erased_takes_the_colours_around_it(node, size):
    rows, columns = np.mgrid[: size[0], : size[1]]
    ground = np.stack([60 + 2 * columns, 90 + rows, 120 + 0 * rows], axis=2).astype(np.uint8)
    mask = (np.abs(columns - 25) < 8) & (np.abs(rows - size[0] // 2) < 7)
    pixels = np.where(
        (np.abs(columns - 25) < 9)[..., None] & (np.abs(rows - size[0] // 2) < 8)[..., None], 255, ground
    )
    code = """import { erase } from "./editing.js";
        const rgba = Uint8ClampedArray.from(data.rgba);
        try { console.log(JSON.stringify(Array.from(erase(rgba, Uint8Array.from(data.bits), data.size)))); }
        catch (error) { console.log(JSON.stringify(error.message)); }"""
    given = {"rgba": rgba_of(pixels.astype(np.uint8)), "size": size}
    found = node(code, {**given, "bits": mask.T.ravel().astype(int).tolist()})
    got = np.array(found).reshape(*size, 4)[..., :3]
    touched = (got != pixels).any(axis=2)
    near = (np.abs(columns - 25) < 12) & (np.abs(rows - size[0] // 2) < 11)
    assert not touched[~near].any()
    assert np.abs(got - ground.astype(int)).max() < 14 and np.abs(got - ground.astype(int))[near].mean() < 4
    assert "nothing would be left" in node(code, {**given, "bits": [1] * mask.size})


def test_following_keeps_to_the_rules_of_the_library(node):
    """Places, boxes, hints and what is accepted, beside samlet.sequence's own, on a texture that wanders and leaves."""
    draw = np.random.default_rng(5)
    height, width, scene = 60, 90, (140, 170)
    coarse = Image.fromarray(draw.integers(0, 256, (14, 17, 3), np.uint8))
    large = np.asarray(coarse.resize(scene[::-1], Image.Resampling.BICUBIC))
    blob = np.hypot(*(np.mgrid[: scene[0], : scene[1]] - np.array([75, 80])[:, None, None])) < 13
    corners = [(40, 45), (43, 41), (46, 44), (44, 52), (4, 5), (42, 50), (41, 46)]

    def window(array, x, y):
        return array[y : y + height, x : x + width]

    frames = [window(large, *corner) for corner in corners]
    truths = [window(blob, *corner) for corner in corners]
    odd = np.zeros((height, width), bool)
    odd[2:5, 2:40] = True
    answers = [
        truths[0],
        truths[1],
        odd,
        truths[2],
        odd,
        odd,
        truths[4],
        odd,
        truths[6],
    ]  # [4] is out of sight

    class Scripted:
        """Answers with the masks in turn, and keeps what it was asked."""

        def __init__(self):
            self.asked = []

        def segment(self, view, **asked):
            self.asked.append(asked)
            logits = np.where(answers[len(self.asked) - 1], 5, -5).astype(np.float32)[None]
            return Masks(logits, np.array([0.9], np.float32), Frame.fit((height, width), width, multiple=1))

    model = Scripted()
    pictures = [Picture.load(frame.copy()) for frame in frames]
    track = Track(model, pictures[0], None, {"boxes": [20, 15, 50, 45]}, following=Following())
    steps = [track.step(picture, None) for picture in pictures[1:]]
    alpha = np.full((height, width, 1), 255, np.uint8)
    found = node(
        """
        import { Following, extent, histogram, likeness } from "./following.js";
        const size = data.size;
        const answers = data.answers.map((bits) => Uint8Array.from(bits));
        const rows = (bits) => Array.from(bits, (_, i) => bits[(i % size[1]) * size[0] + Math.floor(i / size[1])]);
        let next = 0;
        const answer = () => {
          const bitmap = answers[next++];
          const logits = { data: Float32Array.from(rows(bitmap), (bit) => bit ? 5 : -5), grid: size };
          return { bitmap, size, score: 0.9, covered: size, logits };
        };
        const track = new Following(answer(), data.rgba[0]);
        const [asked, taken] = [[], []];
        for (const rgba of data.rgba.slice(1)) {
          let isFound = false;
          for (const { box, hint, isFar } of track.prompts(rgba)) {
            asked.push({ box, hint: hint && Array.from(hint.data) });
            isFound = track.accepts(answer(), rgba, isFar);
            if (isFound) break;
          }
          if (!isFound) track.lose();
          taken.push(isFound);
        }
        const colours = data.rgba.slice(0, 2).map((rgba) => histogram(rgba, answers[0], size));
        console.log(JSON.stringify({ asked, taken, extent: extent(answers[2], size), likeness: likeness(...colours),
          colours: Array.from(colours[0]) }));
        """,
        {
            "size": [height, width],
            "answers": [mask.T.ravel().astype(int).tolist() for mask in answers],
            "rgba": [np.concatenate([frame, alpha], axis=2).ravel().tolist() for frame in frames],
        },
    )
    mine = [histogram(picture.pixels, truths[0]) for picture in pictures[:2]]
    assert found["colours"] == pytest.approx(mine[0].tolist())
    assert found["likeness"] == pytest.approx(likeness(*mine))
    assert found["extent"] == {"area": 3 * 38, "box": [2, 2, 40, 5]}
    assert found["taken"] == [step.found for step in steps] == [True, True, False, False, False, True]
    assert len(found["asked"]) == len(model.asked) - 1
    for theirs, own in zip(found["asked"], model.asked[1:], strict=True):
        assert theirs["box"] == pytest.approx(own["boxes"][0])
        if theirs["hint"] is None:
            assert "hint" not in own
        else:
            assert theirs["hint"] == pytest.approx(own["hint"][0].ravel().tolist(), abs=1e-5)
