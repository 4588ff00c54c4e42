"""The original's own example code on the drop-in, with only the import changed."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

# The README's example, with the built-in model's name and a picture of ours.
README = """
import numpy as np
from PIL import Image
from samlet.compat.segment_anything import SamPredictor, sam_model_registry
sam = sam_model_registry["nano"](checkpoint=None)
predictor = SamPredictor(sam)
predictor.set_image(np.array(Image.open(PICTURE).convert("RGB")))
masks, _, _ = predictor.predict(np.array([[300, 200]]), np.array([1]))
"""


def test_the_readme_example_runs_without_torch(sample):
    # An import of torch fails from the second line on.
    before = f"import sys\nsys.modules['torch'] = None\nPICTURE = {str(sample('coffee'))!r}\n"
    after = "assert masks.shape == (3, 400, 600) and 0 < masks.mean() < 1, masks.mean()\n"
    after += "assert type(predictor.get_image_embedding()) is np.ndarray\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", before + README + after],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


# What the original's notebook predictor_example.ipynb (Apache-2.0) calls, in its order; pictures, paths and positions
# are ours, and the plots are left out.
NOTEBOOK = """
import numpy as np
import torch
from PIL import Image

image = np.array(Image.open(COFFEE).convert("RGB"))

from mobile_sam import sam_model_registry, SamPredictor

sam_checkpoint = CHECKPOINT
model_type = "vit_t"
device = "cpu"

sam = sam_model_registry[model_type](checkpoint=sam_checkpoint)
sam.to(device=device)
sam.eval()

predictor = SamPredictor(sam)
predictor.set_image(image)

input_point = np.array([[250, 190]])
input_label = np.array([1])
masks, scores, logits = predictor.predict(
    point_coords=input_point,
    point_labels=input_label,
    multimask_output=True,
)
results["one point"] = masks, scores, logits

input_point = np.array([[250, 190], [450, 310]])
input_label = np.array([1, 1])
mask_input = logits[np.argmax(scores), :, :]
masks, scores_2, logits_2 = predictor.predict(
    point_coords=input_point,
    point_labels=input_label,
    mask_input=mask_input[None, :, :],
    multimask_output=False,
)
results["two points and a mask"] = masks, scores_2, logits_2

input_label = np.array([1, 0])
masks, scores_3, logits_3 = predictor.predict(
    point_coords=input_point,
    point_labels=input_label,
    mask_input=mask_input[None, :, :],
    multimask_output=False,
)
results["a background point"] = masks, scores_3, logits_3

input_box = np.array([200, 100, 450, 330])
masks, scores_4, logits_4 = predictor.predict(
    point_coords=None,
    point_labels=None,
    box=input_box[None, :],
    multimask_output=False,
)
results["box"] = masks, scores_4, logits_4

input_point = np.array([[287, 280]])
input_label = np.array([0])
masks, scores_5, logits_5 = predictor.predict(
    point_coords=input_point,
    point_labels=input_label,
    box=input_box,
    multimask_output=False,
)
results["box and point"] = masks, scores_5, logits_5

input_boxes = torch.tensor([
    [75, 75, 525, 350],
    [200, 100, 350, 275],
    [275, 150, 550, 300],
], device=predictor.device)
transformed_boxes = predictor.transform.apply_boxes_torch(input_boxes, image.shape[:2])
masks, scores_6, logits_6 = predictor.predict_torch(
    point_coords=None,
    point_labels=None,
    boxes=transformed_boxes,
    multimask_output=False,
)
results["boxes"] = masks.cpu().numpy(), scores_6.cpu().numpy(), logits_6.cpu().numpy()

image1 = image
image1_boxes = torch.tensor([[75, 75, 525, 350], [200, 100, 350, 275]], device=sam.device)
image2 = np.array(Image.open(ASTRONAUT).convert("RGB"))
image2_boxes = torch.tensor([[150, 50, 300, 400], [10, 30, 250, 500]], device=sam.device)

from mobile_sam.utils.transforms import ResizeLongestSide
resize_transform = ResizeLongestSide(sam.image_encoder.img_size)

def prepare_image(image, transform, device):
    image = transform.apply_image(image)
    image = torch.as_tensor(image, device=device.device)
    return image.permute(2, 0, 1).contiguous()

batched_input = [
    {
        "image": prepare_image(image1, resize_transform, sam),
        "boxes": resize_transform.apply_boxes_torch(image1_boxes, image1.shape[:2]),
        "original_size": image1.shape[:2],
    },
    {
        "image": prepare_image(image2, resize_transform, sam),
        "boxes": resize_transform.apply_boxes_torch(image2_boxes, image2.shape[:2]),
        "original_size": image2.shape[:2],
    },
]
batched_output = sam(batched_input, multimask_output=False)
for number, record in enumerate(batched_output):
    results[f"picture {number}"] = tuple(
        record[key].cpu().numpy() for key in ("masks", "iou_predictions", "low_res_logits")
    )
"""


@pytest.mark.parity
@pytest.mark.torch
@pytest.mark.skipif(
    importlib.util.find_spec("mobile_sam") is None, reason="needs mobilesam-mirror (make parity)"
)
def test_the_notebook_with_only_the_import_changed(sample, tmp_path):
    from tests import random_mobile_sam

    checkpoint = str(random_mobile_sam.save(tmp_path / "mobile_sam.pt"))
    results = []
    for package in ("mobile_sam", "samlet.compat.segment_anything"):
        names = {
            "CHECKPOINT": checkpoint,
            "COFFEE": str(sample("coffee")),
            "ASTRONAUT": str(sample("astronaut")),
            "results": {},
        }
        exec(NOTEBOOK.replace("from mobile_sam", f"from {package}"), names)
        results.append(names["results"])
    reference, ours = results
    assert list(ours) == list(reference) and len(ours) == 8
    telling = 0
    for name, expected in reference.items():
        for got, wanted in zip(ours[name], expected, strict=True):
            assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        masks, truths = (found[0].reshape(-1, *found[0].shape[-2:]) for found in (ours[name], expected))
        for mask, truth in zip(masks, truths, strict=True):
            assert np.count_nonzero(mask != truth) <= 1e-3 * truth.size, name
            if 0.02 <= truth.mean() <= 0.98:
                assert np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth) >= 0.999, name
                telling += 1
        assert np.abs(ours[name][1] - expected[1]).max() <= 1e-4, name
        assert np.abs(ours[name][2] - expected[2]).max() / expected[2].std() <= 1e-3, name
    assert telling >= 6
