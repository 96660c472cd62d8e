"""Which video a sample's context is drawn from (TD-DETR, Eq. 1); the options are `Synthesis`.

Axes as in `vtg_lib.data.batches`: B samples, T clips, D channels; N rows of the training set.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.data.batches import Batch, GroundingData, last_level
from vtg_lib.data.hooks import Synthesis

TOP_PAIRS = 50  # pairs of clips that `top50` averages
STRIP = 8  # rows of a batch that are compared with those after them at a time
SHORTLIST = 32  # of a whole set, the videos with the most similar mean clip are compared pair by pair


class Partners:
    """Finds the partners of a batch's samples."""

    def __init__(self, options: Synthesis, data: GroundingData) -> None:
        self.options, self.data = options, data
        compared = options.partner == "set" and options.mode in ("sim", "dissim", "mix")
        self._ends = self._shortlist() if compared else None

    def __call__(self, batch: Batch, draw: Tensor) -> tuple[Batch, Tensor]:
        """A batch, and `[B]` the row in it of each sample's partner; -1 where there is none.

        Args:
            draw: `[B]`, uniform in 0..1.
        """
        if self.options.layout == "exchanged":  # with itself
            return batch, torch.arange(len(batch), device=draw.device)
        if self.options.mode == "random_as_released":
            anyone = (draw * 2 * len(batch)).long()
            last = self.data.batch(torch.tensor([len(self.data) - 1])).to(draw.device)
            return _joined(batch, last), anyone.clamp(max=len(batch))
        if self.options.partner == "batch":
            return batch, self._of_batch(batch, draw)
        return self._of_set(batch, draw)

    def _of_batch(self, batch: Batch, draw: Tensor) -> Tensor:
        o, video = self.options, self._videos(batch.index)
        barred = video[:, None] == video  # the video itself, which other sentences may be about too
        if o.clean:  # the next one's sentence is this one's negative
            barred |= torch.eye(len(batch), dtype=torch.bool, device=video.device).roll(1, 1)
        if o.mode == "random":
            order = (~barred).cumsum(1)
            chosen = ((order > draw[:, None] * order[:, -1:]) & ~barred).float().argmax(1)
        else:
            score = similarity(batch, o.similarity)
            score = torch.where(score > o.ceiling, 0.0, score)
            alike = score.masked_fill(barred, -torch.inf).argmax(1)
            unlike = score.masked_fill(barred, torch.inf).argmin(1)
            chosen = torch.where(self._unlike(draw), unlike, alike)
        return torch.where(barred.all(1), -1, chosen)

    def _of_set(self, batch: Batch, draw: Tensor) -> tuple[Batch, Tensor]:
        index, rows = batch.index.cpu(), torch.arange(len(batch))
        if self._ends is None:  # at random
            chosen = (index + 1 + (draw.cpu() * (len(self.data) - 1)).long()) % len(self.data)
            alone = self._videos(chosen) == self._videos(index)
        else:
            unlike = self._unlike(draw).cpu()
            short = self._ends[unlike.long(), index]  # [B, SHORTLIST]
            found = self.data.batch(short.flatten()).to(draw.device)
            score = pair_similarity(batch, found, self.options.similarity, short.shape[1]).cpu()
            score = torch.where(score > self.options.ceiling, 0.0, score)
            chosen = short[rows, torch.where(unlike[:, None], -score, score).argmax(1)]
            alone = torch.zeros(len(batch), dtype=torch.bool)
        return self.data.batch(chosen).to(draw.device), torch.where(alone, -1, rows).to(draw.device)

    def _unlike(self, draw: Tensor) -> Tensor:
        """`[B]`, whose partner is the least similar one."""
        share = {"sim": 0.0, "mix": 0.5, "dissim": 1.0}[self.options.mode]
        return draw < share

    def _videos(self, index: Tensor) -> Tensor:
        """`[B]`, the videos of some rows of the training set, on the device of `index`."""
        return self.data.video_index[index.to(self.data.video_index.device)].to(index.device)

    def _shortlist(self) -> Tensor:
        """`[2, N, SHORTLIST]`, for every row those of other videos with the most, and least, similar mean."""
        mean = _mean_clip(last_level(self.data.video).float().cpu(), self.data.video_length.cpu())
        rows = self.data.video_index.cpu()
        if len(mean) < 2:
            raise ValueError("synthesis: expected a training set of at least two videos to find partners in")
        first = torch.full((len(mean),), len(rows)).scatter_reduce(0, rows, torch.arange(len(rows)), "amin")
        found = []
        for block in torch.arange(len(mean)).split(1024):
            score = mean[block] @ mean.T
            score[torch.arange(len(block)), block] = torch.nan
            k = min(SHORTLIST, len(mean) - 1)
            near = score.nan_to_num(-torch.inf).topk(k).indices
            far = score.nan_to_num(torch.inf).topk(k, largest=False).indices
            found.append(torch.stack((near, far)))
        return first[torch.cat(found, 1)][:, rows]


def similarity(batch: Batch, kind: str) -> Tensor:
    """`[B, B]` of the videos of a batch, in -1..1: see `Synthesis`."""
    length = batch.video_mask.sum(1)
    if kind == "mean":
        mean = _mean_clip(last_level(batch.video), length)
        return mean @ mean.T
    clips = _unit(batch)
    found = clips.new_zeros(len(batch), len(batch))
    for first in range(0, len(batch), STRIP):  # all pairs at once do not fit a cache
        strip = slice(first, first + STRIP)
        pairs = torch.einsum("atd,bsd->abts", clips[strip], clips[first:]).flatten(2)
        found[strip, first:] = _top(pairs, length[strip, None] * length[first:])
    upper = found.triu()
    return upper + upper.triu(1).T


def pair_similarity(one: Batch, other: Batch, kind: str, each: int) -> Tensor:
    """`[B, each]` of every video with `each` of its own, rows `[B * each]` of the other batch."""
    clips, others = _unit(one), _unit(other).unflatten(0, (-1, each))
    pairs = torch.einsum("atd,aksd->akts", clips, others).flatten(2)
    number = one.video_mask.sum(1)[:, None] * other.video_mask.sum(1).unflatten(0, (-1, each))
    return pairs.sum(-1) / number if kind == "mean" else _top(pairs, number)


def _top(pairs: Tensor, number: Tensor) -> Tensor:
    """Mean of the largest; padded pairs are zeros, which must not push out real negative ones."""
    k = min(TOP_PAIRS, pairs.shape[-1])
    if int(number.min()) < pairs.shape[-1]:
        pairs = pairs.masked_fill(pairs == 0, -torch.inf)
    if pairs.device.type == "cpu":  # six times as fast as topk
        best = torch.from_numpy(np.partition(pairs.numpy(), -k, axis=-1)[..., -k:])
    else:
        best = pairs.topk(k, sorted=False).values
    return best.masked_fill(best.isinf(), 0.0).sum(-1) / number.clamp(min=1, max=k)


def _unit(batch: Batch) -> Tensor:
    return F.normalize(last_level(batch.video), dim=-1) * batch.video_mask[..., None]


def _mean_clip(video: Tensor, length: Tensor) -> Tensor:
    """`[V, D]`, of clips of length one: the product of two is the mean cosine over all pairs (Eq. 1)."""
    real = torch.arange(video.shape[1], device=video.device) < length[:, None]
    return (F.normalize(video, dim=-1) * real[..., None]).sum(1) / length[:, None]


def _joined(batch: Batch, more: Batch) -> Batch:
    """The videos of two batches as one, padded to the longer."""
    size = max(batch.video_mask.shape[1], more.video_mask.shape[1])
    parts = [
        dataclasses.replace(
            part,
            video=F.pad(part.video, (0, 0, 0, size - part.video_mask.shape[1])),
            video_mask=F.pad(part.video_mask, (0, size - part.video_mask.shape[1])),
        )
        for part in (batch, more)
    ]
    return dataclasses.replace(
        batch,
        video=torch.cat([part.video for part in parts]),
        video_mask=torch.cat([part.video_mask for part in parts]),
    )
