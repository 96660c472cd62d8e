"""Videos with a dynamic context, batch by batch (TD-DETR, Sec. 3.1); the options are in `vtg_lib.data.hooks`.

Axes as in `vtg_lib.data.batches`: B samples, T clips, M moments, D channels; T' clips of the new videos. It
is index arithmetic on padded tensors: every clip that a new video could have is a slot with a place in the
order of time, slots that are not drawn sort to the end, and the rest is gathered.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vtg_lib.data.batches import Batch, GroundingData, last_level
from vtg_lib.data.hooks import Synthesis
from vtg_lib.data.partners import Partners
from vtg_lib.spans import cw_to_se, se_to_cw

SMALLEST = 2  # shares of so few clips are no context (the code drops them; here the sample stays as it is)
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
        self.options = options
        self.tallies: dict[str, Tensor] = {}
        self._partners = Partners(options, data)

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
        if partners is batch:
            following = torch.arange(len(batch), device=device).roll(-1)
            self._count(
                "negative sentence is the partner's", made & (their_times > 0).any(1) & (partner == following)
            )

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

    def _shows(self, batch: Batch, partners: Batch, partner: Tensor, inside: Tensor) -> Tensor:
        """`[B, T]`, the partner's clips that agree with the sentence as well as the moments' on average."""
        text = last_level(batch.text)
        sentence = F.normalize((text * batch.text_mask[..., None]).sum(1), dim=-1)[..., None]
        width = text.shape[-1]
        own = (F.normalize(last_level(batch.video)[..., -width:], dim=-1) @ sentence)[..., 0]
        theirs = (F.normalize(last_level(partners.video)[..., -width:], dim=-1)[partner] @ sentence)[..., 0]
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
    rows = torch.arange(len(batch), device=plan.clip.device)[:, None]
    own, theirs = (part.video.movedim(-2, 1) for part in (batch, partners))  # clips before levels
    taken = plan.foreign.nonzero(as_tuple=True)
    video = own[rows, plan.clip.clamp(max=own.shape[1] - 1)]
    video[taken] = theirs[plan.partner[taken[0]], plan.clip[taken]]
    video[~plan.mask] = 0
    old, new = batch.video_mask.sum(1), plan.mask.sum(1)
    edges = cw_to_se(batch.spans) * old[:, None, None] + (plan.start - plan.first)[:, None, None]
    spans = torch.where(plan.made[:, None, None], se_to_cw(edges / new[:, None, None]), batch.spans)
    saliency = batch.saliency.gather(1, plan.clip.clamp(max=batch.saliency.shape[1] - 1))
    return dataclasses.replace(
        batch,
        video=video.movedim(1, -2).contiguous(),
        video_mask=plan.mask,
        spans=spans * batch.span_mask[..., None],
        saliency=saliency * (plan.mask & ~plan.foreign),
        duration=batch.duration / old * new,
    )
