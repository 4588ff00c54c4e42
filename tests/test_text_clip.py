"""CLIP on ONNX Runtime: prepared pictures, checked files, and scores that rank colours by their names."""

import numpy as np
import pytest
from PIL import Image as PILImage

from samlet.errors import (
    BackendError,
    CheckpointError,
    InputError,
    MissingExtraError,
    ModelError,
    PromptError,
)
from samlet.text import CLIP_FILES, CosineScorer, clip, clip_from_open_clip, default_scorer, load_clip
from samlet.text.guard import check_self_contained
from samlet.text.pictures import MEAN, STD, prepare
from samlet.text.towers import Tower
from tests import text_models as tiny

RED, GREEN = (np.full((6, 9, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 200, 0)))
FILES = ("vision_model.onnx", "text_model.onnx", "tokenizer.json")


@pytest.fixture(params=["fake", "real"])
def tokenizers(request, monkeypatch):
    tiny.use_tokenizers(monkeypatch, request.param)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    clip._loaded.cache_clear()


def written(folder, image=None, text=None, tokenizer=None):
    folder.mkdir(parents=True, exist_ok=True)
    contents = (image or tiny.image_tower(), text or tiny.text_tower(), tokenizer or tiny.tokenizer_json())
    paths = [folder / name for name in FILES]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        tiny.text_tower(),
        tiny.text_tower(9),  # a length fixed at export
        tiny.text_tower(mask=True),
        tiny.text_tower(9, mask=True),
        tiny.text_tower(output="vector"),
    ],
)
@pytest.mark.usefixtures("tokenizers")
def test_pictures_are_ranked_by_words(tmp_path, text):
    scorer = load_clip(*written(tmp_path, text=text), threads=1)
    reds, greens = scorer([RED, GREEN], "a Red photo"), scorer([RED, GREEN], "green")
    assert reds[0] > 80 > reds[1]
    assert greens[1] > 80 > greens[0]
    mean, std = np.array(MEAN), np.array(STD)
    seen = (RED[0, 0] / 255 - mean) / std
    expected = 100 * seen @ [2, -1, -1] / np.linalg.norm(seen) / 6**0.5
    assert reds[0] == pytest.approx(expected, abs=1e-3)
    assert scorer([], "red").shape == (0,)


def test_a_batch_that_is_fixed_is_met_one_by_one(tmp_path, monkeypatch):
    tiny.use_tokenizers(monkeypatch, "fake")
    free, fixed = (
        load_clip(*written(tmp_path / str(batch), image=tiny.image_tower(batch=batch))) for batch in ("n", 1)
    )
    crops = [RED, GREEN, RED // 2]
    np.testing.assert_array_equal(free(crops, "red"), fixed(crops, "red"))


@pytest.mark.usefixtures("tokenizers")
def test_long_texts_are_cut_and_keep_their_end(tmp_path):
    scorer = load_clip(*written(tmp_path, text=tiny.text_tower(5)))
    # Five tokens: start, three words, end. What comes after is not read.
    np.testing.assert_array_equal(
        scorer([RED, GREEN], "a photo red " + "green " * 50), scorer([RED, GREEN], "red")
    )
    for text in ("", "  ", "a" * 2001, 7):
        with pytest.raises(PromptError, match="expected a phrase of 1 to 2000"):
            scorer([RED], text)


def test_no_picture_is_looked_at_twice():
    shown = []

    def embed(crops):
        shown.append(len(crops))
        return np.array([crop.mean((0, 1)) for crop in crops])

    scorer = CosineScorer(embed, lambda text: np.eye(3)[len(text) % 3])
    first = scorer([RED, GREEN, RED.copy()], "a")
    assert first[0] == first[2]
    assert scorer([GREEN, RED], "b").shape == (2,)
    assert scorer([GREEN, RED.reshape(9, 6, 3)], "b").shape == (2,)  # the same bytes in another shape
    assert shown == [2, 1]


def test_old_pictures_are_forgotten(monkeypatch):
    monkeypatch.setattr("samlet.text.scoring._PICTURES_KEPT", 2)
    shown = []
    scorer = CosineScorer(
        lambda crops: shown.extend(crops) or np.ones((len(crops), 2)), lambda text: np.ones(2)
    )
    crops = [np.full((1, 1, 3), value, np.uint8) for value in range(4)]
    assert scorer(crops, "a").tolist() == pytest.approx([100] * 4)
    scorer(crops[2:], "a")
    assert len(shown) == 4
    scorer(crops[:1], "a")
    assert len(shown) == 5


@pytest.mark.parametrize(
    ("pictures", "words"),
    [(np.ones((1, 3)), np.ones(2)), (np.zeros((1, 2)), np.ones(2)), (np.ones((1, 2)), np.array([1, np.nan]))],
)
def test_embeddings_that_do_not_fit_are_refused(pictures, words):
    with pytest.raises(BackendError, match="expected embeddings"):
        CosineScorer(lambda crops: pictures, lambda text: words)([RED], "a")


def test_an_open_clip_is_taken_as_it_is():
    class Picture:
        def __init__(self, pixels):
            self.pixels = np.asarray(pixels, np.float64)

        def __getitem__(self, new):
            assert new is None
            return self

    class OpenClip:
        def encode_image(self, picture):
            return tiny.Tensor(picture.pixels.mean((0, 1))[None])

        def encode_text(self, tokens):
            return tiny.Tensor(np.eye(3)[[len(tokens[0]) - 3]])

    scorer = clip_from_open_clip(OpenClip(), Picture, lambda texts: texts)
    assert scorer([RED, GREEN], "red").tolist() == pytest.approx([100, 0])
    assert scorer([RED, GREEN], "four").tolist() == pytest.approx([0, 100])


# --- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_are_prepared_as_clip_was_trained():
    pixels = np.random.default_rng(0).integers(0, 255, (224, 300, 3), np.uint8)
    seen = prepare([pixels])
    assert (seen.shape, seen.dtype) == ((1, 3, 224, 224), np.float32)
    middle = pixels[:, 38:262] / 255  # (300 - 224) / 2 = 38
    np.testing.assert_allclose(seen[0], ((middle - MEAN) / STD).transpose(2, 0, 1), atol=1e-5)
    small = PILImage.fromarray(pixels[:100, :80]).resize((224, 280), PILImage.Resampling.BICUBIC)
    np.testing.assert_allclose(
        prepare([pixels[:100, :80]])[0].transpose(1, 2, 0),
        (np.asarray(small)[28:252] / 255 - MEAN) / STD,
        atol=1e-5,
    )


@pytest.mark.parametrize("hw", [(1, 1), (1, 5000), (5000, 1), (3, 4000)])
def test_odd_shapes_take_no_memory(hw):
    """Enlarging a line of 1 x 5000 pixels to 224 x 1,120,000 would take 750 MB."""
    seen = prepare([np.full((*hw, 3), 255, np.uint8)], 32)
    np.testing.assert_allclose(seen[0, 0], (1 - MEAN[0]) / STD[0], atol=1e-5)


@pytest.mark.parametrize(
    "hw", [(224, 224), (225, 400), (227, 230), (333, 100), (5, 60), (1000, 223), (17, 227)]
)
def test_sizes_are_rounded_as_in_the_original(hw):
    """The longer side is cut off to whole pixels; halves of a pixel go to the even side."""
    pixels = np.random.default_rng(1).integers(0, 255, (*hw, 3), np.uint8)
    height, width = (max(224, int(224 * side / min(hw))) for side in hw)
    resized = np.asarray(PILImage.fromarray(pixels).resize((width, height), PILImage.Resampling.BICUBIC))
    top, left = (int(round((side - 224) / 2.0)) for side in (height, width))  # noqa: RUF046
    middle = resized[top : top + 224, left : left + 224]
    np.testing.assert_allclose(
        prepare([pixels])[0], ((middle / 255 - MEAN) / STD).transpose(2, 0, 1), atol=1e-5
    )


# --- files from outside ---------------------------------------------------------------------------------------------


def attributed(number, content):
    """A model whose only node has an attribute with a part in it."""
    attribute = tiny.field(1, "value") + tiny.field(number, content)
    nodes = [tiny.node("Constant", [], "y", attribute)]
    return tiny.model(tiny.graph(nodes, [], [], [tiny.value("y", 1, 4)]))


LOOP = tiny.graph([], [tiny.external()], [], [])
OUTSIDE = {
    "a weight": tiny.model(tiny.graph([], [tiny.external()], [], [])),
    "a weight in the second of two graphs": tiny.image_tower() + tiny.field(7, LOOP),
    "a constant": attributed(5, tiny.external()),
    "one of several constants": attributed(10, tiny.external()),
    "a branch": attributed(6, LOOP),
    "one of several branches": attributed(11, LOOP),
    "a sparse weight": tiny.model(tiny.field(15, tiny.field(1, tiny.external()))),
    "a sparse constant's places": attributed(22, tiny.field(2, tiny.external())),
    "one of several sparse constants": attributed(23, tiny.field(1, tiny.external())),
    "a function": tiny.model(
        b"", tiny.field(25, tiny.field(7, tiny.node("C", [], "y", tiny.field(5, tiny.external()))))
    ),
    "the default of a function": tiny.model(
        b"", tiny.field(25, tiny.field(11, tiny.field(5, tiny.external())))
    ),
    "what it was trained with": tiny.model(b"", tiny.field(20, tiny.field(1, LOOP))),
    "a place alone": tiny.model(tiny.field(5, tiny.field(14, 1))),
    "a place written long": tiny.model(tiny.field(5, b"\x70" + b"\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00")),
    "a field number written long": tiny.model(tiny.field(5, b"\xf0\x80\x00\x01")),
    "a name alone": tiny.model(tiny.field(5, tiny.field(13, b""))),
}


@pytest.mark.parametrize("where", OUTSIDE)
def test_weights_outside_the_file_are_refused(where, tmp_path, monkeypatch):
    """A runtime reads such files relative to the current folder if the model came as bytes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    for check in (
        lambda: check_self_contained(OUTSIDE[where], origin="clip.onnx"),
        lambda: opened(OUTSIDE[where]),
    ):
        with pytest.raises(CheckpointError, match=r"clip\.onnx refers to other files"):
            check()


def opened(content):
    return Tower(content, "clip.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(40),
        b"\x00\x00\x00\x00ORTM" + bytes(60),
        tiny.field(1, 8),
        tiny.image_tower()[:-3],
        tiny.field(7, 8),  # a graph that is a number
        tiny.model(tiny.graph([], [], [], [])) + b"\x0b\x0c",  # groups
        tiny.model(b"") + b"\xff" * 12,
        tiny.model(b"") + b"\x00\x00",
        tiny.model(b"") + b"\x88\x80\x80\x80\x80\x01\x00",
    ],
)
def test_what_is_no_onnx_file_is_refused(content):
    with pytest.raises(CheckpointError, match=r"expected a complete ONNX file in clip\.onnx"):
        opened(content)


def test_graphs_that_nest_without_end_are_refused():
    content = b""
    for _ in range(200):
        content = tiny.graph([tiny.node("If", [], "y", tiny.field(6, content))], [], [], [])
    with pytest.raises(CheckpointError, match="nest too deep"):
        check_self_contained(tiny.model(content), origin="deep.onnx")


def test_any_bytes_give_an_answer_or_a_refusal():
    random = np.random.default_rng(0)
    whole = [tiny.text_tower(9, mask=True), *OUTSIDE.values()]
    refused = 0
    for _ in range(2000):
        content = bytearray(whole[random.integers(len(whole))])
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        try:
            check_self_contained(
                bytes(content[: random.integers(len(content) // 2, len(content) + 1)]), origin="x"
            )
        except CheckpointError:
            refused += 1
    assert refused > 1000


def test_towers_of_other_kinds_are_refused(tmp_path, monkeypatch):
    tiny.use_tokenizers(monkeypatch, "fake")
    with pytest.raises(CheckpointError, match="expected an input 'pixel_values' with 4 axes"):
        load_clip(*written(tmp_path, image=tiny.text_tower()))
    with pytest.raises(CheckpointError, match="expected an input 'input_ids' with 2 axes"):
        load_clip(*written(tmp_path, text=tiny.image_tower()))
    flat = tiny.value("y", 1, 4)
    with pytest.raises(CheckpointError, match="expected one output with an embedding"):
        opened(tiny.model(tiny.graph([tiny.node("Relu", ["x"], "y")], [], [tiny.value("x", 1, 4)], [flat])))
    with pytest.raises(BackendError, match="expected ONNX Runtime to open"):
        opened(
            tiny.model(tiny.graph([tiny.node("Nonsense", ["x"], "y")], [], [tiny.value("x", 1, 4)], [flat]))
        )
    small = written(tmp_path, text=tiny.text_tower(table=COLOURS_OF_TWO))
    with pytest.raises(BackendError, match="both halves of the same CLIP"):
        load_clip(*small)([RED], "red")
    short = written(tmp_path, text=tiny.text_tower(table=tiny.COLOURS[:3]))
    with pytest.raises(BackendError, match=r"expected ONNX Runtime to run text_model\.onnx"):
        load_clip(*short)([RED], "red")


COLOURS_OF_TWO = np.ones((8, 2), np.float32)


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"model": {"type": "Pickle"}}', b"[]"])
def test_a_broken_tokenizer_is_refused(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"expected a tokenizer in tokenizer\.json"):
        load_clip(*written(tmp_path, tokenizer=content))


# --- where the files are --------------------------------------------------------------------------------------------


def test_files_belong_together(tmp_path, monkeypatch):
    tiny.use_tokenizers(monkeypatch, "fake")
    image, *_ = written(tmp_path)
    with pytest.raises(InputError, match="three files of a CLIP"):
        load_clip(image)
    with pytest.raises(ModelError, match="cannot be read"):
        load_clip(tmp_path / "none.onnx", image, image)


def test_nothing_is_downloaded_that_cannot_be_compared(monkeypatch):
    tiny.use_tokenizers(monkeypatch, "fake")
    assert [file.sha256 for file in CLIP_FILES] == ["", "", ""]
    assert [file.file_name for file in CLIP_FILES] == list(FILES)
    with pytest.raises(ModelError, match=r"tokenizer\.json, but samlet does not download it because nobody"):
        load_clip()


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    tiny.use_tokenizers(monkeypatch, "none")
    with pytest.raises(MissingExtraError, match=r"pip install 'samlet\[text\]'"):
        load_clip(*written(tmp_path))


@pytest.mark.parametrize(
    ("here", "kind", "said"),
    [
        (
            False,
            "fake",
            r"put vision_model\.onnx, text_model\.onnx, tokenizer\.json of https://\S+ into \S+by_hand, or",
        ),
        (True, "none", r"text model; pip install 'samlet\[text\]', or pass scorer=rate"),
        (False, "none", r"by_hand and pip install 'samlet\[text\]', or pass scorer=rate"),
    ],
)
def test_without_a_clip_a_sentence_says_how_to_get_one(tmp_path, monkeypatch, here, kind, said):
    tiny.use_tokenizers(monkeypatch, kind)
    if here:
        written(tmp_path / "cache" / "by_hand")
    with pytest.raises(MissingExtraError, match=said) as caught:
        default_scorer()
    assert "\n" not in str(caught.value)


def test_a_clip_put_there_by_hand_is_taken_and_kept(tmp_path, monkeypatch):
    tiny.use_tokenizers(monkeypatch, "fake")
    written(tmp_path / "cache" / "by_hand")
    scorer = default_scorer()
    assert scorer([RED], "red") > scorer([GREEN], "red")
    assert default_scorer() is scorer
    assert (tmp_path / "cache" / "first_use.json").is_file()
