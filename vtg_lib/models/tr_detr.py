"""TR-DETR (Sun et al., AAAI 2024): moment retrieval and highlight detection that refine each other.

Facts are from mingyao1120/TR-DETR @ fca43a9. Its code counts 8,308,773 parameters; 8,704 of them embed
positions of words and are never used, ours are the others. The published 7.9 M fits the same without the GRU
of 394,752.

The public code lets padded clips and words take part: in the softmax over clips, in the place of the
retrieved moment, in the number of steps of the GRU and in pooled videos and sentences. Here they do not, so
that no result depends on the other samples of a batch; on videos of equal length (150 s for 97 % of
QVHighlights' training queries) predictions are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.context_query import ContextQueryAttention
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.precision import full_precision
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.transformer import AttentionLayer, CrossLayer, xavier_
from vtg_lib.losses import masked_mean
from vtg_lib.losses.contrastive import clip_sentence_alignment, info_nce
from vtg_lib.losses.saliency import (
    extreme_pair,
    hinge_saliency,
    rank_contrastive_saliency,
    relevant_clips,
    saliency_pairs,
)
from vtg_lib.losses.set_prediction import focal_loss, set_losses
from vtg_lib.models.config import DetrConfig, ModelEntry
from vtg_lib.models.parts.detr import Detr
from vtg_lib.spans import cw_to_se


@dataclass(frozen=True, kw_only=True)
class Config(DetrConfig):
    """`DetrConfig`, and what TR-DETR adds.

    Attributes:
        cross_layers: of text-to-video cross-attention.
        weight_local: of the alignment of clips and sentence; weight_global: of the alignment of videos and
            sentences.
        highlights_only: the data set has no moments; only saliency and alignment are learned.
    """

    # "+audio" joins 2,050 channels of PANN features to the video's.
    presets = {
        "qvhighlights": {},
        "qvhighlights+audio": {"video_dim": 2816 + 2050, "weight_local": 0.3},
        # The scripts with audio try four values of either weight, video domain by video domain.
        "tvsum": {"video_dim": 2048, "weight_global": 0.5, "weight_local": 2.0, "highlights_only": True},
    }

    cross_layers: int = 2
    weight_local: float = 0.5
    weight_global: float = 0.3
    highlights_only: bool = False


class MomentReader(nn.Module):
    """One vector for the clips of a retrieved moment: the last state of a GRU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, clips: Tensor, mask: Tensor, span: Tensor) -> Tensor:
        """clips `[B, T, D]`, mask `[B, T]`, span `[B, 2]` (center, width), normalised -> `[B, D]`, float32.

        As in the public code the moment's clips come first and zeros fill up the length of the video, all of
        which the GRU reads; and the start of a moment that begins before the video counts back from its end,
        which leaves no clip or the last few.
        """
        length = mask.sum(1)
        first, last = (cw_to_se(span.detach().float()) * length[:, None]).floor().long().unbind(-1)
        first = torch.where(first < 0, first + length, first).clamp(min=0)
        stop = torch.minimum(last + 1, length)
        index = first[:, None] + torch.arange(clips.shape[1], device=clips.device)
        inside = (index < stop[:, None])[..., None]
        index = index.clamp(max=clips.shape[1] - 1)[..., None].expand_as(clips)
        with full_precision(clips):
            states, _ = self.gru(torch.where(inside, clips.float().gather(1, index), 0.0))
        return states[torch.arange(len(states), device=states.device), length - 1]


def loss_label(logits: Tensor, positive: Tensor) -> Tensor:
    """Focal loss of both classes, class 0 = foreground: logits `[S, B, Q, 2]`, positive `[S, B, Q]` ->
    `[S]`.
    """
    return focal_loss(logits, torch.stack((positive, ~positive), -1)).mean((-1, -2, -3))


class TRDETR(Detr):
    """Clips refined by the words, cross-attention encoder, self-attention encoder, decoder with dynamic
    anchors.

    Saliency weighs the clips that the decoder reads; the moment that the decoder retrieves weighs the clips
    for saliency.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        self.refine = ContextQueryAttention(c.width, c.dropout)
        sizes = (c.width, c.heads, c.hidden, c.dropout)
        self.cross_encoder = nn.ModuleList(CrossLayer(*sizes, PReLU) for _ in range(c.cross_layers))
        self.encoder = nn.ModuleList(AttentionLayer(*sizes, PReLU) for _ in range(c.encoder_layers))
        self.decoder = AnchorDecoder(c.queries, c.decoder_layers, *sizes)
        xavier_(self.cross_encoder)
        xavier_(self.encoder)
        self.span_head = MLP(c.width, c.width, 2, 3)
        self.class_head = nn.Linear(c.width, 2)
        self.saliency_head = nn.Linear(c.width, c.width)  # its outputs are summed
        self.reader = MomentReader(c.width)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`.

        extras: the decoder's `states [S, B, Q, D]` and its `memory [B, T, D]`; projected `clips [B, T, D]`
        and `words [B, L, D]`. trace: see `Decoded`; and
        `first_saliency [B, T]`, which the decoder's memory is weighed with.
        """
        clips, words = self.project(batch)
        position = clip_positions(batch.video_mask, clips.shape[-1]).to(clips.dtype)
        x = self.refine(clips, batch.video_mask, words, batch.text_mask)
        for layer in self.cross_encoder:
            x = layer(x, position, batch.text_mask, words)
        memory, first_saliency = self.weigh_clips(x, position, batch.video_mask)
        decoded = self.decode(memory, position, batch, trace, self.query_content(words, batch.text_mask))
        output = self.output(decoded, memory, first_saliency, clips=clips, words=words)
        if trace:
            output.trace["first_saliency"] = first_saliency
        best = output.scores.argmax(1)[:, None, None].expand(-1, 1, 2)
        moment = self.reader(clips, batch.video_mask, output.spans.gather(1, best).squeeze(1))
        similarity = (clips.float() @ moment[..., None]).to(memory.dtype)
        output.saliency = self.saliency(memory * similarity + memory)
        return output

    def query_content(self, words: Tensor, mask: Tensor) -> Tensor | None:
        """What the decoder's queries start with `[B, 1, D]`, from the words `[B, L, D]`; None for zeros."""
        return None

    def weigh_clips(self, x: Tensor, position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """From highlights to moments: the clips come back into the memory by their saliency, and are encoded
        once more.

        Args:
            x, position: `[B, T, D]`; mask: `[B, T]`.

        Returns:
            Memory `[B, T, D]` and the saliency used `[B, T]`.
        """
        memory = self.encode(x, position, mask)
        saliency = self.saliency(memory)
        share = saliency.float().masked_fill(~mask, -torch.inf).softmax(1)[..., None].to(x.dtype)
        return self.encode(memory + x * share, position, mask), saliency

    def encode(self, x: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """The self-attention encoder, which is used twice: x, position `[B, T, D]`, mask `[B, T]` ->
        `[B, T, D]`.
        """
        for layer in self.encoder:
            x = layer(x, position, mask)
        return x

    def saliency(self, memory: Tensor) -> Tensor:
        """`[B, T, D]` -> `[B, T]`."""
        return self.saliency_head(memory).sum(-1) / math.sqrt(memory.shape[-1])

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Set prediction with a focal class loss; hinge and rank-contrastive saliency; local and global
        alignment. Weighted.
        """
        c, mask = self.config, batch.video_mask
        losses = (
            {}
            if c.highlights_only
            else set_losses(output.layers, batch, loss_label, output.extras.get("matches"))
        )
        target, relevant, pairs = batch.saliency, batch.saliency > 0, saliency_pairs
        if c.highlights_only:
            relevant, pairs = relevant_clips(target, mask), extreme_pair
        hinge = hinge_saliency(output.saliency, *pairs(batch.saliency, mask), c.saliency_margin)
        losses["saliency"] = c.weight_saliency * (
            hinge + rank_contrastive_saliency(output.saliency, target, mask)
        )
        clips, words = output.extras["clips"], output.extras["words"]
        local = clip_sentence_alignment(clips, mask, words, batch.text_mask, relevant)
        video = masked_mean(clips.float(), mask[..., None], (1,))
        sentence = masked_mean(words.float(), batch.text_mask[..., None], (1,))
        losses["local"] = c.weight_local * local
        losses["global"] = c.weight_global * info_nce(video, sentence) / 2
        return losses


ENTRY = ModelEntry(TRDETR, Config, published_parameters=7.9)
