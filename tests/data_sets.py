"""Small data sets in the true form of each kind: a rectangle, and what else there can be."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from samlet.rle import mask_to_compressed_rle, mask_to_rle

HW = (30, 40)
RING = [4, 6, 16, 6, 16, 18, 4, 18]  # a rectangle, on whole pixels


def rectangle() -> np.ndarray:
    mask = np.zeros(HW, bool)
    mask[6:18, 4:16] = True
    return mask


def other() -> np.ndarray:
    """Overlaps the rectangle by two columns."""
    mask = np.zeros(HW, bool)
    mask[10:24, 14:34] = True
    return mask


def ids() -> np.ndarray:
    found = np.zeros(HW, np.uint8)
    found[other()] = 2
    found[rectangle()] = 1
    found[0] = 255
    return found


def picture(path: Path, hw: tuple[int, int] = HW, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.full((*hw, 3), 90, np.uint8)).save(path, **options)
    return path


def palette(path: Path, found: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = PillowImage.fromarray(found.astype(np.uint8)).convert("P")
    made.putpalette([value for i in range(256) for value in (i, 255 - i, i * 7 % 256)])
    indexed = PillowImage.frombytes("P", (found.shape[1], found.shape[0]), found.astype(np.uint8).tobytes())
    indexed.putpalette(made.getpalette())
    indexed.save(path)


def coco(root: Path) -> Path:
    picture(root / "val2017" / "a.jpg")
    picture(root / "val2017" / "b.jpg")
    crowd = np.zeros(HW, bool)
    crowd[28:] = True
    marks = [
        {"id": 5, "image_id": 7, "category_id": 3, "segmentation": [RING], "bbox": [4, 6, 12, 12]},
        {
            "id": 6,
            "image_id": 7,
            "category_id": 9,
            "segmentation": mask_to_rle(other()),
            "bbox": [14, 10, 20, 14],
        },
        {
            "id": 7,
            "image_id": 7,
            "category_id": 9,
            "iscrowd": 1,
            "segmentation": mask_to_compressed_rle(crowd),
        },
        {"id": 8, "image_id": 7, "category_id": 9, "segmentation": [[1, 2, 3]]},
        {"id": 9, "image_id": 99, "category_id": 9, "segmentation": [RING]},
        "no annotation",
    ]
    data = {
        "images": [
            {"id": 8, "file_name": "b.jpg", "height": 30, "width": 40},
            {"id": 7, "file_name": "a.jpg", "height": 30, "width": 40},
            {"id": 6, "file_name": "gone.jpg", "height": 30, "width": 40},
            {"file_name": "without an id.jpg"},
        ],
        "annotations": marks,
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    path = root / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data))
    return path


def lvis(root: Path) -> Path:
    picture(root / "train2017" / "000000000007.jpg")
    data = {
        "images": [
            {
                "id": 7, "height": 30, "width": 40, "not_exhaustive_category_ids": [],
                "coco_url": "http://images.cocodataset.org/train2017/000000000007.jpg",
            }
        ],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": [RING], "bbox": [4, 6, 12, 12]}],
        "categories": [{"id": 1, "name": "aerosol_can", "synset": "aerosol.n.02", "frequency": "c"}],
    }  # fmt: skip
    (root / "lvis_v1_val.json").write_text(json.dumps(data))
    return root / "lvis_v1_val.json"


def sa1b_document(number: int) -> bytes:
    return json.dumps(
        {
            "image": {"image_id": number, "width": 40, "height": 30, "file_name": f"sa_{number}.jpg"},
            "annotations": [
                {
                    "id": 100 + place, "segmentation": mask_to_compressed_rle(mask), "bbox": [4, 6, 12, 12],
                    "area": 144,
                    "predicted_iou": 0.9, "stability_score": 0.97, "crop_box": [0, 0, 40, 30], "point_coords": [[9, 9]],
                }
                for place, mask in enumerate((rectangle(), other()))
            ],
        }
    ).encode()  # fmt: skip


def sa1b(root: Path) -> Path:
    for number in (1, 2, 10):
        picture(root / f"sa_{number}.jpg")
    (root / "sa_1.json").write_bytes(sa1b_document(1))
    (root / "sa_10.json").write_bytes(sa1b_document(10)[:-40])
    return root


def sa1b_tar(path: Path) -> Path:
    buffer = io.BytesIO()
    PillowImage.fromarray(np.full((*HW, 3), 90, np.uint8)).save(buffer, "JPEG")
    with tarfile.open(path, "w") as tar:
        for name, data in (("sa_1.jpg", buffer.getvalue()), ("sa_1.json", sa1b_document(1))):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def voc(root: Path) -> Path:
    for name in ("2007_000001", "2007_000002"):
        picture(root / "JPEGImages" / f"{name}.jpg")
    kinds = np.where(ids() == 1, 8, np.where(ids() == 2, 15, ids()))
    palette(root / "SegmentationObject" / "2007_000001.png", ids())
    palette(root / "SegmentationClass" / "2007_000001.png", kinds)
    for name, kind in (("2007_000001", "cat"), ("2007_000002", "dog")):
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>40</width><height>30</height></size>"
            f"<object><name>{kind}</name><bndbox><xmin>5</xmin><ymin>7</ymin><xmax>16</xmax><ymax>18</ymax></bndbox>"
            "</object><object><name>none</name></object></annotation>"
        )
    path = root / "ImageSets" / "Segmentation" / "val.txt"
    path.parent.mkdir(parents=True)
    path.write_text("2007_000001\n2007_000002\n")
    return root


def yolo(root: Path) -> Path:
    picture(root / "images" / "val" / "a.jpg")
    picture(root / "images" / "val" / "empty.jpg")
    labels = root / "labels" / "val"
    labels.mkdir(parents=True)
    shares = " ".join(str(value / side) for value, side in zip(RING, (40, 30) * 4, strict=True))
    (labels / "a.txt").write_text(f"1 {shares}\n0 0.6 0.5 0.5 0.4\n\nx 0.1 0.2\n2 40 30 200 100\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def labelme(root: Path) -> Path:
    picture(root / "a.jpg")
    ring = np.reshape(RING, (4, 2)).tolist()
    shapes = [
        {"label": "cat", "points": ring, "shape_type": "polygon", "group_id": None},
        {"label": "dog", "points": [[34, 10], [14, 24]], "shape_type": "rectangle", "group_id": 4},
        {"label": "dog", "points": [[36, 10], [38, 24]], "shape_type": "rectangle", "group_id": 4},
        {"label": "sun", "points": [[30, 5], [30, 2]], "shape_type": "circle"},
        {"label": "nose", "points": [[1, 1]], "shape_type": "point"},
        {"label": "bad", "points": [[1, 1], [2, 2]], "shape_type": "polygon"},
    ]
    (root / "a.json").write_text(
        json.dumps({"version": "5.4.1", "imagePath": "..\\elsewhere\\a.jpg", "shapes": shapes})
    )
    return root


def davis(root: Path) -> Path:
    for sequence in ("bear", "two-dogs"):
        for frame in ("00000", "00001"):
            picture(root / "JPEGImages" / "480p" / sequence / f"{frame}.jpg")
    white = np.where(rectangle(), 255, 0)
    folder = root / "Annotations" / "480p"
    (folder / "bear").mkdir(parents=True)
    PillowImage.fromarray(white.astype(np.uint8)).save(folder / "bear" / "00000.png")
    both = np.where(ids() == 255, 0, ids())
    for frame in ("00000", "00001"):
        palette(folder / "two-dogs" / f"{frame}.png", both)
    for year, line in (
        ("2016", "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png"),
        ("2017", "two-dogs"),
    ):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / ("train.txt" if year == "2016" else "val.txt")).write_text(line + "\n")
    return root


def bsds(root: Path) -> Path:
    from scipy.io import savemat

    data = root / "BSDS500" / "data"
    picture(data / "images" / "test" / "2018.jpg")
    picture(data / "images" / "test" / "3063.jpg")
    (data / "groundTruth" / "test").mkdir(parents=True)
    people = np.empty((1, 2), object)
    for place, found in enumerate((rectangle() + 1, rectangle() + 2 * other() + 1)):
        one = np.empty((1, 1), [("Segmentation", "O"), ("Boundaries", "O")])
        lines = np.zeros(HW, np.uint8)
        lines[6, 4:16] = 1
        one[0, 0] = (found.astype(np.uint16), lines)
        people[0, place] = one
    savemat(data / "groundTruth" / "test" / "2018.mat", {"groundTruth": people})
    (data / "groundTruth" / "test" / "3063.mat").write_bytes(b"MATLAB 5.0 MAT-file, but not really")
    return root


def table(root: Path) -> Path:
    picture(root / "photos" / "a.jpg")
    (root / "boxes.csv").write_text(
        "Filename,xmin,ymin,xmax,ymax,class\na.jpg,4,6,16,18,cat\na.jpg,14,10,34,24,\na.jpg,9,9,2,2,bad\n../b.jpg,1,1,2,2,x\n"
    )
    return root / "boxes.csv"
