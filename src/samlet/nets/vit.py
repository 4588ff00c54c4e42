"""SAM's own image encoders (Kirillov et al. 2023): plain vision transformers with windows, after Li et al. 2022.

Parameters carry the official names. Maps smaller than 64 x 64 tokens work as well: they see the upper left part of
the positions and the distances that occur.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.errors import InputError
from samlet.nets.deploy import Recipe, relative
from samlet.nets.layers import LayerNorm2d, attend
from samlet.nets.windows import from_windows, to_windows

GRID, WINDOW, PATCH = 64, 14, 16
OUT_DIM = 256


@dataclass(frozen=True)
class ViTSize:
    """Width, depth and heads, and which blocks look at the whole map instead of windows."""

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


SIZES = {
    "b": ViTSize(768, 12, 12, (2, 5, 8, 11)),
    "l": ViTSize(1024, 24, 16, (5, 11, 17, 23)),
    "h": ViTSize(1280, 32, 16, (7, 15, 23, 31)),
}


def neck(dim: int) -> nn.Sequential:
    """From a backbone's width to the embedding's 256 channels: (B, dim, H, W) -> (B, 256, H, W)."""
    return nn.Sequential(
        nn.Conv2d(dim, OUT_DIM, 1, bias=False), LayerNorm2d(OUT_DIM),
        nn.Conv2d(OUT_DIM, OUT_DIM, 3, padding=1, bias=False), LayerNorm2d(OUT_DIM),
    )  # fmt: skip


class Attention(nn.Module):
    """Attention over a map; each pair's score has a term for the rows apart and one for the columns apart.

    Both terms are products of the query, before its scaling, with a learned vector for the distance.
    """

    def __init__(self, dim: int, heads: int, grid: int) -> None:
        super().__init__()
        self.heads, self.grid, self.head_dim = heads, grid, dim // heads
        self.qkv = nn.Linear(dim, 3 * dim)  # rows: all of q, all of k, all of v
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid - 1, self.head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid - 1, self.head_dim))

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C), H and W at most `grid` -> the same shape, before the projection."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, H * W, d)
        rows, columns = self._tables(*hw)
        map_q = q.unflatten(2, hw)  # (B, heads, H, W, d)
        by_row = (map_q @ rows.transpose(-1, -2)).flatten(2, 3)  # (B, heads, H * W, H)
        by_column = (map_q.transpose(2, 3) @ columns.transpose(-1, -2)).transpose(2, 3).flatten(2, 3)
        parts = q * self.head_dim**-0.5, k, v, by_row.unsqueeze(-1), by_column.unsqueeze(-2)
        if self.grid == WINDOW:
            return _attend(*parts).transpose(1, 2).flatten(2)
        # A head's scores over the whole map take 64 MiB: one head at a time can use the same memory again.
        return torch.cat([_attend(*(part[:, i] for part in parts)) for i in range(self.heads)], -1)

    def _tables(self, h: int, w: int) -> tuple[Tensor, Tensor]:  # (H, H, d) and (W, W, d)
        if hasattr(self, "rel_h"):
            return self.rel_h[:h, :h], self.rel_w[:w, :w]
        rows, columns = relative(self.rel_pos_h, self.grid), relative(self.rel_pos_w, self.grid)
        return rows[:h, :h], columns[:w, :w]

    def deploy_(self) -> dict[str, Recipe]:
        """Spread both tables over all pairs of positions."""
        if hasattr(self, "rel_h"):
            return {}
        self.rel_h = nn.Parameter(relative(self.rel_pos_h.detach(), self.grid))
        self.rel_w = nn.Parameter(relative(self.rel_pos_w.detach(), self.grid))
        del self.rel_pos_h, self.rel_pos_w
        return {
            f"rel_{axis}": {"op": "relative", "from": f"rel_pos_{axis}", "size": self.grid} for axis in "hw"
        }


def _attend(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Tokens (..., H * W, d), terms (..., H * W, H, 1) and (..., H * W, 1, W) -> (..., H * W, d)."""
    if not torch.compiler.is_exporting():
        return attend(q, k, v, (by_row + by_column).flatten(-2))
    hw = by_row.shape[-2], by_column.shape[-1]
    scores = (q @ k.transpose(-1, -2)).unflatten(-1, hw) + by_row + by_column
    return scores.flatten(-2).softmax(-1) @ v


class MLP(nn.Module):
    """Expand four times, GELU, project; keys `lin1`, `lin2`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, 4 * dim)
        self.lin2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same shape."""
        return self.lin2(F.gelu(self.lin1(x)))


class Block(nn.Module):
    """Attention, in windows or over the whole map, and an MLP; both residual, both behind a norm."""

    def __init__(self, dim: int, heads: int, *, windowed: bool) -> None:
        super().__init__()
        self.windowed = windowed
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, WINDOW if windowed else GRID)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.attn.proj(self._attend(self.norm1(x)))
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        _, h, w, _ = x.shape
        if not self.windowed:
            return self.attn(x.flatten(1, 2), (h, w)).unflatten(1, (h, w))
        y = self.attn(to_windows(x, WINDOW), (WINDOW, WINDOW))
        return from_windows(y, WINDOW, (h, w))


class PatchEmbed(nn.Module):
    """One 16 x 16 convolution of stride 16; key `proj`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H/16, W/16, C)."""
        return self.proj(x).permute(0, 2, 3, 1)


class SamViT(nn.Module):
    """Normalised picture (B, 3, H, W), sides multiples of 16 and at most 1024 -> (B, 256, H/16, W/16)."""

    def __init__(self, size: str | ViTSize = "b") -> None:
        """Build the trained form; under `torch.device("meta")` it takes no memory.

        Args:
            size: "b", "l", "h", or the numbers of another one.
        """
        super().__init__()
        size = SIZES[size] if isinstance(size, str) else size
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID, GRID, size.dim))
        self.patch_embed = PatchEmbed(size.dim)
        self.blocks = nn.ModuleList(
            Block(size.dim, size.heads, windowed=i not in size.global_blocks) for i in range(size.depth)
        )
        self.neck = neck(size.dim)

    def forward(self, image: Tensor) -> Tensor:
        """Encode a picture.

        Args:
            image: (B, 3, H, W) float32, normalised; H and W multiples of 16, at most 1024.

        Returns:
            (B, 256, H/16, W/16) image embedding.

        Raises:
            InputError: The sides are no multiples of 16 or too long for the positions.
        """
        h, w = image.shape[-2:]
        if h % PATCH or w % PATCH or max(h, w) > GRID * PATCH:
            raise InputError(
                f"expected sides that are multiples of {PATCH} up to {GRID * PATCH}, got {h} x {w}; "
                "scale and pad the picture"
            )
        x = self.patch_embed(image)
        x = x + self.pos_embed[:, : x.shape[1], : x.shape[2]]
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
