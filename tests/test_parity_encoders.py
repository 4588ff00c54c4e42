"""TinyViT and SAM's ViT against the original implementations, on the same random weights.

The references come from PyPI: `mobilesam-mirror`, `segment-anything-py`, and timm for TinyViT's other sizes.
"""

import importlib.util
import os
import warnings
from dataclasses import replace
from functools import partial

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.torch]
for name in ("torch", "mobile_sam", "segment_anything", "timm"):
    if importlib.util.find_spec(name) is None:
        pytest.skip(
            "needs torch, torchvision, timm, mobilesam-mirror and segment-anything-py (make parity)",
            allow_module_level=True,
        )

import torch

from samlet.nets.deploy import deploy_
from samlet.nets.tiny_vit import SIZES as TINY_SIZES
from samlet.nets.tiny_vit import TinyViT
from samlet.nets.vit import SIZES, SamViT
from tests import torchvision_stub
from tests.net_checks import fit_norms_
from tests.parity_table import record

torchvision_stub.install()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mobile_sam.modeling import TinyViT as OriginalTinyViT
    from segment_anything.modeling import ImageEncoderViT
    from timm.models import tiny_vit as timm_tiny_vit


def distance(got, wanted):
    """Largest difference in units of the wanted values' standard deviation."""
    spread = wanted.std()
    assert spread > 0.1  # a comparison of two constants would prove nothing
    return float((got - wanted).abs().max() / spread)


@torch.no_grad()
def shake_(net):
    """Move every weight away from where its initialisation hides it: zero positions, unit norms, no biases."""
    for name, parameter in net.named_parameters():
        if "attention_biases" in name or "pos" in name:
            parameter.normal_(std=0.5)
        elif parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))


@torch.no_grad()
def test_tiny_vit_equals_the_original():
    torch.manual_seed(17)
    ours = TinyViT("5m")
    shake_(ours)
    fit_norms_(ours, torch.randn(2, 3, 256, 256))
    sizes = TINY_SIZES["5m"]
    original = OriginalTinyViT(
        img_size=1024, embed_dims=list(sizes.dims), depths=list(sizes.depths), num_heads=[2, 4, 5, 10],
        window_sizes=list(sizes.windows), drop_path_rate=0.0, layer_lr_decay=0.8,
    )  # fmt: skip
    original.load_state_dict(ours.state_dict())
    original.eval()  # only now: the original caches its biases here
    image = torch.randn(1, 3, 1024, 1024)
    wanted = original(image)
    part, trained = "Encoders: embeddings", distance(ours(image), wanted)
    record({"part": part, "name": "TinyViT-5M, 1024 x 1024", "difference": float(trained)})
    assert trained <= 1e-4
    deploy_(ours)
    deployed = distance(ours(image), wanted)
    record({"part": part, "name": "TinyViT-5M, deploy form, 1024 x 1024", "difference": float(deployed)})
    assert deployed <= 1e-4


@pytest.mark.parametrize("size", TINY_SIZES)
def test_tiny_vit_has_the_published_size(size):
    with torch.device("meta"):
        ours = TinyViT(size)
    # Not by timm's registry: mobile_sam registers its own networks under the same names.
    theirs = getattr(timm_tiny_vit, f"tiny_vit_{size}_224")(num_classes=0)
    assert type(theirs).__name__ == "TinyVit"
    mine = [p for n, p in ours.named_parameters() if not n.startswith(("head.", "norm_head.", "neck."))]
    wanted = [p for n, p in theirs.named_parameters() if not n.startswith("head.")]
    assert sorted(tuple(p.shape) for p in mine) == sorted(tuple(p.shape) for p in wanted)


def vit_pair(size, side):
    """Ours, and the original built for pictures of `side` pixels with the same weights, cut to that size."""
    torch.manual_seed(19)
    ours = SamViT(size).eval()
    shake_(ours)
    with torch.device("meta"):
        original = ImageEncoderViT(
            img_size=side, embed_dim=size.dim, depth=size.depth, num_heads=size.heads, window_size=14,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True,
            global_attn_indexes=size.global_blocks,
        )  # fmt: skip
    grid, state = side // 16, ours.state_dict()
    for key, value in state.items():
        if key == "pos_embed":
            state[key] = value[:, :grid, :grid]
        elif "rel_pos" in key and len(value) == 127:
            state[key] = value[64 - grid : 63 + grid]
    original.load_state_dict(state, assign=True)
    return ours, original.eval()


VITS = {
    "b in SAM's square": (replace(SIZES["b"], depth=2, global_blocks=(1,)), 1024),
    "b, a smaller square": (SIZES["b"], 272),
    "l": (replace(SIZES["l"], depth=2, global_blocks=(1,)), 512),
    "h": (replace(SIZES["h"], depth=2, global_blocks=(1,)), 512),
}
if os.environ.get("SAMLET_PARITY") == "all":  # minutes, and 10 GB for the last
    VITS |= {f"{size}, whole": (SIZES[size], 1024) for size in ("b", "l", "h")}


@pytest.mark.parametrize("case", VITS)
@torch.no_grad()
def test_vit_equals_the_original(case):
    size, side = VITS[case]
    ours, original = vit_pair(size, side)
    image = torch.randn(1, 3, side, side)
    difference = distance(ours(image), original(image))
    name = f"ViT-{case}, {size.depth} blocks, {side} x {side}"
    record({"part": "Encoders: embeddings", "name": name, "difference": float(difference)})
    assert difference <= 1e-4
