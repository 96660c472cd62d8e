"""QD-DETR's query-dependent encoder (Moon et al., CVPR 2023), which BAM-DETR takes over, and the losses of
its saliency.

Facts not in the paper are from wjun0830/QD-DETR @ 56c63b2. Axes: B, T, L, D as in `vtg_lib.data.batches`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.transformer import AttentionLayer, CrossLayer, xavier_
from vtg_lib.losses.saliency import (
    extreme_pair,
    hinge_saliency,
    negative_pair_saliency,
    rank_contrastive_saliency,
    saliency_pairs,
)
from vtg_lib.models.config import DetrConfig
from vtg_lib.models.parts.detr import Detr, with_mismatched


@dataclass(frozen=True, kw_only=True)
class QueryEncoderConfig(DetrConfig):
    """`DetrConfig`, and the number of text-to-video cross-attention layers."""

    cross_layers: int = 2


class Encoded(NamedTuple):
    """What the encoder made of the clips.

    Attributes:
        memory: `[B, T, D]`; local: the same before the clips exchanged information; position: of the clips.
        saliency: `[B, T]`; negatives: while training `negative_saliency [B, T]` with another sample's text,
            else empty.
    """

    memory: Tensor
    local: Tensor
    position: Tensor
    saliency: Tensor
    negatives: dict[str, Tensor]


class QueryEncoder(Detr):
    """Base of methods whose clips read the words first, and then each other and a token that asks how salient
    they are.
    """

    def __init__(self, config: QueryEncoderConfig) -> None:
        super().__init__(config)
        c = config
        sizes = (c.width, c.heads, c.hidden, c.dropout)
        self.cross_encoder = nn.ModuleList(CrossLayer(*sizes, PReLU) for _ in range(c.cross_layers))
        self.encoder = nn.ModuleList(AttentionLayer(*sizes, PReLU) for _ in range(c.encoder_layers))
        xavier_(self.cross_encoder)
        xavier_(self.encoder)
        self.saliency_clip = nn.Linear(c.width, c.width)
        self.saliency_global = nn.Linear(c.width, c.width)
        self.global_token = nn.Parameter(torch.randn(c.width))
        self.global_position = nn.Parameter(torch.randn(c.width))

    def encode(self, batch: Batch) -> Encoded:
        """The clips of a batch; while training also those of mismatched pairs, in the same pass, for their
        saliency.
        """
        count, (video, text) = len(batch), self.project(batch)
        position = clip_positions(batch.video_mask, video.shape[-1]).to(video.dtype)
        inputs = [video, position, batch.video_mask], [text, batch.text_mask]
        local, positions, mask, text, text_mask = (
            with_mismatched(*inputs) if self.training else [*inputs[0], *inputs[1]]
        )
        local = self.read_words(local, positions, mask, text, text_mask)
        memory = torch.cat((self.global_token.to(local.dtype).expand(len(local), 1, -1), local), 1)
        positions = torch.cat((self.global_position.to(local.dtype).expand(len(local), 1, -1), positions), 1)
        mask = F.pad(mask, (1, 0), value=True)
        for layer in self.encoder:
            memory = layer(memory, positions, mask)
        token, memory = memory[:, :1], memory[:, 1:]
        saliency = (self.saliency_clip(memory) * self.saliency_global(token)).sum(-1) / math.sqrt(
            memory.shape[-1]
        )
        negatives = {"negative_saliency": saliency[count:]} if self.training else {}
        return Encoded(memory[:count], local[:count], position, saliency[:count], negatives)

    def read_words(
        self, clips: Tensor, positions: Tensor, mask: Tensor, text: Tensor, text_mask: Tensor
    ) -> Tensor:
        """Clips, positions `[B, T, D]`; mask `[B, T]`; words `[B, L, D]`, text_mask `[B, L]` -> clips."""
        for layer in self.cross_encoder:
            clips = layer(clips, positions, text_mask, text)
        return clips


def query_saliency(output: Output, batch: Batch, margin: float, labelled: bool = False) -> Tensor:
    """Hinge, rank-contrastive (QD-DETR, Eq. 6) and, with the `negative_saliency [B, T]` of another sample's
    text, negative-pair loss (Eq. 4). The hinge of videos whose every clip is labelled is between the best and
    the worst clip.
    """
    positive, negative = (extreme_pair if labelled else saliency_pairs)(batch.saliency, batch.video_mask)
    loss = hinge_saliency(output.saliency, positive, negative, margin)
    if (other := output.extras.get("negative_saliency")) is not None:
        both, target = torch.cat((output.saliency, other), 1), F.pad(batch.saliency, (0, other.shape[1]))
        loss = loss + rank_contrastive_saliency(both, target, batch.video_mask.repeat(1, 2))
        loss = loss + negative_pair_saliency(other, batch.video_mask)
    return loss
