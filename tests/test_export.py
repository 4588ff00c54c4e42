"""`samlet export`: other programs' clients, written out here, get samlet's own answers from the files."""

import functools
import hashlib
import json
import sys
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

onnx = pytest.importorskip("onnx")
pytest.importorskip("yaml")

import onnxruntime

import samlet
from samlet import registry
from samlet.cli import main
from samlet.errors import BackendError, InputError, OutputError
from samlet.export import assembly, contract, proof
from samlet.export.formats import FORMATS, export
from samlet.export.job import Options
from samlet.export.staging import publish, staged
from samlet.export.storage import narrow
from samlet.geometry import Frame, mask_iou
from samlet.image import Image
from tests.labelling_client import LabellingClient
from tests.random_weights import write_official

pytestmark = pytest.mark.torch  # not for torch, but run where the packages for export are: make parity-quick

BOX = (20, 90, 580, 350)  # the cup and its saucer, coffee.jpg


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """Nano's card and a folder with the files of each format asked for."""

    @functools.cache
    def made(format, **options):
        folder = tmp_path_factory.mktemp(format)
        export(registry.resolve("nano"), format=format, folder=folder, options=Options(**options))
        return folder

    return made


def run(path, feeds):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def asked(frame, embedding, points, labels, size=None):
    """SAM's six inputs for one prompt."""
    return {
        "image_embeddings": embedding,
        "point_coords": frame.to_model_points(np.array([points])),
        "point_labels": np.array([labels], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(frame.image_hw, np.float32) if size is None else size,
    }


@pytest.mark.parametrize("program", ["anylabeling", "x-anylabeling"])
@pytest.mark.parametrize(
    ("photo", "points", "labels", "box"),
    [
        ("coffee", [BOX[:2], BOX[2:]], [2, 3], BOX),
        ("astronaut", [(150, 10), (300, 190)], [2, 3], (150, 10, 300, 190)),
        ("chelsea", [(220, 150)], [1], None),
    ],
)
def test_labelling_programs_draw_samlets_outlines(nano, sample, program, photo, points, labels, box):
    config = nano(program) / "nano.yaml"
    assert ('provider: "samlet"' in config.read_text()) == (program == "x-anylabeling")
    rgb = np.asarray(PILImage.open(sample(photo)).convert("RGB"))
    client = LabellingClient(config)
    logits = client.decode(client.encode(rgb), points, labels)
    model = samlet.load()
    own = model.segment(rgb, boxes=box) if box else model.segment(rgb, points=points, multimask=True).best()
    assert mask_iou(own.masks[0], logits > 0) > 0.93
    drawn = cv2.drawContours(np.zeros(rgb.shape[:2], np.uint8), client.outline(logits), -1, 1, cv2.FILLED)
    assert mask_iou(own.masks[0], drawn > 0) > 0.9


def test_a_hint_and_a_second_click_refine_as_in_samlet(nano, sample):
    """The graph's own low-res masks come back as `mask_input`, as SAM's clients do it."""
    folder = nano("onnx", single=True)
    square = samlet.load().card
    image = Image.load(sample("chelsea"))
    frame = Frame.fit(image.hw, square.side)
    session = proof.own_session(registry.resolve("nano"))
    feed = proof.picture_feed(image, square, frame, raw=False)
    (embedding,) = run(folder / "nano.encoder.onnx", feed)
    first = asked(frame, embedding, [(220, 150), (0, 0)], [1, -1])
    _, _, low = run(folder / "nano.decoder.onnx", first)
    assert low.shape == (1, 1, 256, 256)
    second = asked(frame, embedding, [(220, 150), (30, 30), (0, 0)], [1, 0, -1])
    refined = {**second, "mask_input": low, "has_mask_input": np.ones(1, np.float32)}
    masks, scores, logits = run(folder / "nano.decoder.onnx", refined)
    assert masks.shape == (1, 1, *image.hw)
    assert scores.shape == (1, 1)
    from samlet.prompt import Prompt

    prompt = Prompt.make(image_hw=image.hw, points=[(220, 150), (30, 30)], labels=[1, 0], hint=low[0])
    own = session.segment(session.encode(feed, frame), prompt)
    assert np.abs(own.logits - logits[:, 0]).max() < 1e-3 * own.logits.std()
    assert not np.allclose(run(folder / "nano.decoder.onnx", second)[2], logits)  # the hint is read


def test_many_prompts_share_one_hint_and_pictures_may_be_of_any_size(nano, sample):
    folder = nano("onnx", preprocess=True)
    rgb = np.asarray(PILImage.open(sample("coffee")).convert("RGB").resize((512, 341)), np.float32)
    (embedding,) = run(folder / "nano.encoder.onnx", {"input_image": rgb})
    assert embedding.shape == (1, 256, 64, 64)
    frame = Frame.fit((682, 1024), 512)
    one = asked(frame, embedding, [(300, 200), (0, 0)], [1, -1])
    three = {
        **one,
        "point_coords": np.concatenate([one["point_coords"], one["point_coords"] + 60, one["point_coords"]]),
        "point_labels": np.repeat(one["point_labels"], 3, axis=0),
    }
    alone, together = (run(folder / "nano.decoder.onnx", feeds) for feeds in (one, three))
    assert [array.shape for array in together] == [(3, 4, 682, 1024), (3, 4), (3, 4, 256, 256)]
    assert np.allclose(together[0][2], alone[0][0], atol=1e-3)
    assert not np.allclose(together[0][1], alone[0][0], atol=1)


SIZES = "size longest frame ratio exact half up floor filled twice product sum two divisor"


def about_sizes(node):
    """Whether a node is one of those that find out how much of the frame the picture fills."""
    return node.output[0] in {f"after_{word}" for word in SIZES.split()}


@pytest.mark.parametrize("hw", [(720, 1280), (33, 1000), (901, 600), (1, 7)])
def test_sizes_in_whole_numbers_cut_where_sam_cuts(hw):
    """TensorRT's variant rounds like the float one: floor(frame / longest * size + 1/2)."""
    card = registry.resolve("nano")
    weights = assembly.read_weights(card, ("encoder", "decoder"))
    sizes = []
    for whole in (False, True):
        part = assembly.core(assembly.graph_file(card, "decoder"), weights)
        contract.decoder(part, card, contract.Contract(frame=1024, whole_sizes=whole))
        cut = onnx.helper.make_graph(
            [node for node in part.model.graph.node if about_sizes(node)],
            "cut",
            [value for value in part.model.graph.input if value.name == "orig_im_size"],
            [onnx.helper.make_tensor_value_info("after_filled", onnx.TensorProto.INT64, [2])],
        )
        model = onnx.helper.make_model(cut, opset_imports=part.model.opset_import, ir_version=10)
        feed = {"orig_im_size": np.array(hw, np.int32 if whole else np.float32)}
        sizes.append(run(model.SerializeToString(), feed)[0].tolist())
    scale = 1024 / max(hw)
    assert sizes == 2 * [[int(np.floor(side * scale + 0.5)) for side in hw]]


def test_a_web_page_gets_what_the_manifest_says(nano, sample):
    folder = nano("web", precision="float16")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"], manifest["model"]) == ("samlet-web", 1, "nano")
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
    assert manifest["files"]["encoder.onnx"]["size"] < 200_000  # the weights lie beside
    # As the page does it: scale, normalise, pad to a multiple, encode, prompt in canvas pixels.
    image = Image.load(sample("chelsea"))
    frame = Frame.fit(image.hw, manifest["side"], multiple=manifest["pad"])
    canvas = np.zeros((1, 3, *frame.canvas_hw), np.float32)
    small = (image.resized(frame.scaled_hw) - np.array(manifest["mean"])) / np.array(manifest["std"])
    canvas[0, :, : frame.scaled_hw[0], : frame.scaled_hw[1]] = small.transpose(2, 0, 1)
    encoder, decoder = manifest["encoder"], manifest["decoder"]
    (embedding,) = run(folder / encoder["graph"], {encoder["inputs"][0]: canvas})
    assert embedding.shape[2:] == tuple(side // manifest["stride"] for side in frame.canvas_hw)
    feeds = asked(frame, embedding, [(220, 150), (0, 0)], [1, -1])
    feeds["mask_input"] = np.zeros((1, 1, *(4 * side for side in embedding.shape[2:])), np.float32)
    scores, logits = run(folder / decoder["graph"], {key: feeds[key] for key in decoder["inputs"]})
    own = samlet.load().segment(image, points=[220, 150], multimask=True)
    # nano's weights are published as float16, so that nothing is lost
    assert np.abs(own.logits[0] - logits[0, 1:]).max() < 1e-3 * own.logits.std()
    assert np.allclose(own.scores[0], scores[0, 1:], atol=1e-4)
    boxes, ratings = run(folder / manifest["objects"]["graph"], {"image_embeddings": embedding})
    assert boxes.shape == (1, ratings.shape[1], 4)


def test_mobile_sams_layout_and_a_detectors(tmp_path):
    """Random weights tell whether every weight is in its place; equal masks, since both sides are float32."""
    path = write_official("mobile_sam", tmp_path / "mobile_sam.pt")
    done = export(
        registry.resolve(path), format="onnx", folder=tmp_path / "out", options=Options(preprocess=True)
    )
    assert [file.name for file in done.files] == ["mobile_sam.encoder.onnx", "mobile_sam.decoder.onnx"]
    assert done.agreement.difference < 1e-4
    assert done.agreement.iou > 0.999
    for file in done.files:
        onnx.checker.check_model(file, full_check=True)
    detector = write_official("fastsam_s", tmp_path / "fastsam_s.pt")
    done = export(registry.resolve(detector), format="onnx", folder=tmp_path / "out", options=Options())
    assert done.files[0].name == "fastsam_s.onnx"
    assert done.agreement.difference < 1e-4


@pytest.mark.parametrize(("precision", "bytes_each", "error"), [("float16", 2, 2**-11), ("int8", 1, 1 / 253)])
def test_narrow_weights_are_rounded_and_no_more(precision, bytes_each, error, tmp_path):
    random = np.random.default_rng(0)
    weight = (
        random.standard_normal((64, 32)).astype(np.float32)
        * np.logspace(-2, 2, 64, dtype=np.float32)[:, None]
    )
    weight[5] = 0
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[n, 64] x) => (float[n, 32] y) { y = MatMul (x, w) }'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.add().name = "w"
    part = assembly.Assembly(model, {"w": weight})
    narrow(part, precision)
    (path,) = assembly.write(part, tmp_path / "g.onnx")
    stored = sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)
    assert stored <= weight.size * bytes_each + 4 * 64
    got = run(path, {"x": np.eye(64, dtype=np.float32)})[0]
    most = np.abs(weight).max(axis=1, keepdims=True)
    assert (np.abs(got - weight) <= error * most + 1e-12).all()
    assert not np.array_equal(got, weight)


def test_weights_that_float16_cannot_hold_are_refused():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[n, 64] x) => (float[n, 32] y) { y = MatMul (x, w) }'
    )
    model.graph.initializer.add().name = "w"
    part = assembly.Assembly(model, {"w": np.full((64, 32), 1e6, np.float32)})
    with pytest.raises(InputError, match="expected weights that float16 can hold, but w goes up to 1e"):
        narrow(part, "float16")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--format", "pickle"], 2, "invalid choice: 'pickle'"),
        (
            ["--format", "onnx", "--frame", "700"],
            2,
            "expected a frame that is a multiple of the 512 pixels of nano",
        ),
        (["--format", "onnx", "--frame", "1024"], 2, "expected --preprocess with --frame 1024"),
        (["--format", "web", "--single"], 2, "expected no --preprocess, --single"),
        (["--format", "anylabeling", "--frame", "512"], 2, "expected no --preprocess, --single"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(words, code, sentence, tmp_path, capsys):
    assert main(["export", "nano", "--output", str(tmp_path / "out"), *words]) == code
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_detectors_have_no_labelling_bundle(tmp_path):
    card = registry.resolve(write_official("fastsam_s", tmp_path / "fastsam_s.pt"))
    for format in ("anylabeling", "web"):
        with pytest.raises(InputError, match="expected a model that takes clicks and boxes"):
            export(card, format=format, folder=tmp_path / "out", options=Options())


def test_the_command_writes_and_tells(tmp_path, capsys):
    assert main(["export", "nano", "--format", "onnx", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "nano.encoder.onnx" in said
    assert "mean mask IoU 0.99" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "nano.decoder.onnx",
        "nano.encoder.onnx",
    ]


def test_files_that_answer_differently_never_appear(tmp_path, monkeypatch):
    """The check reads what was written: spoil a weight between writing and checking."""
    write = assembly.write

    def spoil(part, path, **options):
        name = max(part.arrays, key=lambda name: part.arrays[name].size)
        part.arrays[name] = part.arrays[name] * np.float32(1.5)
        return write(part, path, **options)

    monkeypatch.setattr(assembly, "write", spoil)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "nano.encoder.onnx").write_bytes(b"an earlier export")
    with pytest.raises(
        BackendError, match="expected the exported files to answer as samlet does, but they differ"
    ):
        export(registry.resolve("nano"), format="onnx", folder=tmp_path / "out", options=Options())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["nano.encoder.onnx"]
    assert (tmp_path / "out" / "nano.encoder.onnx").read_bytes() == b"an earlier export"


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="expected a folder after --output"), staged(tmp_path / "out"):
        pass


def test_publishing_replaces_files_and_keeps_the_others(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("a", "mine"):
        (tmp_path / "out" / name).write_text("old")
    with staged(tmp_path / "out") as inside:
        (inside / "a").write_text("new")
        assert publish([inside / "a"], tmp_path / "out") == [tmp_path / "out" / "a"]
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "a": "new",
        "mine": "old",
    }


def test_the_command_line_names_every_format():
    from samlet.cli.export import FORMAT_NAMES

    assert set(FORMAT_NAMES) == set(FORMATS)


@pytest.mark.parametrize(
    ("format", "package", "line"),
    [
        ("onnx", "onnx", "pip install 'samlet[onnx]'"),
        ("openvino", "openvino", "pip install 'samlet[onnx,openvino]'"),
        ("torchscript", "torch", "pip install 'samlet[torch]'"),
        ("coreml", "torch", "pip install 'samlet[torch]'"),
    ],
)
def test_a_missing_package_is_named_with_its_pip_line(format, package, line, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", "nano", "--format", format, "--output", str(tmp_path / "out")]) == 3
    assert line in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("runtime", ["coreml", "executorch", "litert"])
def test_a_missing_converter_is_named_with_its_pip_line(runtime, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    for package in ("coremltools", "executorch.exir", "litert_torch", "pnnx"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", "nano", "--format", runtime, "--output", str(tmp_path / "out")]) == 3
    assert "in an environment of its own" in capsys.readouterr().err


def test_openvinos_files_answer_as_samlet(tmp_path, capsys):
    pytest.importorskip("openvino")
    words = ["export", "nano", "--format", "openvino", "--preprocess", "--single", "--output", str(tmp_path)]
    assert main(words) == 0
    names = {"nano.encoder.bin", "nano.encoder.xml", "nano.decoder.bin", "nano.decoder.xml"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "outputs within" in capsys.readouterr().out
    assert main([*words, "--weights", "int8"]) == 2
    assert "expected --weights float32 or float16 with openvino" in capsys.readouterr().err


def test_torchscript_takes_any_number_of_prompts_and_points(tmp_path):
    torch = pytest.importorskip("torch")
    from samlet.export.job import Job
    from samlet.export.networks import network

    card = registry.resolve("nano")
    done = export(card, format="torchscript", folder=tmp_path, options=Options())
    assert done.agreement.difference < 1e-3
    with (
        warnings.catch_warnings()
    ):  # torch calls the format old; the files are for programs that still take it
        warnings.simplefilter("ignore", DeprecationWarning)
        decoder = torch.jit.load(tmp_path / "nano.decoder.torchscript")
    net = network(Job(card, assembly.read_weights(card, ("encoder", "decoder")), tmp_path), "decoder")
    torch.manual_seed(0)
    feeds = (torch.randn(1, 256, 64, 64), 500 * torch.rand(3, 5, 2), torch.ones(3, 5),
             torch.randn(3, 1, 256, 256), torch.ones(3))  # fmt: skip
    for got, want in zip(decoder(*feeds), net(*feeds), strict=True):
        assert torch.allclose(got, want, atol=1e-4)
    with pytest.raises(InputError, match="expected float32 weights with torchscript, got int8"):
        export(card, format="torchscript", folder=tmp_path, options=Options(precision="int8"))


def test_coreml_is_converted_where_its_tools_are(tmp_path):
    pytest.importorskip("coremltools")
    done = export(registry.resolve("nano"), format="coreml", folder=tmp_path, options=Options())
    assert [path.name for path in done.files] == ["nano.encoder.mlpackage", "nano.decoder.mlpackage"]
    assert done.agreement is None
