"""SAM's two-way transformer with its image projections folded onto the few prompt tokens.

The parameters and their names are SAM's (Kirillov et al. 2023, section A of its appendix); only the order of
the matrix products differs, which is exact (see docs/explanation/speed.md). With L image tokens (4,096 for
SAM) and T prompt tokens (about 7) nothing of size L x 128 is ever projected:

* tokens -> image: scores = [(q Wq) Wk^T] K^T. The key bias adds the same number to a whole row and cancels
  in the softmax; the value bias passes through because rows of the softmax sum to one.
* image -> tokens: scores = K [Wq^T (t Wk)]; output = A [(t Wv) Wo].

An image batch of 1 broadcasts over any number of prompts.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F


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
        bias = (k @ self.q_proj.bias.reshape(self.heads, -1, 1)).reshape(b, 1, self.heads * t)
        if mute is not None:
            bias = bias + mute.repeat(1, self.heads).unsqueeze(1)
        scores = image_pe @ keys.transpose(-1, -2) + bias  # (B, L, heads * T)
        a = scores.reshape(b, -1, self.heads, t).softmax(-1).reshape(b, -1, self.heads * t)
        per_head_out = self.out_proj.weight.reshape(self.dim, self.heads, -1).permute(1, 2, 0)
        values = self._split(self.v_proj(v)) @ per_head_out  # (B, heads, T, dim)
        return a @ values.reshape(b, self.heads * t, self.dim) + self.out_proj.bias


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

    def forward(
        self, queries: Tensor, image: Tensor, query_pe: Tensor, image_pe: Tensor, mute: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`queries`, `query_pe` (B, T, dim); `image` (B or 1, L, dim); `image_pe` (1, L, dim); `mute` (B, T)."""
        if self.first:  # SAM's first layer has neither position nor residual here
            queries = self.self_attn.among_tokens(queries, queries, queries, mute)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn.among_tokens(q, q, queries, mute)
        queries = self.norm1(queries)
        placed = image + image_pe
        read = self.cross_attn_token_to_image.tokens_to_image(queries + query_pe, placed, image)
        queries = self.norm2(queries + read)
        queries = self.norm3(queries + self.mlp(queries))
        told = self.cross_attn_image_to_token.image_to_tokens(placed, queries + query_pe, queries, mute)
        return queries, self.norm4(image + told)


class TwoWayTransformer(nn.Module):
    """SAM's decoder transformer: `depth` two-way blocks and a last look of the tokens at the image."""

    def __init__(self, depth: int = 2, dim: int = 256, heads: int = 8, mlp_dim: int = 2048) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(
        self, image: Tensor, image_pe: Tensor, tokens: Tensor, mute: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and image look at each other.

        Args:
            image: (B or 1, L, dim).
            image_pe: (1, L, dim).
            tokens: (B, T, dim).
            mute: (B, T) added to the attention scores of each token: very negative where nobody may read it
                (`nano` mutes padding, so that its answer does not depend on how much there is; SAM does not).

        Returns:
            (tokens (B, T, dim), image (B, L, dim)).
        """
        queries = tokens
        for layer in self.layers:
            queries, image = layer(queries, image, tokens, image_pe, mute)
        read = self.final_attn_token_to_image.tokens_to_image(queries + tokens, image + image_pe, image)
        return self.norm_final_attn(queries + read), image
