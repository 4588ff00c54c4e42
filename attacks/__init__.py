"""Hostile model files, each made by a function: what they would do, and how samlet's reader must take them.

Run `python -m attacks FOLDER` to write them all; they harm nobody who does not load them. What a file does if it has
its way is to make a file called `CANARY` in the current folder, or to use up time or memory.
"""

from attacks.archives import ARCHIVES
from attacks.onnx_graphs import ONNX
from attacks.pickles import PICKLES
from attacks.resources import RESOURCES
from attacks.safetensors_files import SAFETENSORS
from attacks.table import CANARY, Attack

ATTACKS: tuple[Attack, ...] = (*PICKLES, *RESOURCES, *ARCHIVES, *SAFETENSORS, *ONNX)

__all__ = ["ATTACKS", "CANARY", "Attack"]
