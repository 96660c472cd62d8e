"""QD-DETR (Moon et al., CVPR 2023): query-dependent video representations by text-to-video cross-attention.

Facts not in the paper are from wjun0830/QD-DETR @ 56c63b2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.projections import MLP, InputProjection, append_endpoints, last_level
from vtg_lib.layers.transformer import AttentionLayer, CrossLayer, DetrConfig, xavier_
from vtg_lib.losses import (
    SetLossWeights,
    hinge_saliency,
    negative_pair_saliency,
    rank_contrastive_saliency,
    saliency_pairs,
    set_losses,
)
from vtg_lib.matching import MatchCost
from vtg_lib.spans import inverse_sigmoid


@dataclass(frozen=True, kw_only=True)
class Config(DetrConfig):
    """`DetrConfig`, and the number of text-to-video cross-attention layers."""

    cross_layers: int = 2


class QDDETR(nn.Module):
    """Cross-attention encoder, self-attention encoder with a saliency token, decoder with dynamic anchors."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.project_video = InputProjection(c.video_dim + 2 * c.tef, c.width, c.input_dropout)
        self.project_text = InputProjection(c.text_dim, c.width, c.input_dropout)
        sizes = (c.width, c.heads, c.hidden, c.dropout)
        self.cross_encoder = nn.ModuleList(CrossLayer(*sizes, PReLU) for _ in range(c.cross_layers))
        self.encoder = nn.ModuleList(AttentionLayer(*sizes, PReLU) for _ in range(c.encoder_layers))
        self.decoder = AnchorDecoder(c.queries, c.decoder_layers, *sizes)
        xavier_(self.cross_encoder)
        xavier_(self.encoder)
        self.span_head = MLP(c.width, c.width, 2, 3)
        self.class_head = nn.Linear(c.width, 2)
        self.saliency_clip = nn.Linear(c.width, c.width)
        self.saliency_global = nn.Linear(c.width, c.width)
        self.global_token = nn.Parameter(torch.randn(c.width))
        self.global_position = nn.Parameter(torch.randn(c.width))

    def encode(self, video: Tensor, video_mask: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Projected video `[B, T, D]` and text `[B, L, D]` -> memory `[B, T, D]`, its positions, saliency `[B, T]`."""
        position = clip_positions(video_mask, video.shape[-1]).to(video.dtype)
        for layer in self.cross_encoder:
            video = layer(video, position, text_mask, text)
        batch = len(video)
        memory = torch.cat((self.global_token.to(video.dtype).expand(batch, 1, -1), video), 1)
        positions = torch.cat((self.global_position.to(video.dtype).expand(batch, 1, -1), position), 1)
        mask = torch.cat((torch.ones_like(video_mask[:, :1]), video_mask), 1)
        for layer in self.encoder:
            memory = layer(memory, positions, mask)
        token, memory = memory[:, :1], memory[:, 1:]
        saliency = (self.saliency_clip(memory) * self.saliency_global(token)).sum(-1) / math.sqrt(memory.shape[-1])
        return memory, position, saliency

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`; extras while training: `negative_saliency [B, T]` with another sample's text."""
        video = last_level(batch.video)
        video = append_endpoints(video, batch.video_mask) if self.config.tef else video
        video, text, text_mask = self.project_video(video), self.project_text(last_level(batch.text)), batch.text_mask
        video_mask, count = batch.video_mask, len(batch)
        if self.training:  # matched and mismatched pairs in one pass; only the matched ones are decoded
            video, video_mask = torch.cat((video, video)), torch.cat((video_mask, video_mask))
            text, text_mask = torch.cat((text, text.roll(-1, 0))), torch.cat((text_mask, text_mask.roll(-1, 0)))
        memory, position, saliency = self.encode(video, video_mask, text, text_mask)
        states, references = self.decoder(memory[:count], position[:count], batch.video_mask)
        spans = (self.span_head(states).float() + inverse_sigmoid(references.float())).sigmoid()
        logits = self.class_head(states).float()
        return Output(
            spans=spans[-1],
            scores=logits[-1].softmax(-1)[..., 0],
            saliency=saliency[:count],
            layers={"spans": spans, "logits": logits},
            extras={"negative_saliency": saliency[count:]} if self.training else {},
            trace={"references": references} if trace else {},
        )

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Set prediction losses; saliency: hinge, rank-contrastive (Eq. 6) and negative-pair (Eq. 4), weighted."""
        losses = set_losses(output.layers["spans"], output.layers["logits"], batch, MatchCost(), SetLossWeights())
        positive, negative = saliency_pairs(batch.saliency, batch.video_mask)
        saliency = hinge_saliency(output.saliency, positive, negative, self.config.saliency_margin)
        if (other := output.extras.get("negative_saliency")) is not None:
            both, mask = torch.cat((output.saliency, other), 1), batch.video_mask.repeat(1, 2)
            target = torch.cat((batch.saliency, torch.zeros_like(batch.saliency)), 1)
            saliency = saliency + rank_contrastive_saliency(both, target, mask)
            saliency = saliency + negative_pair_saliency(other, batch.video_mask)
        return losses | {"saliency": self.config.weight_saliency * saliency}
