"""SamPredictor against the original: the same official-layout file, the same pictures, the same calls.

Continuous integration runs three pictures, SAMLET_PARITY=all runs thirty of all shapes with twice the prompts.
"""

import importlib.util
import os

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.parity, pytest.mark.torch]
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("mobile_sam") is None:
    pytest.skip("needs torch, torchvision and mobilesam-mirror (make parity)", allow_module_level=True)

from samlet.compat import segment_anything
from tests import random_mobile_sam
from tests.parity_table import record

PART = "SamPredictor with MobileSAM's network"
SHAPES = {  # (width, height) that a picture is cut and scaled to
    "landscape": (600, 400), "portrait": (400, 600), "square": (451, 451), "tiny": (24, 16), "strip": (60, 600),
    "band": (1000, 37), "odd": (333, 257), "just the canvas": (1024, 1024), "larger": (1500, 1125),
    "tall and larger": (700, 1400),
}  # fmt: skip
SAMPLES = ("coffee", "chelsea", "astronaut")
ALL = [(sample, shape) for sample in SAMPLES for shape in SHAPES]
FEW = [("coffee", "landscape"), ("chelsea", "strip"), ("astronaut", "tiny")]
RUN_ALL = os.environ.get("SAMLET_PARITY") == "all"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(the original's predictor, ours), from one file."""
    path = str(random_mobile_sam.save(tmp_path_factory.mktemp("weights") / "mobile_sam.pt"))
    # eval() once more: the original computes its attention biases before it loads them.
    reference = random_mobile_sam.mobile_sam.sam_model_registry["vit_t"](checkpoint=path).eval()
    ours = segment_anything.sam_model_registry["vit_t"](checkpoint=path)
    return random_mobile_sam.mobile_sam.SamPredictor(reference), segment_anything.SamPredictor(ours)


def picture(path, shape, turns):
    """Cut a sample to a shape and turn it, so that each picture differs in more than its size."""
    width, height = SHAPES[shape]
    whole = Image.open(path).convert("RGB").rotate(90 * turns, expand=True)
    scale = max(width / whole.width, height / whole.height)
    whole = whole.resize((max(width, round(whole.width * scale)), max(height, round(whole.height * scale))))
    left, top = (whole.width - width) // 2, (whole.height - height) // 2
    return np.array(whole.crop((left, top, left + width, top + height)))


def cases(width, height, hint):
    """Each kind of prompt by name, as arguments of predict; every other kind with three masks, or all with both."""
    click = {"point_coords": np.array([[0.4 * width, 0.5 * height]]), "point_labels": np.array([1])}
    clicks = {
        "point_coords": np.array([[0.4, 0.5], [0.05, 0.1], [0.7, 0.6]]) * (width, height),
        "point_labels": np.array([1, 0, 1]),
    }
    padded = {
        "point_coords": np.array([[0.4 * width, 0.5 * height], [0, 0], [0, 0]]),
        "point_labels": np.array([1, -1, -1]),
    }
    outside = {"point_coords": np.array([[-0.2 * width, 1.5 * height]]), "point_labels": np.array([1])}
    box = {"box": np.array([0.1, 0.2, 0.7, 0.9]) * (width, height, width, height)}
    kinds = {
        "one click": click, "clicks on object and background": clicks, "padding points (label -1)": padded,
        "a click outside the picture": outside, "box": box, "box and clicks": clicks | box,
        "click and mask hint": click | {"mask_input": hint}, "box and mask hint": box | {"mask_input": hint},
        "mask hint alone": {"mask_input": hint}, "no prompt": {},
    }  # fmt: skip
    return {
        f"{name}, {'three masks' if multimask else 'one mask'}": kind | {"multimask_output": multimask}
        for index, (name, kind) in enumerate(kinds.items())
        for multimask in ((True, False) if RUN_ALL else ((index + width) % 3 > 0,))
    }


@pytest.mark.parametrize(("sample_name", "shape"), ALL if RUN_ALL else FEW)
def test_predict_equals_the_original(pair, sample, sample_name, shape):
    reference, ours = pair
    image = picture(sample(sample_name), shape, turns=SAMPLES.index(sample_name))
    for predictor in pair:
        predictor.set_image(image)
    wanted, got = reference.get_image_embedding().numpy(), ours.get_image_embedding().numpy()
    embedding = float(np.abs(got - wanted).max() / wanted.std())
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert embedding <= 1e-4

    height, width = image.shape[:2]
    _, _, hints = reference.predict(np.array([[0.6 * width, 0.3 * height]]), np.array([1]))
    telling = 0
    for name, arguments in cases(width, height, hints[:1]).items():
        expected, found = reference.predict(**arguments), ours.predict(**arguments)
        for one, other in zip(found, expected, strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
        logits = float(np.abs(found[2] - expected[2]).max() / expected[2].std())
        scores = float(np.abs(found[1] - expected[1]).max())
        ious = []
        for mask, truth in zip(found[0], expected[0], strict=True):
            assert np.count_nonzero(mask != truth) <= 1e-3 * truth.size
            if 0.005 <= truth.mean() <= 0.995:  # an empty or a full one would prove nothing
                ious.append(np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth))
        assert logits <= 1e-3, name
        assert scores <= 1e-4, name
        assert min(ious, default=1) >= 0.999, name
        telling += len(ious)
        row = {"embedding": embedding, "logits": logits, "scores": scores}
        record(
            {
                "part": PART,
                "name": name,
                **row,
                **({"min IoU": min(ious)} if ious else {}),
                "sum of masks": len(ious),
            }
        )
    assert telling >= (25 if RUN_ALL else 10)
