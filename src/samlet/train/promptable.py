"""A SAM-shaped network for training: an encoder and a decoder that may come from different models.

Whatever the family member, the embedding is one map (B, 256, h, w), and prompts are decoded on the grid of stride-4
cells of the decoder's own canvas; so recipes need not know which decoder it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samlet import registry, store
from samlet.backends.base import GraphFile
from samlet.backends.torch import Builder, builder_of
from samlet.card import Card
from samlet.errors import CheckpointError, InputError
from samlet.nets.mask_decoder import SamDecoder
from samlet.nets.nano import NanoDecoder, unpack

PROMPT_PARTS = "points.", "hint4", "hint8", "hint16", "prompt_encoder."
GRID = 4  # canvas pixels of the decoder to a cell of the masks that are trained on


@dataclass(frozen=True)
class Parts:
    """The networks behind a SAM-shaped model's encoder and decoder, and all of its graphs."""

    encoder: Builder
    decoder: Builder
    graphs: tuple[GraphFile, ...]


def parts_of(card: Card) -> Parts:
    """Find the networks of a model.

    Raises:
        InputError: The model is not SAM-shaped.
        CheckpointError: One of its graphs has no network in `samlet.nets`.
    """
    if card.family != "sam" or not {"encoder", "decoder"} <= card.graphs.keys():
        raise InputError(
            f"expected a model with an image encoder and a mask decoder, such as nano or mobile_sam, got {card.name}; "
            "choose another"
        )
    builders = []
    for role in ("encoder", "decoder"):
        stem = card.graphs[role].removesuffix(".onnx")
        builder = builder_of(stem)
        if builder is None:
            raise CheckpointError(
                f"expected a network behind the graph {stem}, found none; it cannot be trained"
            )
        builders.append(builder)
    graphs = (
        GraphFile.parse(name.removesuffix(".onnx"), *store.read_graph(name)) for name in card.graphs.values()
    )
    return Parts(builders[0], builders[1], tuple(graphs))


class Promptable(nn.Module):
    """Encoder and decoder with the names that their files use.

    Attributes:
        encoder: (B, 3, H, W) -> (B, 256, h, w).
        decoder: A `NanoDecoder` or a `SamDecoder`.
        stride: The decoder's canvas pixels to a cell of the embedding: 8 for nano's, 16 for SAM's.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.stride = 8 if isinstance(decoder, NanoDecoder) else 16

    def decode(
        self, embedding: Tensor, coords: Tensor, labels: Tensor, previous: Tensor, has: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode N prompts.

        Args:
            embedding: (N, 256, h, w), each prompt's picture.
            coords: (N, K, 2) pixels of the decoder's canvas.
            labels: (N, K).
            previous: (N, 1, h * stride / 4, w * stride / 4) logits of an earlier answer.
            has: (N,) 1 where it counts.

        Returns:
            Scores (N, 4) and logits (N, 4, h * stride / 4, w * stride / 4).
        """
        if isinstance(self.decoder, NanoDecoder):
            iou, masks = self.decoder.decode(unpack(embedding), coords, labels, previous, has)
        else:
            iou, masks = self.decoder(embedding, coords, labels, previous, has)
        return iou, masks


def load_network(card: Card) -> Promptable:
    """Read a model into networks, float32, in training mode.

    Raises:
        ModelError: A file of the model is missing or does not fit.
    """
    parts = parts_of(card)
    weights = registry.read_weights(card, parts.graphs)
    encoder, decoder = parts.encoder.build(), parts.decoder.build()
    fill(encoder, weights, parts.encoder.prefix)
    fill(decoder, weights, parts.decoder.prefix)
    return Promptable(encoder, decoder)


def load_decoder(card: Card) -> nn.Module:
    """Read a model's prompt encoder and mask decoder alone."""
    parts = parts_of(card)
    decoder = parts.decoder.build()
    fill(decoder, registry.read_weights(card, parts.graphs), parts.decoder.prefix)
    return decoder


def fill(module: nn.Module, weights: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Load the weights of a file, by their official names, into a network.

    Raises:
        CheckpointError: Weights that answers depend on are missing or have another shape.
    """
    own = module.state_dict()
    found = {key: weights[prefix + key] for key in own if prefix + key in weights}
    fits = {key: a for key, a in found.items() if tuple(a.shape) == tuple(own[key].shape)}
    # The classifier of TinyViT and counters of batch norms may be absent.
    needed = [
        k for k in own if not k.endswith("num_batches_tracked") and not k.startswith(("head.", "norm_head."))
    ]
    missing = [prefix + key for key in needed if key not in fits]
    if missing:
        raise CheckpointError(
            f"expected {len(needed)} weights, missing or of another shape: {', '.join(missing[:3])} "
            f"({len(missing)}); use the file that belongs to this model"
        )
    module.load_state_dict(
        {k: torch.tensor(np.asarray(a, np.float32)) for k, a in fits.items()}, strict=False
    )


def weights_of(network: Promptable, parts: Parts) -> dict[str, NDArray[np.float32]]:
    """The weights under the names of the files, float32."""
    found: dict[str, NDArray[np.float32]] = {}
    for module, builder in ((network.encoder, parts.encoder), (network.decoder, parts.decoder)):
        for key, value in module.state_dict().items():
            found[builder.prefix + key] = value.detach().cpu().float().contiguous().numpy()
    return found


def freeze_prompts(decoder: nn.Module) -> None:
    """Keep what a decoder makes of clicks, boxes and drawn hints as it is; the rest is left as it was.

    The gradient of nano's drawn hints is a sum over all cells and prompts: by far the largest, with a sign that changes
    from step to step; clipped together with it, the rest would learn by as much as that noise lets through.
    """
    for name, parameter in decoder.named_parameters():
        if name.startswith(PROMPT_PARTS):
            parameter.requires_grad_(False)


def is_sam(network: Promptable) -> bool:
    """Whether the decoder is SAM's own."""
    return isinstance(network.decoder, SamDecoder)
