"""Masks in the formats of other tools: PNG, COCO, labelme, YOLO, GeoJSON, CSV, run-length codes and polygons.

Pure functions over bool arrays; the only one that touches the disk is `atomic_write`. Functions over several
masks take any iterable, so that a hundred full-size masks never need to exist at the same time.
"""

from samlet.atomic import atomic_write
from samlet.codecs.datasets import LABELME_VERSION, to_coco, to_labelme, to_yolo
from samlet.codecs.pictures import label_map, labels_to_png_bytes, mask_to_png_bytes, png_to_mask
from samlet.codecs.tables import to_csv, to_geojson
from samlet.polygons import Polygon, join_polygons, mask_to_polygons, polygon_to_mask
from samlet.rle import (
    Rle,
    mask_to_compressed_rle,
    mask_to_rle,
    rle_area,
    rle_to_bbox,
    rle_to_mask,
    rle_to_string,
    string_to_rle,
)

__all__ = [
    "LABELME_VERSION",
    "Polygon",
    "Rle",
    "atomic_write",
    "join_polygons",
    "label_map",
    "labels_to_png_bytes",
    "mask_to_compressed_rle",
    "mask_to_png_bytes",
    "mask_to_polygons",
    "mask_to_rle",
    "png_to_mask",
    "polygon_to_mask",
    "rle_area",
    "rle_to_bbox",
    "rle_to_mask",
    "rle_to_string",
    "string_to_rle",
    "to_coco",
    "to_csv",
    "to_geojson",
    "to_labelme",
    "to_yolo",
]
