"""The dense (frame-level) stream of SDST, and the residual step that both streams share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vtg_lib.layers.attention import FeedForward, MultiHeadAttention, attend, merge_heads, split_heads
from vtg_lib.layers.deformable import level_heads
from vtg_lib.layers.projections import InputProjection
from vtg_lib.layers.transformer import xavier_


class PostNorm(nn.Module):
    """`LayerNorm(x + branch)`, where `keep` drops the branch of whole samples (DropPath)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, branch: Tensor, keep: Tensor | None) -> Tensor:
        """x, branch `[B, N, D]`; keep `[B, 1, 1]`, 0 or 1 / (1 - p), or None to keep all."""
        return self.norm(x + branch if keep is None else torch.addcmul(x, branch, keep))


def path_masks(shape: tuple[int, ...], p: float, device: torch.device) -> Tensor:
    """DropPath masks of a whole pass in one draw: `[*shape, 1, 1]`, 0 with probability p, else 1 / (1 -
    p).
    """
    return (torch.rand(*shape, 1, 1, device=device) >= p).float() / (1 - p)


def kaiming_(module: FeedForward) -> None:
    """Kaiming-normal matrices, zero biases (App. A)."""
    for linear in (module.up, module.down):
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)


class ContextAttention(MultiHeadAttention):
    """Cross-attention whose keys and values are projected for all levels at once."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        xavier_(self)

    def prepare(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """key, value `[S, B, L, D]` -> projected, by head, `[S, B, H, L, D / H]`."""
        return level_heads(self.key(key), self.heads), level_heads(self.value(value), self.heads)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """query `[B, N, D]`; key, value of one level from `prepare`; mask `[B, L]` -> `[B, N, D]`."""
        mixed, _ = attend(split_heads(self.query(query), self.heads), key, value, mask)
        return self.out(merge_heads(mixed))


class Alignment(nn.Module):
    """Eq. 2: the MLPs phi_v and phi_t into the shared space, as yeliudev/R2-Tuning has them."""

    def __init__(self, video_dim: int, text_dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.video = InputProjection(video_dim, width, dropout)
        self.text = InputProjection(text_dim, width, dropout)

    def forward(self, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """video `[B, S, T, Dv]`, text `[B, S, L, Dt]` -> `[S, B, T, D]`, `[S, B, L, D]`."""
        return self.video(video.transpose(0, 1)), self.text(text.transpose(0, 1))


class DenseStream(nn.Module):
    """Eq. 4: text cross-attention, temporal self-attention, feed-forward; each with residual and
    post-norm.
    """

    BRANCHES = 3

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross = ContextAttention(width, heads)
        self.self_attention = MultiHeadAttention(width, heads)
        self.feed_forward = FeedForward(width, 4 * width)
        self.norms = nn.ModuleList(PostNorm(width) for _ in range(self.BRANCHES))
        xavier_(self.self_attention)
        kaiming_(self.feed_forward)

    def forward(
        self,
        fused: Tensor,
        position: Tensor,
        mask: Tensor,
        key: Tensor,
        value: Tensor,
        text_mask: Tensor,
        keep: Tensor | list[None],
    ) -> dict[str, Tensor]:
        """One level.

        Args:
            fused: `[B, T, D]`, Eq. 3; position: `[B, T, D]`; mask: `[B, T]`.
            key, value: of the text, from `cross.prepare`; text_mask: `[B, L]`.
            keep: three masks of `PostNorm`.

        Returns:
            `[B, T, D]` after each module: `cross`, `self`, `ffn`. The last is the dense embedding of the
                level.
        """
        cross = self.norms[0](fused, self.cross.mix(fused + position, key, value, text_mask), keep[0])
        query = cross + position
        temporal = self.norms[1](cross, self.self_attention(query, query, cross, mask), keep[1])
        dense = self.norms[2](temporal, self.feed_forward(temporal), keep[2])
        return {"cross": cross, "self": temporal, "ffn": dense}
