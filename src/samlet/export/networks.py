"""The networks themselves, with a model's weights, in the form they run in: for converters that start from torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from samlet.errors import InputError, MissingExtraError
from samlet.export import assembly
from samlet.export.job import Job

if TYPE_CHECKING:
    from torch import Tensor, nn

POINTS = 2
"""Points of a prompt where a format wants fixed sizes: a box, or a click and its padding."""


def torch_module() -> Any:
    """Import torch.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError("this needs PyTorch; install it with pip install 'samlet[torch]'") from None
    return torch


def network(job: Job, role: str) -> "nn.Module":
    """Build one of a model's networks with its weights, norms folded, in evaluation mode.

    Args:
        job: The export.
        role: A key of the card's graphs.

    Raises:
        MissingExtraError: PyTorch is not installed.
        InputError: There is no network behind the graph, or weights are missing.
    """
    torch = torch_module()
    from samlet.backends.torch import builder_of
    from samlet.nets.deploy import deploy_

    graph = assembly.graph_file(job.card, role)
    builder = builder_of(graph.name)
    if builder is None:
        raise InputError(
            f"expected a graph with a network in samlet.nets, got {graph.name}; export it as onnx"
        )
    module = builder.build().eval()
    own = {
        key: torch.tensor(np.asarray(job.weights[builder.prefix + key]))
        for key in module.state_dict()
        if builder.prefix + key in job.weights
    }
    lacking = [
        key
        for key in module.load_state_dict(own, strict=False).missing_keys
        if builder.prefix + key not in graph.unused and not key.endswith("num_batches_tracked")
    ]
    if lacking:
        raise InputError(
            f"expected all weights of {graph.name}, missing: {lacking[0]}; give the file that holds them"
        )
    deploy_(module)
    return module.requires_grad_(False)


def examples(job: Job, role: str) -> "tuple[Tensor, ...]":
    """Give inputs of the size that a fixed export has: the square canvas, one prompt of two points."""
    torch = torch_module()
    card = job.card
    if role != "decoder":
        return (torch.zeros(1, 3, card.side, card.side),)
    grid = card.side // card.stride
    return (
        torch.zeros(1, card.embedding_channels, grid, grid),
        torch.full((1, POINTS, 2), card.side / 2.0),
        torch.tensor([[1.0] + [-1.0] * (POINTS - 1)]),
        torch.zeros(1, 1, 4 * grid, 4 * grid),
        torch.zeros(1),
    )


def roles_of(job: Job) -> Sequence[str]:
    """Name the networks that an answer needs: encoder and decoder, or a detector's one."""
    return ("encoder", "decoder") if job.is_sam else tuple(job.card.graphs)
