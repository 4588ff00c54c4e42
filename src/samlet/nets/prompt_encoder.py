"""SAM's prompt encoder: clicks, boxes and mask hints as vectors (same parameters for every SAM size)."""

import math

import torch
from torch import Tensor, nn

from samlet.nets.layers import LayerNorm2d


class PositionEmbedding(nn.Module):
    """Random Fourier features of a position (Tancik et al. 2020), as SAM uses them."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """Positions (..., 2), 0 to 1 across the canvas, -> (..., dim)."""
        # Two multiply-adds, not a matrix product: autocast would round the angles to bfloat16.
        x, y = (2 * math.pi * (2 * xy - 1)).unbind(-1)
        gx, gy = self.positional_encoding_gaussian_matrix
        angle = x.unsqueeze(-1) * gx + y.unsqueeze(-1) * gy
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def grid(self, height: int, width: int, side: int) -> Tensor:
        """Embedding of cell centres of a `height` x `width` grid, in units of `side` cells: (1, H*W, dim)."""
        gx, gy = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=gx.device, dtype=torch.float32) + 0.5) / side
        x = (torch.arange(width, device=gx.device, dtype=torch.float32) + 0.5) / side
        across, down = (2 * math.pi * (2 * x - 1))[:, None] * gx, (2 * math.pi * (2 * y - 1))[:, None] * gy
        # The sine and cosine of a sum, so that they are taken of H + W angles and not of H W.
        sin_x, cos_x, sin_y, cos_y = across.sin(), across.cos(), down.sin()[:, None], down.cos()[:, None]
        out = torch.cat([sin_y * cos_x + cos_y * sin_x, cos_y * cos_x - sin_y * sin_x], dim=-1)
        return out.reshape(1, height * width, -1)


class PointEmbedding(nn.Module):
    """Clicks and box corners as tokens; the part of SAM's prompt encoder that every model here shares."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.pe_layer = PositionEmbedding(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)

    def embed_points(self, coords: Tensor, labels: Tensor, side: Tensor | int) -> Tensor:
        """Tokens of points.

        Args:
            coords: (B, N, 2) float32 (x, y) in canvas pixels; the half-pixel shift is added here.
            labels: (B, N) float32: -1 padding, 0 background, 1 foreground, 2 / 3 box corners.
            side: longer side of the canvas in pixels, the unit of the position embedding.

        Returns:
            (B, N, dim).
        """
        pe = self.pe_layer((coords + 0.5) / side)
        label = labels.unsqueeze(-1)
        out = torch.where(label == -1, self.not_a_point_embed.weight, pe)
        for kind, weight in enumerate(self.point_embeddings.parameters()):
            out = out + weight * (label == kind).to(pe.dtype)
        return out


class PromptEncoder(PointEmbedding):
    """SAM's prompt encoder with the state-dict keys of the official checkpoints (6,220 parameters)."""

    def __init__(self, dim: int = 256, mask_channels: int = 16) -> None:
        super().__init__(dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, 2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, 2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def embed_hint(self, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        """Dense embedding of a low-res mask hint.

        Args:
            mask_input: (B, 1, 4h, 4w) float32 logits of an earlier answer.
            has_mask_input: (B,) float32, 1 where the hint counts and 0 where "no mask" is meant.

        Returns:
            (B, dim, h, w).
        """
        has = has_mask_input.reshape(-1, 1, 1, 1)
        none = self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        out: Tensor = has * self.mask_downscaling(mask_input) + (1 - has) * none
        return out
