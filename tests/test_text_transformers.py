"""Our detectors beside transformers' own post-processing, on tiny networks with random weights.

transformers is no dependency of samlet; `.ci/run` installs it for this test, beside PyPI's torchvision, with which it
brings pictures to size. Its models load here from a folder, as a user's would from the cache.
"""

import importlib.util

import numpy as np
import pytest
from PIL import Image as PILImage

from samlet.errors import PromptError
from samlet.image import Image

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
if any(importlib.util.find_spec(name) is None for name in ("torch", "tokenizers", "transformers")):
    pytest.skip("needs torch, tokenizers and transformers", allow_module_level=True)
import torch

from tests import torchvision_stub

torchvision_stub.install()  # transformers loads torchvision where it is installed, PyPI's too
import transformers as hf

from samlet.text import load_detector

TEXTS = ["a photo of a cat", "red dogs"]
SHAPES = ((60, 120), (120, 60), (64, 64))


def picture(hw):
    return Image.load(np.random.default_rng(hw[0]).integers(0, 255, (*hw, 3), np.uint8))


def saved(model, processor, folder):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.25)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval(), processor


def owl(kind, folder):
    from tokenizers import Tokenizer

    from tests.text_models import WORDS, tokenizer_json

    part = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**part, "vocab_size": 8, "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 6}
    config = getattr(hf, f"{kind}Config")(
        text_config={**text, "eos_token_id": WORDS["<|endoftext|>"]},
        vision_config={**part, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    words = hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json().decode()),
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<unk>",
        pad_token="<unk>",
        model_max_length=16,
    )
    pictures = getattr(hf, f"{kind}ImageProcessor")(size={"height": 64, "width": 64})
    processor = getattr(hf, f"{kind}Processor")(image_processor=pictures, tokenizer=words)
    return saved(getattr(hf, f"{kind}ForObjectDetection")(config), processor, folder)


def dino(folder):
    # The network knows the ends of phrases by BERT's numbers, so its vocabulary has them at their places.
    words = [f"[unused{number}]" for number in range(1050)]
    known = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    known |= {1030 + row: word for row, word in enumerate(["a", "photo", "of", "cat", "red", "dog", "##s"])}
    for place, word in known.items():
        words[place] = word
    config = hf.GroundingDinoConfig(
        backbone_config=hf.SwinConfig(
            embed_dim=12,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=2,
            image_size=64,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config={
            "model_type": "bert",
            "vocab_size": len(words),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=12,
        disable_custom_kernels=True,
        max_text_len=32,
    )
    tokenizer = hf.BertTokenizer(vocab={word: place for place, word in enumerate(words)})
    pictures = hf.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 100})
    processor = hf.GroundingDinoProcessor(image_processor=pictures, tokenizer=tokenizer)
    return saved(hf.GroundingDinoForObjectDetection(config), processor, folder)


@pytest.mark.parametrize("kind", ["Owlv2", "OwlViT"])
def test_owls_agree_with_transformers(kind, tmp_path):
    model, processor = owl(kind, tmp_path)
    detector = load_detector(tmp_path)
    for hw in SHAPES:
        image = picture(hw)
        found = detector.detect(image, TEXTS, threshold=0.0)
        inputs = processor(images=PILImage.fromarray(image.pixels), text=[TEXTS], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        (expected,) = processor.post_process_grounded_object_detection(
            outputs, threshold=-1.0, target_sizes=[hw], text_labels=[TEXTS]
        )
        np.testing.assert_allclose(found.boxes, expected["boxes"].numpy(), atol=1e-3)
        np.testing.assert_allclose(found.scores, expected["scores"].numpy(), atol=1e-6)
        assert found.texts == expected["text_labels"]
    with pytest.raises(PromptError, match="at most 16 tokens"):
        detector.detect(image, ["a " * 40], threshold=0.1)


def test_grounding_dino_agrees_with_transformers(tmp_path):
    model, processor = dino(tmp_path)
    detector = load_detector(tmp_path)
    for hw in SHAPES[:2]:  # the network has no place for the coarsest level of a small square
        image = picture(hw)
        found = detector.detect(image, ["A photo of a cat.", "Red dogs"], threshold=0.0)
        inputs = processor(images=PILImage.fromarray(image.pixels), text=[TEXTS], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        (expected,) = processor.post_process_grounded_object_detection(
            outputs, inputs.input_ids, threshold=-1.0, text_threshold=0.0, target_sizes=[hw]
        )
        np.testing.assert_allclose(found.boxes, expected["boxes"].numpy(), atol=1e-3)
        # Of all tokens transformers takes the best, full stops included; we ask words only, text by text.
        certain = outputs.logits[0].sigmoid().numpy()
        by_text = np.stack([certain[:, 1:6].max(1), certain[:, 7:10].max(1)], axis=1)
        np.testing.assert_allclose(found.scores, by_text.max(1), atol=1e-6)
        assert (found.scores <= expected["scores"].numpy() + 1e-6).all()
        names = np.array(["A photo of a cat.", "Red dogs"])
        assert found.texts == names[by_text.argmax(1)].tolist()
    with pytest.raises(PromptError, match="in at most 32 tokens"):
        detector.detect(image, ["cat " * 40], threshold=0.1)
