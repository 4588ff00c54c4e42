"""Everything mode in its exact form against the original's generator, record for record.

Two networks answer the clicks. The original's decoder with random weights does so once, in SAM's own size; its
masks are cut at the median of their logits, where most are neither empty nor full. A drawn model does so for all
settings: it marks what has the colour of the clicked place, which gives masks with holes and islands, and costs
nothing. Both stand in the original and in samlet with the same numbers.

The reference is `segment-anything-py` from PyPI (the original code); it is never a dependency of samlet.
"""

import importlib.util
import sys
import types
import warnings
from dataclasses import replace

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.torch]
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("segment_anything") is None:
    pytest.skip("needs torch, torchvision and segment-anything-py (make parity)", allow_module_level=True)

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from samlet.backends.fake import FakeBackend
from samlet.compat.segment_anything import amg as ours_amg
from samlet.compat.segment_anything.automatic import SamAutomaticMaskGenerator
from samlet.image import Image
from samlet.nets.mask_decoder import SamDecoder
from samlet.prompt import Prompt
from samlet.registry import resolve
from samlet.rle import rle_to_mask, rle_to_string
from samlet.session import Session
from tests import torchvision_stub
from tests.parity_table import record

torchvision_stub.install()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from segment_anything import SamAutomaticMaskGenerator as Reference
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from segment_anything.utils import amg as reference_amg

PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(autouse=True)
def our_nms_will_do(monkeypatch):
    """torchvision looks for its compiled library before it calls the operator that the stub stands in for."""
    monkeypatch.setattr("torchvision.ops.boxes._assert_has_ops", lambda: None)


class Drawn:
    """A model of four lines: 256 x 256 input, logits 64 x 64, one colour distance for each click."""

    side = 256

    def encode(self, image):
        """(1, 3, 256, 256) -> (1, 256, 16, 16): mean colours, and zeros."""
        return F.pad(F.avg_pool2d(image, 16), (0, 0, 0, 0, 0, 253))

    def answer(self, embedding, xy):
        """Clicks (N, 2) in the canvas -> logits (N, 4, 64, 64) and scores (N, 4)."""
        colours = embedding[0, :3]
        column, row = ((xy + 1e-3) / 16).long().clamp(0, 15).unbind(-1)
        clicked = colours[:, row, column].T[..., None, None]  # (N, 3, 1, 1)
        distance = (colours - clicked).square().sum(1).sqrt()  # (N, 16, 16)
        distance = F.interpolate(distance[:, None], size=(64, 64), mode="bilinear")
        y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        away = torch.hypot(x - xy[:, :1, None].float() / 4, y - xy[:, 1:, None].float() / 4)
        distance = distance + 0.05 * away[:, None]  # what is far is less likely the same thing
        ripple = 0.15 * torch.sin(x * 1.9) * torch.sin(y * 2.3)  # small holes and islands
        radii = torch.tensor([0.5, 0.5, 0.8, 1.3])[:, None, None]
        phase = xy.float().sum(-1, keepdim=True) * 0.05 + torch.arange(4.0)
        return 9 * (radii - distance - ripple), 0.8 + 0.2 * torch.sin(phase)


class ReferenceParts(nn.Module):
    """The drawn model in the places of the original's encoder, prompt encoder and decoder."""

    class Encoder(nn.Module):
        img_size = Drawn.side

        def forward(self, image):
            return Drawn().encode(image)

    class Prompts(nn.Module):
        def forward(self, points, boxes, masks):
            return points[0][:, 0], None

        def get_dense_pe(self):
            return None

    class Decoder(nn.Module):
        def forward(self, image_embeddings, sparse_prompt_embeddings, multimask_output, **rest):
            logits, scores = Drawn().answer(image_embeddings, sparse_prompt_embeddings.double())
            return logits[:, 1:], scores[:, 1:]


def card(side):
    return replace(resolve("mobile_sam"), side=side, mask_grid=side // 4)


def drawn_pair():
    """The drawn model as the original's `Sam` and as what samlet's generator wants of one."""
    reference = Sam(
        ReferenceParts.Encoder(), ReferenceParts.Prompts(), ReferenceParts.Decoder(), PIXEL_MEAN, PIXEL_STD
    )

    def encoder(feeds):
        return {"image_embeddings": Drawn().encode(torch.from_numpy(feeds["image"])).numpy()}

    def decoder(feeds):
        assert all(array.dtype == np.float32 for array in feeds.values())
        logits, scores = Drawn().answer(
            torch.tensor(feeds["image_embeddings"]), torch.from_numpy(feeds["point_coords"][:, 0]).double()
        )
        return {"low_res_masks": logits.numpy(), "iou_predictions": scores.numpy()}

    session = Session(card(Drawn.side), FakeBackend({"encoder": encoder, "decoder": decoder}))
    return reference.eval(), like_sam(session)


def like_sam(session, mask_threshold=0.0):
    return types.SimpleNamespace(session=session, mask_threshold=mask_threshold, image_format="RGB")


def records_agree(reference, ours, *, pixels=2, masks=0.05):
    """Compare field by field and in order; a pixel may fall to the other side where a logit equals the threshold.

    The last digits of a logit depend on the order of sums, which no two implementations share. At most `pixels` of
    a mask may differ, and at most the share `masks` of all masks in any pixel.
    """
    assert len(reference) == len(ours)
    different = most = 0
    for a, b in zip(reference, ours, strict=True):
        assert list(a) == list(b)
        changed = int((mask_of(a["segmentation"]) ^ mask_of(b["segmentation"])).sum())
        assert changed <= pixels
        different, most = different + (changed > 0), max(most, changed)
        assert abs(a["area"] - b["area"]) <= changed
        assert np.abs(np.subtract(a["bbox"], b["bbox"])).max() <= min(changed, 1)
        assert a["crop_box"] == b["crop_box"]
        assert type(b["area"]) is int
        assert {type(side) for side in (*b["bbox"], *b["crop_box"])} == {int}
        assert a["predicted_iou"] == pytest.approx(b["predicted_iou"], abs=1e-4)
        step = 2 * pixels / max(a["area"], 1)  # what a pixel on the other side does
        assert a["stability_score"] == pytest.approx(b["stability_score"], abs=max(1e-4, step))
        np.testing.assert_allclose(a["point_coords"], b["point_coords"], rtol=1e-12)
        assert [len(point) for point in b["point_coords"]] == [2]
        assert {type(value) for value in b["point_coords"][0]} == {float}
    assert different <= masks * len(ours)
    return {
        "sum of records": len(ours),
        "sum of masks that differ at all": different,
        "pixels they differ by": most,
    }


def mask_of(segmentation):
    return segmentation if isinstance(segmentation, np.ndarray) else rle_to_mask(segmentation)


LOW = {"pred_iou_thresh": 0.7, "stability_score_thresh": 0.4, "box_nms_thresh": 0.85}
CROPS = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2, "crop_nms_thresh": 0.8}
GRIDS = [np.random.default_rng(2).random((40, 2))]
CASES = {  # picture, settings, least number of records
    "grid": ("coffee", {**LOW, "points_per_side": 9}, 50),
    "crops": ("coffee", {**LOW, **CROPS, "points_per_side": 10}, 50),
    "two layers of crops": ("chelsea", {**LOW, **CROPS, "points_per_side": 8, "crop_n_layers": 2}, 50),
    "clean-up": ("coffee", {**LOW, "points_per_side": 9, "min_mask_region_area": 400}, 50),
    "crops and clean-up": (
        "chelsea",
        {**LOW, **CROPS, "points_per_side": 10, "min_mask_region_area": 900, "crop_overlap_ratio": 0.5},
        50,
    ),
    "a large clean-up": ("astronaut", {**LOW, "points_per_side": 8, "min_mask_region_area": 30_000}, 3),
    "grids of one's own": ("coffee", {**LOW, "points_per_side": None, "point_grids": GRIDS}, 30),
    "odd batches": ("coffee", {**LOW, "points_per_side": 7, "points_per_batch": 5}, 20),
    "no bounds": (
        "coffee",
        {"points_per_side": 5, "pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1.0},
        75,
    ),
    "a small step of the threshold": (
        "coffee",
        {**LOW, "points_per_side": 8, "stability_score_offset": 0.3},
        20,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_records_equal_the_original(case, sample):
    name, settings, least = CASES[case]
    picture = Image.load(sample(name)).pixels
    reference, ours = drawn_pair()
    wanted = Reference(reference, **settings).generate(picture.copy())
    assert len(wanted) >= least
    row = records_agree(wanted, SamAutomaticMaskGenerator(ours, **settings).generate(picture))
    record({"part": "SamAutomaticMaskGenerator: records in order", "name": case, **row})


def test_the_cases_are_hard_enough(sample):
    """Suppression, the crops and the clean-up each change the answer of the drawn model."""
    picture = Image.load(sample("coffee")).pixels
    _, ours = drawn_pair()

    def found(**settings):
        return SamAutomaticMaskGenerator(ours, **{**LOW, "points_per_side": 12, **settings}).generate(picture)

    plain, cleaned = found(), found(min_mask_region_area=400)
    assert len(plain) < len(found(box_nms_thresh=1.0))
    assert [one["area"] for one in plain] != [one["area"] for one in cleaned]
    crops = {tuple(one["crop_box"]) for one in found(**CROPS)}
    assert len(crops) == 5


@pytest.mark.parametrize("mode", ["uncompressed_rle", "coco_rle", "binary_mask"])
def test_output_modes_equal_the_original(mode, sample, monkeypatch):
    picture = Image.load(sample("astronaut")).pixels
    reference, ours = drawn_pair()
    settings = {**LOW, "points_per_side": 6, "output_mode": mode}
    if mode == "coco_rle" and importlib.util.find_spec("pycocotools") is None:
        # The original lets pycocotools compress; tests/test_codecs.py compares our strings with its.
        tool = types.ModuleType("pycocotools.mask")
        tool.frPyObjects = lambda rle, h, w: {"size": [h, w], "counts": rle_to_string(rle).encode()}
        package = types.ModuleType("pycocotools")
        package.mask = tool
        monkeypatch.setitem(sys.modules, "pycocotools", package)
        monkeypatch.setitem(sys.modules, "pycocotools.mask", tool)
    wanted = Reference(reference, **settings).generate(picture.copy())
    records = SamAutomaticMaskGenerator(ours, **settings).generate(picture)
    assert len(wanted) > 20
    records_agree(wanted, records)
    for a, b in zip(wanted, records, strict=True):
        assert type(a["segmentation"]) is type(b["segmentation"])
        if mode != "binary_mask":
            assert a["segmentation"] == b["segmentation"]


@pytest.mark.parametrize("hw", [(300, 40), (31, 200), (9, 9)])
def test_odd_pictures_equal_the_original(hw):
    picture = np.random.default_rng(5).integers(0, 255, (*hw, 3), np.uint8)
    reference, ours = drawn_pair()
    settings = {**LOW, "points_per_side": 6, "stability_score_thresh": 0.3, **CROPS}
    wanted = Reference(reference, **settings).generate(picture.copy())
    assert wanted
    records_agree(wanted, SamAutomaticMaskGenerator(ours, **settings).generate(picture))


class _RandomEncoder(nn.Module):
    img_size = 1024

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 256, 16, 16)

    def forward(self, image):
        return self.conv(image)


@torch.no_grad()
def test_records_equal_with_the_originals_decoder(sample):
    torch.manual_seed(7)
    prompts = PromptEncoder(
        embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(num_multimask_outputs=3, transformer=transformer, transformer_dim=256)
    for module in (prompts, decoder):
        for parameter in module.parameters():  # default initialisation leaves norms at 1 and biases near 0
            parameter += 0.05 * torch.randn_like(parameter)
    for layer in (0, 3):  # without this the masks are salt and pepper; with it they have parts of 4 x 4 cells
        weight = decoder.output_upscaling[layer].weight
        weight.copy_(2 * weight.mean((2, 3), keepdim=True).expand_as(weight))
    reference = Sam(_RandomEncoder(), prompts, decoder, PIXEL_MEAN, PIXEL_STD).eval()
    net = SamDecoder().eval()
    net.prompt_encoder.load_state_dict(prompts.state_dict())
    net.mask_decoder.load_state_dict(decoder.state_dict())

    def encode(feeds):
        return {"image_embeddings": reference.image_encoder(torch.from_numpy(feeds["image"])).numpy()}

    def decode(feeds):
        names = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
        scores, logits = net(*(torch.tensor(feeds[name]) for name in names))
        return {"iou_predictions": scores.numpy(), "low_res_masks": logits.numpy()}

    session = Session(card(1024), FakeBackend({"encoder": encode, "decoder": decode}))
    picture = Image.load(sample("coffee"))
    some = Prompt.make(image_hw=picture.hw, points=[[[100, 100]], [[300, 200]]])
    logits = session.segment(session.embed(picture), some, multimask=True).logits[..., :170, :]
    reference.mask_threshold = float(np.median(logits))
    settings = {
        "points_per_side": None,
        "point_grids": [np.random.default_rng(0).random((20, 2))],
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.2,
        "stability_score_offset": 0.05 * float(logits.std()),
        "box_nms_thresh": 1.0,
    }
    picture = picture.pixels
    wanted = Reference(reference, **settings).generate(picture.copy())
    assert len(wanted) >= 50
    areas = np.array([one["area"] for one in wanted]) / picture[..., 0].size
    assert ((areas > 0.01) & (areas < 0.99)).sum() >= 50
    ours = like_sam(session, reference.mask_threshold)
    records = SamAutomaticMaskGenerator(ours, **settings).generate(picture)
    records_agree(wanted, records, pixels=240, masks=0.6)  # of 240,000


@pytest.mark.parametrize("form", ["array", "tensor"])
def test_helpers_equal_the_original(form):
    rng = np.random.default_rng(0)

    def give(array):
        return torch.tensor(array) if form == "tensor" else np.asarray(array)

    def same(ours, wanted):
        assert isinstance(ours, torch.Tensor) == (form == "tensor")
        ours, wanted = np.asarray(ours), np.asarray(wanted)
        assert ours.dtype == wanted.dtype
        np.testing.assert_array_equal(ours, wanted)

    logits = rng.normal(0, 2, (6, 20, 30)).astype(np.float32)
    logits[2], logits[3] = -9, 9
    masks = logits > 1
    boxes = rng.integers(0, 100, (50, 4))
    crop, whole = [10, 20, 90, 100], [0, 0, 100, 120]
    for name, arguments in {
        "calculate_stability_score": (logits, 0.0, 1.0),
        "batched_mask_to_box": (masks,),
        "uncrop_boxes_xyxy": (boxes, crop),
        "uncrop_points": (boxes[:, :2] + 0.5, crop),
        "uncrop_masks": (masks, [3, 4, 33, 24], 40, 50),
        "is_box_near_crop_edge": (boxes, crop, whole),
    }.items():
        array, *rest = arguments
        same(
            getattr(ours_amg, name)(give(array), *rest),
            getattr(reference_amg, name)(torch.tensor(array), *rest),
        )
    same(ours_amg.box_xyxy_to_xywh(give(boxes[0])), reference_amg.box_xyxy_to_xywh(torch.tensor(boxes[0])))
    rles = reference_amg.mask_to_rle_pytorch(torch.tensor(masks))
    assert ours_amg.mask_to_rle_pytorch(give(masks)) == rles
    for rle, mask in zip(rles, masks, strict=True):
        np.testing.assert_array_equal(ours_amg.rle_to_mask(rle), mask)
        assert ours_amg.area_from_rle(rle) == reference_amg.area_from_rle(rle) == mask.sum()


def test_plain_helpers_equal_the_original():
    for mine, theirs in zip(
        ours_amg.build_all_layer_point_grids(12, 2, 2),
        reference_amg.build_all_layer_point_grids(12, 2, 2),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    for size in ((400, 600), (601, 399), (64, 64)):
        for ratio in (0.0, 512 / 1500, 0.6):
            assert ours_amg.generate_crop_boxes(size, 3, ratio) == reference_amg.generate_crop_boxes(
                size, 3, ratio
            )
    rng = np.random.default_rng(1)
    for share in (0.02, 0.3, 0.5, 0.9):
        mask = rng.random((40, 50)) < share
        for what in ("holes", "islands"):
            for area in (1, 3, 10, 10**5):
                mine, theirs = (
                    kit.remove_small_regions(mask, area, what) for kit in (ours_amg, reference_amg)
                )
                np.testing.assert_array_equal(mine[0], theirs[0])
                assert mine[1] == theirs[1]
    batches = list(ours_amg.batch_iterator(3, list(range(7)), np.arange(7)))
    wanted = list(reference_amg.batch_iterator(3, list(range(7)), np.arange(7)))
    assert [[list(part) for part in batch] for batch in batches] == [
        [list(part) for part in batch] for batch in wanted
    ]
    stats = {"a": torch.arange(4), "b": np.arange(4), "c": list("wxyz")}
    mine, theirs = ours_amg.MaskData(**stats), reference_amg.MaskData(**stats)
    for data, kind in ((mine, ours_amg.MaskData), (theirs, reference_amg.MaskData)):
        data.filter(torch.tensor([True, False, True, True]))
        data.filter(torch.tensor([2, 0]))
        data.cat(kind(a=torch.arange(2), b=np.arange(2), c=["p", "q"]))
        data.to_numpy()
    for name, column in theirs.items():
        assert list(mine[name]) == list(column)
        assert type(mine[name]) is type(column)
