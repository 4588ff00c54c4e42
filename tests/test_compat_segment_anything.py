"""The drop-in for `segment_anything`: the original's shapes, types, errors and example code."""

import importlib.util
import warnings

import numpy as np
import pytest

from samlet.backends.fake import FakeBackend, decoded
from samlet.compat import segment_anything
from samlet.compat.segment_anything import (
    ResizeLongestSide,
    Sam,
    SamPredictor,
    arrays,
    build_sam,
    build_sam_vit_b,
    sam_model_registry,
)
from samlet.errors import CheckpointError, EmbeddingError, ImageError, ModelError, PromptError, SamletError
from samlet.registry import resolve
from samlet.session import Session

HW = (300, 400)
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def calls():
    """What the decoder was fed, call by call."""
    return []


@pytest.fixture
def sam(calls):
    """A Sam on the fake backend, which draws disks and boxes."""

    def decoder(feeds):
        calls.append(dict(feeds))
        if not feeds["point_labels"].size:  # the fake has no answer to no prompt
            count = len(feeds["mask_input"])
            feeds = feeds | {"point_coords": np.zeros((count, 1, 2)), "point_labels": np.full((count, 1), -1)}
        return decoded(feeds, 16)

    return Sam(Session(resolve("mobile_sam"), FakeBackend({"decoder": decoder}, stride=16)))


@pytest.fixture
def predictor(sam):
    """A predictor with a picture."""
    one = SamPredictor(sam)
    one.set_image(picture(0))
    return one


@pytest.fixture
def without_torch(monkeypatch):
    """No torch is loaded, as far as the drop-in can see."""
    monkeypatch.setattr(arrays, "loaded_torch", lambda: None)


def picture(seed, hw=HW):
    return np.random.default_rng(seed).integers(0, 255, (*hw, 3), np.uint8)


def test_import_paths():
    from samlet.compat.segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator
    from samlet.compat.segment_anything.build_sam import build_sam_vit_t
    from samlet.compat.segment_anything.modeling import Sam as Same
    from samlet.compat.segment_anything.predictor import SamPredictor as SamePredictor
    from samlet.compat.segment_anything.utils.amg import build_point_grid
    from samlet.compat.segment_anything.utils.onnx import SamOnnxModel
    from samlet.compat.segment_anything.utils.transforms import ResizeLongestSide as SameResize

    assert (Same, SamePredictor, SameResize) == (Sam, SamPredictor, ResizeLongestSide)
    assert SamAutomaticMaskGenerator is segment_anything.SamAutomaticMaskGenerator
    assert build_point_grid(2).shape == (4, 2)
    assert sam_model_registry["vit_t"] is build_sam_vit_t
    assert sam_model_registry["default"] is sam_model_registry["vit_h"] is segment_anything.build_sam_vit_h
    assert build_sam is sam_model_registry["vit_h"]
    assert {
        "vit_l",
        "vit_b",
        "efficientvit_l0",
        "efficientvit_l1",
        "efficientvit_l2",
    } <= sam_model_registry.keys()
    with pytest.raises(ModelError, match="use the original package"):
        SamOnnxModel(None, return_single_mask=True)


def test_shapes_and_types(predictor):
    masks, scores, logits = predictor.predict(np.array([[200, 150]]), np.array([1]))
    assert (masks.shape, masks.dtype) == ((3, *HW), np.bool_)
    assert (scores.shape, scores.dtype) == ((3,), np.float32)
    assert (logits.shape, logits.dtype) == ((3, 256, 256), np.float32)
    assert masks[:, 150, 200].all()
    assert not masks[:, 5, 5].any()
    masks[:] = True  # the caller's own
    single, score, _ = predictor.predict(np.array([[200, 150]]), np.array([1]), multimask_output=False)
    assert (single.shape, score.shape) == ((1, *HW), (1,))
    large, _, _ = predictor.predict(np.array([[200, 150]]), np.array([1]), return_logits=True)
    assert (large.shape, large.dtype) == ((3, *HW), np.float32)
    assert ((large > 0).mean(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"point_coords": np.array([[1, 2]])}, AssertionError),
        ({"point_coords": np.array([[1, 2]]), "point_labels": np.array([1, 0])}, RuntimeError),
        ({"point_coords": np.array([1, 2, 3]), "point_labels": np.array([1])}, RuntimeError),
        ({"point_coords": np.array([1, 2]), "point_labels": np.array([1])}, RuntimeError),
        ({"point_coords": np.array([["a", "b"]]), "point_labels": np.array([1])}, RuntimeError),
        ({"box": np.array([1, 2, 3])}, RuntimeError),
        ({"mask_input": np.zeros((2, 3, 256, 256))}, RuntimeError),
        ({"mask_input": np.zeros((256, 256))}, RuntimeError),
        ({"mask_input": np.zeros((1, 64, 64))}, PromptError),
        (
            {"box": np.zeros((3, 4)), "point_coords": np.array([[1, 2]]), "point_labels": np.array([1])},
            RuntimeError,
        ),
        ({"box": np.zeros((3, 4)), "mask_input": np.zeros((2, 256, 256))}, RuntimeError),
    ],
)
def test_prompts_that_make_no_sense(predictor, arguments, kind):
    for expected in (kind, PromptError):
        with pytest.raises(expected, match=r"expected .*, got .*; "):
            predictor.predict(**arguments)


def test_a_prompt_before_a_picture(sam):
    empty = SamPredictor(sam)
    for call in (
        lambda: empty.predict(np.array([[1, 2]]), np.array([1])),
        lambda: empty.predict_torch(None, None),
        empty.get_image_embedding,
    ):
        with pytest.raises(RuntimeError, match="set_image"):
            call()
        with pytest.raises(SamletError):
            call()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(HW, np.uint8),
        np.zeros((*HW, 4), np.uint8),
        np.zeros((*HW, 3), np.float32),
        np.zeros((0, 9, 3)),
    ],
)
def test_pictures_of_another_kind(sam, image):
    for kind in (RuntimeError, ImageError):
        with pytest.raises(kind, match=r"\(H, W, 3\)"):
            SamPredictor(sam).set_image(image)


def test_channel_order(sam):
    first, second = SamPredictor(sam), SamPredictor(sam)
    first.set_image(picture(1), image_format="RGB")
    second.set_image(picture(1)[..., ::-1], image_format="BGR")
    np.testing.assert_array_equal(arrays.to_numpy(first.features), arrays.to_numpy(second.features))
    with pytest.raises(AssertionError, match="'RGB' or 'BGR'"):
        first.set_image(picture(1), "HSV")


def test_reset_forgets_everything(predictor):
    assert (predictor.is_image_set, predictor.original_size, predictor.input_size) == (True, HW, (768, 1024))
    predictor.reset_image()
    assert not predictor.is_image_set
    assert predictor.features is predictor.original_size is predictor.input_size is None


def test_features_may_be_put_back(predictor):
    prompt = np.array([[100, 100]]), np.array([1])
    expected = predictor.predict(*prompt)
    other = SamPredictor(predictor.model)
    other.features, other.is_image_set = predictor.get_image_embedding(), True
    other.original_size, other.input_size = predictor.original_size, predictor.input_size
    for one, two in zip(other.predict(*prompt), expected, strict=True):
        np.testing.assert_array_equal(one, two)
    other.features = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(EmbeddingError):
        other.predict(*prompt)


def test_prompts_reach_the_network_as_they_are(predictor, calls):
    """Nothing is clipped, padding points stay tokens, labels without a meaning get none."""
    predictor.predict(np.array([[-100, 600], [200, 150], [0, 0]]), np.array([1, 0, -1]))
    predictor.predict(np.array([[40, 30], [80, 60]]), np.array([2, 3]), box=np.array([-50, -50, 900, 900]))
    assert calls[0]["point_labels"].tolist() == [[1, 0, -1, -1]]
    assert calls[0]["point_coords"].tolist() == [[[-256, 1536], [512, 384], [0, 0], [0, 0]]]
    assert calls[1]["point_labels"].tolist() == [[4, 4, 2, 3]]
    assert calls[1]["point_coords"][0, 2:].tolist() == [[-128, -128], [2304, 2304]]


def test_no_points_and_no_box_are_no_tokens(predictor, calls):
    masks, _, _ = predictor.predict()
    assert masks.shape == (3, *HW)
    predictor.predict(mask_input=np.full((1, 256, 256), 3.0))
    predictor.predict_torch(None, None, mask_input=np.ones((5, 1, 256, 256), np.float32))
    assert [call["point_coords"].shape for call in calls] == [(1, 0, 2), (1, 0, 2), (5, 0, 2)]
    assert [call["has_mask_input"].tolist() for call in calls] == [[0], [1], [1] * 5]
    assert calls[1]["mask_input"].mean() == 3


def test_several_boxes_at_once(predictor):
    """The original fails with a size error here."""
    boxes = np.array([[20, 30, 200, 200], [100, 50, 390, 290], [5, 5, 50, 250]])
    hints = np.random.default_rng(0).normal(size=(3, 256, 256)).astype(np.float32)
    masks, scores, logits = predictor.predict(box=boxes, mask_input=hints)
    assert (masks.shape, scores.shape, logits.shape) == ((3, 3, *HW), (3, 3), (3, 3, 256, 256))
    for index, box in enumerate(boxes):
        for given in (box, box[None]):
            alone = predictor.predict(box=given, mask_input=hints[index : index + 1])
            for one, many in zip(alone, (masks, scores, logits), strict=True):
                np.testing.assert_array_equal(one, many[index])


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_no_boxes_have_no_masks(predictor, multimask, count):
    """A detector that finds nothing is common, and nothing is the answer."""
    masks, scores, logits = predictor.predict_torch(None, None, np.zeros((0, 4)), multimask_output=multimask)
    assert masks.shape == (0, count, *HW)
    assert (scores.shape, logits.shape) == ((0, count), (0, count, 256, 256))


def test_predict_torch_in_the_networks_pixels(predictor, without_torch):
    points, labels = np.array([[[100, 100]], [[300, 200]]]), np.array([[1], [1]])
    masks, scores, logits = predictor.predict_torch(
        predictor.transform.apply_coords_torch(points, HW), labels, multimask_output=False
    )
    assert (masks.shape, scores.shape, logits.shape) == ((2, 1, *HW), (2, 1), (2, 1, 256, 256))
    assert isinstance(masks, np.ndarray)
    for index in range(2):
        alone = predictor.predict(points[index], labels[index], multimask_output=False)
        np.testing.assert_array_equal(masks[index], alone[0])
    with pytest.raises(AssertionError):
        predictor.predict_torch(points, None)
    hint = np.ones((1, 1, 256, 256))
    both = predictor.predict_torch(points, labels, mask_input=hint)
    alone = predictor.predict_torch(points[:1], labels[:1], mask_input=hint)
    np.testing.assert_array_equal(both[2][0], alone[2][0])


def test_a_resized_picture_gives_the_same(sam):
    one, two = SamPredictor(sam), SamPredictor(sam)
    image = picture(3)
    one.set_image(image)
    small = two.transform.apply_image(image)
    two.set_torch_image(small.transpose(2, 0, 1)[None], image.shape[:2])
    assert (two.original_size, two.input_size) == (one.original_size, one.input_size) == (HW, (768, 1024))
    np.testing.assert_array_equal(arrays.to_numpy(one.features), arrays.to_numpy(two.features))
    with pytest.raises(AssertionError, match="longer side of 1024"):
        two.set_torch_image(image.transpose(2, 0, 1)[None], image.shape[:2])


def test_end_to_end(sam):
    """Each picture has its own sizes and prompts; one without a prompt is answered too."""
    records, expected = [], []
    for seed, hw in ((1, (300, 400)), (2, (200, 100))):
        image, box = picture(seed, hw), np.array([[10, 10, 80, 90], [20, 30, 60, 60]])
        predictor = SamPredictor(sam)
        predictor.set_image(image)
        expected.append(predictor.predict(box=box, multimask_output=False))
        transform = ResizeLongestSide(sam.image_encoder.img_size)
        records.append({
            "image": transform.apply_image(image).transpose(2, 0, 1),
            "boxes": transform.apply_boxes(box, hw),
            "original_size": hw,
        })  # fmt: skip
    found = sam(records, multimask_output=False)
    for record, answer in zip(found, expected, strict=True):
        assert list(record) == ["masks", "iou_predictions", "low_res_logits"]
        for value, wanted in zip(record.values(), answer, strict=True):
            np.testing.assert_array_equal(arrays.to_numpy(value), wanted)
    bare = sam([{"image": records[0]["image"], "original_size": HW}], multimask_output=True)
    assert bare[0]["masks"].shape == (1, 3, *HW)
    with pytest.raises(PromptError, match=r"\(3, h, w\)"):
        sam([{"image": records[0]["image"][None], "original_size": HW}], False)


def test_sam_looks_like_the_original(sam):
    assert (sam.mask_threshold, sam.image_format, sam.image_encoder.img_size, str(sam.device)) == (
        0.0,
        "RGB",
        1024,
        "cpu",
    )
    assert arrays.to_numpy(sam.pixel_mean).ravel().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert arrays.to_numpy(sam.pixel_std).shape == (3, 1, 1)
    assert sam.to("cpu").to(device="cpu").eval().cpu().float().train(False) is sam
    with pytest.raises(ModelError, match="no torch parameters"):
        sam.train()
    with pytest.raises(AttributeError, match="no torch modules"):
        sam.mask_decoder  # noqa: B018
    for call in (lambda: sam.to("cuda:0"), lambda: sam.to(device="cuda"), sam.cuda, lambda: sam.to(0)):
        with pytest.warns(UserWarning, match="stays where its backend runs"):
            assert call() is sam
    x = np.full((2, 3, 512, 1024), 130, np.uint8)
    ready = arrays.to_numpy(sam.preprocess(x))
    assert (ready.shape, ready.dtype) == ((2, 3, 1024, 1024), np.float32)
    assert ready[0, 0, 0, 0] == pytest.approx((130 - 123.675) / 58.395)
    assert not ready[:, :, 512:].any()
    assert sam.preprocess(x[0]).shape == (3, 1024, 1024)
    assert sam.image_encoder(ready).shape == (2, 256, 64, 64)
    for call in (lambda: sam.preprocess(np.zeros((3, 2000, 10))), lambda: sam.image_encoder(x)):
        with pytest.raises(RuntimeError):
            call()


def test_other_families_are_refused():
    with pytest.raises(ModelError, match="square canvas"):
        Sam(Session(resolve("nano"), FakeBackend()))


def test_the_file_decides_not_the_name(monkeypatch):
    with pytest.raises(CheckpointError, match="weights of vit_b in mobile_sam, got those of vit_t"):
        build_sam_vit_b("mobile_sam", backend=FakeBackend(stride=16))
    asked = []
    monkeypatch.setattr("samlet.registry.resolve", lambda name: (asked.append(name), resolve(name))[1])
    for name, builder in sam_model_registry.items():
        assert isinstance(builder(backend=FakeBackend(stride=16)), Sam), name
    assert asked[:5] == ["sam_vit_h", "sam_vit_h", "sam_vit_l", "sam_vit_b", "mobile_sam"]


def test_resize_longest_side(without_torch):
    transform = ResizeLongestSide(1024)
    assert transform.get_preprocess_shape(1365, 2048, 1024) == (683, 1024)
    assert transform.apply_image(picture(0)).shape == (768, 1024, 3)
    assert transform.apply_image(picture(0)[..., 0]).shape == (768, 1024)
    assert transform.apply_image(picture(0)[..., :1]).shape == (768, 1024)
    coords = np.array([[200, 150]])
    assert transform.apply_coords(coords, HW).tolist() == [[512, 384]]
    assert coords.tolist() == [[200, 150]]
    assert transform.apply_boxes(np.array([100, 75, 200, 150]), HW).tolist() == [[256, 192, 512, 384]]
    boxes = transform.apply_boxes_torch(np.array([[100, 75, 200, 150]] * 2), HW)
    assert (boxes.shape, boxes.dtype) == ((2, 4), np.float32)
    small = transform.apply_image(picture(0)).astype(np.float32)
    floating = transform.apply_image_torch(picture(0).astype(np.float32).transpose(2, 0, 1)[None])
    assert floating.shape == (1, 3, 768, 1024)
    assert np.abs(floating[0].transpose(1, 2, 0) - small).max() <= 1
    for call in (
        lambda: transform.apply_coords(np.zeros((2, 3)), HW),
        lambda: transform.apply_boxes(np.zeros(3), HW),
        lambda: transform.apply_image_torch(np.zeros((3, 4, 4))),
        lambda: transform.apply_image(np.zeros((4, 4, 3))),
    ):
        with pytest.raises(RuntimeError):
            call()


@pytest.mark.torch
@pytest.mark.skipif(not HAS_TORCH, reason="needs torch")
def test_tensors_for_those_who_have_torch(sam, predictor):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedding = predictor.get_image_embedding()
        boxes = predictor.transform.apply_boxes_torch(torch.tensor([[10, 20, 200, 250]]), HW)
        masks, scores, logits = predictor.predict_torch(None, None, boxes=boxes, multimask_output=False)
        again = predictor.predict_torch(
            None, None, boxes=boxes, mask_input=logits.half(), multimask_output=False
        )
    assert (embedding.shape, embedding.dtype) == ((1, 256, 64, 64), torch.float32)
    assert (boxes.dtype, predictor.device) == (torch.float32, torch.device("cpu"))
    assert (masks.dtype, scores.dtype, logits.dtype) == (torch.bool, torch.float32, torch.float32)
    assert again[0].shape == masks.shape
    np.testing.assert_array_equal(
        masks[0], predictor.predict(box=np.array([10, 20, 200, 250]), multimask_output=False)[0]
    )
    enlarged = sam.postprocess_masks(logits, predictor.input_size, predictor.original_size)
    np.testing.assert_array_equal(enlarged > 0, masks)
    image = torch.tensor(picture(0)).permute(2, 0, 1)[None].float()
    assert predictor.transform.apply_image_torch(image).shape == (1, 3, 768, 1024)
    assert isinstance(sam.preprocess(image[0]), torch.Tensor)
    numpy_way = ResizeLongestSide(1024).apply_image_torch(image.numpy())
    assert np.abs(numpy_way - predictor.transform.apply_image_torch(image).numpy()).max() < 0.01
