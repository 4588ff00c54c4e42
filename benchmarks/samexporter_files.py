"""Let samexporter write its ONNX files of a MobileSAM checkpoint, in an environment where it is installed.

PYTHONPATH=src:. PYTHON -m benchmarks.samexporter_files mobile_sam.pt FOLDER
"""

import runpy
import sys
import warnings

from tests import torchvision_stub


def main():
    weights, folder = sys.argv[1:]
    torchvision_stub.install()
    warnings.simplefilter("ignore")
    for name, more in (("encoder", ["--use-preprocess"]), ("decoder", ["--return-single-mask"])):
        sys.argv = [
            "samexporter",
            "--checkpoint",
            weights,
            "--output",
            f"{folder}/{name}.onnx",
            "--model-type",
            "mobile",
            *more,
        ]
        runpy.run_module(f"samexporter.export_{name}", run_name="__main__")


if __name__ == "__main__":
    main()
