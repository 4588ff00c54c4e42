"""Edits of a picture with the mask of an object: each is a plain function of (picture, mask) that changes neither.

A picture is RGB (H, W, 3) uint8 or an `Image`, a mask bool (H, W). Edges are soft unless one says otherwise. All but
`erase` need no more than the plain install.
"""

from samlet.edit.background import blur_background, cut_out, over, replace_background
from samlet.edit.combining import WAYS, combine, grown, intersection, minus, union
from samlet.edit.matte import clean_colours, matte
from samlet.edit.surface import METHODS, erase, recolour

__all__ = [
    "METHODS",
    "WAYS",
    "blur_background",
    "clean_colours",
    "combine",
    "cut_out",
    "erase",
    "grown",
    "intersection",
    "matte",
    "minus",
    "over",
    "recolour",
    "replace_background",
    "union",
]
