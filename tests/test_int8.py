"""The int8 form of an encoder: made from pictures, found by the backend, whole or not there."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from samlet.errors import InputError, ModelError

pytestmark = pytest.mark.openvino
if importlib.util.find_spec("openvino") is None or importlib.util.find_spec("nncf") is None:
    pytest.skip("needs openvino and nncf", allow_module_level=True)

import samlet
from samlet import packed, registry
from samlet.backends.openvino import OpenVinoBackend, quantized_path
from samlet.cli import main
from samlet.export.int8 import quantize
from samlet.geometry import mask_iou


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def here(cache, monkeypatch) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(cache))


@pytest.mark.filterwarnings("ignore")  # nncf warns about its own internals
def test_quantize_and_use_it(sample, capsys, cache):
    photos = [str(sample(name)) for name in ("coffee", "chelsea", "astronaut")]
    assert main(["quantize", "nano", "--pictures", *photos[:2]]) == 0
    assert "--backend openvino:int8" in capsys.readouterr().out
    plain, int8 = samlet.load(threads=1), samlet.load(backend="openvino:int8", threads=1)
    views = [model.embed(photos[2]) for model in (plain, int8)]
    wanted, got = (view.arrays["image_embeddings"] for view in views)
    assert 0.001 * wanted.std() < np.abs(wanted - got).mean() < 0.2 * wanted.std()
    masks = [plain.segment(view, boxes=[150, 10, 300, 190]).masks[0] for view in views]
    assert mask_iou(*masks) >= 0.9
    folder = quantized_path(packed.pack_model(registry.resolve("nano"))["encoder"]).parent
    assert sorted(path.name for path in folder.iterdir()) == ["nano_encoder.bin", "nano_encoder.xml"]
    # 13.2 MB of float32 become int8, apart from depth-wise kernels and biases.
    assert (folder / "nano_encoder.bin").stat().st_size < 5_000_000
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".samlet-")]


@pytest.mark.parametrize(
    ("model", "pictures", "most", "error", "message"),
    [
        ("nano", [], 64, InputError, "expected pictures to calibrate with"),
        ("nano", ["x.jpg"], 0, InputError, "expected pictures to calibrate with"),
        ("fastsam_s", ["x.jpg"], 64, ModelError, "expected a model with an encoder"),
    ],
)
def test_what_cannot_be_quantized(model, pictures, most, error, message):
    with pytest.raises(error, match=message):
        quantize(registry.resolve(model), [Path(picture) for picture in pictures], most=most)


def test_int8_must_have_been_made(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="run samlet quantize"):
        samlet.load(backend=OpenVinoBackend(precision="int8"))
