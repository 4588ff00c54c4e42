"""Our prompt encoder and mask decoder against the original implementation, on the same random weights.

The reference is `segment-anything-py` from PyPI (the original code); it is never a dependency of samlet.
"""

import importlib.util
import warnings

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.torch]
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("segment_anything") is None:
    pytest.skip("needs torch, torchvision and segment-anything-py (make parity)", allow_module_level=True)

import torch

from samlet.nets.mask_decoder import SamDecoder, SamDecoderImage, SamDecoderPrompts
from tests import torchvision_stub
from tests.parity_table import record

torchvision_stub.install()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer


@pytest.fixture(scope="module")
def pair():
    """(reference prompt encoder, reference decoder, ours) with equal weights, biases and norms included."""
    torch.manual_seed(7)
    encoder = PromptEncoder(
        embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(num_multimask_outputs=3, transformer=transformer, transformer_dim=256)
    for module in (encoder, decoder):
        for parameter in module.parameters():  # default initialisation leaves norms at 1 and biases near 0
            parameter.data += 0.05 * torch.randn_like(parameter)
    ours = SamDecoder()
    ours.prompt_encoder.load_state_dict(encoder.state_dict())
    ours.mask_decoder.load_state_dict(decoder.state_dict())
    return encoder.eval(), decoder.eval(), ours.eval()


def points(count, *labels):
    """`count` prompts with one random point for each label."""
    return torch.rand(count, len(labels), 2) * 1000, torch.tensor(labels, dtype=torch.float32).repeat(
        count, 1
    )


CASES = {
    "one click": (1, (1,), False, False),
    "foreground and background clicks": (1, (1, 0, 1, 0, 0), False, False),
    "box": (1, (), True, False),
    "click and box": (1, (1, 0), True, False),
    "click and hint": (1, (1,), False, True),
    "box and hint": (1, (), True, True),
    "padding points": (1, (1, -1, -1), False, False),
    "sixteen clicks at once": (16, (1,), False, False),
    "five boxes with hints": (5, (), True, True),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_decoder_equals_the_original(pair, case):
    reference_encoder, reference_decoder, ours = pair
    count, labels, with_box, with_hint = CASES[case]
    torch.manual_seed(len(case))
    embedding = torch.randn(1, 256, 64, 64)
    coords, marks = points(count, *labels)
    boxes = (
        torch.cat([torch.rand(count, 2) * 400, 500 + torch.rand(count, 2) * 500], -1) if with_box else None
    )
    hint = torch.randn(count, 1, 256, 256) * 5 if with_hint else None
    sparse, dense = reference_encoder(points=(coords, marks) if labels else None, boxes=boxes, masks=hint)
    wanted = reference_decoder.predict_masks(
        image_embeddings=embedding, image_pe=reference_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense,
    )  # fmt: skip
    if with_box:
        coords = torch.cat([coords, boxes.reshape(-1, 2, 2)], 1)
        marks = torch.cat([marks, torch.tensor([[2.0, 3.0]]).repeat(count, 1)], 1)
    else:
        coords = torch.cat([coords, torch.zeros(count, 1, 2)], 1)
        marks = torch.cat([marks, -torch.ones(count, 1)], 1)
    hint_in = torch.zeros(count, 1, 256, 256) if hint is None else hint
    iou, masks = ours(embedding, coords, marks, hint_in, torch.full((count,), float(with_hint)))
    spread = wanted[0].std()
    assert spread > 0.01  # a comparison of two constants would prove nothing
    logits = float((masks - wanted[0]).abs().max() / spread)
    scores = float((iou - wanted[1]).abs().max() / wanted[1].std())
    record({"part": "Decoder: logits and scores", "name": case, "logits": logits, "scores": scores})
    assert logits <= 1e-4
    assert scores <= 1e-4


@pytest.mark.parametrize(
    ("tokens", "rows", "passing"),
    [([0], 64, 3), ([1, 2, 3], 64, 3), ([1, 2, 3], 36, 3), ([1, 2, 3], 36, 1), ([1, 2, 3], 36, 0)],
    ids=["one mask", "three masks", "some rows", "one prompt that passes", "none that passes"],
)
@torch.no_grad()
def test_the_two_halves_equal_the_whole(pair, tokens, rows, passing):
    """Split after the image, with only the masks, rows and prompts that are asked for."""
    whole = pair[2]
    halves = SamDecoderImage().eval(), SamDecoderPrompts().eval()
    for half in halves:
        half.load_state_dict(whole.state_dict())
    torch.manual_seed(1)
    embedding, (coords, marks) = torch.randn(1, 256, 64, 64), points(3, 1, -1)
    hint, has = torch.zeros(1, 1, 256, 256), torch.zeros(1)
    iou, masks = whole(embedding, coords, marks, hint.expand(3, -1, -1, -1), has.expand(3))
    best = iou[:, tokens].amax(1)
    ranked = torch.cat([best.sort(descending=True)[0], torch.tensor([-torch.inf])])
    floor = best.max() + 1 if passing == 0 else (ranked[passing - 1] + ranked[passing]) / 2
    scores, drawn = halves[1](
        *halves[0](embedding, hint, has), coords, marks,
        torch.tensor(tokens), torch.arange(rows), floor.reshape(1),
    )  # fmt: skip
    wanted = masks[best > floor][:, tokens, : 4 * rows]
    assert drawn.shape == wanted.shape == (passing, len(tokens), 4 * rows, 256)
    assert (scores - iou[:, tokens]).abs().max() <= 1e-4 * iou.std()
    assert not passing or (drawn - wanted).abs().max() <= 1e-4 * masks.std()
