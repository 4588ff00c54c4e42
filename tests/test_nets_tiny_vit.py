"""TinyViT: official keys and sizes, any multiple of 16, a bias that is never stale, the deploy form and its export."""

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
from samlet.nets.tiny_vit import TinyViT, TinyViTSize, WindowAttention
from samlet.nets.windows import from_windows, to_windows
from tests.net_checks import fingerprint, fit_norms_, folded, parameters

SMALL = TinyViTSize((32, 64, 96, 128), depths=(1, 1, 2, 1))


def test_official_keys():
    with torch.device("meta"):
        net = TinyViT("5m")
    assert fingerprint(net) == (302, "66b1728c94b7fa422b33b775344dac5c27ea3412f083b619c061916405966173")
    assert parameters(net) == 6_065_532
    deploy_(net)
    live = net.state_dict()
    assert not [key for key in live if "head" in key or ".bn." in key or "attention_biases" in key]
    assert live["layers.2.blocks.5.attn.bias"].shape == (5, 196, 196)


def test_size_without_the_classifier():
    with torch.device("meta"):
        net = TinyViT("5m")
    assert parameters(net) - parameters(net.head) - parameters(net.norm_head) == 5_743_892


def small(seed):
    """A small network in which every weight matters."""
    torch.manual_seed(seed)
    net = TinyViT(SMALL)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("attention_biases"):
                parameter.normal_()
            elif parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    fit_norms_(net, torch.randn(2, 3, 128, 96))
    return net


@pytest.fixture(scope="module")
def trained():
    return small(0)


@pytest.mark.parametrize("hw", [(16, 16), (48, 208), (240, 112)])
@torch.no_grad()
def test_any_multiple_of_16(trained, hw):
    assert trained(torch.zeros(1, 3, *hw)).shape == (1, 256, hw[0] // 16, hw[1] // 16)


def test_other_sizes_are_refused(trained):
    with pytest.raises(InputError, match="multiples of 16, got 100 x 64"):
        trained(torch.zeros(1, 3, 100, 64))


@torch.no_grad()
def test_a_picture_of_a_batch_does_not_see_the_others(trained):
    images = torch.randn(2, 3, 80, 144)
    torch.testing.assert_close(trained(images)[1:], trained(images[1:]), rtol=1e-4, atol=1e-4)


def test_windows_and_back():
    x = torch.randn(2, 9, 15, 3)
    windows = to_windows(x, 7)
    assert windows.shape == (2 * 2 * 3, 49, 3)
    torch.testing.assert_close(windows[1].reshape(7, 7, 3), x[0, :7, 7:14])
    corner = windows[5].reshape(7, 7, 3)  # rows 7 and 8, column 14, and nothing else
    torch.testing.assert_close(corner[:2, 0], x[0, 7:, 14])
    assert corner[2:].abs().max() == corner[:, 1:].abs().max() == 0
    torch.testing.assert_close(from_windows(windows, 7, (9, 15)), x)


def plain_attention(attention, tokens):
    """One window (N, C) -> (N, C), by the definition: head by head, bias by |row|, |column| distance."""
    size = attention.window
    y = attention.qkv(attention.norm(tokens))
    out = []
    for head, part in enumerate(y.split(96, -1)):
        q, k, v = part.split(32, -1)
        scores = q @ k.T / 32**0.5
        for a in range(size * size):
            for b in range(size * size):
                row, column = abs(a // size - b // size), abs(a % size - b % size)
                scores[a, b] += attention.attention_biases[head, row * size + column]
        out.append(scores.softmax(-1) @ v)
    return attention.proj(torch.cat(out, -1))


@torch.no_grad()
def test_attention_by_its_definition():
    torch.manual_seed(2)
    attention = WindowAttention(64, 3)
    attention.attention_biases.normal_()
    attention.norm.bias.normal_()
    x = torch.randn(1, 3, 2, 64)
    padded = torch.cat([x, torch.zeros(1, 3, 1, 64)], 2)  # zeros before the norm: they become its bias
    wanted = plain_attention(attention, padded.reshape(9, 64)).reshape(1, 3, 3, 64)[:, :, :2]
    torch.testing.assert_close(attention(x), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_bias_follows_the_weights(trained):
    """MobileSAM caches it in eval(), before the weights are loaded, and then runs on zeros."""
    x = torch.randn(1, 3, 64, 96)
    late = TinyViT(SMALL).eval()
    late(x)
    late.load_state_dict(trained.state_dict())
    assert torch.equal(late(x), trained(x))
    biases = late.layers[2].blocks[0].attn.attention_biases
    biases.copy_(torch.randn_like(biases))
    assert (late(x) - trained(x)).abs().max() > 1e-3


def test_everything_that_is_read_learns():
    net = small(3).train()
    (net(torch.randn(2, 3, 64, 112)) * torch.randn(2, 256, 4, 7)).sum().backward()
    dead = {name for name, p in net.named_parameters() if p.grad is None}
    assert dead == {"head.weight", "head.bias", "norm_head.weight", "norm_head.bias"}
    for name, p in net.named_parameters():
        if p.grad is not None:
            assert p.grad.isfinite().all() and p.grad.any(), name


@torch.no_grad()
def test_deploy_form_computes_the_same(trained):
    file = {key: value.numpy().astype("float64") for key, value in trained.state_dict().items()}
    net = TinyViT(SMALL).double()
    net.load_state_dict(trained.state_dict())
    x = torch.randn(1, 3, 144, 240, dtype=torch.float64)
    wanted = net.eval()(x)
    assert wanted.std() > 0.1
    recipes = deploy_(net)
    assert (net(x) - wanted).abs().max() / wanted.std() <= 1e-9

    deployed = net.state_dict()
    norms = {key.removesuffix("bn.running_var") for key in file if key.endswith("bn.running_var")}
    tables = {key.removesuffix("attention_biases") for key in file if key.endswith("attention_biases")}
    folds = {f"{norm}c.{kind}" for norm in norms for kind in ("weight", "bias")}
    assert recipes.keys() == folds | {f"{table}bias" for table in tables}
    assert len(tables) == 4
    for key, value in deployed.items():
        recipe = recipes.get(key)
        if recipe is None:
            want = file[key]
        elif recipe["op"] == "window_bias":
            want = spread(file[recipe["from"]], recipe["size"])
        else:
            want = folded(recipe, file)
        np.testing.assert_allclose(value.numpy(), want, rtol=1e-9, atol=1e-12, err_msg=key)
    assert deploy_(net) == {}


def spread(table, size):
    """The recipe "window_bias" by its definition."""
    out = np.empty((len(table), size, size, size, size))
    for r, c, s, d in np.ndindex(size, size, size, size):
        out[:, r, c, s, d] = table[:, abs(r - s) * size + abs(c - d)]
    return out.reshape(len(table), size * size, size * size)


@torch.no_grad()
def test_exported_graph_takes_any_size(trained):
    pytest.importorskip("onnxscript")
    import onnxruntime

    net = TinyViT(SMALL)
    net.load_state_dict(trained.state_dict())
    deploy_(net)
    sides = {2: 16 * torch.export.Dim("h", min=1, max=64), 3: 16 * torch.export.Dim("w", min=1, max=64)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        # An example of one window a side would make every picture one window.
        program = torch.onnx.export(
            net, kwargs={"image": torch.zeros(1, 3, 320, 336)}, dynamic_shapes={"image": sides},
            opset_version=20, dynamo=True, optimize=False, verbose=False,
        )  # fmt: skip
    names = set(program.model.graph.initializers)
    assert set(net.state_dict()) <= names
    data = io.BytesIO()
    program.save(data, external_data=False)
    session = onnxruntime.InferenceSession(data.getvalue(), providers=["CPUExecutionProvider"])
    for hw in ((16, 16), (96, 400), (240, 224), (512, 128)):
        image = torch.randn(1, 3, *hw)
        (got,) = session.run(None, {"image": image.numpy()})
        wanted = trained(image).numpy()
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() / wanted.std() <= 1e-4
