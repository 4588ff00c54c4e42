"""Labelling tools: each is sent the bytes that its client sends, and its answer is read as that client reads it."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image as PILImage

pytest.importorskip("fastapi")
from samlet.errors import ImageError, InputError
from samlet.polygons import Polygon, polygon_to_mask
from samlet.server.adapters.brush import mask_to_brush
from samlet.server.adapters.studio_config import read_controls
from samlet.server.adapters.studio_files import Downloads
from samlet.server.settings import Settings
from tests.server_running import Client, fake_model, picture_bytes, running

HW = (48, 64)
PICTURE = picture_bytes(HW)
CONFIG = """
<View>
  <Image name="img" value="$photo" zoom="true"/>
  <BrushLabels name="brush" toName="img"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
  <PolygonLabels name="poly" toName="img"><Label value="Cat"/></PolygonLabels>
  <KeyPointLabels name="click" toName="img" smart="true"><Label value="Cat"/><Label value="Dog"/></KeyPointLabels>
  <RectangleLabels name="box" toName="img" smart="true"><Label value="Cat"/></RectangleLabels>
</View>
"""


@pytest.fixture(scope="module")
def port():
    with running() as port:
        yield port


@pytest.fixture
def client(port):
    client = Client(port)
    yield client
    client.close()


def uri(picture: bytes = PICTURE, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


# --- X-AnyLabeling ---------------------------------------------------------------------------------------------------


def x_predict(client: Client, params: dict, image: str = "", model: str = "nano"):
    # As requests.post(url, json=payload, headers={"Content-Type": ..., "Token": ""}) writes it.
    payload = {"model": model, "image": image or uri(), "params": params}
    headers = {"Token": "", "User-Agent": "python-requests/2.32.3", "Accept": "*/*"}
    return client.post("/v1/predict", payload, headers)


def x_params(**more):
    return {"conf_threshold": 0.0, "iou_threshold": 0.0, "epsilon_factor": 0.001, **more}


def test_x_anylabeling_marks_become_a_polygon(client):
    marks = [
        {"type": "point", "data": [20, 20], "label": 1},
        {"type": "point", "data": [60, 5], "label": 0},
    ]
    answer = x_predict(client, x_params(epsilon_factor=0, marks=marks))
    assert answer.status == 200, answer.body
    data = answer.json()["data"]
    assert data["replace"] is False and data["description"] == ""
    (shape,) = data["shapes"]
    assert (shape["label"], shape["shape_type"]) == ("AUTOLABEL_OBJECT", "polygon")
    assert shape["points"][0] == shape["points"][-1]
    expected = fake_model().segment(PICTURE, points=[[20, 20], [60, 5]], labels=[1, 0])
    ring = Polygon(np.array(shape["points"][:-1], float))
    np.testing.assert_array_equal(polygon_to_mask([ring], HW), expected.masks[0])
    assert shape["score"] == pytest.approx(float(expected.scores[0]), abs=1e-6)


def test_x_anylabeling_takes_the_last_rectangle_in_any_direction(client):
    marks = [
        {"type": "rectangle", "data": [0, 0, 5, 5], "label": 1},
        {"type": "rectangle", "data": [40, 30, 10, 10], "label": 1},
    ]
    (shape,) = x_predict(client, x_params(epsilon_factor=0, marks=marks)).json()["data"]["shapes"]
    expected = fake_model().segment(PICTURE, boxes=[10, 10, 40, 30]).masks[0]
    np.testing.assert_array_equal(
        polygon_to_mask([Polygon(np.array(shape["points"][:-1], float))], HW), expected
    )


def test_x_anylabeling_finds_everything_without_marks(client):
    data = x_predict(client, x_params()).json()["data"]
    expected = fake_model().everything(PICTURE)
    assert len(data["shapes"]) == len(expected) > 1
    assert "replace" not in data
    few = x_predict(client, x_params(conf_threshold=0.75)).json()["data"]["shapes"]
    assert len(few) == int((expected.scores >= 0.75).sum()) < len(expected)


def test_x_anylabeling_embeds_a_picture_once(port):
    encoded = []

    def counting(feeds):
        encoded.append(1)
        from samlet.backends.fake import pooled

        return {"image_embeddings": pooled(feeds["image"], 8, 256)}

    with running({"nano": fake_model(functions={"encoder": counting})}) as port:
        client = Client(port)
        for x in range(5, 25, 5):
            mark = {"type": "point", "data": [x, 20], "label": 1}
            assert x_predict(client, x_params(marks=[mark])).status == 200
        assert len(encoded) == 1
        x_predict(client, x_params(marks=[mark]), uri(picture_bytes(HW, seed=1)))
        assert len(encoded) == 2
        client.close()


@pytest.mark.parametrize(
    ("image", "params", "model", "status"),
    [
        ("http://127.0.0.1/x.png", {}, "nano", 415),
        ("file:///etc/passwd", {}, "nano", 415),
        ("/etc/passwd", {}, "nano", 415),
        ("data:image/png;base64,!!!", {}, "nano", 415),
        ("", {}, "../nano", 404),
        ("", {"text_prompt": "a dog"}, "nano", 501),
        ("", {"marks": [{"type": "point", "data": [1, 2, 3]}]}, "nano", 400),
        ("", {"marks": [{"type": "circle", "data": [1, 2, 3]}]}, "nano", 422),
        ("", {"marks": [{"type": "point", "data": [1000, 2]}]}, "nano", 422),
    ],
)
def test_x_anylabeling_is_told_what_is_wrong(client, image, params, model, status):
    answer = x_predict(client, x_params(**params), image, model)
    assert answer.status == status, answer.body


# --- osam ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["nano", "efficientsam:latest", "sam:100m"])
@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (None, {"points": [32, 24]}),
        (
            {"points": [[20, 20], [60, 5]], "point_labels": [1, 0]},
            {"points": [[20, 20], [60, 5]], "labels": [1, 0]},
        ),
        ({"points": [[10, 10], [40, 30]], "point_labels": [2, 3]}, {"boxes": [10, 10, 40, 30]}),
        (
            {"points": [[10, 10], [40, 30], [20, 20]], "point_labels": [2, 3, 1], "iou_threshold": 0.5},
            {"boxes": [[10, 10, 40, 30]], "points": [[[20, 20]]]},
        ),
    ],
)
def test_osam_generates(client, model, prompt, expected):
    # As `curl localhost:11368/api/generate -d '{"model": ..., "image": "'"$(base64 -w0 photo.jpg)"'"}'` sends it.
    body = json.dumps(
        {"model": model, "image": base64.b64encode(PICTURE).decode(), "prompt": prompt}
    ).encode()
    answer = client.send(
        "POST",
        "/api/generate",
        body,
        {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "curl/8"},
    )
    assert answer.status == 200, answer.body
    found = answer.json()
    assert found["model"] == "nano" and found["image_embedding"] is None
    masks = fake_model().segment(PICTURE, **expected)
    (annotation,) = found["annotations"]
    with PILImage.open(io.BytesIO(base64.b64decode(annotation["mask"]))) as png:
        np.testing.assert_array_equal(np.asarray(png) == 255, masks.masks[0])
    assert annotation["mask"] == found["mask"]
    box = annotation["bounding_box"]
    assert [box[name] for name in ("xmin", "ymin", "xmax", "ymax")] == masks.boxes_xyxy[0].tolist()


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        ({"points": [[1, 1]], "point_labels": [2]}, 422),
        ({"points": [[1, 1]], "point_labels": [1, 1]}, 422),
        ({"points": [[1, 1]], "point_labels": [9]}, 422),
        ({"texts": ["a dog"]}, 501),
    ],
)
def test_osam_is_told_what_is_wrong(client, prompt, status):
    value = {"model": "nano", "image": base64.b64encode(PICTURE).decode(), "prompt": prompt}
    assert client.post("/api/generate", value).status == status


def test_base64_with_line_ends_is_read(client):
    wrapped = base64.encodebytes(PICTURE).decode()
    assert client.post("/api/generate", {"model": "nano", "image": wrapped}).status == 200


# --- Label Studio ----------------------------------------------------------------------------------------------------


def region(kind: str, label: str, **value):
    """One region as the editor of Label Studio sends it."""
    positive = value.pop("is_positive", True)
    return {
        "original_width": HW[1],
        "original_height": HW[0],
        "image_rotation": 0,
        "value": {**value, kind: [label]},
        "is_positive": positive,
        "id": "fBWv1t0S2L",
        "from_name": "click" if kind == "keypointlabels" else "box",
        "to_name": "img",
        "type": kind,
        "origin": "manual",
    }


def studio_predict(client: Client, regions: list, image: str = "", config: str = CONFIG):
    value = {
        "tasks": [{"id": 7, "data": {"photo": image or uri()}, "annotations": [], "predictions": []}],
        "model_version": "samlet",
        "project": "3.1700000000",
        "label_config": config,
        "params": {"login": None, "password": None, "context": {"result": regions}},
    }
    return client.post("/predict", value, {"User-Agent": "heartex/1.13.1"})


def read_brush(numbers: list[int]) -> np.ndarray:
    """Read rle-pack as Label Studio's editor does: bit by bit."""
    bits = "".join(f"{number:08b}" for number in numbers)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    count, width = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeats = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(width)] * length if repeats else [take(width) for _ in range(length)]
    assert len(values) == count
    return np.array(values, np.uint8).reshape(-1, 4)


def test_label_studio_clicks_become_a_brush_and_polygons(client):
    regions = [
        region("keypointlabels", "Cat", x=20 / 64 * 100, y=20 / 48 * 100, width=0.3),
        region("keypointlabels", "Cat", x=60 / 64 * 100, y=5 / 48 * 100, width=0.3, is_positive=False),
    ]
    answer = studio_predict(client, regions)
    assert answer.status == 200, answer.body
    (prediction,) = answer.json()["results"]
    assert prediction["model_version"].startswith("samlet-nano-")
    expected = fake_model().segment(PICTURE, points=[[20, 20], [60, 5]], labels=[1, 0])
    brush, *polygons = prediction["result"]
    assert (brush["type"], brush["from_name"], brush["to_name"]) == ("brushlabels", "brush", "img")
    assert brush["value"]["brushlabels"] == ["Cat"] and brush["value"]["format"] == "rle"
    assert (brush["original_width"], brush["original_height"]) == (64, 48)
    channels = read_brush(brush["value"]["rle"])
    np.testing.assert_array_equal(channels[:, 3].reshape(HW) == 255, expected.masks[0])
    assert set(np.unique(channels).tolist()) <= {0, 255}
    assert prediction["score"] == pytest.approx(float(expected.scores[0]), abs=1e-6)
    (polygon,) = polygons
    assert (polygon["type"], polygon["from_name"]) == ("polygonlabels", "poly")
    ring = np.array(polygon["value"]["points"]) / 100 * [64, 48]
    traced = polygon_to_mask([Polygon(ring)], HW)
    assert (traced & expected.masks[0]).sum() / (traced | expected.masks[0]).sum() > 0.9


def test_label_studio_takes_a_rectangle_alone(client):
    box = region("rectanglelabels", "Cat", x=10 / 64 * 100, y=12.5, width=25, height=50)
    (prediction,) = studio_predict(client, [box]).json()["results"]
    expected = fake_model().segment(PICTURE, boxes=[10, 6, 26, 30]).masks[0]
    np.testing.assert_array_equal(
        read_brush(prediction["result"][0]["value"]["rle"])[:, 0].reshape(HW) == 255, expected
    )


def test_label_studio_gets_only_tags_that_its_project_has(client):
    dog = region("keypointlabels", "Dog", x=30, y=40)
    kinds = [each["type"] for each in studio_predict(client, [dog]).json()["results"][0]["result"]]
    assert kinds == ["brushlabels"]  # the polygons of that project know cats only
    polygons = (
        '<View><Image name="i" value="$photo"/><PolygonLabels name="p" toName="i"><Label value="Dog"/>'
        + ("</PolygonLabels></View>")
    )
    result = studio_predict(client, [dog], config=polygons).json()["results"][0]["result"]
    assert {(each["type"], each["from_name"], each["to_name"]) for each in result} == {
        ("polygonlabels", "p", "i")
    }


def test_label_studio_without_clicks_gets_nothing(client):
    assert studio_predict(client, []).json()["results"] == []


def test_label_studio_sets_up_and_reports(client):
    setup = {"project": "3.17", "schema": CONFIG, "hostname": "http://x:8080", "access_token": "secret"}
    assert client.post("/setup", setup).json()["model_version"].startswith("samlet-nano-")
    assert client.get("/health").json()["status"] == "UP"
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 3, "label_config": CONFIG}, "task": {}}
    created = client.post("/webhook", event)
    assert (created.status, created.json()) == (201, {"status": "ok"})
    assert client.post("/webhook", {"action": "PROJECT_UPDATED"}).status == 200


@pytest.mark.parametrize(
    ("regions", "image", "config", "status"),
    [
        ([region("keypointlabels", "Cat", x=1, y=1)], "/data/upload/3/photo.png", CONFIG, 400),
        ([region("keypointlabels", "Cat", x=1, y=1)], "http://169.254.169.254/latest", CONFIG, 400),
        ([region("keypointlabels", "Cat", x=1, y=1)], "file:///etc/passwd", CONFIG, 400),
        ([region("keypointlabels", "Cat", x=1, y=1) | {"image_rotation": 90}], "", CONFIG, 400),
        ([region("ellipselabels", "Cat", x=1, y=1)], "", CONFIG, 400),
        ([region("keypointlabels", "Cat", x="one", y=1)], "", CONFIG, 422),
        ([region("keypointlabels", "Cat", x=1, y=1)], "", "<View", 400),
        ([region("keypointlabels", "Cat", x=1, y=1)], "", '<!DOCTYPE x [<!ENTITY a "b">]><View/>', 400),
    ],
)
def test_label_studio_is_told_what_is_wrong(client, regions, image, config, status):
    answer = studio_predict(client, regions, image, config)
    assert answer.status == status, answer.body


class Studio(BaseHTTPRequestHandler):
    """A Label Studio with one upload."""

    def do_GET(self):
        if self.path == "/data/upload/3/photo.png" and self.headers["Authorization"] == "Token key-of-studio":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PICTURE)
        elif self.path == "/data/upload/3/away.png":
            self.send_response(302)
            self.send_header(
                "Location", f"http://127.0.0.1:{self.server.server_port}/data/upload/3/photo.png"
            )
            self.end_headers()
        else:
            self.send_response(404)
            self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def studio():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Studio)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_label_studio_s_uploads_are_fetched_where_the_operator_says(studio):
    settings = Settings(workers=2, label_studio_url=studio, label_studio_key="key-of-studio")
    click = [region("keypointlabels", "Cat", x=30, y=40)]
    with running(settings=settings) as port:
        client = Client(port)
        for image in ("/data/upload/3/photo.png", f"{studio}/data/upload/3/photo.png"):
            answer = studio_predict(client, click, image)
            assert answer.status == 200 and answer.json()["results"][0]["result"], answer.body
        for image, status in {
            "/data/upload/3/away.png": 400,
            "/data/upload/3/missing.png": 415,
            "http://127.0.0.1:1/data/upload/3/photo.png": 400,
            "/api/users": 400,
        }.items():
            assert studio_predict(client, click, image).status == status, image
        client.close()


@pytest.mark.parametrize(
    "named",
    [
        "http://studio.example:8081/data/upload/1.png",
        "https://studio.example:8080/data/upload/1.png",
        "http://studio.example:8080@evil.example/data/upload/1.png",
        "http://evil.example/data/upload/1.png",
        "//evil.example/data/upload/1.png",
        "/data/../admin",
        "/data/%2e%2e/admin",
        "/data/..%2fadmin",
        "/data\\..\\admin",
        "/data/a b",
        "/admin",
        "file:///data/x",
        "ftp://studio.example:8080/data/x",
        "gopher://studio.example:8080/data/x",
        "/data/upload/%0d%0aHost:%20evil",
    ],
)
def test_nothing_else_is_fetched(named):
    downloads = Downloads(Settings(label_studio_url="http://studio.example:8080"))
    with pytest.raises(InputError, match="Label Studio itself holds"):
        downloads.address(named)
    downloads.close()


def test_uploads_below_a_path_are_found():
    downloads = Downloads(Settings(label_studio_url="http://studio.example/label/"))
    assert downloads.address("/label/data/upload/1.png") == "http://studio.example/label/data/upload/1.png"
    downloads.close()


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((1, 1), bool),
        np.ones((1, 1), bool),
        np.ones((300, 301), bool),  # a run longer than 65,536 values
        np.ones((128, 128), bool),  # exactly that long
        np.indices((9, 11)).sum(0) % 2 == 0,
        np.random.default_rng(0).random((37, 41)) > 0.6,
    ],
)
def test_brushes_are_read_back(mask):
    channels = read_brush(mask_to_brush(mask))
    for channel in channels.T:
        np.testing.assert_array_equal(channel.reshape(mask.shape) == 255, mask)


def test_a_project_without_configuration_has_no_tags():
    controls = read_controls("")
    assert controls.named("brush", None) is None and controls.picture_of({"a": 1, "b": "x"}) == "x"
    with pytest.raises(InputError):
        controls.picture_of({"a": 1})


def test_a_picture_too_long_for_base64_is_refused():
    from samlet.errors import LimitError
    from samlet.limits import Limits, ServerLimits
    from samlet.server.bodies import picture_of_text

    tight = ServerLimits(picture=Limits(max_bytes=100))
    with pytest.raises(LimitError):
        picture_of_text("A" * 2000, tight)
    with pytest.raises(ImageError):
        picture_of_text("data:text/html,<p>", tight)
