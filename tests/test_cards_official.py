"""The cards of the official models: what can be checked of them without the files."""

from importlib.resources import files
from itertools import chain

import pytest

from samlet.card import Card
from samlet.registry import cards, resolve
from samlet.store import download, layout, web

SAM = {
    "mobile_sam": "tiny_vit_5m",
    "sam_vit_b": "vit_b",
    "sam_vit_l": "vit_l",
    "sam_vit_h": "vit_h",
    "efficientvit_sam_l0": "efficientvit_l0",
    "efficientvit_sam_l1": "efficientvit_l1",
    "efficientvit_sam_l2": "efficientvit_l2",
    "mobile_sam_v2_vit_h": "vit_h",
    "mobile_sam_v2_l2": "efficientvit_l2",
    "mobile_sam_v2_tiny": "tiny_vit_5m",
}
YOLO = {
    "fastsam_s": "yolo_seg_s_rm16.onnx",
    "fastsam_x": "yolo_seg_x_rm26.onnx",
    "object_aware": "object_aware_x_rm26.onnx",
}
OFFICIAL = sorted({*SAM, *YOLO})
# File name: SHA-256 and size as published; None where nobody published it.
PUBLISHED = {
    "mobile_sam.pt": ("6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f", 40_728_226),
    "sam_vit_b_01ec64.pth": ("ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375_042_383),
    "sam_vit_l_0b3195.pth": (
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
    ),
    "sam_vit_h_4b8939.pth": (
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
    "efficientvit_sam_l0.pt": ("c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8", 0),
    "efficientvit_sam_l1.pt": ("fa151df2b9b96896accd505470755cdd293a4c50cdabac95478f3fbd86d9152b", 0),
    "efficientvit_sam_l2.pt": ("d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a", 0),
    "ObjectAwareModel.pt": ("4d99244a9c7a4d7330af28d1801ebee362fa469ac564b57c8eab48b43e4e64a1", 0),
    "FastSAM-s.pt": ("c9f78716a81c7aff0d608ccc73e1b82ab3aaad86005049f6a92106a0be6d0844", 23_851_578),
    "FastSAM.pt": ("c0be4e7ddbe4c15333d15a859c676d053c486d0a746a3be6a7a9790d52a9b6d7", 144_943_063),
    "Prompt_guided_Mask_Decoder.pt": ("", 0),
    "l2.pt": ("", 0),
}


def test_all_are_there() -> None:
    assert {*OFFICIAL, "nano", "nano-all"} == set(cards())


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_card_fits_on_a_page(name: str) -> None:
    text = (files("samlet") / "cards" / f"{name}.toml").read_text("utf-8")
    assert len(text.splitlines()) <= 30
    assert Card.from_toml(text, origin=name).name == name


@pytest.mark.parametrize("name", OFFICIAL)
def test_what_a_user_must_know(name: str) -> None:
    card = resolve(name)
    assert card.paper.startswith("https://arxiv.org/abs/2")
    assert (
        card.notes.startswith(("Not run with the official weights", "Gives boxes")) and len(card.notes) < 160
    )
    assert ("AGPL-3.0" in card.weights_licence) == (name in YOLO)
    assert len(card.title) <= 80


@pytest.mark.parametrize("name", OFFICIAL)
def test_files(name: str) -> None:
    card = resolve(name)
    roles = [file.role for file in card.files]
    assert roles == (["network"] if name in YOLO else ["encoder", "decoder"] if "v2" in name else ["weights"])
    for file in card.files:
        assert (file.sha256, file.size) == PUBLISHED[file.file_name]
        assert file.url is not None and web.is_allowed(file.url) and "?" not in file.url
        assert layout.plain_name(file) == file.file_name
        assert download.addresses(file)[-1] == file.url
        assert file.git_sha1 == (
            "c13b15a3a4496dbcba5f4f0d3e8453f41d818420" if file.file_name.startswith("Prompt") else ""
        )


@pytest.mark.parametrize("name", sorted(SAM))
def test_sam_preprocessing(name: str) -> None:
    card = resolve(name)
    assert (card.family, card.side, card.pad, card.stride) == ("sam", 1024, "square", 16)
    assert (card.mean, card.std) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert (card.embedding_channels, card.mask_grid, card.zoom_below) == (256, 256, 0)
    assert card.graphs == {"encoder": f"{SAM[name]}_encoder.onnx", "decoder": "sam_decoder.onnx"}


@pytest.mark.parametrize("name", sorted(YOLO))
def test_detector_preprocessing(name: str) -> None:
    card = resolve(name)
    assert card.family == ("object_aware" if name == "object_aware" else "fastsam")
    assert (card.side, card.pad, card.mean, card.std) == (1024, 32, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    assert card.settings == {"conf": 0.4, "iou": 0.9, "max_det": 300}
    assert card.graphs == {"network": YOLO[name]}


def test_no_two_models_answer_to_one_name() -> None:
    names = list(chain.from_iterable((card.name, *card.aliases) for card in cards().values()))
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("vit_t", "mobile_sam"),
        ("vit_b", "sam_vit_b"),
        ("vit_l", "sam_vit_l"),
        ("VIT_H", "sam_vit_h"),
        ("efficientvit-sam-l1", "efficientvit_sam_l1"),
        ("FastSAM-s", "fastsam_s"),
        ("fastsam-x", "fastsam_x"),
    ],
)
def test_names_that_people_know(written: str, name: str) -> None:
    assert resolve(written).name == name


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("mobile_sam.pt", "mobile_sam"),
        ("sam_b.pt", "sam_vit_b"),
        ("sam_l.pt", "sam_vit_l"),
        ("sam_vit_h_4b8939.pth", "sam_vit_h"),
        ("efficientvit_sam_l0.pt", "efficientvit_sam_l0"),
        ("fastsam-s.pt", "fastsam_s"),
        ("fastsam.pt", "fastsam_x"),
        ("objectawaremodel.pt", "object_aware"),
    ],
)
def test_official_file_names_are_aliases(file_name: str, name: str) -> None:
    assert file_name in cards()[name].aliases


def test_models_that_share_a_file_share_its_copy() -> None:
    def place(name: str) -> object:
        return layout.place(resolve(name).files[0])

    assert place("mobile_sam") == place("mobile_sam_v2_tiny")
    assert place("sam_vit_h") == place("mobile_sam_v2_vit_h")
