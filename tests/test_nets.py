"""The networks: sizes, folded algebra against the plain one, and what a prompt may not depend on."""

import importlib.util

import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import torch

from samlet.nets.efficientnet_lite import EfficientNetLite0
from samlet.nets.layers import upscale_2x
from samlet.nets.mask_decoder import SamDecoder
from samlet.nets.nano import Nano, NanoDecoder, draw_prompt, pack, unpack
from samlet.nets.two_way import Attention


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_official_sizes():
    model = SamDecoder()
    assert count(model.mask_decoder) == 4_058_340
    assert count(model.prompt_encoder) == 6_220
    assert len(model.mask_decoder.state_dict()) == 120
    assert len(model.prompt_encoder.state_dict()) == 17


def test_nano_fits_the_wheel():
    assert count(Nano()) * 2 < 16e6  # float16 bytes; the wheel may hold 20 MB


def plain(attention, q, k, v):
    """Attention as published: project everything, then multiply."""
    split = attention._split
    q, k, v = split(attention.q_proj(q)), split(attention.k_proj(k)), split(attention.v_proj(v))
    a = (q @ k.transpose(-1, -2) * attention.scale).softmax(-1)
    return attention.out_proj((a @ v).transpose(1, 2).flatten(2))


@pytest.fixture
def attention():
    torch.manual_seed(0)
    module = Attention(256, 8, downsample=2)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


@torch.no_grad()
def test_folded_attention_is_exact(attention):
    tokens, image, pe = torch.randn(3, 7, 256), torch.randn(3, 50, 256), torch.randn(1, 50, 256)
    wanted = plain(attention, tokens, image + pe, image)
    torch.testing.assert_close(
        attention.tokens_to_image(tokens, image + pe, image), wanted, rtol=1e-4, atol=1e-5
    )
    wanted = plain(attention, image + pe, tokens, tokens * 2)
    torch.testing.assert_close(
        attention.image_to_tokens(image + pe, tokens, tokens * 2), wanted, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_one_image_serves_many_prompts(attention):
    tokens, image = torch.randn(4, 6, 256), torch.randn(1, 30, 256)
    repeated = image.expand(4, -1, -1)
    torch.testing.assert_close(
        attention.tokens_to_image(tokens, image, image), attention.tokens_to_image(tokens, repeated, repeated)
    )
    torch.testing.assert_close(
        attention.image_to_tokens(image, tokens, tokens), attention.image_to_tokens(repeated, tokens, tokens)
    )


@torch.no_grad()
def test_upscale_is_the_transposed_convolution():
    conv = torch.nn.ConvTranspose2d(8, 6, 2, 2)
    x = torch.randn(2, 8, 5, 4)
    ours = upscale_2x(x.permute(0, 2, 3, 1), conv).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, conv(x))


def test_pack_is_lossless():
    scales = torch.randn(1, 256, 4, 6), torch.randn(1, 64, 8, 12), torch.randn(1, 32, 16, 24)
    packed = pack(*scales)
    assert packed.shape == (1, 256, 8, 12)
    assert all(torch.equal(a, b) for a, b in zip(unpack(packed), scales, strict=True))


def test_features_have_the_promised_strides():
    features = EfficientNetLite0()(torch.zeros(1, 3, 96, 64))
    assert {s: tuple(f.shape[1:]) for s, f in features.items()} == {
        4: (24, 24, 16), 8: (40, 12, 8), 16: (112, 6, 4), 32: (320, 3, 2),
    }  # fmt: skip


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(3)
    return NanoDecoder().eval()


def feeds(count, labels, *, grid=(16, 24)):
    torch.manual_seed(5)
    h, w = grid
    return {
        "image_embeddings": torch.randn(1, 256, h, w),
        "point_coords": torch.rand(count, len(labels), 2) * 8 * min(h, w),
        "point_labels": torch.tensor(labels, dtype=torch.float32).repeat(count, 1),
        "mask_input": torch.randn(count, 1, 4 * h, 4 * w),
        "has_mask_input": torch.zeros(count),
    }


@torch.no_grad()
def test_padding_does_not_change_nanos_answer(decoder):
    short = feeds(2, [1, 0])
    long = dict(short)
    long["point_coords"] = torch.cat([short["point_coords"], torch.rand(2, 5, 2) * 100], 1)
    long["point_labels"] = torch.cat([short["point_labels"], -torch.ones(2, 5)], 1)
    for a, b in zip(decoder(**short), decoder(**long), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_prompts_of_a_batch_do_not_see_each_other(decoder):
    together = feeds(6, [1, -1])
    _, masks = decoder(**together)
    for i in range(6):
        alone = {k: v if k == "image_embeddings" else v[i : i + 1] for k, v in together.items()}
        torch.testing.assert_close(decoder(**alone)[1][0], masks[i], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_hint_counts_only_where_it_is_announced(decoder):
    base = feeds(1, [1, -1])
    _, without = decoder(**base)
    _, other = decoder(**{**base, "mask_input": base["mask_input"] * -3})
    torch.testing.assert_close(without, other)
    _, announced = decoder(**{**base, "has_mask_input": torch.ones(1)})
    assert (announced - without).abs().max() > 1e-3


def test_prompt_is_drawn_where_it_was_given():
    coords = torch.tensor([[[41.5, 21.5], [0.0, 0.0]], [[8.0, 16.0], [40.0, 24.0]]])
    labels = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
    drawn = draw_prompt(coords, labels, (16, 24), 96)
    assert drawn.shape == (2, 3, 16, 24)
    peak = drawn[0, 1].argmax()
    assert (int(peak // 24), int(peak % 24)) == (5, 10)  # (21.5 + .5) / 4 - .5, (41.5 + .5) / 4 - .5
    assert not drawn[0, 0].any() and not drawn[0, 2].any() and not drawn[1, 1:].any()
    inside = drawn[1, 0] > 0
    assert inside.sum() == 8 * 2 and inside[4:6, 2:10].all()
    assert (drawn[1, 0][~inside] == -1).sum() > 300
