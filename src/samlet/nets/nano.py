"""`nano`, the built-in model: SAM's contract at a tenth of its cost (docs/explanation/nano.md).

Tokens live at stride 16; detail at strides 8 and 4 is added while masks are upscaled (as SAM 2 does), and the
prompt is also *drawn* into maps that the decoder's convolutions read at each scale.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samlet.nets.efficientnet_lite import FEATURE_CHANNELS, EfficientNetLite0
from samlet.nets.layers import MLP, LayerNorm2d, upscale_2x
from samlet.nets.prompt_encoder import PointEmbedding
from samlet.nets.two_way import TwoWayTransformer

TOKEN_DIM, DETAIL8, DETAIL4 = 256, 64, 32
MAPS = 5  # box, foreground clicks, background clicks, previous logits, "there is a previous answer"


def pack(tokens: Tensor, detail8: Tensor, detail4: Tensor) -> Tensor:
    """Three scales as one map of SAM's shape, losslessly.

    (B, 256, H/16, W/16), (B, 64, H/8, W/8), (B, 32, H/4, W/4) -> (B, 256, H/8, W/8): 1,024 numbers a token.
    """
    deep = torch.cat([tokens, F.pixel_unshuffle(detail8, 2), F.pixel_unshuffle(detail4, 4)], dim=1)
    return F.pixel_shuffle(deep, 2)


def unpack(embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse of `pack`, by one move a scale: where an unshuffle meets a shuffle, half of both is left."""
    b, _, height, width = embeddings.shape
    h, w = height // 2, width // 2
    first, second = TOKEN_DIM // 4, TOKEN_DIM // 4 + DETAIL8
    # Slices, not a split, which exports as a sequence.
    tokens, eight, four = embeddings[:, :first], embeddings[:, first:second], embeddings[:, second:]
    tokens = tokens.reshape(b, TOKEN_DIM // 4, h, 2, w, 2).permute(0, 1, 3, 5, 2, 4)
    four = four.reshape(b, DETAIL4, 4, h, 2, w, 2).permute(0, 1, 3, 2, 5, 4, 6)
    return tokens.reshape(b, TOKEN_DIM, h, w), eight, four.reshape(b, DETAIL4, 4 * h, 4 * w)


class Neck(nn.Module):
    """A light top-down path: strides 32, 16, 8, 4 -> tokens and two detail maps."""

    def __init__(self, width: int = 192, channels: Mapping[int, int] = FEATURE_CHANNELS) -> None:
        """Build the path.

        Args:
            width: Channels at stride 16.
            channels: Of the backbone's features by stride: 4, 8, 16 and 32.
        """
        super().__init__()
        c = channels
        self.deep = nn.Conv2d(c[32], width, 1)
        self.lateral16 = nn.Conv2d(c[16], width, 1)
        self.mix16 = nn.Conv2d(width, width, 3, padding=1)
        self.tokens = nn.Sequential(nn.Conv2d(width, TOKEN_DIM, 1), LayerNorm2d(TOKEN_DIM))
        self.down8 = nn.Conv2d(width, DETAIL8, 1)
        self.lateral8 = nn.Conv2d(c[8], DETAIL8, 1)
        self.mix8 = nn.Conv2d(DETAIL8, DETAIL8, 3, padding=1)
        self.down4 = nn.Conv2d(DETAIL8, DETAIL4, 1)
        self.lateral4 = nn.Conv2d(c[4], DETAIL4, 1)
        self.mix4 = nn.Conv2d(DETAIL4, DETAIL4, 3, padding=1)

    def forward(self, features: dict[int, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """{stride: features} -> tokens (B, 256, H/16, W/16), detail (B, 64, H/8, W/8), (B, 32, H/4, W/4)."""
        up = F.interpolate(self.deep(features[32]), scale_factor=2.0, mode="nearest")
        p16 = F.relu(self.lateral16(features[16]) + up)
        p16 = p16 + F.relu(self.mix16(p16))
        p8 = F.relu(
            self.lateral8(features[8]) + F.interpolate(self.down8(p16), scale_factor=2.0, mode="nearest")
        )
        p8 = p8 + F.relu(self.mix8(p8))
        p4 = F.relu(
            self.lateral4(features[4]) + F.interpolate(self.down4(p8), scale_factor=2.0, mode="nearest")
        )
        p4 = p4 + F.relu(self.mix4(p4))
        return self.tokens(p16), p8, p4


class NanoEncoder(nn.Module):
    """Normalised picture (B, 3, H, W), sides multiples of 32 -> (B, 256, H/8, W/8)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()
        self.neck = Neck()

    def scales(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and the two detail maps, before packing."""
        tokens, detail8, detail4 = self.neck(self.backbone(image))
        return tokens, detail8, detail4

    def forward(self, image: Tensor) -> Tensor:
        """The encoder's graph: (B, 3, H, W) -> the packed embedding."""
        return pack(*self.scales(image))


def draw_prompt(coords: Tensor, labels: Tensor, hw: tuple[int, int], side: Tensor | int) -> Tensor:
    """Rasterise clicks and a box on the stride-4 grid, as matrix products of one-dimensional profiles.

    Args:
        coords: (B, N, 2) canvas pixels.
        labels: (B, N) as in `PointEmbedding.embed_points`.
        hw: the stride-4 grid.
        side: longer side of the canvas in pixels; a click is a Gaussian of sigma = side / 64.

    Returns:
        (B, 3, h, w): box (+1 inside, -1 outside, 0 without a box), foreground and background clicks.
    """
    cell = coords / 4 - 0.375  # pixel p covers [p, p + 1); cell c has its centre at 4 c + 1.5
    y = torch.arange(hw[0], device=coords.device, dtype=coords.dtype)[None, None, :]
    x = torch.arange(hw[1], device=coords.device, dtype=coords.dtype)[None, None, :]
    sigma = side / 256.0
    gy = torch.exp(-0.5 * ((y - cell[..., 1:2]) / sigma) ** 2)  # (B, N, h)
    gx = torch.exp(-0.5 * ((x - cell[..., 0:1]) / sigma) ** 2)  # (B, N, w)
    foreground = (gy * (labels == 1).to(gy.dtype).unsqueeze(-1)).transpose(1, 2) @ gx
    background = (gy * (labels == 0).to(gy.dtype).unsqueeze(-1)).transpose(1, 2) @ gx
    is_low, is_high = (labels == 2).to(gy.dtype).unsqueeze(-1), (labels == 3).to(gy.dtype).unsqueeze(-1)
    low, high = (cell * is_low).sum(1), (cell * is_high).sum(1)  # (B, 2)
    inside_y = (y[:, 0] - low[:, 1:] + 0.5).clamp(0, 1) * (high[:, 1:] - y[:, 0] + 0.5).clamp(0, 1)
    inside_x = (x[:, 0] - low[:, :1] + 0.5).clamp(0, 1) * (high[:, :1] - x[:, 0] + 0.5).clamp(0, 1)
    has_box = is_high.sum(1).clamp(0, 1).unsqueeze(-1)  # (B, 1, 1)
    box = (2 * inside_y.unsqueeze(2) * inside_x.unsqueeze(1) - 1) * has_box
    return torch.stack([box, foreground.clamp(max=1.5), background.clamp(max=1.5)], dim=1)


def _as_linear(conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a 1x1 convolution, for a linear layer over the last axis."""
    return conv.weight.flatten(1), conv.bias


class NanoDecoder(nn.Module):
    """Prompts on a packed embedding -> four masks and scores, under SAM's names and shapes."""

    def __init__(self, mlp_dim: int = 1024) -> None:
        super().__init__()
        dim = TOKEN_DIM
        self.points = PointEmbedding(dim)
        self.hint4 = nn.Conv2d(MAPS, 16, 3, padding=1)
        self.hint8 = nn.Sequential(nn.Conv2d(16, 32, 2, 2), LayerNorm2d(32), nn.ReLU())
        self.hint16 = nn.Sequential(
            nn.Conv2d(32, 64, 2, 2), LayerNorm2d(64), nn.ReLU(), nn.Conv2d(64, dim, 1)
        )
        self.hint8_out = nn.Conv2d(32, DETAIL8, 1)
        self.hint4_out = nn.Conv2d(16, DETAIL4, 1)
        self.transformer = TwoWayTransformer(depth=2, dim=dim, heads=8, mlp_dim=mlp_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(4, dim)
        self.up8 = nn.ConvTranspose2d(dim, DETAIL8, 2, 2)
        self.norm8 = LayerNorm2d(DETAIL8)
        self.refine8 = nn.Conv2d(DETAIL8, DETAIL8, 3, padding=1)
        self.up4 = nn.ConvTranspose2d(DETAIL8, DETAIL4, 2, 2)
        self.hyper = nn.ModuleList(MLP(dim, dim, DETAIL4, 3) for _ in range(4))
        self.iou_head = MLP(dim, 256, 4, 3)

    def decode(
        self,
        scales: tuple[Tensor, Tensor, Tensor],
        coords: Tensor,
        labels: Tensor,
        previous: Tensor,
        has: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts; the training entry, on the stride-4 grid.

        Args:
            scales: tokens, detail8, detail4 of one picture or of B pictures (batch 1 or B).
            coords: (B, N, 2) canvas pixels.
            labels: (B, N).
            previous: (B, 1, H/4, W/4) logits of an earlier answer.
            has: (B,) 1 where it counts.

        Returns:
            (iou (B, 4), masks (B, 4, H/4, W/4)).
        """
        tokens, detail8, detail4 = scales
        h, w = tokens.shape[2:]
        side = 16 * torch.sym_max(h, w)
        b = coords.shape[0]
        has = has.reshape(-1, 1, 1, 1)
        drawn = draw_prompt(coords, labels, (4 * h, 4 * w), side)
        before = has * (previous / 4).clamp(-2, 2)
        maps = torch.cat([drawn, before, has.expand(-1, -1, 4 * h, 4 * w)], dim=1)
        hint4 = F.relu(self.hint4(maps))  # (B, 16, 4h, 4w)
        hint8 = self.hint8(hint4)  # (B, 32, 2h, 2w)
        image = (tokens + self.hint16(hint8)).flatten(2).transpose(1, 2)  # (B, h w, 256)
        sparse = self.points.embed_points(coords, labels, side)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        prompt = torch.cat([own.unsqueeze(0).expand(b, -1, -1), sparse], dim=1)
        mute = F.pad((labels == -1).to(sparse.dtype) * -1e4, (own.shape[0], 0))  # (B, 5 + N)
        pe = self.points.pe_layer.grid(h, w, torch.sym_max(h, w))
        asked = torch.arange(own.shape[0], device=own.device)
        prompt, image = self.transformer(image, pe, prompt, mute, wanted=asked)
        y = upscale_2x(image.reshape(b, h, w, -1), self.up8)  # (B, 2h, 2w, 64)
        y = y + detail8.permute(0, 2, 3, 1) + F.linear(hint8.permute(0, 2, 3, 1), *_as_linear(self.hint8_out))
        y = F.relu(
            F.layer_norm(y, self.norm8.weight.shape, self.norm8.weight, self.norm8.bias, self.norm8.eps)
        )
        y = y.permute(0, 3, 1, 2)
        y = y + F.relu(self.refine8(y))
        y = upscale_2x(y.permute(0, 2, 3, 1), self.up4)  # (B, 4h, 4w, 32)
        # Not `detail4 + hint`: OpenVINO adds a convolution's result into its other operand, here of one picture only.
        y = F.relu(y + detail4.permute(0, 2, 3, 1) + self.hint4_out(hint4).permute(0, 2, 3, 1))
        hyper = torch.stack([mlp(prompt[:, 1 + i]) for i, mlp in enumerate(self.hyper)], dim=1)  # (B, 4, 32)
        masks = (hyper @ y.flatten(1, 2).transpose(1, 2)).reshape(b, 4, 4 * h, 4 * w)
        return self.iou_head(prompt[:, 0]), masks

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """SAM's contract (see `SamDecoder.forward`): hints and masks on a grid of 4x the embedding's.

        That grid is stride 2 here; the network works at stride 4, so hints are averaged and masks enlarged by 2.
        """
        previous = F.avg_pool2d(mask_input, 2)
        iou, masks = self.decode(
            unpack(image_embeddings), point_coords, point_labels, previous, has_mask_input
        )
        return iou, F.interpolate(masks, scale_factor=2.0, mode="bilinear", align_corners=False)


class Nano(nn.Module):
    """Encoder and decoder together, as trained."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NanoEncoder()
        self.decoder = NanoDecoder()
