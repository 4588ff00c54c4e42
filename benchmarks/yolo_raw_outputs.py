"""samlet's YOLOv8-seg network beside the `ultralytics` package: raw outputs, same random weights, same random picture.

For developers, by hand, in an environment of its own. `ultralytics` is AGPL-3.0: it is no dependency of samlet, not
even of its tests or its continuous integration; nothing of it was read to write `samlet.nets.yolo_seg`, and this
script only calls what the package makes public. Such an environment, with a CPU build of torch:

    python -m venv ultra && ultra/bin/pip install torch==2.13.0
    ultra/bin/pip install --no-deps torchvision==0.28.0 ultralytics==8.4.190
    ultra/bin/pip install opencv-python-headless pyyaml requests psutil pillow safetensors numpy
    PYTHONPATH=src:. ultra/bin/python benchmarks/yolo_raw_outputs.py

Prints for each size and each output the largest difference over the output's standard deviation; exits 1 if one is
over 1e-4. The trained form is compared in float32 and samlet's deploy form (norms folded) in float64: a random
network magnifies rounding a thousandfold, which says nothing about the folding.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
from tests import torchvision_stub
from tests.net_checks import fit_norms_

from samlet.nets.deploy import deploy_
from samlet.nets.yolo_seg import YoloSeg

CASES = (("s", 16), ("s", 20), ("x", 26))
TOLERANCE = 1e-4


def reference(size, reg_max):
    """The package's network with one class; its name for the number of distances is `reg_max` too."""
    import ultralytics
    import yaml
    from ultralytics.nn.tasks import SegmentationModel

    path = Path(ultralytics.__file__).parent / "cfg/models/v8/yolov8-seg.yaml"
    config = {**yaml.safe_load(path.read_text()), "scale": size, "reg_max": reg_max}
    return SegmentationModel(config, nc=1, verbose=False).eval()


def parts(candidates, protos):
    """Outputs by name; boxes in model pixels."""
    return {
        "boxes": candidates[:, :4],
        "scores": candidates[:, 4:5].logit(),
        "coefficients": candidates[:, 5:],
        "protos": protos,
    }


@torch.no_grad()
def compare(size, reg_max, height, width):
    """Print a row for each output; the worst relative difference."""
    torch.manual_seed(reg_max)
    image = torch.rand(2, 3, height, width)
    ours = YoloSeg(size, reg_max)
    fit_norms_(ours, image)
    theirs = reference(size, reg_max)
    theirs.load_state_dict(ours.state_dict())
    image = image[:1]
    pairs = [(parts(*ours(image)), parts(*theirs(image)[0]))]
    deploy_(ours.double())
    pairs.append((parts(*ours(image.double())), parts(*theirs.double()(image.double())[0])))
    worst = 0.0
    for name, want in pairs[0][1].items():
        gaps = [float((got[name] - wanted[name]).abs().max() / want.std()) for got, wanted in pairs]
        worst = max(worst, *gaps)
        shape = str(tuple(want.shape))
        print(f"{size:4} {reg_max:7} {name:12} {shape:18} {want.std():9.4f} {gaps[0]:9.1e} {gaps[1]:9.1e}")
    return worst


def quieten():
    """Let the package be imported beside a CPU build of torch, without installing or fetching anything."""
    os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_CONFIG_DIR=tempfile.mkdtemp())
    torchvision_stub.install()
    import torchvision

    torchvision.extension._has_ops = lambda: True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=320)
    args = parser.parse_args()
    quieten()
    print("size reg_max output       shape              spread    trained   deployed")
    worst = max(compare(size, reg_max, args.height, args.width) for size, reg_max in CASES)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
