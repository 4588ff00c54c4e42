"""Tiny stand-ins for text models: ONNX towers written byte by byte, and modules with other packages' call shapes."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

WORDS = {
    "<unk>": 0,
    "red": 1,
    "green": 2,
    "blue": 3,
    "a": 4,
    "photo": 5,
    "<|startoftext|>": 6,
    "<|endoftext|>": 7,
}
COLOURS = np.array([[0] * 3, [2, -1, -1], [-1, 2, -1], [-1, -1, 2], *[[0] * 3] * 4], np.float32)


# --- ONNX, field by field (onnx.proto) ------------------------------------------------------------------------------


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    raw = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def tensor(name, array):
    kind = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}[array.dtype]
    return (
        b"".join(field(1, size) for size in array.shape)
        + field(2, kind)
        + field(8, name)
        + field(9, array.tobytes())
    )


def external(name="w", location="weights.bin"):
    """A tensor of four numbers that lies in another file."""
    entry = field(1, "location") + field(2, location)
    return field(1, 4) + field(2, 1) + field(8, name) + field(13, entry) + field(14, 1)


def node(operator, inputs, output, *attributes):
    parts = [field(1, each) for each in inputs] + [field(2, output), field(4, operator)]
    return b"".join(parts + [field(5, attribute) for attribute in attributes])


def axes(name, *values):
    return field(1, name) + b"".join(field(8, value % 2**64) for value in values) + field(20, 7)


def number(name, value):
    return field(1, name) + field(3, value) + field(20, 2)


def value(name, kind, *sizes):
    """An input or output; a size that is a text is free."""
    dims = b"".join(field(1, field(2 if isinstance(size, str) else 1, size)) for size in sizes)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def graph(nodes, tensors, inputs, outputs):
    parts = [field(1, each) for each in nodes] + [field(2, "graph")] + [field(5, each) for each in tensors]
    return b"".join(parts + [field(11, each) for each in inputs] + [field(12, each) for each in outputs])


def model(content, extra=b""):
    return field(1, 8) + field(7, content) + field(8, field(2, 13)) + extra


def image_tower(side=4, batch="n", output="image_embeds", channels=3):
    """Mean colour of a picture, (N, 3)."""
    return model(
        graph(
            [node("ReduceMean", ["pixel_values"], output, axes("axes", 2, 3), number("keepdims", 0))],
            [],
            [value("pixel_values", 1, batch, channels, side, side)],
            [value(output, 1, batch, channels)],
        )
    )


def text_tower(length="k", *, mask=False, table=COLOURS, output="text_embeds"):
    """Sum of the words' colours, (N, 3); with a mask, of those that it keeps."""
    nodes = [node("Gather", ["table", "input_ids"], "found")]
    inputs, summed = [value("input_ids", 7, "n", length)], "found"
    if mask:
        inputs.append(value("attention_mask", 7, "n", length))
        nodes += [
            node("Cast", ["attention_mask"], "kept", number("to", 1)),
            node("Unsqueeze", ["kept", "last"], "column"),
            node("Mul", ["found", "column"], "masked"),
        ]
        summed = "masked"
    nodes.append(node("ReduceSum", [summed, "one"], output, number("keepdims", 0)))
    tensors = [
        tensor("table", table),
        tensor("one", np.array([1], np.int64)),
        tensor("last", np.array([2], np.int64)),
    ]
    return model(graph(nodes, tensors, inputs, [value(output, 1, "n", table.shape[1])]))


# --- tokenizers -----------------------------------------------------------------------------------------------------


def tokenizer_json():
    """A tokenizer of eight words in the format of the package."""
    end, start = (
        {"SpecialToken": {"id": name, "type_id": 0}} for name in ("<|endoftext|>", "<|startoftext|>")
    )
    specials = {
        name: {"id": name, "ids": [WORDS[name]], "tokens": [name]}
        for name in ("<|startoftext|>", "<|endoftext|>")
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": {
                "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "<unk>",
            },
            "added_tokens": [],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [start, {"Sequence": {"id": "A", "type_id": 0}}, end],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": specials,
            },
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "<unk>"},
        }
    ).encode()  # fmt: skip


class FakeTokenizer:
    """What samlet uses of `tokenizers.Tokenizer`."""

    def __init__(self, words):
        self.words, self.padded, self.length = words, True, None

    @classmethod
    def from_str(cls, text):
        return cls(json.loads(text)["model"]["vocab"])

    def no_padding(self):
        self.padded = False

    def enable_truncation(self, max_length):
        self.length = max_length

    def encode(self, text):
        ids = [self.words.get(word, 0) for word in text.lower().split()][: self.length - 2]
        ids = [self.words["<|startoftext|>"], *ids, self.words["<|endoftext|>"]]
        return SimpleNamespace(ids=ids + [0] * (9 - len(ids)) if self.padded else ids)


def use_tokenizers(monkeypatch, kind):
    """Put the fake package in place, the real one, or none."""
    if kind == "real":
        pytest.importorskip("tokenizers")
    elif kind == "fake":
        fake = ModuleType("tokenizers")
        fake.Tokenizer = FakeTokenizer
        monkeypatch.setitem(sys.modules, "tokenizers", fake)
    else:
        monkeypatch.setitem(sys.modules, "tokenizers", None)


# --- transformers ---------------------------------------------------------------------------------------------------


class Tensor:
    """What samlet uses of a torch tensor."""

    def __init__(self, array):
        self.array = np.asarray(array)
        self.shape = self.array.shape

    def detach(self):
        return self

    float = cpu = detach

    def numpy(self):
        return self.array


class Batch(dict):
    """transformers' BatchFeature and BatchEncoding: a dict that moves to a device."""

    def to(self, device):
        self.device = device
        return self


class FakeModel:
    """A detector with given answers."""

    device = "cpu"

    def __init__(self, kind, logits, boxes, **config):
        self.config = SimpleNamespace(model_type=kind, **config)
        self.logits, self.boxes, self.calls = logits, boxes, []
        self.training = self.grad = True

    def eval(self):
        self.training = False
        return self

    def requires_grad_(self, wanted):
        self.grad = wanted
        return self

    def to(self, device):
        self.device = device
        return self

    def __call__(self, **inputs):
        self.calls.append(inputs)
        return SimpleNamespace(logits=Tensor([self.logits]), pred_boxes=Tensor([self.boxes]))


class OwlProcessor:
    """Takes texts as a list for each picture, gives a row of tokens for each text."""

    def __call__(self, *, images, text, return_tensors):
        assert return_tensors == "pt"
        (texts,) = text
        longest = max(16, *(len(each.split()) + 2 for each in texts))
        return Batch(input_ids=Tensor(np.ones((len(texts), longest), np.int64)), images=images)


class DinoProcessor:
    """Takes one sentence, gives BERT's numbers of its words; a word ending in "s" has two tokens."""

    def __init__(self):
        self.sentences = []
        self.tokenizer = SimpleNamespace(
            all_special_ids=[100, 102, 0, 101, 103], convert_tokens_to_ids=lambda token: {".": 1012}[token]
        )

    def __call__(self, *, images, text, return_tensors):
        assert return_tensors == "pt"
        self.sentences.append(text)
        ids = [101]
        for word in text.replace(".", " . ").split():
            ids += [1012] if word == "." else [2000, 2001] if word.endswith("s") else [2000]
        return Batch(input_ids=Tensor([[*ids, 102]]), pixel_values=images)


def use_transformers(monkeypatch, model, processor):
    """Put a fake package in place and return the arguments of its loaders."""
    seen = []

    def loader(answer):
        def from_pretrained(name, **options):
            seen.append((name, options))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return SimpleNamespace(from_pretrained=from_pretrained)

    fake = ModuleType("transformers")
    fake.AutoProcessor = loader(processor)
    fake.AutoModelForZeroShotObjectDetection = loader(model)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    return seen
