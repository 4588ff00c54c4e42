"""SAM's mask decoder in folded form: official parameters, fewer products (see two_way.py)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.nets.layers import MLP, LayerNorm2d, sub_pixels
from samlet.nets.prompt_encoder import PromptEncoder
from samlet.nets.two_way import Shared, TwoWayTransformer


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

    def tokens(self, sparse: Tensor) -> Tensor:
        """Put the decoder's own tokens, IoU and four masks, before those of B prompts (B, N, dim): (B, 5 + N, dim)."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, dim)
        return torch.cat([own.unsqueeze(0).expand(sparse.shape[0], -1, -1), sparse], dim=1)

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
        own = torch.arange(5, device=image.device)
        tokens, image = self.transformer(image, image_pe, self.tokens(sparse), wanted=own)
        hyper = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        b = sparse.shape[0]
        masks = self.upscale(image.reshape(b, hw[0], hw[1], -1), hyper)
        return masks, self.iou_prediction_head(tokens[:, 0])

    def upscale(self, image: Tensor, hyper: Tensor) -> Tensor:
        """Draw masks.

        The sub-pixels of a token stay side by side, as (h, w, 2, 2, 2, 2), until only the masks are left to be put in
        order: all on the way, the norm over channels too, is done on rows.

        Args:
            image: (B, h, w, dim) what the transformer made of the image.
            hyper: (B, M, dim / 8) weights of M masks.

        Returns:
            (B, M, 4h, 4w) logits.
        """
        b, h, w, dim = image.shape
        m = hyper.shape[1]
        first, norm, second = self.upscaling
        y = sub_pixels(image.reshape(b * h * w, dim), first).reshape(-1, dim // 4)
        y = F.gelu(F.layer_norm(y, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        y = F.gelu(sub_pixels(y, second)).reshape(b, h * w * 16, dim // 8)
        masks = (y @ hyper.transpose(1, 2)).reshape(b, h, w, 2, 2, 2, 2, m)
        return masks.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(b, m, 4 * h, 4 * w)


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
        image, positions = self.image_tokens(image_embeddings, mask_input, has_mask_input)
        masks, iou = self.mask_decoder(image, positions, sparse, (h, w))
        return iou, masks

    def image_tokens(
        self, image_embeddings: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Image tokens (B, h w, 256) with the hint added, row by row, and their positions (1, h w, 256)."""
        h, w = image_embeddings.shape[2:]
        dense = self.prompt_encoder.embed_hint(mask_input, has_mask_input)
        image = (image_embeddings + dense).flatten(2).transpose(1, 2)
        return image, self.prompt_encoder.pe_layer.grid(h, w, torch.sym_max(h, w))


class SamDecoderImage(SamDecoder):
    """The half of `SamDecoder` that depends on the image and its hint alone, for many prompts about one image."""

    def forward(  # type: ignore[override]
        self, image_embeddings: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Prepare one image.

        Args:
            image_embeddings: (1, 256, h, w).
            mask_input: (1, 1, 4h, 4w) float32 logits; zeros where absent.
            has_mask_input: (1,) float32 0 or 1.

        Returns:
            (image (1, h, w, 256), positions (1, h, w, 256), and `Shared`: keys (8, 16, h w), values (8, h w, 16),
            queries (8, 16, h w)).
        """
        h, w = image_embeddings.shape[2:]
        image, positions = self.image_tokens(image_embeddings, mask_input, has_mask_input)
        shared = self.mask_decoder.transformer.share(image, positions)
        return image.reshape(1, h, w, -1), positions.reshape(1, h, w, -1), *shared


class SamDecoderPrompts(SamDecoder):
    """The other half of `SamDecoder`: prompts on what `SamDecoderImage` made; masks are drawn for good scores only."""

    def forward(  # type: ignore[override]  # noqa: PLR0913, PLR0917 - these are the graph's inputs
        self,
        image: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        queries: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        tokens: Tensor,
        rows: Tensor,
        score_floor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one image.

        Args:
            image: These five are what `SamDecoderImage` gives.
            positions: See there.
            keys: See there.
            values: See there.
            queries: See there.
            point_coords: (B, N, 2) float32 canvas pixels.
            point_labels: (B, N) float32, as in `SamDecoder.forward`.
            tokens: (M,) int64, which of the four masks are asked for.
            rows: (R,) int64, which rows of the image's grid masks are drawn for.
            score_floor: (1,) float32; masks are drawn for prompts of which a score that is asked for is above it.

        Returns:
            (iou_predictions (B, M), low_res_masks (S, M, 4 R, 4 w) of the S prompts that pass, in order). A score
            that is no number passes.
        """
        h, w = image.shape[1:3]
        side = torch.sym_max(h, w)
        decoder = self.mask_decoder
        sparse = self.prompt_encoder.embed_points(point_coords, point_labels, 16 * side)
        wanted = torch.cat([torch.zeros_like(tokens[:1]), tokens + 1])
        told, image = decoder.transformer(
            image.flatten(1, 2), positions.flatten(1, 2), decoder.tokens(sparse),
            shared=Shared(keys, values, queries), wanted=wanted,
        )  # fmt: skip
        iou = decoder.iou_prediction_head(told[:, 0]).index_select(1, tokens)
        passing = torch.logical_not((iou <= score_floor).all(1)).nonzero().squeeze(1)  # (S,)
        # One gather of whole rows of the grid takes prompts and rows at once.
        at = (passing.unsqueeze(1) * h + rows.unsqueeze(0)).flatten()
        dim = image.shape[2]
        drawn = image.reshape(-1, w * dim).index_select(0, at)
        drawn = drawn.reshape(passing.shape[0], rows.shape[0], w, dim)
        hyper = self._hyper(told[:, 1:].index_select(0, passing), tokens)
        return iou, decoder.upscale(drawn, hyper)

    def _hyper(self, told: Tensor, tokens: Tensor) -> Tensor:
        """Weights (B, M, 32) of the masks `tokens` (M,), each by its own network, from `told` (B, M, 256)."""
        x = told.transpose(0, 1)  # (M, B, 256)
        layers = list(
            zip(*(cast(MLP, mlp).layers for mlp in self.mask_decoder.output_hypernetworks_mlps), strict=True)
        )
        for number, four in enumerate(layers):
            weight = torch.stack([layer.weight.t() for layer in four]).index_select(0, tokens)
            bias = torch.stack([layer.bias for layer in four]).index_select(0, tokens).unsqueeze(1)
            x = x @ weight + bias
            x = x if number == len(layers) - 1 else F.relu(x)
        return x.transpose(0, 1)
