"""Anchors that guide their query: clips sampled in the span, and a Gaussian mask on the attention (SA-DETR).

Equations are those of SA-DETR (Xiong et al.), Sec. 3.4; "reading" numbers are the choices where its text is
open, listed in its chapter. Axes: B samples, Q queries, T clips, D channels, N clips sampled in a span.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.attention import Modulation
from vtg_lib.layers.convolution import TemporalConv
from vtg_lib.layers.roi import sample_span

LEAST_WIDTH = 1e-2  # share of the video; narrower anchors have the mask of this width
SLOWEST = 0.01  # share of a running mean that the newest value has at least
GOLDEN = 0.618034

# Eq. 6 with the logarithm of the mask. "logits" is as printed: a masked clip gets logit 0, which raises
# negative logits (reading 5). "weights" are multiplied and renormalised, which is the same as adding the
# logarithm to the logits; "gain" does not renormalise: a query that looks past its span reads less.
FORMS: dict[str, Callable[[Tensor], Modulation]] = {
    "logits": lambda log: Modulation(factor=log.exp()),
    "log": lambda log: Modulation(bias=log),
    "weights": lambda log: Modulation(bias=log),
    "gain": lambda log: Modulation(gain=log.exp()),
}


class RunningMean(nn.Module):
    """Mean of what training showed, in a checkpoint like any weight: of all values at first, then of recent
    ones.

    Attributes:
        value: of the shape given; 0.5 before anything was shown.
    """

    value: Tensor
    shown: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.full(shape, 0.5))
        self.register_buffer("shown", torch.zeros(()))

    @torch.no_grad()
    def show(self, value: Tensor) -> None:
        """One more value, of the same shape."""
        self.shown += 1
        self.value += (value.float() - self.value) * (1 / self.shown).clamp(min=SLOWEST)


def log_gaussian(reference: Tensor, mask: Tensor, alpha: float) -> Tensor:
    """Logarithm of Eq. 5, -alpha (i / L - c)^2 / w^2 for clips i = 1 .. L.

    Args:
        reference: `[B, Q, 2]` (center, width), normalised; mask: `[B, T]` real clips, L of them.

    Returns:
        `[B, Q, T]`, at most 0; -alpha / 4 at the span's borders.
    """
    length = mask.sum(1).clamp(min=1)
    place = torch.arange(1, mask.shape[1] + 1, device=mask.device) / length[:, None]
    center, width = reference.float()[..., None].unbind(-2)
    return -alpha * ((place[:, None] - center) / width.clamp(min=LEAST_WIDTH)).square()


class GaussianMask(nn.Module):
    """The mask of Eq. 5, applied in one of `FORMS`."""

    def __init__(self, alpha: float, form: str = "logits") -> None:
        super().__init__()
        self.alpha, self.form = alpha, FORMS[form]

    def forward(self, reference: Tensor, mask: Tensor) -> Modulation:
        """reference `[B, Q, 2]`, mask `[B, T]` -> of the attention `[B, Q, T]`; its trace is `clip_mask`,
        zero on padding.
        """
        log = self.log(reference, mask)
        return self.form(log)._replace(trace={"clip_mask": log.exp() * mask[:, None]})

    def log(self, reference: Tensor, mask: Tensor) -> Tensor:
        """`[B, Q, T]`."""
        return log_gaussian(reference, mask, self.alpha)

    def show(self, spans: Tensor, span_mask: Tensor) -> None:
        """The moments `[B, M, 2]`, `[B, M]` of a training batch, for masks that depend on them."""


class MovedMask(GaussianMask):
    """Control: the same values at another place, cyclically moved along the video's clips, so that the mass
    is the same.

    By how much is drawn anew in training; when evaluating it is a number of the query, so that results
    repeat.
    """

    def log(self, reference: Tensor, mask: Tensor) -> Tensor:
        log, length = super().log(reference, mask), mask.sum(1).clamp(min=1)
        count, queries, clips = log.shape
        number = torch.arange(1, queries + 1, device=log.device) * GOLDEN % 1
        share = torch.rand(count, queries, device=log.device) if self.training else number.expand(count, -1)
        moved = torch.arange(clips, device=log.device) - (share * length[:, None]).long()[..., None]
        return log.gather(-1, moved % length[:, None, None])


class MeanWidthMask(GaussianMask):
    """Control: every mask is as wide as the mean moment of the training set."""

    def __init__(self, alpha: float) -> None:
        super().__init__(alpha)
        self.width = RunningMean()

    def log(self, reference: Tensor, mask: Tensor) -> Tensor:
        center = reference[..., 0]
        return super().log(torch.stack((center, self.width.value.expand_as(center)), -1), mask)

    def show(self, spans: Tensor, span_mask: Tensor) -> None:
        if span_mask.any():
            self.width.show(spans[..., 1][span_mask].mean())


def _off(alpha: float) -> None:
    return None


MASKS: dict[str, Callable[[float], GaussianMask | None]] = {
    **{form: partial(GaussianMask, form=form) for form in FORMS},
    "random_place": MovedMask,
    "mean_width": MeanWidthMask,
    "off": _off,
}


class SpanEnhance(nn.Module):
    """Span Based Enhance Block: the clips of the span, weighed by the sentence, join the query (Eq. 2 and 3).

    Args:
        samples: N_s clips that are read in a span.
    """

    def __init__(self, width: int, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.clip = nn.Linear(width, width, bias=False)
        self.sentence = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, reference: Tensor, memory: Tensor, mask: Tensor, sentence: Tensor) -> Tensor:
        """x `[B, Q, D]`, reference `[B, Q, 2]`, memory `[B, T, D]`, mask `[B, T]`, sentence `[B, D]` ->
        `[B, Q, D]`.
        """
        sampled = sample_span(memory, reference, mask.sum(1), self.samples)  # [B, Q, N, D]
        text = self.sentence(sentence)[:, None, :, None]
        weight = self.clip(sampled) @ text / math.sqrt(x.shape[-1])  # no softmax over clips (reading 6)
        read = (sampled * weight).mean(-2)
        gate = (x * read).sum(-1, keepdim=True).sigmoid()  # one number a query (reading 6)
        updated: Tensor = self.out((read + x) * gate) + x
        return updated


class LocalBlock(nn.Module):
    """Local enhance block: three convolutions with kernels 1, 3 and 1 (printed as strides; reading 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(TemporalConv(width, width, kernel) for kernel in (1, 3, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x `[B, T, D]`, mask `[B, T]` -> `[B, T, D]`; no clip reads padding."""
        first, *others = self.convs
        x = first(x, mask)
        for conv in others:
            x = conv(F.relu(x), mask)
        return x
