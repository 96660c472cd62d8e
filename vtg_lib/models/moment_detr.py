"""Moment-DETR (Lei, Berg and Bansal, NeurIPS 2021): a DETR over the concatenated video and text tokens.

Facts not in the paper are from jayleicn/moment_detr @ b7e553a.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.transformer import AttentionLayer, Decoder, xavier_
from vtg_lib.losses.saliency import hinge_saliency, saliency_pairs
from vtg_lib.losses.set_prediction import set_losses
from vtg_lib.models.config import DetrConfig, ModelEntry
from vtg_lib.models.parts.detr import Detr


@dataclass(frozen=True, kw_only=True)
class Config(DetrConfig):
    """Moment-DETR's sizes and loss weights, see `DetrConfig`."""


class MomentDETR(Detr):
    """Transformer encoder over clips and words, decoder with learned queries, heads for span, class and
    saliency.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        sizes = (c.width, c.heads, c.hidden, c.dropout)
        self.encoder = nn.ModuleList(AttentionLayer(*sizes) for _ in range(c.encoder_layers))
        self.decoder = Decoder(c.decoder_layers, *sizes)
        xavier_(self.encoder)
        xavier_(self.decoder)
        self.queries = nn.Parameter(torch.randn(c.queries, c.width))
        self.span_head = MLP(c.width, c.width, 2, 3)
        self.class_head = nn.Linear(c.width, 2)
        self.saliency_head = nn.Linear(c.width, 1)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`; layers: `spans` and `logits` `[S, B, Q, 2]` (class 0 = foreground).

        extras: the decoder's `states [S, B, Q, D]` and the clips of its `memory [B, T, D]`. trace:
        `clip_attention [S, B, Q, T]`.
        """
        video, text = self.project(batch)
        memory = torch.cat((video, text), 1)
        mask = torch.cat((batch.video_mask, batch.text_mask), 1)
        # Words carry no position.
        position = torch.cat(
            (clip_positions(batch.video_mask, video.shape[-1]).to(video.dtype), torch.zeros_like(text)), 1
        )
        for layer in self.encoder:
            memory = layer(memory, position, mask)
        decoded = self.decoder(self.queries.expand(len(memory), -1, -1), memory, position, mask, trace)
        memory = memory[:, : video.shape[1]]
        output = self.output(decoded, memory, self.saliency_head(memory).squeeze(-1))
        if trace:
            output.trace["clip_attention"] = output.trace["clip_attention"][..., : video.shape[1]]
        return output

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Set prediction losses of every decoder layer and the saliency hinge loss (Eq. 5), weighted."""
        losses = set_losses(output.layers, batch, matches=output.extras.get("matches"))
        positive, negative = saliency_pairs(batch.saliency, batch.video_mask)
        hinge = hinge_saliency(output.saliency, positive, negative, self.config.saliency_margin)
        return losses | {"saliency": self.config.weight_saliency * hinge}


ENTRY = ModelEntry(MomentDETR, Config, published_parameters=4.8)
