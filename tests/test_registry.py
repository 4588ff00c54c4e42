"""From what a user calls a model to its card: names, official files, encoders alone, cards of one's own."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from samlet import checkpoint, registry
from samlet.backends.base import GraphFile
from samlet.checkpoint import to_pt
from samlet.errors import CheckpointError, ModelError, UnknownModelError

MARKERS = {
    "image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3),
    "image_encoder.patch_embed.seq.2.c.weight": (64, 32, 3, 3),
    "image_encoder.layers.0.downsample.conv1.c.weight": (128, 64, 1, 1),
    "image_encoder.layers.1.downsample.conv1.c.weight": (160, 128, 1, 1),
    "image_encoder.layers.2.downsample.conv1.c.weight": (320, 160, 1, 1),
}
DECODER = {"prompt_encoder.no_mask_embed.weight": (1, 256), "mask_decoder.iou_token.weight": (1, 256)}


def arrays(*shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for part in shapes for name, shape in part.items()}


def write(path: Path, found: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".safetensors":
        save_file(found, path)
    else:
        path.write_bytes(to_pt(found, "official"))
    return path


@pytest.mark.parametrize("name", ["mine.pt", "mine.pth", "mine.safetensors"])
def test_a_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, arrays(MARKERS, DECODER))
    for form in (path, str(path)):
        card = registry.resolve(form)
        assert card.graphs == registry.resolve("mobile_sam").graphs
        assert card.name == "mine"
        assert (card.files[0].path, card.files[0].role) == (str(path), "weights")
        assert card.quality == {}


def test_a_file_is_parsed_once_for_each_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "mine.pt", arrays(MARKERS, DECODER))
    first = registry.resolve(path)
    parse, parsed = checkpoint.parse, []

    def counted(data: bytes, *, origin: str) -> checkpoint.Checkpoint:
        parsed.append(origin)
        return parse(data, origin=origin)

    monkeypatch.setattr(checkpoint, "parse", counted)
    assert registry.resolve(path) == first
    assert not parsed
    stamp = path.stat()
    write(path, arrays(MARKERS))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the content counts, not the time
    with pytest.raises(CheckpointError, match="encoder alone"):
        registry.resolve(path)
    assert parsed == [str(path)]
    with pytest.raises(CheckpointError, match="none that samlet knows"):
        registry.resolve(write(path, {"a": np.zeros(1, np.float32)}))


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "mine.pt", arrays(MARKERS, DECODER))
    assert registry.resolve(path).graphs == registry.resolve("mobile_sam").graphs


def test_a_file_that_is_there_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert registry.resolve("mobile_sam.pt") == registry.resolve("mobile_sam")
    write(tmp_path / "mobile_sam.pt", arrays(MARKERS, DECODER))
    assert registry.resolve("mobile_sam.pt").files[0].path == str(tmp_path / "mobile_sam.pt")


def test_an_encoder_alone_asks_for_its_decoder(tmp_path: Path) -> None:
    encoder = write(tmp_path / "encoder.pt", arrays(MARKERS))
    decoder = write(tmp_path / "decoder.pt", arrays(DECODER))
    with pytest.raises(CheckpointError, match=r"encoder alone.*--decoder PATH"):
        registry.resolve(encoder)
    with pytest.raises(CheckpointError, match="a mask decoder alone"):
        registry.resolve(decoder)
    card = registry.resolve(encoder, decoder=decoder)
    assert [file.role for file in card.files] == ["encoder", "decoder"]
    weights = registry.read_weights(card, [graph(MARKERS), graph(DECODER)])
    assert weights.keys() == {*MARKERS, *DECODER}


def test_a_whole_model_may_stand_for_one_part(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.pt", arrays(MARKERS, DECODER))
    other = write(
        tmp_path / "other.pt", {name: array + 1 for name, array in arrays(MARKERS, DECODER).items()}
    )
    card = registry.resolve(whole, decoder=other)
    weights = registry.read_weights(card, [graph(MARKERS), graph(DECODER)])
    assert weights["image_encoder.patch_embed.seq.0.c.weight"].max() == 0
    assert weights["mask_decoder.iou_token.weight"].min() == 1


def test_a_part_that_a_file_does_not_hold(tmp_path: Path) -> None:
    encoder = write(tmp_path / "encoder.pt", arrays(MARKERS))
    card = registry.resolve(encoder, decoder=encoder)
    with pytest.raises(CheckpointError, match="expected the decoder of a model"):
        registry.read_weights(card, [graph(MARKERS), graph(DECODER)])


def graph(shapes: dict[str, tuple[int, ...]]) -> GraphFile:
    return GraphFile("g", b"", ("x",), ("y",), dict(shapes), 20, checkpoint=dict(shapes))


def test_missing_and_unexpected_weights_are_both_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.pt", arrays(MARKERS, DECODER))
    more = dict(MARKERS) | {"image_encoder.extra": (1,)}
    del more["image_encoder.patch_embed.seq.2.c.weight"]
    card = registry.resolve(path)
    with pytest.raises(CheckpointError) as caught:
        registry.read_weights(card, [graph(more), graph(DECODER)])
    assert "image_encoder.extra" in str(caught.value)
    assert "image_encoder.patch_embed.seq.2.c.weight" in str(caught.value)


def test_a_card_beside_its_weights(tmp_path: Path) -> None:
    weights = write(tmp_path / "w.safetensors", arrays(MARKERS, DECODER))
    file = registry.resolve(weights).files[0]
    lines = [
        'name = "mine"', 'family = "sam"', 'title = "t"', 'licence = "MIT"', 'weights_licence = "MIT"',
        'paper = ""', "side = 1024", "mean = [0, 0, 0]", "std = [1, 1, 1]",
        "[graphs]", 'encoder = "tiny_vit_5m_encoder.onnx"', 'decoder = "sam_decoder.onnx"',
        "[[files]]", 'role = "weights"', 'path = "w.safetensors"', f'sha256 = "{file.sha256}"', f"size = {file.size}",
    ]  # fmt: skip
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    card = registry.resolve(tmp_path / "mine.toml")
    assert (card.name, card.files[0].path) == ("mine", str(weights))
    assert registry.read_weights(card, [graph(MARKERS), graph(DECODER)])
    with pytest.raises(ModelError, match="cannot be read"):
        registry.resolve(tmp_path / "none.toml")


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="ending in"):
        registry.resolve(tmp_path / "photo.jpg")
    with pytest.raises(UnknownModelError, match="did you mean mobile_sam"):
        registry.resolve("mobile_sma")
    with pytest.raises(CheckpointError, match="none that samlet knows"):
        registry.resolve(write(tmp_path / "x.pt", {"a": np.zeros(1, np.float32)}))
