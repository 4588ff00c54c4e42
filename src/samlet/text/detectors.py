"""GroundingDINO and OWLv2 of the package `transformers`, which is imported when somebody loads one."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from samlet.errors import MissingExtraError, ModelError, PromptError
from samlet.image import Image
from samlet.store.layout import is_offline
from samlet.text.grounding import Detections, Detector

_ENDS_A_PHRASE = ".?"  # for GroundingDINO's network


def load_detector(name: str | Path, *, local_files_only: bool = True, device: str = "cpu") -> Detector:
    """Load a text detector with `transformers` (an optional package, with torch).

    Only safetensors are read and no code of the repository is run. The digests of such files are not part of
    samlet, so nothing is downloaded unless you say so.

    Args:
        name: A folder, or a repository in the Hugging Face cache: "IDEA-Research/grounding-dino-tiny",
            "google/owlv2-base-patch16-ensemble", or their relatives.
        local_files_only: False lets `transformers` download what is missing, except with SAMLET_OFFLINE.
        device: Where torch runs it.

    Returns:
        A `GroundingDino` or an `Owl`.

    Raises:
        MissingExtraError: `transformers` or torch is not installed.
        ModelError: The files are not there, cannot be read, or are of another kind.
    """
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise MissingExtraError(
            "text detectors need the packages transformers and torch; install them, or pass a detector of your own "
            "with detect(image, texts, threshold=...)"
        ) from None
    options = {"local_files_only": local_files_only or is_offline(), "trust_remote_code": False}
    try:
        processor = transformers.AutoProcessor.from_pretrained(str(name), **options)
        model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(
            str(name), use_safetensors=True, **options
        )
    except ImportError as error:
        raise MissingExtraError(
            f"the detector {name} needs a package that is not installed ({_line(error)}); install it"
        ) from error
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and others
        raise ModelError(
            f"expected a text detector {name} on this computer, but transformers cannot load it ({_line(error)}); "
            "correct the name, or pass local_files_only=False to let transformers download it"
        ) from error
    # No gradients: then no step has to be undone, and torch need not be imported here to say so.
    model = model.eval().requires_grad_(False).to(device)
    kind = str(model.config.model_type)
    if kind == "grounding-dino":
        return GroundingDino(model, processor)
    if kind in ("owlv2", "owlvit"):
        return Owl(model, processor)
    raise ModelError(
        f"expected a grounding-dino, owlv2 or owlvit, got {kind!r:.40} in {name}; write a detector for it with "
        "detect(image, texts, threshold=...)"
    )


class GroundingDino:
    """GroundingDINO (Liu et al. 2023, arXiv 2303.05499): all texts in one sentence, a score for each of its words."""

    def __init__(self, model: Any, processor: Any) -> None:
        """Take what `transformers` loaded; `load_detector` is the usual way.

        Args:
            model: A `GroundingDinoForObjectDetection`, in evaluation mode.
            processor: Its `GroundingDinoProcessor`.
        """
        self._model, self._processor = model, processor

    def detect(self, image: Image, texts: Sequence[str], *, threshold: float) -> Detections:
        """Find the boxes of some texts; see `Detector.detect`.

        A box belongs to the text with its most certain word, and that word's score is the box's.

        Raises:
            PromptError: A text has no words, or there are too many words for one sentence.
        """
        inputs = self._processor(
            images=PILImage.fromarray(image.pixels), text=_sentence(texts), return_tensors="pt"
        ).to(self._model.device)
        spans = self._spans(_numpy(inputs["input_ids"])[0].astype(np.int64), len(texts))
        outputs = self._model(**inputs)
        certain = _sigmoid(_numpy(outputs.logits)[0])  # (queries, tokens), those beyond the sentence 0
        scores = np.stack([certain[:, start:stop].max(axis=1) for start, stop in spans], axis=1)
        # One picture is not padded: its boxes are shares of its own sides.
        return _best(scores, _numpy(outputs.pred_boxes)[0], (image.width, image.height), texts, threshold)

    def _spans(self, ids: NDArray[np.int64], count: int) -> list[tuple[int, int]]:
        """Find where in the sentence each text stands: first token and the one after the last."""
        tokenizer = self._processor.tokenizer
        ends = [*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids(".")]
        inner = np.concatenate(([False], ~np.isin(ids, ends), [False])).astype(np.int8)
        steps = np.diff(inner)
        starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        longest = int(getattr(self._model.config, "max_text_len", 256))
        if len(starts) != count or len(ids) > longest:
            raise PromptError(
                f"expected {count} texts of words in at most {longest} tokens, got {len(starts)} in {len(ids)}; give "
                "fewer or plainer texts"
            )
        return list(zip(starts.tolist(), stops.tolist(), strict=True))


class Owl:
    """OWLv2 (Minderer et al. 2023, arXiv 2306.09683) and OWL-ViT: a score for each text and each patch.

    They were trained with phrases such as "a photo of a cat", which work better than "cat".
    """

    def __init__(self, model: Any, processor: Any) -> None:
        """Take what `transformers` loaded; `load_detector` is the usual way.

        Args:
            model: An `Owlv2ForObjectDetection` or `OwlViTForObjectDetection`, in evaluation mode.
            processor: Its processor.
        """
        self._model, self._processor = model, processor
        # OWLv2 pads pictures to squares at the right or below, so that its boxes are shares of the longer side;
        # its predecessor squeezes them. transformers' own scaling has differed between versions.
        self._padded = str(model.config.model_type) == "owlv2"

    def detect(self, image: Image, texts: Sequence[str], *, threshold: float) -> Detections:
        """Find the boxes of some texts; see `Detector.detect`.

        Raises:
            PromptError: A text is too long for the network (16 tokens for the published ones).
        """
        inputs = self._processor(
            images=PILImage.fromarray(image.pixels), text=[list(texts)], return_tensors="pt"
        ).to(self._model.device)
        length = int(inputs["input_ids"].shape[-1])
        longest = int(self._model.config.text_config.max_position_embeddings)
        if length > longest:
            raise PromptError(
                f"expected texts of at most {longest} tokens, got one of {length}; use fewer words"
            )
        outputs = self._model(**inputs)
        scores = _sigmoid(_numpy(outputs.logits)[0])  # (patches, texts)
        square = (max(image.hw),) * 2
        size = square if self._padded else (image.width, image.height)
        return _best(scores, _numpy(outputs.pred_boxes)[0], size, texts, threshold)


def _sentence(texts: Sequence[str]) -> str:
    """Write texts as GroundingDINO was trained to read them: lower case, each with a full stop."""
    plain = (text.lower().translate(dict.fromkeys(map(ord, _ENDS_A_PHRASE), " ")) for text in texts)
    return " ".join(f"{' '.join(text.split())}." for text in plain)


def _best(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    size: tuple[int, int],
    texts: Sequence[str],
    threshold: float,
) -> Detections:
    """Keep the boxes whose best text reaches the threshold.

    Args:
        scores: (Q, T) 0 to 1.
        boxes: (Q, 4) as centre x, centre y, width and height, in shares of `size`.
        size: Width and height that the shares are of, in picture pixels.
        texts: T texts.
        threshold: Lowest score.
    """
    best = scores.argmax(axis=1)
    top = scores.max(axis=1)
    kept = np.flatnonzero(top >= threshold)
    centre, half = boxes[kept, :2].astype(np.float64), boxes[kept, 2:].astype(np.float64) / 2
    corners = np.concatenate((centre - half, centre + half), axis=1) * (size * 2)
    return Detections(corners, top[kept], [texts[number] for number in best[kept]])


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), np.float32)


def _numpy(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().float().cpu().numpy(), np.float32)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
