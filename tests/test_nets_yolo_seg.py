"""YOLOv8-seg: official keys and sizes, boxes against a slow loop, the deploy form."""

import importlib.util

import numpy as np
import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import torch

from samlet.errors import InputError
from samlet.nets.deploy import deploy_
from samlet.nets.yolo_seg import YoloSeg
from tests.net_checks import fingerprint, fit_norms_, folded, parameters

# From the keys of FastSAM-s, FastSAM-x and MobileSAMv2's object-aware model.
OFFICIAL = {
    ("s", 16, True): (417, "1f466e5d65881a5cc7f11f9c7f8c39fe2b006c3757fd3356166150409ce2859e", 11_790_483),
    ("x", 26, True): (657, "7a7440c5ce256b1ff90b6bb61c248986cc59e9fbefe5bbdadebb3c1150fed3ad", 72_234_149),
    ("x", 26, False): (637, "6f2288f1d3794d3dfe304ab728e817c8746b1d0f8a39c7235cb9f5aec3ea09b0", 69_969_445),
}


@pytest.mark.parametrize("arguments", OFFICIAL)
def test_official_keys(arguments):
    with torch.device("meta"):
        net = YoloSeg(*arguments)
    keys, digest, numbers = OFFICIAL[arguments]
    assert fingerprint(net) == (keys, digest)
    assert parameters(net) == numbers


def picture():
    """One of the two that the norms are fitted to: on another, the few cells at stride 32 would be far outliers."""
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(5))[:1]


def made(reg_max):
    torch.manual_seed(reg_max)
    net = YoloSeg("s", reg_max)
    fit_norms_(net, torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(5)))
    return net


@pytest.fixture(scope="module")
def trained():
    return made(16)


@torch.no_grad()
def test_deploy_form_computes_the_same(trained):
    official = {key: value.clone() for key, value in trained.state_dict().items()}
    net = YoloSeg("s").double()  # in float32 a random network magnifies rounding; the algebra is exact
    net.load_state_dict(official)
    net.eval()
    x = picture().double()
    wanted = net(x)
    recipes = deploy_(net)
    for got, want in zip(net(x), wanted, strict=True):
        assert want.std() > 0.1
        assert (got - want).abs().max() / want.std() <= 1e-9

    deployed = net.state_dict()
    file = {key: value.numpy().astype("float64") for key, value in official.items()}
    assert not [key for key in deployed if ".bn." in key]
    norms = {key.removesuffix("bn.running_var") for key in file if key.endswith("bn.running_var")}
    assert recipes.keys() == {f"{norm}conv.{kind}" for norm in norms for kind in ("weight", "bias")}
    for key, value in deployed.items():
        want = folded(recipes[key], file) if key in recipes else file[key]
        torch.testing.assert_close(value, torch.as_tensor(want), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reg_max", [16, 20, 7])
@torch.no_grad()
def test_candidates_against_a_slow_loop(reg_max):
    """One cell after the other, from what the branches say."""
    net = made(reg_max)
    for branch in net.model["22"].cv2:
        branch[2].weight *= 4  # distributions with peaks
    image = picture()
    features = net.features(image)
    head = net.model["22"]
    wanted = []
    for i, stride in enumerate((8, 16, 32)):
        branches = head.cv2, head.cv3, head.cv4
        box, score, coefficients = (branch[i](features[i])[0].double().numpy() for branch in branches)
        assert box.shape == (4 * reg_max, 64 // stride, 96 // stride)
        for row, column in np.ndindex(box.shape[1:]):
            sides = []
            for side in range(4):
                p = np.exp(box[side * reg_max : (side + 1) * reg_max, row, column])
                sides.append(stride * sum(n * value for n, value in enumerate(p / p.sum())))
            left, top, right, bottom = sides
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            center = x - left / 2 + right / 2, y - top / 2 + bottom / 2
            certain = 1 / (1 + np.exp(-score[0, row, column]))
            size = left + right, top + bottom
            wanted.append([*center, *size, certain, *coefficients[:, row, column]])
    candidates, protos = net(image)
    assert protos.shape == (1, 32, 16, 24)
    assert candidates.shape == (1, 37, 8 * 12 + 4 * 6 + 2 * 3)
    assert candidates[0, :4].std() > 5  # model pixels
    assert 0.02 < head.cv2[0](features[0]).reshape(4, reg_max, -1).softmax(1).std() < 0.3
    np.testing.assert_allclose(candidates[0].T.numpy(), np.array(wanted), rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_detector_without_protos_finds_the_same(trained):
    detector = YoloSeg("s", protos=False)
    kept = {key: value for key, value in trained.state_dict().items() if ".proto." not in key}
    detector.load_state_dict(kept)
    image = picture()
    assert torch.equal(detector.eval()(image), trained(image)[0])


@torch.no_grad()
def test_distances_come_from_the_checkpoint(trained):
    net = YoloSeg("s")
    net.load_state_dict(trained.state_dict())
    net.eval()
    image = picture()
    before = net(image)[0]
    net.model["22"].dfl.conv.weight *= 2
    torch.testing.assert_close(net(image)[0][:, 2:4], before[:, 2:4] * 2)


@torch.no_grad()
def test_pictures_of_a_batch_do_not_meet(trained):
    images = torch.cat([torch.rand(1, 3, 64, 96), picture()])
    together, alone = trained(images), trained(images[1:])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], one, rtol=1e-3, atol=1e-2)


def test_gradients_reach_every_weight_but_the_distances():
    net = made(8).train()
    candidates, protos = net(torch.rand(2, 3, 64, 64))
    (candidates.square().mean() + protos.square().mean()).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None]
    assert without == ["model.22.dfl.conv.weight"]


def test_odd_sides_are_refused(trained):
    with pytest.raises(InputError, match="multiples of 32, got 64 x 80"):
        trained(torch.zeros(1, 3, 64, 80))
