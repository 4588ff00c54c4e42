"""EfficientViT-SAM: official keys and sizes, its own algebra against the plain one, the deploy form."""

import importlib.util

import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import torch
from torch.nn import functional as F

from samlet.errors import InputError
from samlet.nets.deploy import deploy_
from samlet.nets.efficientvit import EfficientViTSam, attend, resize
from tests.net_checks import fingerprint, fit_norms_, folded, parameters

# From the official checkpoints' keys under `image_encoder.`.
OFFICIAL = {
    "l0": (272, "63ad542742f19763fc93c0aa0f2d2d6ed470021c93716a3ace420f35dd6df82e", 30_728_224),
    "l1": (378, "bf970f5f77fecc54520cdea4ed071eefaaf93f4598212396d395d1070bc1ccc3", 43_585_568),
    "l2": (508, "4412f5c43e4ace487d888282680def83a10c7bb8f857d7e7d72b1ac3f6c3b3bc", 57_264_032),
}


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_keys(size):
    with torch.device("meta"):
        net = EfficientViTSam(size)
    keys, digest, numbers = OFFICIAL[size]
    assert fingerprint(net) == (keys, digest)
    assert parameters(net) == numbers


@pytest.fixture(scope="module")
def picture():
    torch.manual_seed(1)
    return torch.rand(2, 3, 128, 192)


@pytest.fixture(scope="module")
def trained(picture):
    torch.manual_seed(0)
    net = EfficientViTSam("l0")
    fit_norms_(net, picture)
    return net


@torch.no_grad()
def test_deploy_form_computes_the_same(trained, picture):
    official = {key: value.clone() for key, value in trained.state_dict().items()}
    net = EfficientViTSam(
        "l0"
    ).double()  # in float32 a random network magnifies rounding; the algebra is exact
    net.load_state_dict(official)
    net.eval()
    x = picture[:1].double()
    wanted = net(x)
    assert wanted.shape == (1, 256, 8, 12)
    assert wanted.std() > 0.1
    recipes = deploy_(net)
    assert (net(x) - wanted).abs().max() / wanted.std() <= 1e-9

    deployed = net.state_dict()
    file = {key: value.numpy().astype("float64") for key, value in official.items()}
    assert not [key for key in deployed if ".norm." in key]
    norms = {key.removesuffix("norm.running_var") for key in file if key.endswith("norm.running_var")}
    assert recipes.keys() == {f"{norm}conv.{kind}" for norm in norms for kind in ("weight", "bias")}
    for key, value in deployed.items():
        want = folded(recipes[key], file) if key in recipes else file[key]
        torch.testing.assert_close(value, torch.as_tensor(want), rtol=1e-9, atol=1e-12)


def test_deploying_twice_changes_nothing(trained):
    net = EfficientViTSam("l0")
    net.load_state_dict(trained.state_dict())
    deploy_(net)
    before = fingerprint(net)
    assert deploy_(net) == {}
    assert fingerprint(net) == before


@torch.no_grad()
def test_linear_attention_is_attention_with_a_relu_kernel():
    torch.manual_seed(2)
    heads, h, w = 3, 4, 5
    qkv = torch.randn(2, heads * 96, h, w, dtype=torch.float64)
    got = attend(qkv).reshape(2, heads, 32, h * w)
    for b in range(2):
        for head in range(heads):
            q, k, v = qkv[b, head * 96 : head * 96 + 96].reshape(3, 32, h * w)
            weights = q.relu().T @ k.relu()  # (queries, keys)
            wanted = (weights / weights.sum(1, keepdim=True)) @ v.T
            torch.testing.assert_close(got[b, head], wanted.T)


def test_attention_without_any_positive_query_is_zero():
    qkv = torch.ones(1, 96, 2, 2)
    qkv[:, :32] = -1
    assert torch.equal(attend(qkv), torch.zeros(1, 32, 2, 2))


@torch.no_grad()
def test_attention_sums_in_float32_under_autocast(trained, monkeypatch):
    seen = []
    monkeypatch.setattr("samlet.nets.efficientvit.attend", lambda qkv: seen.append(qkv.dtype) or attend(qkv))
    module = trained.backbone.stages[4].op_list[1].context_module.main
    with torch.autocast("cpu", torch.bfloat16):
        assert module(torch.randn(1, 512, 4, 4)).dtype == torch.bfloat16
    assert seen == [torch.float32]


@torch.no_grad()
def test_the_canvas_is_halved_bilinearly(trained, picture):
    half = F.interpolate(picture, scale_factor=0.5, mode="bilinear", align_corners=False)
    wanted = trained.norm(trained.neck(trained.backbone(half)))
    torch.testing.assert_close(trained(picture), wanted, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_neck_step_by_step(trained):
    torch.manual_seed(3)
    state = trained.neck.state_dict()

    def conv(x, name, padding=0):
        y = F.conv2d(x, state[f"{name}.conv.weight"], padding=padding)
        norm = [state[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(y, *norm, eps=1e-6)

    features = [
        torch.randn(1, c, 64 // s, 96 // s) for c, s in ((32, 1), (64, 2), (128, 4), (256, 8), (512, 16))
    ]
    y = 0
    for i, x in enumerate((features[4], features[3], features[2])):
        x = conv(x, f"input_ops.{i}.op_list.0")
        y = y + F.interpolate(x, (16, 24), mode="bicubic", align_corners=False)
    for i in range(4):
        name = f"middle.op_list.{i}.main"
        y = y + conv(F.gelu(conv(y, f"{name}.spatial_conv", 1), approximate="tanh"), f"{name}.point_conv")
    name = "output_ops.0.op_list.0.conv"
    wanted = F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"])
    torch.testing.assert_close(trained.neck(features), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (32, 20), (7, 9), (5, 40), (1, 1)])
def test_resize_is_torchs_bicubic(size):
    x = torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(4))
    wanted = F.interpolate(x, size, mode="bicubic", align_corners=False)
    torch.testing.assert_close(resize(x, *size), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_resize_in_bfloat16_keeps_its_places():
    x = torch.rand(1, 1, 100, 1)
    wanted = resize(x, 400, 1)
    torch.testing.assert_close(resize(x.bfloat16(), 400, 1).float(), wanted, rtol=0.03, atol=0.03)


def test_odd_sides_are_refused(trained):
    with pytest.raises(InputError, match="multiples of 32, got 100 x 128"):
        trained(torch.zeros(1, 3, 100, 128))
