"""Videos with a dynamic context, batch by batch (TD-DETR, Sec. 3.1); the options are in `vtg_lib.data.hooks`.

Axes as in `vtg_lib.data.batches`: B samples, T clips, M moments, D channels; T' clips of the new videos. All
of it is
index arithmetic on padded tensors: every clip that a new video could have is a slot with a place in the order
of time, slots that are not drawn sort to the end, and the rest is gathered.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vtg_lib.data.batches import Batch, GroundingData
from vtg_lib.data.hooks import Synthesis
from vtg_lib.spans import cw_to_se, se_to_cw

TOP_PAIRS = 50  # pairs of clips that `top50` averages
SMALLEST = 2  # shares of so few clips are no context (the code drops them; here the sample stays as it is)
SHORTLIST = 32  # of a whole set, the videos with the most similar mean clip are compared pair by pair
LAST = float(1 << 20)  # a place in time after everything


class Plan(NamedTuple):
    """Where the clips of new videos come from.

    Attributes:
        partner: `[B]` row of the partners' batch; made: `[B]`, False where the sample stayed as it was.
        foreign: `[B, T']`, True where a clip is the partner's; clip: `[B, T']` its place in its own video;
        mask: `[B, T']`, True on clips.
        first, start: `[B]` first clip of the hull of the moments in the old and in the new video.
    """

    partner: Tensor
    made: Tensor
    foreign: Tensor
    clip: Tensor
    mask: Tensor
    first: Tensor
    start: Tensor


class Synthesizer:
    """See `Synthesis`.

    Attributes:
        tallies: samples seen and made; those left alone by reason; partners and negative sentences that are
            not what the method takes them for.
    """

    def __init__(self, options: Synthesis, data: GroundingData) -> None:
        self.options, self.data = options, data
        self.tallies: dict[str, Tensor] = {}
        compared = options.partner == "set" and options.mode in ("sim", "dissim", "mix")
        self._ends = self._shortlist() if compared else None

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with its synthetic samples; windows, saliency and duration follow the clips."""
        partners, plan = self.plan(batch, generator)
        return assemble(batch, partners, plan)

    def plan(self, batch: Batch, generator: Generator) -> tuple[Batch, Plan]:
        """The batch that the partners are rows of, and what becomes of every sample."""
        o, device = self.options, batch.video_mask.device
        luck = _Luck(len(batch), generator, device)
        synthetic = luck(1)[:, 0].argsort().argsort() < round((1 - o.originals) * len(batch))
        partners, partner = self._partners(batch, luck(1)[:, 0])
        alone, partner = partner < 0, partner.clamp(min=0)
        own, theirs = _Clips(batch.video_mask), _Clips(partners.video_mask[partner])
        first, last = hull(batch)
        inside = (own.place >= first[:, None]) & (own.place < last[:, None])
        context = own.real & ~inside
        shown = self._shows(batch, partners, partner, inside) & theirs.real

        if o.layout == "exchanged":
            own_times, their_times = own.real.long(), torch.zeros_like(theirs.place)
            enough = context.any(1)
        else:
            free = theirs.real & ~shown if o.clean else theirs.real
            own_share, own_times = drawn(context, o.alpha, luck(1), luck(own.size))
            their_share, their_times = drawn(free, 1 - o.alpha, luck(1), luck(theirs.size))
            own_times = own_times + inside.long()
            # a share that is 0 by choice is no fault
            enough = (own_share > SMALLEST) | (o.alpha == 0)
            enough = enough & ((their_share > SMALLEST) | (o.alpha == 1))
        labelled = batch.span_mask.any(1)
        made = synthetic & labelled & ~alone & enough
        self._count("samples", torch.ones_like(made))
        self._count("made", made)
        self._count("left alone: no moment", synthetic & ~labelled)
        self._count("left alone: no partner", synthetic & labelled & alone)
        self._count("left alone: too little context", synthetic & labelled & ~alone & ~enough)
        self._count("partner shows the query", made & (shown & (their_times > 0)).any(1))
        if o.partner == "batch":
            following = torch.arange(len(batch), device=device).roll(-1)
            self._count("negative sentence is the partner's", made & (partner == following))

        own_times = torch.where(made[:, None], own_times, own.real.long())
        their_times = their_times * made[:, None]
        own_time, their_time = own.place.float(), theirs.place.float()
        if o.shuffled:
            their_time = luck(theirs.size).argsort(1).float()
        if o.layout == "exchanged":
            cut = gap(luck(1), first, last, context)
            own_time = own_time + ((own_time < cut) & made[:, None]) * own.size
        elif o.layout == "blocks":
            their_time = their_time + torch.where(luck(1) < 0.5, -theirs.size, own.size)
        else:
            their_time = _spread(their_time, their_times, luck(2 * theirs.size), first, last, context)
        if o.layout != "mixed":
            their_time = torch.cat((their_time, their_time), 1)
        time = torch.cat((own_time, own_time, their_time), 1)
        taken = torch.cat((_copies(own_times), _copies(their_times)), 1)
        length = taken.sum(1, keepdim=True)
        order = torch.where(taken, time, LAST).argsort(dim=1, stable=True)[:, : int(length.max())]
        clip = torch.cat((own.place, own.place, theirs.place, theirs.place), 1).gather(1, order)
        mask = torch.arange(order.shape[1], device=device) < length
        foreign = (order >= 2 * own.size) & mask
        start = (mask & ~foreign & (clip == first[:, None])).float().argmax(1)
        return partners, Plan(partner, made, foreign, clip, mask, first, start)

    def _partners(self, batch: Batch, draw: Tensor) -> tuple[Batch, Tensor]:
        """A batch, and `[B]` the row in it of each sample's partner; -1 where there is none."""
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
        mean = _mean_clip(_last(self.data.video).float().cpu(), self.data.video_length.cpu())
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

    def _shows(self, batch: Batch, partners: Batch, partner: Tensor, inside: Tensor) -> Tensor:
        """`[B, T]`, the partner's clips that agree with the sentence as well as the moments' on average."""
        text = _last(batch.text)
        sentence = F.normalize((text * batch.text_mask[..., None]).sum(1), dim=-1)[..., None]
        width = text.shape[-1]
        own = (F.normalize(_last(batch.video)[..., -width:], dim=-1) @ sentence)[..., 0]
        theirs = (F.normalize(_last(partners.video)[..., -width:], dim=-1)[partner] @ sentence)[..., 0]
        level = (own * inside).sum(1) / inside.sum(1).clamp(min=1)
        return theirs >= level[:, None]

    def _count(self, name: str, where: Tensor) -> None:
        self.tallies[name] = self.tallies.get(name, 0) + where.sum()


def hull(batch: Batch) -> tuple[Tensor, Tensor]:
    """`[B]` first clip of the first moment and the clip after the last one; both 0 without moments."""
    length = batch.video_mask.sum(1).to(batch.spans.dtype)
    edges = cw_to_se(batch.spans) * length[:, None, None]
    none = ~batch.span_mask
    first = (edges[..., 0] + 1e-3).floor().masked_fill(none, torch.inf).amin(1)
    last = (edges[..., 1] - 1e-3).ceil().masked_fill(none, -torch.inf).amax(1)
    empty = none.all(1)
    first, last = first.masked_fill(empty, 0).clamp(min=0), last.masked_fill(empty, 0)
    return first.long(), torch.minimum(last, length).long()


class _Luck:
    """Uniform numbers `[B, N]`, drawn on the CPU so that every device sees the same."""

    def __init__(self, count: int, generator: Generator, device: torch.device) -> None:
        self.count, self.generator, self.device = count, generator, device

    def __call__(self, size: int) -> Tensor:
        return torch.rand(self.count, size, generator=self.generator).to(self.device)


class _Clips:
    """Which clips `[B, T]` are real, and their places."""

    def __init__(self, real: Tensor) -> None:
        self.real, self.size = real, real.shape[1]
        self.place = torch.arange(self.size, device=real.device).expand_as(real)


def drawn(free: Tensor, share: float, draw: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A share of clips, its number then changed by a factor of 0.8 to 1.2.

    Args:
        free: `[B, T]` clips to draw from; draw: `[B, 1]` and noise: `[B, T]`, uniform in 0..1.

    Returns:
        `[B]` the share before the change, and `[B, T]` how often (0, 1, 2) each clip is taken.
    """
    # 0.3 * 30 is 8.999...
    wanted = (free.sum(1) * share + 1e-6).floor()
    number = (wanted * (0.8 + 0.4 * draw[:, 0])).floor()
    rank = noise.masked_fill(~free, 2.0).argsort(1).argsort(1)
    once = rank < torch.minimum(number, wanted)[:, None]
    again = rank < (number - wanted)[:, None]
    return wanted, (once.long() + again.long()) * free


def gap(draw: Tensor, first: Tensor, last: Tensor, context: Tensor) -> Tensor:
    """Places between clips outside the hull of the moments, uniform.

    Args:
        draw: `[B, N]` in 0..1; first, last: `[B]` clips of the hull; context: `[B, T]` clips outside it.

    Returns:
        `[B, N]`, half a clip before the one that comes next.
    """
    ordinal = (draw * (context.sum(1, keepdim=True) + 2)).floor()
    after = ordinal > first[:, None]
    return torch.where(after, ordinal - 1 - first[:, None] + last[:, None], ordinal) - 0.5


def _copies(times: Tensor) -> Tensor:
    """`[B, 2 T]`, which of the two slots that every clip has are taken, of how often `[B, T]` it is."""
    return torch.cat((times >= 1, times >= 2), 1)


def _spread(
    time: Tensor, times: Tensor, draw: Tensor, first: Tensor, last: Tensor, context: Tensor
) -> Tensor:
    """`[B, 2 T]`: the partner's clips `[B, T]`, in their order, each in some gap of the other video."""
    taken = _copies(times)
    rank = torch.where(taken, torch.cat((time, time), 1), LAST).argsort(dim=1, stable=True).argsort(1)
    used = torch.arange(taken.shape[1], device=taken.device) < taken.sum(1, keepdim=True)
    places = gap(draw.masked_fill(~used, 1 - 1e-6).sort(1).values, first, last, context)
    return places.gather(1, rank) + 1e-4 * rank  # in order where several fall into one gap


def assemble(batch: Batch, partners: Batch, plan: Plan) -> Batch:
    """The new batch: clips gathered, windows shifted and scaled to the new length, saliency carried along."""
    clips = _gather(batch.video, torch.arange(len(batch), device=plan.clip.device), plan.clip)
    foreign = _gather(partners.video, plan.partner, plan.clip)
    where = plan.foreign if clips.dim() == 3 else plan.foreign[:, None]
    mask = plan.mask if clips.dim() == 3 else plan.mask[:, None]
    old, new = batch.video_mask.sum(1), plan.mask.sum(1)
    edges = cw_to_se(batch.spans) * old[:, None, None] + (plan.start - plan.first)[:, None, None]
    spans = torch.where(plan.made[:, None, None], se_to_cw(edges / new[:, None, None]), batch.spans)
    own = batch.saliency.gather(1, plan.clip.clamp(max=batch.saliency.shape[1] - 1))
    return dataclasses.replace(
        batch,
        video=torch.where(where[..., None], foreign, clips) * mask[..., None],
        video_mask=plan.mask,
        spans=spans * batch.span_mask[..., None],
        saliency=own * (plan.mask & ~plan.foreign),
        duration=batch.duration / old * new,
    )


def similarity(batch: Batch, kind: str) -> Tensor:
    """`[B, B]` of the videos of a batch, in -1..1: see `Synthesis`."""
    length = batch.video_mask.sum(1)
    if kind == "mean":
        mean = _mean_clip(_last(batch.video), length)
        return mean @ mean.T
    clips, size = _unit(batch), batch.video_mask.shape[1]
    flat = clips.flatten(0, 1)
    every = (flat @ flat.T).unflatten(0, (-1, size)).unflatten(2, (-1, size)).transpose(1, 2)
    one, other = torch.triu_indices(len(batch), len(batch), device=flat.device)
    found = every.new_zeros(len(batch), len(batch))
    found[one, other] = found[other, one] = _top(every[one, other].flatten(1), length[one] * length[other])
    return found


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


def _last(features: Tensor) -> Tensor:
    """The last level of `[N, K, T, D]`, or `[N, T, D]` itself."""
    return features if features.dim() == 3 else features[:, -1]


def _unit(batch: Batch) -> Tensor:
    return F.normalize(_last(batch.video), dim=-1) * batch.video_mask[..., None]


def _mean_clip(video: Tensor, length: Tensor) -> Tensor:
    """`[V, D]`, of clips of length one: the product of two is the mean cosine over all pairs (Eq. 1)."""
    real = torch.arange(video.shape[1], device=video.device) < length[:, None]
    return (F.normalize(video, dim=-1) * real[..., None]).sum(1) / length[:, None]


def _gather(video: Tensor, rows: Tensor, clip: Tensor) -> Tensor:
    """Clips `[B, T']` of rows `[B]` of `[N, (K,) T, D]`."""
    video, index = video[rows], clip.clamp(max=video.shape[-2] - 1)
    index = index if video.dim() == 3 else index[:, None].expand(-1, video.shape[1], -1)
    return video.gather(-2, index[..., None].expand(*index.shape, video.shape[-1]))


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
