"""GeoJSON, tables and maps of labels."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet import codecs
from samlet.errors import InputError
from samlet.image import Image
from samlet.polygons import Polygon
from samlet.rle import mask_to_rle

RING = np.zeros((20, 30), bool)
RING[2:12, 3:15] = True
RING[4:6, 5:9] = False
TWO = RING.copy()
TWO[15:18, 20:29] = True
EMPTY = np.zeros_like(RING)


def signed_area(ring):
    x, y = np.array(ring, float).T
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2


def painted(geometry):
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    polygons = [
        Polygon(*(lambda e, *h: (e, tuple(h)))(*(np.array(ring[:-1], float) for ring in one)))
        for one in parts
    ]
    return codecs.polygon_to_mask(polygons, RING.shape)


@pytest.mark.parametrize("code", [lambda mask: mask, mask_to_rle, codecs.mask_to_compressed_rle])
def test_geojson_in_pixels(code):
    masks = [code(mask) for mask in (RING, TWO, EMPTY)]
    found = codecs.to_geojson(masks, RING.shape, scores=[0.9, 0.8, 0.7], file_name="a.png", tolerance=0)
    assert json.loads(json.dumps(found)) == found and found["type"] == "FeatureCollection"
    assert found["picture"] == {"file_name": "a.png", "height": 20, "width": 30, "unit": "pixel", "y": "down"}
    ring, two, empty = found["features"]
    assert ring["geometry"]["type"] == "Polygon" and two["geometry"]["type"] == "MultiPolygon"
    assert empty["geometry"] is None and empty["properties"]["bbox"] == [0, 0, 0, 0]
    assert np.array_equal(painted(ring["geometry"]), RING) and np.array_equal(painted(two["geometry"]), TWO)
    assert ring["properties"] == {
        "id": 1,
        "label": "object",
        "area": 112,
        "bbox": [3, 2, 12, 10],
        "score": 0.9,
    }
    exterior, hole = ring["geometry"]["coordinates"]
    # RFC 7946: closed, exteriors counter-clockwise, holes clockwise, in the numbers' own axes.
    assert exterior[0] == exterior[-1] and signed_area(exterior) == 120 and signed_area(hole) == -8


def test_geojson_on_a_map():
    north_up = (0.5, 0, 1000, 0, -0.5, 2000)
    found = codecs.to_geojson([RING], RING.shape, affine=north_up, labels=["pond"])
    exterior, hole = found["features"][0]["geometry"]["coordinates"]
    assert signed_area(exterior) == 30 and signed_area(hole) == -2
    assert sorted(map(tuple, exterior[:-1])) == [
        (1001.5, 1994.0), (1001.5, 1999.0), (1007.5, 1994.0), (1007.5, 1999.0),
    ]  # fmt: skip
    assert found["picture"]["affine"] == list(map(float, north_up)) and "unit" not in found["picture"]
    assert found["features"][0]["properties"]["label"] == "pond"
    for wrong in ((1, 0, 0), (1, 1, 0, 1, 1, 0), (1, 0, np.inf, 0, 1, 0)):
        with pytest.raises(InputError, match="six finite numbers"):
            codecs.to_geojson([RING], RING.shape, affine=wrong)


@pytest.mark.parametrize("write", [codecs.to_geojson, codecs.to_csv])
def test_tables_refuse_what_does_not_fit(write):
    with pytest.raises(InputError, match="picture's size 9 x 9"):
        write([RING], (9, 9))
    with pytest.raises(InputError, match="picture's size 9 x 9"):
        write([mask_to_rle(RING)], (9, 9))
    with pytest.raises(InputError, match="score"):
        write([RING], RING.shape, scores=[])
    with pytest.raises(InputError, match="scores"):
        write([RING], RING.shape, scores=[1, 2])
    with pytest.raises(InputError, match="labels"):
        write([RING], RING.shape, labels=["a", "b"])


@pytest.mark.parametrize("code", [lambda mask: mask, mask_to_rle])
def test_csv_of_statistics(code):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    text = codecs.to_csv(
        [code(RING), code(EMPTY)],
        RING.shape,
        scores=np.array([0.9, 0.1], np.float32),
        stability=[0.75, 1],
        labels=["=1+1", 'a "pond", round'],
        image=Image.load(pixels),
    )
    ring, empty = csv.DictReader(io.StringIO(text))
    y, x = np.nonzero(RING)
    numbers = {key: float(value) for key, value in ring.items() if key != "label"}
    red, green, blue = pixels[RING].mean(axis=0)
    assert numbers == pytest.approx(
        {
            "id": 1, "score": 0.9, "stability": 0.75, "area": 112, "share": 112 / 600,
            "x": 3, "y": 2, "width": 12, "height": 10, "center_x": x.mean() + 0.5, "center_y": y.mean() + 0.5,
            "red": red, "green": green, "blue": blue,
        },
        abs=0.051,
    )  # fmt: skip
    assert ring["label"] == "'=1+1"
    assert (
        empty["label"] == 'a "pond", round'
        and empty["area"] == "0"
        and empty["center_x"] == empty["red"] == ""
    )
    bare = next(csv.DictReader(io.StringIO(codecs.to_csv([RING], RING.shape))))
    assert [bare[key] for key in ("label", "score", "stability", "red")] == [""] * 4
    assert codecs.to_csv([], RING.shape) == ",".join(bare) + "\n"
    with pytest.raises(InputError, match="the picture of the masks"):
        codecs.to_csv([RING], RING.shape, image=Image.load(pixels[:5]))


@pytest.mark.parametrize("most", [3, 255, 256, 65_535])
def test_labels_as_png(most):
    labels = np.array([[0, 1, 2], [most, 0, 1]], np.uint16)
    data = codecs.labels_to_png_bytes(labels)
    assert data[24] == (8 if most < 256 else 16)
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert np.array_equal(np.asarray(picture), labels)
    assert np.array_equal(codecs.png_to_mask(data), labels > 0)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2)), np.zeros(4, int), np.array([[70_000]]), np.array([[-1]])]
)
def test_labels_that_no_png_holds_are_refused(wrong):
    with pytest.raises(InputError, match="labels"):
        codecs.labels_to_png_bytes(wrong)
