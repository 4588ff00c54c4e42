"""SAM's ViT: official keys and sizes, attention by its definition, smaller pictures, the deploy form and its export."""

import importlib.util
import io
import warnings

import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import numpy as np
import torch

from samlet.errors import InputError
from samlet.nets.deploy import deploy_
from samlet.nets.vit import WINDOW, Attention, SamViT, ViTSize
from tests.net_checks import fingerprint, parameters

# From the official checkpoints' keys under `image_encoder.`.
OFFICIAL = {
    "b": (177, "40298d9b0baa59ba31f15f653fe18f04af54f2fb2603efbc0e27960360faedbe", 89_670_912),
    "l": (345, "94f7607400d7e5778178f6697a37a0a183c4b10ed4160249556840cb616900c8", 308_278_272),
    "h": (457, "2990ed4ce5fb6ff2746f28c8e2bb4f2bd99d84f311f62a1643b75f4352c93b68", 637_026_048),
}
SMALL = ViTSize(dim=48, depth=3, heads=2, global_blocks=(2,))


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_keys(size):
    with torch.device("meta"):
        net = SamViT(size)
    keys, digest, numbers = OFFICIAL[size]
    assert fingerprint(net) == (keys, digest)
    assert parameters(net) == numbers


def small(seed):
    """A small network in which every weight matters; the official start has positions of zero."""
    torch.manual_seed(seed)
    net = SamViT(SMALL).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "pos" in name:
                parameter.normal_()
            elif parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.mul_(2)
    return net


@pytest.fixture(scope="module")
def trained():
    return small(0)


@pytest.mark.parametrize("hw", [(16, 16), (1024, 48), (240, 400)])
@torch.no_grad()
def test_any_multiple_of_16(trained, hw):
    assert trained(torch.zeros(1, 3, *hw)).shape == (1, 256, hw[0] // 16, hw[1] // 16)


@pytest.mark.parametrize("hw", [(64, 72), (1040, 64)])
def test_other_sizes_are_refused(trained, hw):
    with pytest.raises(InputError, match=f"got {hw[0]} x {hw[1]}"):
        trained(torch.zeros(1, 3, *hw))


def plain_attention(attention, x, hw):
    """(1, H * W, C) by the definition: content over sqrt(d), plus the two terms of position of the bare query."""
    (h, w), d = hw, attention.head_dim
    q, k, v = attention.qkv(x).reshape(h * w, 3, attention.heads, d).permute(1, 2, 0, 3)
    row, column = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
    far = attention.grid - 1
    rows = attention.rel_pos_h[row[:, None] - row + far]  # (N, N, d)
    columns = attention.rel_pos_w[column[:, None] - column + far]
    scores = q @ k.transpose(-1, -2) / d**0.5
    scores = scores + torch.einsum("hqd,qkd->hqk", q, rows) + torch.einsum("hqd,qkd->hqk", q, columns)
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(1, h * w, -1)


@pytest.mark.parametrize(("grid", "hw"), [(6, (6, 6)), (6, (4, 5)), (6, (1, 3)), (WINDOW, (WINDOW, WINDOW))])
@torch.no_grad()
def test_attention_by_its_definition(grid, hw):
    torch.manual_seed(1)
    attention = Attention(40, 2, grid)
    attention.rel_pos_h.normal_()
    attention.rel_pos_w.normal_()
    x = torch.randn(1, hw[0] * hw[1], 40)
    torch.testing.assert_close(attention(x, hw), plain_attention(attention, x, hw), rtol=1e-4, atol=1e-5)


def test_everything_learns():
    net = small(3)
    (net(torch.randn(1, 3, 240, 272)) * torch.randn(1, 256, 15, 17)).sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


@torch.no_grad()
def test_deploy_form_computes_the_same(trained):
    file = {key: value.numpy().copy() for key, value in trained.state_dict().items()}
    net = SamViT(SMALL).eval()
    net.load_state_dict(trained.state_dict())
    x = torch.randn(1, 3, 160, 256)
    wanted = net(x)
    assert wanted.std() > 0.1
    recipes = deploy_(net)
    assert torch.equal(net(x), wanted)  # the same numbers, only laid out

    tables = {key for key in file if "rel_pos" in key}
    assert len(tables) == 6
    assert recipes.keys() == {key.replace("rel_pos", "rel") for key in tables}
    for key, value in net.state_dict().items():
        want = spread(file, recipes[key]) if key in recipes else file[key]
        np.testing.assert_array_equal(value.numpy(), want, err_msg=key)
    assert net.blocks[0].attn.rel_h.shape == (14, 14, 24)
    assert net.blocks[2].attn.rel_w.shape == (64, 64, 24)
    assert deploy_(net) == {}


def spread(file, recipe):
    """The recipe "relative" by its definition."""
    size, table = recipe["size"], file[recipe["from"]]
    return np.stack([np.stack([table[q - k + size - 1] for k in range(size)]) for q in range(size)])


@torch.no_grad()
def test_exported_graph_takes_any_size(trained):
    pytest.importorskip("onnxscript")
    import onnxruntime

    net = SamViT(SMALL)
    net.load_state_dict(trained.state_dict())
    deploy_(net)
    sides = {2: 16 * torch.export.Dim("h", min=1, max=64), 3: 16 * torch.export.Dim("w", min=1, max=64)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            net, kwargs={"image": torch.zeros(1, 3, 320, 336)}, dynamic_shapes={"image": sides},
            opset_version=20, dynamo=True, optimize=False, verbose=False,
        )  # fmt: skip
    assert set(net.state_dict()) <= set(program.model.graph.initializers)
    data = io.BytesIO()
    program.save(data, external_data=False)
    session = onnxruntime.InferenceSession(data.getvalue(), providers=["CPUExecutionProvider"])
    for hw in ((16, 32), (96, 400), (512, 224)):
        image = torch.randn(1, 3, *hw)
        (got,) = session.run(None, {"image": image.numpy()})
        wanted = trained(image).numpy()
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() / wanted.std() <= 1e-4
