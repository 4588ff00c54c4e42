"""Model files as plain arrays: read without executing anything, named as their authors named them, written back.

`parse` reads safetensors files and both forms of torch's; `canonical` gives the arrays their official names,
`identify` says which network they belong to, `check_keys` holds them against the list of what it needs, and
`to_safetensors` and `to_pt` write them.
"""

from samlet.checkpoint.elements import Array
from samlet.checkpoint.form import Checkpoint, parse, parse_metadata
from samlet.checkpoint.identity import Identity, identify
from samlet.checkpoint.keys import check_keys
from samlet.checkpoint.names import canonical
from samlet.checkpoint.writing import LAYOUTS, halved, to_pt, to_safetensors

__all__ = [
    "LAYOUTS",
    "Array",
    "Checkpoint",
    "Identity",
    "canonical",
    "check_keys",
    "halved",
    "identify",
    "parse",
    "parse_metadata",
    "to_pt",
    "to_safetensors",
]
