"""Words to boxes to masks: boxes in the right place, one call for all, and nothing found is an answer."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from samlet.backends.fake import FakeBackend, decoded
from samlet.errors import InputError, MissingExtraError, ModelError, PromptError
from samlet.image import Image
from samlet.model import Model
from samlet.registry import resolve
from samlet.session import Session
from samlet.text import Detections, GroundingDino, Owl, load_detector, segment_text
from tests import text_models as tiny

CARD = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
HW = (60, 80)
PHOTO = Image.load(np.random.default_rng(0).integers(0, 255, (*HW, 3), np.uint8))
BOXES = [[10, 10, 30, 40], [40, 5, 75, 55], [11, 10, 30, 41]]


class Counted:
    """A session on the fake backend that counts its runs, and a detector that gives what it was told."""

    def __init__(self, boxes=BOXES, scores=(0.5, 0.9, 0.6), texts=("cat", "dog", "cat")):
        self.encoded, self.batches, self.asked = 0, [], []
        self.answer = Detections(boxes, scores, texts)
        fake = FakeBackend(channels=4).open("encoder").run

        def encoder(feeds):
            self.encoded += 1
            return fake(feeds)

        def decoder(feeds):
            self.batches.append(len(feeds["point_coords"]))
            return decoded(feeds, CARD.stride)

        self.session = Session(CARD, FakeBackend({"encoder": encoder, "decoder": decoder}, channels=4))

    def detect(self, image, texts, *, threshold):
        self.asked.append((image.hw, list(texts), threshold))
        return self.answer


def test_all_boxes_are_prompted_at_once():
    counted = Counted()
    masks = segment_text(counted.session, PHOTO, ["cat", "dog"], counted, box_threshold=0.3)
    assert counted.asked == [(HW, ["cat", "dog"], 0.3)]
    assert (counted.encoded, counted.batches) == (1, [2])  # the third box lies on the first, which is worse
    assert masks.facts["text"].tolist() == ["dog", "cat"]
    assert masks.facts["box_score"].tolist() == pytest.approx([0.9, 0.6])
    np.testing.assert_array_equal(masks.facts["box_xyxy"], [BOXES[1], BOXES[2]])
    for found, box in zip(masks.boxes_xyxy, (BOXES[1], BOXES[2]), strict=True):
        np.testing.assert_allclose(found, box, atol=3)
    assert masks.stability().shape == (2,)
    names = {each["id"]: each["name"] for each in masks.to_coco(labels=masks.facts["text"])["categories"]}
    assert names == {1: "dog", 2: "cat"}
    assert masks.draw().size == (80, 60)


def test_models_and_embeddings_do_as_well():
    counted = Counted()
    view = counted.session.embed(PHOTO)
    masks = segment_text(Model(counted.session), view, ["cat", "dog"], counted, nms_iou=1.0)
    assert (len(masks), counted.encoded) == (3, 1)
    with pytest.raises(InputError, match="embedding without one"):
        segment_text(counted.session, replace(view, image=None), "cat", counted)


@pytest.mark.parametrize(
    "answer",
    [
        Detections(np.zeros((0, 4)), np.zeros(0), []),
        Detections([], [], []),
        Detections(BOXES, [0.1, 0.2, 0.24], ["cat"] * 3),
        Detections([[90, 10, 120, 30], [5, 5, 5, 9]], [0.9, 0.9], ["cat"] * 2),  # outside, and without area
    ],
)
def test_no_detection_is_an_empty_answer(answer):
    """Grounded-SAM's scripts fail with an IndexError here."""
    counted = Counted()
    counted.answer = answer
    masks = segment_text(counted.session, PHOTO, "cat", counted)
    assert (len(masks), masks.masks.shape, masks.facts["text"].shape) == (0, (0, *HW), (0,))
    assert counted.encoded == 0
    assert masks.facts["box_xyxy"].shape == (0, 4)
    assert masks.to_coco(labels=masks.facts["text"])["annotations"] == []


def test_boxes_are_cut_at_the_border():
    counted = Counted([[-20, -5, 30, 90]], [0.9], ["cat"])
    masks = segment_text(counted.session, PHOTO, "cat", counted)
    assert masks.facts["box_xyxy"].tolist() == [[0, 0, 30, 60]]


@pytest.mark.parametrize(
    "answer",
    [
        Detections(BOXES, [0.9], ["cat"]),
        Detections(BOXES[:1], [0.9], ["cat", "dog"]),
        Detections([[1, 2, 3]], [0.9], ["cat"]),
        Detections([[1, 2, np.nan, 4]], [0.9], ["cat"]),
        Detections(BOXES[:1], [np.inf], ["cat"]),
        Detections(BOXES[:1], [0.9], ["bird"]),
    ],
)
def test_detectors_that_answer_otherwise_are_refused(answer):
    counted = Counted()
    counted.answer = answer
    with pytest.raises(InputError, match="from the detector"):
        segment_text(counted.session, PHOTO, ["cat", "dog"], counted)


def test_what_makes_no_sense_is_refused():
    counted = Counted()
    for options in ({"box_threshold": 1.5}, {"nms_iou": -1}, {"box_threshold": float("nan")}):
        with pytest.raises(InputError, match="expected thresholds"):
            segment_text(counted.session, PHOTO, "cat", counted, **options)
    with pytest.raises(PromptError, match="expected a phrase"):
        segment_text(counted.session, PHOTO, ["cat", ""], counted)
    assert not counted.asked


# --- OWLv2 ----------------------------------------------------------------------------------------------------------

LENGTHS = {"text_config": type("Text", (), {"max_position_embeddings": 16})}


def owl(kind="owlv2", logits=((2, -2), (-3, -1), (-4, 0)), boxes=((0.25, 0.25, 0.5, 0.5),) * 3):
    return tiny.FakeModel(kind, logits, boxes, **LENGTHS)


@pytest.mark.parametrize(
    ("kind", "hw", "box"),
    [
        ("owlv2", (60, 80), [0, 0, 40, 40]),
        ("owlv2", (80, 60), [0, 0, 40, 40]),
        ("owlvit", (60, 80), [0, 0, 40, 30]),
        ("owlvit", (80, 60), [0, 0, 30, 40]),
    ],
)
def test_boxes_of_a_padded_picture_are_shares_of_its_longer_side(kind, hw, box):
    """OWLv2 pads to a square, and its boxes used to be scaled by the picture's own sides (transformers 27205)."""
    image = Image.load(np.zeros((*hw, 3), np.uint8))
    found = Owl(owl(kind), tiny.OwlProcessor()).detect(image, ["cat", "dog"], threshold=0.4)
    np.testing.assert_allclose(found.boxes, [box, box])
    assert found.texts == ["cat", "dog"]
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-2)), 0.5], rtol=1e-6)


def test_texts_too_long_for_the_network_are_refused():
    with pytest.raises(PromptError, match="at most 16 tokens, got one of 22"):
        Owl(owl(), tiny.OwlProcessor()).detect(PHOTO, ["cat", "very " * 20], threshold=0.4)


# --- GroundingDINO --------------------------------------------------------------------------------------------------


def test_a_box_belongs_to_the_text_with_its_surest_word():
    # [CLS] a cat . red dogs(2) . [SEP] and tokens beyond the sentence, which the network sets to -inf
    logits = np.full((3, 12), -np.inf)
    logits[0, [1, 2, 4]] = -1, 2, 1
    logits[1, [0, 3, 7, 8]] = 9  # start, full stops and end are no words
    logits[2, [2, 6]] = 0, 0.5
    model = tiny.FakeModel("grounding-dino", logits, [(0.5, 0.5, 0.5, 1.0)] * 3, max_text_len=256)
    processor = tiny.DinoProcessor()
    found = GroundingDino(model, processor).detect(PHOTO, ["A cat.", "Red  dogs"], threshold=0.25)
    assert processor.sentences == ["a cat. red dogs."]
    assert found.texts == ["A cat.", "Red  dogs"]
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-0.5))], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [[20, 0, 60, 60]] * 2)


@pytest.mark.parametrize("texts", [["cat", "..."], ["cat", "?"], ["word " * 300]])
def test_texts_that_do_not_fit_into_one_sentence_are_refused(texts):
    model = tiny.FakeModel("grounding-dino", np.zeros((1, 256)), [(0.5, 0.5, 0.5, 1.0)], max_text_len=256)
    with pytest.raises(PromptError, match="in at most 256 tokens"):
        GroundingDino(model, tiny.DinoProcessor()).detect(PHOTO, texts, threshold=0.25)
    assert not model.calls


# --- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "made"), [("owlv2", Owl), ("owlvit", Owl), ("grounding-dino", GroundingDino)]
)
def test_detectors_are_loaded_without_network_or_foreign_code(monkeypatch, kind, made):
    model = owl(kind)
    seen = tiny.use_transformers(monkeypatch, model, tiny.OwlProcessor())
    detector = load_detector("google/owlv2-base-patch16-ensemble", device="cuda")
    assert isinstance(detector, made)
    safe = {"local_files_only": True, "trust_remote_code": False}
    assert [options for _, options in seen] == [safe, {**safe, "use_safetensors": True}]
    assert (model.training, model.grad, model.device) == (False, False, "cuda")


def test_downloads_are_left_to_transformers_unless_offline(monkeypatch):
    seen = tiny.use_transformers(monkeypatch, owl(), tiny.OwlProcessor())
    monkeypatch.delenv("SAMLET_OFFLINE", raising=False)
    load_detector("a/b", local_files_only=False)
    monkeypatch.setenv("SAMLET_OFFLINE", "1")
    load_detector("a/b", local_files_only=False)
    assert [options["local_files_only"] for _, options in seen] == [False, False, True, True]


def test_what_cannot_be_loaded_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="need the packages transformers and torch"):
        load_detector("a/b")
    tiny.use_transformers(monkeypatch, owl(), OSError("not\nin the\ncached files"))
    with pytest.raises(
        ModelError, match=r"cannot load it \(not in the cached files\); .*local_files_only=False"
    ):
        load_detector("a/b")
    tiny.use_transformers(monkeypatch, ImportError("requires the PyTorch library"), tiny.OwlProcessor())
    with pytest.raises(MissingExtraError, match="requires the PyTorch library"):
        load_detector("a/b")
    tiny.use_transformers(monkeypatch, owl("detr"), tiny.OwlProcessor())
    with pytest.raises(ModelError, match="expected a grounding-dino, owlv2 or owlvit, got 'detr'"):
        load_detector("a/b")


def test_a_loaded_detector_prompts_a_model(monkeypatch):
    tiny.use_transformers(monkeypatch, owl(), tiny.OwlProcessor())
    masks = segment_text(Counted().session, PHOTO, ["cat", "dog"], load_detector("a/b"), box_threshold=0.4)
    assert masks.facts["text"].tolist() == ["cat"]  # both boxes are the same, and the dog's is the worse
    np.testing.assert_allclose(masks.facts["box_xyxy"], [[0, 0, 40, 40]])
