"""SAM's mask decoder in folded form: official parameters, fewer products (see two_way.py)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.nets.layers import MLP, LayerNorm2d, upscale_2x
from samlet.nets.prompt_encoder import PromptEncoder
from samlet.nets.two_way import TwoWayTransformer


class MaskDecoder(nn.Module):
    """Image embedding + prompt tokens -> four mask logits and four predicted IoUs (4,058,340 parameters)."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, dim=dim, heads=8, mlp_dim=2048)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(4, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, dim // 8, 3) for _ in range(4))
        self.iou_prediction_head = MLP(dim, 256, 4, 3)

    @property
    def upscaling(self) -> tuple[nn.ConvTranspose2d, LayerNorm2d, nn.ConvTranspose2d]:
        """The layers of `output_upscaling` that have parameters; its numbering is the checkpoints'."""
        up = self.output_upscaling
        return cast("tuple[nn.ConvTranspose2d, LayerNorm2d, nn.ConvTranspose2d]", (up[0], up[1], up[3]))

    def forward(
        self, image: Tensor, image_pe: Tensor, sparse: Tensor, hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one image.

        Args:
            image: (B or 1, L, dim) image tokens with the dense hint added; L = h * w, row by row.
            image_pe: (1, L, dim) their positions.
            sparse: (B, N, dim) prompt tokens.
            hw: the grid (h, w).

        Returns:
            (masks (B, 4, 4h, 4w) logits, iou (B, 4) unbounded, as SAM's).
        """
        b = sparse.shape[0]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, dim)
        tokens = torch.cat([own.unsqueeze(0).expand(b, -1, -1), sparse], dim=1)
        tokens, image = self.transformer(image, image_pe, tokens)
        first, norm, second = self.upscaling
        y = upscale_2x(image.reshape(b, hw[0], hw[1], -1), first)
        y = F.gelu(F.layer_norm(y, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        y = F.gelu(upscale_2x(y, second))  # (B, 4h, 4w, dim / 8)
        hyper = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = hyper @ y.flatten(1, 2).transpose(1, 2)  # (B, 4, 16 h w)
        return masks.reshape(b, 4, 4 * hw[0], 4 * hw[1]), self.iou_prediction_head(tokens[:, 0])


class SamDecoder(nn.Module):
    """Prompt encoder and mask decoder together: the graph behind `segment` for every SAM-shaped model."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one picture (SAM's ONNX contract, with a free batch of prompts).

        Args:
            image_embeddings: (1, 256, h, w); (64, 64) in SAM's padded square, any grid otherwise.
            point_coords: (B, N, 2) float32 canvas pixels.
            point_labels: (B, N) float32: -1 padding, 0, 1, 2 and 3 box corners.
            mask_input: (B, 1, 4h, 4w) float32 logits; zeros where absent.
            has_mask_input: (B,) float32 0 or 1.

        Returns:
            (iou_predictions (B, 4), low_res_masks (B, 4, 4h, 4w)).
        """
        h, w = image_embeddings.shape[2:]
        # SAM's unit of position is its 1024 square; in shape-aware mode the longer side stays that unit.
        side = torch.sym_max(h, w)
        sparse = self.prompt_encoder.embed_points(point_coords, point_labels, 16 * side)
        dense = self.prompt_encoder.embed_hint(mask_input, has_mask_input)
        image = (image_embeddings + dense).flatten(2).transpose(1, 2)  # (B, h w, 256)
        masks, iou = self.mask_decoder(image, self.prompt_encoder.pe_layer.grid(h, w, side), sparse, (h, w))
        return iou, masks
