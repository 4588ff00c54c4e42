"""The encoders that can be distilled into: shapes, cards, shares of the rate, first weights, frozen parts."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch (samlet[train])", allow_module_level=True)

import torch

from samlet import checkpoint, registry
from samlet.errors import CheckpointError, InputError
from samlet.nets.tiny_vit import TinyViT
from samlet.train.students import freeze, layer_shares, student_of
from tests.distill_pictures import SIZE


@pytest.mark.parametrize("name", ["lite0", "plain_m", "nano", "nano_lite0", "nano_plain_s"])
def test_students_give_the_embedding_their_card_says(name):
    student = student_of(name)
    encoder = student.build().eval()
    with torch.no_grad():
        out = encoder(torch.zeros(1, 3, 64, 96))
    assert out.shape == (1, 256, 64 // student.stride, 96 // student.stride)


def test_cards_of_students_fit_their_teacher():
    card = registry.resolve("nano").resized(SIZE)
    sam = registry.resolve("mobile_sam")
    theirs = student_of("tiny_vit_5m").card(sam, name="mine", decoder_graph="sam_decoder.onnx")
    assert (theirs.side, theirs.stride, theirs.pad, theirs.mask_grid) == (1024, 16, "square", 256)
    assert "decoder_stride" not in theirs.settings
    ours = student_of("tiny_vit_5m").card(card, name="mine", decoder_graph="nano_decoder.onnx")
    assert (ours.side, ours.stride, ours.pad) == (2 * SIZE, 16, 64)
    assert ours.settings["decoder_stride"] == 8
    with pytest.raises(InputError, match="expected a student"):
        student_of("vit_h")


def test_layer_decay_is_tiny_vits():
    encoder = TinyViT("5m")
    shares = {name: share for name, _, share in layer_shares(encoder, 0.8)}
    assert shares["patch_embed.seq.0.c.weight"] == pytest.approx(0.8**11)
    assert shares["layers.0.blocks.1.conv1.c.weight"] == pytest.approx(0.8**10)
    assert shares["layers.0.downsample.conv1.c.weight"] == pytest.approx(0.8**10)  # its stage's last block's
    assert shares["layers.2.blocks.0.attn.qkv.weight"] == pytest.approx(0.8**7)
    assert shares["layers.3.blocks.1.mlp.fc1.weight"] == 1
    assert shares["neck.0.weight"] == 1 and shares["head.weight"] == 1
    lite = {name: share for name, _, share in layer_shares(student_of("nano_lite0").build(), 0.5)}
    assert lite["backbone.stem.weight"] == 0.5**7 and lite["neck.tokens.0.weight"] == 1
    assert (
        lite["backbone.stages.6.0.expand.weight"] == 1
        and lite["backbone.stages.0.0.project.weight"] == 0.5**6
    )


def test_imagenet_weights_are_data(tmp_path):
    donor = TinyViT("5m")
    donor.layers[0].blocks[0].conv1.c.weight.data.fill_(0.25)
    arrays = {k: v.numpy() for k, v in donor.state_dict().items() if not k.startswith("neck")}
    path = tmp_path / "tiny_vit_5m.pth"
    path.write_bytes(checkpoint.to_pt(arrays, "model"))
    encoder = TinyViT("5m")
    neck = encoder.neck[0].weight.clone()
    student_of("tiny_vit_5m").initialise(encoder, path)
    assert (encoder.layers[0].blocks[0].conv1.c.weight == 0.25).all()
    assert torch.equal(encoder.neck[0].weight, neck)
    with pytest.raises(CheckpointError, match="expected ImageNet weights for nano_lite0"):
        student_of("nano_lite0").initialise(student_of("nano_lite0").build(), path)
    with pytest.raises(InputError, match="leave --init out"):
        student_of("plain_m").initialise(encoder, path)


def test_freezing():
    encoder = student_of("nano_lite0").build()
    freeze(encoder, "early")
    assert not encoder.backbone.stem.weight.requires_grad
    assert encoder.backbone.stages[3][0].project.weight.requires_grad
    freeze(encoder, "backbone")
    assert {n.split(".")[0] for n, p in encoder.named_parameters() if p.requires_grad} == {"neck"}
    for what in ("early", "most"):
        with pytest.raises(InputError, match="freeze none"):
            freeze(TinyViT("5m"), what)


def test_a_seed_means_the_same_for_the_first_student_of_a_process():
    words = """
import torch
from samlet.train.students import student_of
made = []
for _ in range(2):
    torch.manual_seed(1)
    made.append(student_of("nano_lite0").build().state_dict())
assert all(torch.equal(a, b) for a, b in zip(*(each.values() for each in made)))
"""
    subprocess.run([sys.executable, "-c", words], check=True)
