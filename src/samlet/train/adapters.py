"""Low-rank adapters (Hu et al. 2022): a layer's weight stays as it is, and a product of two thin matrices is added.

They are torch parametrisations, so the network's own code does not change; `merge` adds the product in for good, and
the file that is written has the layout it always had.
"""

from torch import Tensor, nn
from torch.nn.utils import parametrize

from samlet.errors import InputError


class LowRank(nn.Module):
    """weight -> weight + up @ down, which is 0 at first."""

    def __init__(self, shape: tuple[int, ...], rank: int) -> None:
        """Make the two factors.

        Args:
            shape: Of the weight, (out, in) or (out, in, kh, kw).
            rank: Inner size of the product.
        """
        super().__init__()
        inner = 1
        for side in shape[1:]:
            inner *= side
        self.down = nn.Parameter(nn.init.kaiming_uniform_(Tensor(rank, inner), a=5**0.5))
        self.up = nn.Parameter(Tensor(shape[0], rank).zero_())

    def forward(self, weight: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return weight + (self.up @ self.down).reshape(weight.shape)


def add_adapters(encoder: nn.Module, rank: int) -> list[nn.Parameter]:
    """Freeze a network and give every linear layer and dense convolution an adapter.

    Args:
        encoder: Changed in place.
        rank: At least 1; layers with fewer inputs or outputs than that are left alone.

    Returns:
        What there is to train.

    Raises:
        InputError: The rank is below 1, or no layer is large enough.
    """
    if rank < 1:
        raise InputError(f"expected a rank of at least 1 for adapters, got {rank}; 4 to 16 are usual")
    encoder.requires_grad_(False)
    added: list[nn.Parameter] = []
    for module in [m for m in encoder.modules() if isinstance(m, nn.Linear | nn.Conv2d)]:
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            continue
        shape = tuple(module.weight.shape)
        if shape[0] > rank and module.weight[0].numel() > rank:
            adapter = LowRank(shape, rank)
            parametrize.register_parametrization(module, "weight", adapter)
            added += [adapter.down, adapter.up]
    if not added:
        raise InputError(f"expected layers wider than the rank {rank}, found none; lower --rank")
    return added


def merge(encoder: nn.Module) -> None:
    """Add every adapter into its weight, in place."""
    for module in list(encoder.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
