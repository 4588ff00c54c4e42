"""The HTTP API over a real socket, on the fake backend: every route, its answers and its refusals."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("fastapi")
from samlet.embedding import Embedding
from samlet.image import Image
from samlet.rle import rle_to_mask
from samlet.server.settings import Settings
from tests.server_running import TOKEN, Client, fake_model, form, picture_bytes, running


@pytest.fixture(scope="module")
def port():
    with running({"nano": fake_model(), "sam_vit_b": fake_model("sam_vit_b")}) as port:
        yield port


@pytest.fixture
def client(port):
    client = Client(port)
    yield client
    client.close()


def test_health_and_models(client):
    assert client.get("/health").json()["status"] == "UP"
    models = client.get("/v1/models").json()["data"]
    assert list(models) == ["nano", "sam_vit_b"]
    assert models["nano"] | {"widgets": 0} == models["nano"] | {
        "widgets": 0,
        "family": "sam",
        "default": True,
        "object_head": True,
        "text": False,
    }
    assert models["sam_vit_b"]["default"] is False
    info = client.get("/v1/models/nano/info").json()["data"]
    assert info == {"model_id": "nano", **models["nano"]}


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_networks_come_as_a_graph_and_its_weights(client, role):
    graph = client.get(f"/v1/models/nano/{role}.onnx")
    weights = client.get(f"/v1/models/nano/{role}.bin")
    name = graph.headers["X-Weights-Location"]
    assert graph.status == weights.status == 200
    assert name.encode() in graph.body and len(weights.body) > len(graph.body)


@pytest.mark.parametrize(("path", "status"), [("nano/objects.onnx", 422), ("other/decoder.bin", 404)])
def test_other_networks_are_refused_in_one_sentence(client, path, status):
    answer = client.get(f"/v1/models/{path}")
    assert answer.status == status
    assert set(answer.json()) == {"error", "id"} and answer.json()["error"].startswith("expected")


@pytest.mark.parametrize("way", ["form", "field", "raw", "octets"])
def test_a_picture_is_embedded_however_it_is_sent(client, way):
    picture = picture_bytes()
    body, headers = {
        "form": form({"image": picture, "model": b"sam_vit_b"}),
        "field": form({"image": picture, "model": b"sam_vit_b"}, files=()),
        "raw": (picture, {"Content-Type": "image/png"}),
        "octets": (picture, {"Content-Type": "application/octet-stream"}),
    }[way]
    answer = client.send("POST", "/v1/embeddings?model=sam_vit_b", body, headers)
    assert answer.status == 201
    facts = answer.json()
    assert (facts["model"], facts["width"], facts["height"]) == ("sam_vit_b", 64, 48)
    assert facts["milliseconds"] >= 0 and facts["expires"] == 3600
    kept = client.get(f"/v1/embeddings/{facts['id']}").json()
    assert kept == {name: facts[name] for name in ("id", "model", "width", "height", "expires")}


def test_ids_cannot_be_guessed_and_differ_for_the_same_picture(client):
    names = {client.embed(picture_bytes()) for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch(r"[\w-]{22}", name) for name in names)


def test_masks_are_those_of_the_library(client):
    picture = picture_bytes()
    name = client.embed(picture)
    prompt = {"points": [[[20, 20]], [[40, 30]]], "boxes": [[5, 5, 40, 40], [10, 10, 60, 45]]}
    model = fake_model()
    expected = model.segment(Image.load(picture), **prompt, multimask=True)
    for form_ in ("rle", "polygons", "png"):
        answer = client.post(
            f"/v1/embeddings/{name}/segment", {**prompt, "multimask": True, "format": form_, "tolerance": 0}
        )
        assert answer.status == 200, answer.body
        masks = answer.json()["masks"]
        assert len(masks) == 6 and all(set(mask) == {"score", "box_xyxy", "area", form_} for mask in masks)
        flat = expected.masks.reshape(6, 48, 64)
        assert [mask["area"] for mask in masks] == flat.sum(axis=(1, 2)).tolist()
        assert [mask["box_xyxy"] for mask in masks] == expected.boxes_xyxy.reshape(6, 4).tolist()
        np.testing.assert_allclose([mask["score"] for mask in masks], expected.scores.ravel(), atol=1e-6)
        for mask, truth in zip(masks, flat, strict=True):
            np.testing.assert_array_equal(_decoded(mask[form_], form_), truth)


def _decoded(value, form_):
    from samlet.codecs import png_to_mask, polygon_to_mask
    from samlet.polygons import Polygon

    if form_ == "rle":
        return rle_to_mask(value)
    if form_ == "png":
        import base64

        return png_to_mask(base64.b64decode(value))
    parts = [
        Polygon(np.array(part["exterior"]), tuple(np.array(hole) for hole in part["holes"])) for part in value
    ]
    return polygon_to_mask(parts, (48, 64))


def test_an_answer_is_refined_by_its_id(client):
    picture = picture_bytes()
    name = client.embed(picture)
    first = client.post(f"/v1/embeddings/{name}/segment", {"points": [[20, 20]]}).json()
    refined = client.post(
        f"/v1/embeddings/{name}/segment", {"points": [[40, 20]], "hint_from": first["id"]}
    ).json()
    model = fake_model()
    view = model.embed(picture)
    expected = model.segment(view, points=[40, 20], hint=model.segment(view, points=[20, 20]).hint)
    assert refined["masks"][0]["area"] == int(expected.areas[0])
    assert refined["masks"][0]["area"] != int(model.segment(view, points=[40, 20]).areas[0])


def test_answers_of_another_picture_cannot_be_refined(client):
    one, other = client.embed(picture_bytes()), client.embed(picture_bytes())
    answer = client.post(f"/v1/embeddings/{one}/segment", {"points": [[20, 20]]}).json()["id"]
    refused = client.post(f"/v1/embeddings/{other}/segment", {"points": [[20, 20]], "hint_from": answer})
    assert refused.status == 404 and "answer to refine" in refused.json()["error"]


def test_a_picture_and_a_prompt_at_once(client):
    prompt = json.dumps({"boxes": [[5, 5, 40, 40]]}).encode()
    body, headers = form({"image": picture_bytes(), "prompt": prompt, "model": b"nano"})
    answer = client.send("POST", "/v1/segment", body, headers).json()
    assert answer["id"] is None
    assert answer["masks"][0]["area"] == int(
        fake_model().segment(picture_bytes(), boxes=[5, 5, 40, 40]).areas[0]
    )


def test_the_array_is_the_embedding_with_its_frame(client):
    picture = picture_bytes((30, 64))
    name = client.embed(picture)
    answer = client.get(f"/v1/embeddings/{name}/array")
    shape = tuple(map(int, answer.headers["X-Shape"].split(",")))
    view = fake_model().embed(picture)
    np.testing.assert_array_equal(
        np.frombuffer(answer.body, "<f4").reshape(shape), view.arrays["image_embeddings"]
    )
    frame = json.loads(answer.headers["X-Frame"])
    assert frame == {
        "image_hw": [30, 64],
        "scaled_hw": list(view.frame.scaled_hw),
        "canvas_hw": list(view.frame.canvas_hw),
        "side": 512,
    }


def test_boxes_of_the_object_head(client):
    name = client.embed(picture_bytes())
    answer = client.get(f"/v1/embeddings/{name}/objects?at_most=2").json()
    assert answer["scores"] == [0.9, 0.8] and len(answer["boxes"]) == 2
    without = client.embed(picture_bytes(), "?model=sam_vit_b")
    refused = client.get(f"/v1/embeddings/{without}/objects")
    assert refused.status == 400 and "object head" in refused.json()["error"]


def test_everything_comes_in_lines_with_progress_first(client):
    name = client.embed(picture_bytes())
    answer = client.post(f"/v1/embeddings/{name}/everything", {"at_most": 3, "format": "rle"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    *progress, last = [json.loads(line) for line in answer.body.splitlines()]
    assert progress and progress[-1]["progress"] == [3, 3]
    expected = fake_model().everything(picture_bytes())
    assert [mask["area"] for mask in last["masks"]] == expected.areas[:3].tolist()
    large = client.post(f"/v1/embeddings/{name}/everything", {"min_area": 10**6})
    assert json.loads(large.body.splitlines()[-1])["masks"] == []


def test_everything_by_a_grid(client):
    name = client.embed(picture_bytes())
    lines = client.post(f"/v1/embeddings/{name}/everything", {"grid": "4x4"}).body.splitlines()
    expected = fake_model().everything(picture_bytes(), grid="4x4")
    assert [mask["area"] for mask in json.loads(lines[-1])["masks"]] == expected.areas.tolist()


def test_words_need_a_server_that_reads(client):
    name = client.embed(picture_bytes())
    refused = client.post(f"/v1/embeddings/{name}/text", {"find": "a dog"})
    assert refused.status == 501 and "without a model that reads" in refused.json()["error"]


def test_words_find_what_the_scorer_says():
    def scorer(crops, text):
        return [float(index if text == "a cat" else -index) for index in range(len(crops))]

    with running(scorer=scorer) as port:
        client = Client(port)
        assert client.get("/v1/models").json()["data"]["nano"]["text"] is True
        name = client.embed(picture_bytes())
        masks = client.post(f"/v1/embeddings/{name}/text", {"find": ["a dog", "a cat"]}).json()["masks"]
        assert [mask["label"] for mask in masks] == ["a dog", "a cat"]
        client.close()


def test_forgetting_is_at_once(client):
    name = client.embed(picture_bytes())
    assert client.send("DELETE", f"/v1/embeddings/{name}").status == 204
    assert client.send("DELETE", f"/v1/embeddings/{name}").status == 404
    assert client.get(f"/v1/embeddings/{name}").status == 404
    assert client.post(f"/v1/embeddings/{name}/segment", {"points": [[1, 1]]}).status == 404
    assert client.post(f"/v1/embeddings/{name}/everything", {}).status == 404


@pytest.mark.parametrize(
    ("prompt", "status", "says"),
    [
        ({}, 422, "empty prompt"),
        ({"points": [[1, 1]], "labels": [7]}, 422, "labels"),
        ({"points": [[1, 1, 1]]}, 422, "points"),
        ({"points": [[900, 1]]}, 422, "inside the picture"),
        ({"points": [["a", 1]]}, 422, "points"),
        ({"points": [[1, 1]], "format": "gif"}, 422, "format"),
        ({"points": [[1, 1]], "model": "x"}, 422, "model"),
        ({"points": [[1, 1]], "path": "/etc/passwd"}, 422, "path"),
        ({"boxes": [[0, 0, 5, 5]] * 257}, 413, "at most 256 prompts"),
        ({"points": [[1, 1]] * 1025}, 413, "at most 1,024 points"),
        ({"points": [[1, 1]], "hint_from": "nothing-like-this"}, 404, "answer to refine"),
        ({"points": [[1, 1]], "hint_from": "../../x"}, 422, "hint_from"),
        ({"points": [[1e300, 1]]}, 422, "points"),
        ({"points": [[1, 1]], "tolerance": -1}, 422, "tolerance"),
    ],
)
def test_a_wrong_prompt_is_one_sentence(client, prompt, status, says):
    answer = client.post(f"/v1/embeddings/{client.embed(picture_bytes())}/segment", prompt)
    assert answer.status == status, answer.body
    told = answer.json()
    assert set(told) == {"error", "id"} and says in told["error"] and "\n" not in told["error"]
    assert re.fullmatch(r"[0-9a-f]{12}", told["id"])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"points": NaN}', b"\xff\xfe"])
def test_what_is_no_json_is_said(client, body):
    name = client.embed(picture_bytes())
    assert client.send("POST", f"/v1/embeddings/{name}/segment", body).status == 422


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {"Content-Type": "image/png"}, 415),
        (b"no picture", {"Content-Type": "image/png"}, 415),
        (picture_bytes()[:-30], {"Content-Type": "image/png"}, 415),
        (picture_bytes(form="GIF"), {"Content-Type": "image/gif"}, 415),
        (picture_bytes(form="TIFF"), {"Content-Type": "image/tiff"}, 415),
        (picture_bytes(), {"Content-Type": "application/json"}, 415),
        (b'{"url": "http://127.0.0.1/x.png"}', {"Content-Type": "application/json"}, 415),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"x", {"Content-Type": "multipart/form-data; boundary=XX"}, 400),
        (b"--XX\r\nnonsense\r\n\r\n--XX--", {"Content-Type": "multipart/form-data; boundary=XX"}, 400),
        (*form({"picture": picture_bytes()}, files=("picture",)), 415),
        (*form({"image": picture_bytes(), "model": b"../../etc/passwd"}), 404),
        (*form({"image": picture_bytes(), "model": b"http://127.0.0.1/m.pt"}), 404),
        (*form({f"f{i}": b"x" for i in range(9)}), 400),
    ],
)
def test_a_wrong_picture_is_refused(client, body, headers, status):
    answer = client.send("POST", "/v1/embeddings", body, headers)
    assert answer.status == status, answer.body
    assert set(answer.json()) == {"error", "id"}


@pytest.mark.parametrize(
    "name", ["a", "x" * 65, "../../etc/passwd", "%2e%2e%2fetc%2fpasswd", "a b c d e f g", "12345678%00"]
)
def test_an_id_that_is_none(client, name):
    answer = client.get(f"/v1/embeddings/{name.replace(' ', '%20')}")
    assert answer.status in (404, 422) and set(answer.json()) == {"error", "id"}


def test_other_paths_and_methods(client):
    assert client.get("/v1/nothing").status == 404
    assert client.get("/v1/segment").status == 405
    assert client.send("PUT", "/v1/embeddings").status == 405
    assert client.get("/docs").status == 404


def test_the_description_names_every_route_and_form(client):
    described = client.get("/openapi.json").json()
    assert {
        "/v1/embeddings",
        "/v1/embeddings/{id}/segment",
        "/v1/predict",
        "/predict",
        "/api/generate",
    } <= set(described["paths"])
    text = json.dumps(described)
    wanted = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert wanted <= set(described["components"]["schemas"])
    assert {"Prompt", "XRequest", "StudioRequest", "OsamRequest"} <= wanted


def test_metrics_count_what_happened(client):
    client.embed(picture_bytes())
    text = client.get("/metrics").body.decode()
    count = re.search(
        r'samlet_requests_total\{method="POST",route="/v1/embeddings",status="201"\} (\S+)', text
    )
    assert count is not None and float(count[1]) >= 1
    assert re.search(r"samlet_cache_bytes [1-9]", text)


def test_every_answer_carries_the_headers_of_safety(client):
    for answer in (client.get("/health"), client.get("/v1/nothing"), client.get("/v1/models")):
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert answer.headers["Access-Control-Allow-Origin"] is None
        assert answer.headers["Server"] is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_other_sites_are_kept_out(client, headers, status):
    assert client.get("/v1/models", headers).status == status


def test_the_page_of_the_server_itself_may_ask(client, port):
    assert client.get("/v1/models", {"Origin": f"http://127.0.0.1:{port}"}).status == 200


def test_a_token_is_asked_for():
    with running(settings=Settings(workers=2, token=TOKEN)) as port:
        client = Client(port)
        assert client.get("/health").status == 200
        refused = client.get("/v1/models")
        assert refused.status == 401 and "Basic" in refused.headers["WWW-Authenticate"]
        basic = "Basic c3R1ZGlvOmEtdG9rZW4tb2YtdGhlLXRlc3Rz"  # studio:a-token-of-the-tests
        for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Token": TOKEN}, {"Authorization": basic}):
            assert client.get("/v1/models", headers).status == 200
        for headers in (
            {"Authorization": "Bearer x"},
            {"Token": TOKEN + "x"},
            {"Authorization": "Basic ==="},
        ):
            assert client.get("/v1/models", headers).status == 401
        for path in (
            "/",
            "/app.js",
            "/metrics",
            "/openapi.json",
            "/predict",
            "/api/generate",
            "/setup",
            "/webhook",
        ):
            assert client.get(path).status == 401
        client.close()


def test_an_error_inside_shows_nothing_of_the_inside(caplog):
    def broken(feeds):
        raise RuntimeError("/secret/path: boom")

    with running({"nano": fake_model(functions={"decoder": broken})}) as port:
        client = Client(port)
        name = client.embed(picture_bytes())
        answer = client.post(f"/v1/embeddings/{name}/segment", {"points": [[20, 20]]})
        client.close()
    assert answer.status == 500
    told = answer.json()
    assert "secret" not in told["error"] and told["id"] in told["error"]
    assert any(told["id"] in record.getMessage() and record.exc_info for record in caplog.records)


def test_embeddings_survive_their_bytes():
    view = fake_model().embed(picture_bytes())
    again = Embedding.from_bytes(view.to_bytes())
    np.testing.assert_array_equal(again.arrays["image_embeddings"], view.arrays["image_embeddings"])
    assert (again.frame, again.model, again.digest) == (view.frame, view.model, view.digest)
