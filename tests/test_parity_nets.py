"""EfficientViT's backbone against timm's port of the original (Apache-2.0), on the same random weights.

YOLOv8-seg has no such test here, for its reference is AGPL: see `benchmarks/yolo_raw_outputs.py`.
"""

import importlib.util
import warnings

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.torch]
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("timm") is None:
    pytest.skip("needs torch, torchvision and timm (make parity)", allow_module_level=True)

import torch

from samlet.nets.efficientvit import DEPTHS, EPS, WIDTHS, EfficientViTSam
from tests import torchvision_stub
from tests.net_checks import fit_norms_
from tests.parity_table import record

torchvision_stub.install()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from timm.models.efficientvit_mit import EfficientVitLarge


@pytest.mark.parametrize("size", DEPTHS)
@torch.no_grad()
def test_backbone_equals_the_original(size):
    torch.manual_seed(11)
    ours = EfficientViTSam(size)
    image = torch.rand(2, 3, 128, 192)
    fit_norms_(ours, image)
    reference = EfficientVitLarge(
        widths=WIDTHS, depths=DEPTHS[size][0], head_widths=(64, 64), num_classes=2, norm_eps=EPS
    ).eval()
    # Both list their weights in the order of the layers, under different names.
    mine, theirs = ours.backbone.state_dict(), reference.state_dict()
    names = [name for name in theirs if not name.startswith("head.")]
    assert [mine[key].shape for key in mine] == [theirs[name].shape for name in names]
    reference.load_state_dict(dict(zip(names, mine.values(), strict=True)), strict=False)

    x = image[:1]
    features = ours.backbone(x)
    y = reference.stem(x)
    stages = [y]
    for stage in reference.stages:
        y = stage(y)
        stages.append(y)
    for stage, (got, wanted) in enumerate(zip(features, stages, strict=True)):
        assert wanted.std() > 0.1  # a comparison of two constants would prove nothing
        difference = float((got - wanted).abs().max() / wanted.std())
        name = f"EfficientViT-{size.upper()} against timm, stage {stage}"
        record({"part": "Encoders: backbone features", "name": name, "difference": difference})
        assert difference <= 1e-4
