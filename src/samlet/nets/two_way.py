"""SAM's two-way transformer with its image projections folded onto the few prompt tokens.

The parameters and their names are SAM's (Kirillov et al. 2023, section A of its appendix); only the order of
the matrix products differs, which is exact (see docs/explanation/speed.md). With L image tokens (4,096 for
SAM) and T prompt tokens (about 7) nothing of size L x 128 is ever projected:

* tokens -> image: scores = [(q Wq) Wk^T] K^T. The key bias adds the same number to a whole row and cancels
  in the softmax; the value bias passes through because rows of the softmax sum to one.
* image -> tokens: scores = [Wq^T (t Wk)]^T K^T, a row for each token; output = A^T [(t Wv) Wo + bo / heads].

An image batch of 1 broadcasts over any number of prompts. Where many prompts ask about one image, the first layer's
projections of it are the same for all: `Shared` holds them, and that layer is nearly free.
"""

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shared(NamedTuple):
    """What the first layer reads of an image that is the same for all prompts.

    Attributes:
        keys: (heads, d, L) for tokens -> image, without their bias, which cancels.
        values: (heads, L, d) for tokens -> image.
        queries: (heads, d, L) for image -> tokens, scaled.
    """

    keys: Tensor
    values: Tensor
    queries: Tensor


def softmax_over_tokens(scores: Tensor) -> Tensor:
    """Softmax over the third of four axes, (B, heads, T, L); in exported graphs written out.

    ONNX Runtime takes softmax over another axis than the last by transposing, and over seven numbers as so many short
    rows, which costs three times as much.
    """
    if not torch.compiler.is_exporting():
        return scores.softmax(2)
    powers = (scores - scores.amax(2, keepdim=True)).exp()
    return powers / powers.sum(2, keepdim=True)


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than its outer one."""

    def __init__(self, dim: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.inner = dim // downsample
        self.q_proj = nn.Linear(dim, self.inner)
        self.k_proj = nn.Linear(dim, self.inner)
        self.v_proj = nn.Linear(dim, self.inner)
        self.out_proj = nn.Linear(self.inner, dim)
        self.scale = 1.0 / math.sqrt(self.inner // heads)

    def _split(self, x: Tensor) -> Tensor:  # (B, T, inner) -> (B, heads, T, inner / heads)
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def _per_head(self, proj: nn.Linear) -> Tensor:  # (inner, dim) -> (heads, inner / heads, dim)
        return proj.weight.reshape(self.heads, -1, self.dim)

    def among_tokens(self, q: Tensor, k: Tensor, v: Tensor, mute: Tensor | None = None) -> Tensor:
        """Plain attention between a few tokens: all (B, T, dim) -> (B, T, dim)."""
        q, k, v = self._split(self.q_proj(q)), self._split(self.k_proj(k)), self._split(self.v_proj(v))
        scores = (q * self.scale) @ k.transpose(-1, -2)  # (B, heads, T, T)
        a = (scores if mute is None else scores + mute[:, None, None, :]).softmax(-1)
        out: Tensor = self.out_proj((a @ v).transpose(1, 2).flatten(2))
        return out

    def tokens_to_image(self, q: Tensor, image_pe: Tensor, image: Tensor) -> Tensor:
        """Tokens (B, T, dim) read the image: keys `image_pe`, values `image`, both (B or 1, L, dim)."""
        b, t = q.shape[:2]
        q = self._split(self.q_proj(q)) * self.scale  # (B, heads, T, d)
        q = (q @ self._per_head(self.k_proj)).reshape(b, self.heads * t, self.dim)
        a = (q @ image_pe.transpose(-1, -2)).softmax(-1)  # (B, heads * T, L)
        read = (a @ image).reshape(b, self.heads, t, self.dim)
        read = read @ self._per_head(self.v_proj).transpose(-1, -2)  # (B, heads, T, d)
        out: Tensor = self.out_proj(read.transpose(1, 2).flatten(2) + self.v_proj.bias)
        return out

    def image_to_tokens(self, image_pe: Tensor, k: Tensor, v: Tensor, mute: Tensor | None = None) -> Tensor:
        """The image (B or 1, L, dim) reads the tokens `k`, `v` (B, T, dim) -> (B, L, dim)."""
        b, t = k.shape[:2]
        k = self._split(self.k_proj(k)) * self.scale  # (B, heads, T, d)
        keys = (k @ self._per_head(self.q_proj)).reshape(b, self.heads * t, self.dim)
        bias = (k @ self.q_proj.bias.reshape(self.heads, -1, 1)).reshape(b, self.heads * t, 1)
        scores = keys @ image_pe.transpose(-1, -2) + bias  # (B, heads * T, L)
        return self._told(scores.reshape(b, self.heads, t, -1), v, mute)

    def _told(self, scores: Tensor, v: Tensor, mute: Tensor | None) -> Tensor:
        """Scores (B, heads, T, L) of image -> tokens, and the tokens' `v` (B, T, dim) -> (B, L, dim)."""
        b, _, t, _ = scores.shape
        if mute is not None:
            scores = scores + mute[:, None, :, None]
        a = softmax_over_tokens(scores).reshape(b, self.heads * t, -1)
        per_head_out = self.out_proj.weight.reshape(self.dim, self.heads, -1).permute(1, 2, 0)
        # The weights of each head add up to one: a share of the bias in each value spares a pass over the image.
        values = self._split(self.v_proj(v)) @ per_head_out + self.out_proj.bias / self.heads
        return a.transpose(-1, -2) @ values.reshape(b, self.heads * t, self.dim)

    def image_for_tokens(self, image_pe: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Project one image (1, L, dim) for `tokens_to_shared`: keys (heads, d, L) and values (heads, L, d)."""
        keys = F.linear(image_pe[0], self.k_proj.weight).reshape(-1, self.heads, self.inner // self.heads)
        values = self.v_proj(image[0]).reshape(-1, self.heads, self.inner // self.heads)
        return keys.permute(1, 2, 0), values.transpose(0, 1)

    def image_asking(self, image_pe: Tensor) -> Tensor:
        """Project one image (1, L, dim) for `shared_to_tokens`: scaled queries (heads, d, L)."""
        queries = self.q_proj(image_pe[0]) * self.scale
        return queries.reshape(-1, self.heads, self.inner // self.heads).permute(1, 2, 0)

    def tokens_to_shared(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `tokens_to_image`, for tokens (B, T, dim) of many prompts that read one projected image."""
        b, t = q.shape[:2]
        a = ((self._rows(self.q_proj(q)) * self.scale) @ keys).softmax(-1)  # (heads, B * T, L)
        out: Tensor = self.out_proj((a @ values).transpose(0, 1).reshape(b, t, self.inner))
        return out

    def shared_to_tokens(self, queries: Tensor, k: Tensor, v: Tensor, mute: Tensor | None = None) -> Tensor:
        """As `image_to_tokens`, for one projected image that reads the tokens (B, T, dim) of many prompts."""
        b, t = k.shape[:2]
        scores = self._rows(self.k_proj(k)) @ queries  # (heads, B * T, L)
        return self._told(scores.reshape(self.heads, b, t, -1).transpose(0, 1), v, mute)

    def _rows(self, x: Tensor) -> Tensor:  # (B, T, inner) -> (heads, B * T, inner / heads)
        return x.reshape(x.shape[0] * x.shape[1], self.heads, -1).transpose(0, 1)


class TokenMLP(nn.Module):
    """The transformer's two-layer ReLU block; keys `lin1`, `lin2`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> the same shape."""
        out: Tensor = self.lin2(F.relu(self.lin1(x)))
        return out


class TwoWayBlock(nn.Module):
    """Tokens among themselves, tokens -> image, MLP, image -> tokens; each with a residual and a norm."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, *, first: bool) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = TokenMLP(dim, mlp_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample=2)
        self.first = first

    def share(self, image: Tensor, image_pe: Tensor) -> Shared:
        """Project one image, `image` and `image_pe` (1, L, dim), once for all prompts."""
        placed = image + image_pe
        keys, values = self.cross_attn_token_to_image.image_for_tokens(placed, image)
        return Shared(keys, values, self.cross_attn_image_to_token.image_asking(placed))

    def forward(
        self,
        queries: Tensor,
        image: Tensor,
        query_pe: Tensor,
        image_pe: Tensor,
        mute: Tensor | None = None,
        shared: Shared | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`queries`, `query_pe` (B, T, dim); `image` (B or 1, L, dim); `image_pe` (1, L, dim); `mute` (B, T).

        With `shared`, what `share` made of the image, `image_pe` is not read.
        """
        if self.first:  # SAM's first layer has neither position nor residual here
            queries = self.self_attn.among_tokens(queries, queries, queries, mute)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn.among_tokens(q, q, queries, mute)
        queries = self.norm1(queries)
        reading, asking = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        if shared is not None:
            read = reading.tokens_to_shared(queries + query_pe, shared.keys, shared.values)
        else:
            placed = image + image_pe
            read = reading.tokens_to_image(queries + query_pe, placed, image)
        queries = self.norm2(queries + read)
        queries = self.norm3(queries + self.mlp(queries))
        if shared is not None:
            told = asking.shared_to_tokens(shared.queries, queries + query_pe, queries, mute)
        else:
            told = asking.image_to_tokens(placed, queries + query_pe, queries, mute)
        return queries, _normed(image + told, self.norm4)


def _normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Normalise (B, L, dim) as rows: ONNX Runtime joins sum and norm of three axes into one node, which is slower."""
    return norm(x.flatten(0, 1)).reshape(x.shape)


class TwoWayTransformer(nn.Module):
    """SAM's decoder transformer: `depth` two-way blocks and a last look of the tokens at the image."""

    def __init__(self, depth: int = 2, dim: int = 256, heads: int = 8, mlp_dim: int = 2048) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def share(self, image: Tensor, image_pe: Tensor) -> Shared:
        """Project one image, `image` and `image_pe` (1, L, dim), once for all prompts."""
        return self._first.share(image, image_pe)

    @property
    def _first(self) -> TwoWayBlock:
        return cast(TwoWayBlock, self.layers[0])

    def forward(
        self,
        image: Tensor,
        image_pe: Tensor,
        tokens: Tensor,
        mute: Tensor | None = None,
        *,
        shared: Shared | None = None,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and image look at each other.

        Args:
            image: (B or 1, L, dim).
            image_pe: (1, L, dim).
            tokens: (B, T, dim).
            mute: (B, T) added to the attention scores of each token: very negative where nobody may read it
                (`nano` mutes padding, so that its answer does not depend on how much there is; SAM does not).
            shared: What `share` made of an image of batch 1; spares most of the first layer.
            wanted: (M,) numbers of the tokens that are asked for: only these take the last look. None asks for all.

        Returns:
            (tokens (B, M or T, dim), image (B, L, dim)).
        """
        queries = tokens
        for layer in self.layers:
            queries, image = layer(queries, image, tokens, image_pe, mute, shared)
            shared = None
        if wanted is not None:
            queries, tokens = queries.index_select(1, wanted), tokens.index_select(1, wanted)
        read = self.final_attn_token_to_image.tokens_to_image(queries + tokens, image + image_pe, image)
        return self.norm_final_attn(queries + read), image
