"""What one can do with everything that was found in a picture: edges, labels, proposals, and regions that stand out.

Pure functions of masks (and the photo, where colours count); none of them runs a network. They work on run lengths
or on one mask at a time, so that large pictures with many masks are fine.
"""

from samlet.uses.edges import EdgeVotes, edge_map, thin_ridges
from samlet.uses.footprints import footprints, squared
from samlet.uses.labels import label_map, without_overlaps
from samlet.uses.outliers import Anomalies, anomalies
from samlet.uses.ranking import Proposals, proposals
from samlet.uses.shapes import by_size, disjoint_parts, filled
from samlet.uses.sheet import region_sheet
from samlet.uses.subject import salience, salient

__all__ = [
    "Anomalies",
    "EdgeVotes",
    "Proposals",
    "anomalies",
    "by_size",
    "disjoint_parts",
    "edge_map",
    "filled",
    "footprints",
    "label_map",
    "proposals",
    "region_sheet",
    "salience",
    "salient",
    "squared",
    "thin_ridges",
    "without_overlaps",
]
