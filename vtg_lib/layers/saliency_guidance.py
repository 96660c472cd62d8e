"""SG-DETR's clips: a sentence token, local saliency, cross-attention that saliency guides, its amplifier.

Most equations are lost in the paper's text; they are read from chinagalaxy2002/SG_CGP @ 931cad1, a public
copy of its code. Axes: B samples, T clips, L words, N dummy tokens, H heads, S layers, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.adaptive_attention import DropPath, PathLayer
from vtg_lib.layers.attention import FeedForward, attend, merge_heads, split_heads
from vtg_lib.layers.dropout import dropout as drop

FIRST_SCALE = 3.0  # t of Eq. 2 at the start of training


class PoolLayer(nn.Module):
    """A token reads the normalised words, then a feed-forward network; queries, keys and values are not
    projected, or (the text) keys and values are.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, projections: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_words = nn.LayerNorm(width)
        self.key = nn.Linear(width, width) if projections else nn.Identity()
        self.value = nn.Linear(width, width) if projections else nn.Identity()
        self.out = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, dropout, PReLU)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, token: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """token `[B, 1, D]`, words `[B, L, D]`, mask `[B, L]` -> `[B, 1, D]`."""
        words = self.norm_words(words)
        query, key, value = (split_heads(x, self.heads) for x in (token, self.key(words), self.value(words)))
        mixed, _ = attend(query, key, value, mask, self.dropout if self.training else 0.0)
        token = token + self.out(merge_heads(mixed))
        return token + self.feed_forward(self.norm_feed_forward(token))


class SentencePool(nn.Module):
    """The sentence token: a learned token that reads the words, layer by layer (Eq. 1)."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, layers: int, projections: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PoolLayer(width, heads, hidden, dropout, projections) for _ in range(layers)
        )
        self.token = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.norm = nn.LayerNorm(width)  # between layers, the same everywhere

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """words `[B, L, D]`, mask `[B, L]` -> `[B, D]`."""
        token = self.token.to(words.dtype).expand(len(words), 1, -1)
        for number, layer in enumerate(self.layers):
            token = layer(self.norm(token) if number else token, words, mask)
        return token.squeeze(1)


class LocalSaliency(nn.Module):
    """cos(clip, sentence) exp(t) + a, with learned t and a (Eq. 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        self.shift = nn.Parameter(torch.tensor(0.0))

    def forward(self, clips: Tensor, sentence: Tensor) -> Tensor:
        """clips `[B, T, D]`, sentence `[B, D]` -> `[B, T]`, a logit; features of zeros have cosine 0."""
        cosine = F.normalize(clips.float(), dim=-1) @ F.normalize(sentence.float(), dim=-1)[..., None]
        return cosine.squeeze(-1) * self.scale.exp() + self.shift


def _saliency(local: Tensor, mask: Tensor) -> Tensor:
    return local.sigmoid()


def _constant(local: Tensor, mask: Tensor) -> Tensor:
    mean = (local.sigmoid() * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return mean.expand_as(local)


def _shuffled(local: Tensor, mask: Tensor) -> Tensor:
    # An order of its own for every video, by clips' places and ranks: it needs no random state, and neither
    # padding nor rounding changes it.
    ranks = local.detach().masked_fill(~mask, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
    places = torch.arange(local.shape[1], device=local.device, dtype=torch.float64)
    noise = (ranks * 0.6180339887 + places * 0.4142135624).frac().masked_fill(~mask, torch.inf)
    return local.sigmoid().gather(1, noise.argsort(dim=1, stable=True))


# From local saliency `[B, T]` and the mask of real clips, the factor of each clip's whole text update; the
# others have none. "constant" is its mean over the video, "shuffled" permutes it over the video's clips.
FACTORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "saliency": _saliency,
    "constant": _constant,
    "shuffled": _shuffled,
}
# "none": softmax alone; "dummy": beside dummy tokens (CG-DETR); "sigmoid": a sigmoid in place of the softmax.
GUIDANCE = (*FACTORS, "none", "dummy", "sigmoid")


class Read(NamedTuple):
    """What the clips made of the words.

    Attributes:
        clips: `[B, T, D]`; attention: `[B, T, N + L]`, weights of dummies and words times the factor, mean
            over heads and layers, filled if asked for.
        update: `[S, B, T]`, norm of what each layer adds to a clip, filled if asked for.
        dummies: `[B, N, D]`, if there are any.
    """

    clips: Tensor
    attention: Tensor | None
    update: Tensor | None
    dummies: Tensor | None = None


class GuidedCrossLayer(nn.Module):
    """SGCA (Eqs. 3, 4): softmax over the words times one number a clip; output projected, and in the text
    queries, keys and values, too. The feed-forward branch is normalised, then the sum.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        droppath: float,
        projections: bool,
        sigmoid: bool,
    ) -> None:
        super().__init__()
        self.heads, self.attention_dropout, self.sigmoid = heads, dropout, sigmoid
        self.query, self.key, self.value = (
            nn.Linear(width, width) if projections else nn.Identity() for _ in range(3)
        )
        self.out = nn.Linear(width, width)
        for module in (self.query, self.key, self.value, self.out):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        self.feed_forward = FeedForward(width, hidden, dropout, PReLU)
        self.norm_branch = nn.LayerNorm(width)
        self.norm = nn.LayerNorm(width)
        self.droppath = DropPath(droppath)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        words: Tensor,
        word_position: Tensor,
        mask: Tensor,
        factor: Tensor | None,
        dummies: int = 0,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """One layer.

        Args:
            x, position: `[B, T, D]`; words, word_position: `[B, N + L, D]`, dummies first.
            mask: `[B, N + L]`, True on dummies and real words.
            factor: `[B, T]`, or None: one. dummies: N, which take attention and are not read.

        Returns:
            `[B, T, D]`; the weights `[B, T, N + L]`, mean over heads, if asked for; the text update
            `[B, T, D]`.
        """
        query = split_heads(self.query(x + position), self.heads)
        key = split_heads(self.key(words + word_position), self.heads)
        value = self.value(words)
        if dummies:
            value = torch.cat((torch.zeros_like(value[:, :dummies]), value[:, dummies:]), 1)
        value, rate = split_heads(value, self.heads), self.attention_dropout if self.training else 0.0
        if self.sigmoid:
            logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            weights = logits.sigmoid() * mask[:, None, None]
            mixed = drop(weights, rate).to(value.dtype) @ value
        else:
            mixed, weights = attend(query, key, value, mask, rate, need_weights)  # type: ignore[assignment]
        if factor is not None:
            mixed = mixed * factor[:, None, :, None].to(mixed.dtype)
        update = self.out(merge_heads(mixed))
        seen = None
        if need_weights:
            seen = weights.mean(1) if factor is None else weights.mean(1) * factor[..., None]
        x = x + self.droppath(update)
        x = x + self.droppath(self.norm_branch(self.feed_forward(x)))
        return self.norm(x), seen, update


class GuidedEncoder(nn.Module):
    """Cross-modal encoder of guided layers (Eq. 5).

    One norm follows every layer, on clips and words alike, and once more the last, as in the public code: a
    layer reads the words as the one before has normalised them.

    Args:
        guidance: one of `GUIDANCE`; projections: of queries, keys and values, as in the text.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        droppath: float,
        guidance: str,
        projections: bool,
    ) -> None:
        super().__init__()
        self.factor = FACTORS.get(guidance)
        self.layers = nn.ModuleList(
            GuidedCrossLayer(width, heads, hidden, dropout, droppath, projections, guidance == "sigmoid")
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        clips: Tensor,
        position: Tensor,
        mask: Tensor,
        local: Tensor,
        words: Tensor,
        word_position: Tensor,
        word_mask: Tensor,
        dummies: int = 0,
        trace: bool = False,
    ) -> Read:
        """clips, position `[B, T, D]`; mask, local saliency `[B, T]`; words, word_position `[B, N + L, D]`,
        the N dummies first; word_mask `[B, N + L]`. trace: fill what `Read` leaves open; dummies always fill
        the attention, which their losses read.
        """
        factor = None if self.factor is None else self.factor(local, mask)
        weights, updates = [], []
        for layer in self.layers:
            clips, seen, update = layer(
                clips, position, words, word_position, word_mask, factor, dummies, trace or dummies > 0
            )
            clips, words = self.norm(clips), self.norm(words)
            weights.append(seen)
            updates.append(update)
        attention = torch.stack(weights).mean(0) if weights[0] is not None else None
        norms = torch.stack([update.float().norm(dim=-1) for update in updates]) if trace else None
        return Read(self.norm(clips), attention, norms)


class Amplifier(nn.Module):
    """F + F sigmoid(saliency) (Eqs. 7 and 9); then, in the public constructor's default that the released
    config switches off, a transformer layer.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, layer: bool) -> None:
        super().__init__()
        self.layer = PathLayer(width, heads, hidden, dropout) if layer else None

    def forward(self, x: Tensor, saliency: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """x, position `[B, T, D]`; saliency, mask `[B, T]` -> `[B, T, D]`."""
        x = x + x * saliency.sigmoid()[..., None].to(x.dtype)
        return x if self.layer is None else self.layer(x, position, mask)


# Which of Eqs. 7 and 9 amplify.
AMPLIFIED: dict[str, tuple[bool, bool]] = {
    "on": (True, True),
    "off": (False, False),
    "first": (True, False),
    "second": (False, True),
}
