"""SA-DETR (Xiong et al.): anchors made from video and sentence, a Gaussian mask around them, contrastive
denoising.

No code is public. "Reading" numbers are the choices where the text is open, listed in the chapter; beyond
them the global and the local block follow each other, the refiner is post-norm like DAB-DETR's, L_vtc keeps
CLIP's first temperature, and losses of moments are means over the moments of a batch. Axes: B, T, L, M, Q,
D as in `vtg_lib.data.batches`; S decoder layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.pooling import WordPool
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.span_aware import LocalBlock, SpanEnhance
from vtg_lib.layers.transformer import AttentionLayer, xavier_
from vtg_lib.losses import masked_mean
from vtg_lib.losses.contrastive import clip_text_matching, info_nce
from vtg_lib.losses.matching import MatchCost, match
from vtg_lib.losses.span_aware import moment_loss, quality_loss
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.detr import with_mismatched
from vtg_lib.models.parts.query_encoder import query_saliency
from vtg_lib.models.parts.span_aware import SpanAware, SpanAwareConfig
from vtg_lib.spans import inverse_sigmoid

STAGES = ("before", "after", "off")
_CHARADES = {"samples": 15, "weight_matched": 10.0, "weight_align": 0.0, "weight_saliency": 4.0}


@dataclass(frozen=True, kw_only=True)
class Config(SpanAwareConfig):
    """`SpanAwareConfig`, and the rest of SA-DETR. Presets and `training` are Table 9, complete.

    Attributes:
        fusion_layers: with shared weights for both directions.
        vtc, ctm: the stage of either alignment, "before" or "after" fusion, or "off" (Table 7).
        pairs: "own"; "shuffled" is the control: the alignment losses see the sentence of another sample. A
            batch of one has no other, and nothing to contrast with.
        token: "fusion", or "mean": of the clips, in its place.
        local: what the local block reads: "global", the output of the global block, or "fused", its input.
        enhance: the span based enhance block (Eq. 2 and 3); samples: N_s clips that it reads in a span.
        weight_matched: w_q of Eq. 8; weight_align: lambda_A of Eq. 10; cost_quality: in the matching.
        training: data set -> fields of the training's config as published.
    """

    presets = {
        "qvhighlights": {},
        "tacos": _CHARADES,
        "charades_sta": _CHARADES,
        "charades_sta_vgg": _CHARADES | {"video_dim": 4096, "text_dim": 300, "samples": 10},
    }
    training: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qvhighlights": {
            **{"batch_size": 32, "epochs": 200, "learning_rate": 1e-4},
            **{"schedule": "linear", "decay_from": 40},
        },
        "tacos": {"batch_size": 32, "epochs": 200, "learning_rate": 2e-4},
        "charades_sta": {"batch_size": 32, "epochs": 200, "learning_rate": 2e-4},
        "charades_sta_vgg": {"batch_size": 16, "epochs": 100, "learning_rate": 1e-4},
    }

    fusion_layers: int = 2
    vtc: str = "before"
    ctm: str = "after"
    pairs: str = "own"
    token: str = "fusion"
    local: str = "global"
    enhance: bool = True
    samples: int = 10
    weight_matched: float = 1.0
    weight_align: float = 1.0
    cost_quality: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_choice(vtc=STAGES, ctm=STAGES, pairs=("own", "shuffled"))
        self.expect_choice(token=("fusion", "mean"), local=("global", "fused"))
        self.expect_positive("fusion_layers", "encoder_layers", "samples")


class SADETR(SpanAware):
    """Fusion with shared weights and a token, global and local block, span aware decoder, quality head."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        sizes = (c.width, c.heads, c.hidden, c.dropout)
        self.fusion_token = nn.Parameter(torch.randn(c.width))
        self.fusion = nn.ModuleList(AttentionLayer(*sizes) for _ in range(c.fusion_layers))
        self.encoder = nn.ModuleList(AttentionLayer(*sizes) for _ in range(c.encoder_layers))
        xavier_(self.fusion)
        xavier_(self.encoder)
        self.local = LocalBlock(c.width)
        self.saliency_clip = nn.Linear(c.width, c.width)
        self.saliency_global = nn.Linear(c.width, c.width)
        self.sentence = WordPool(c.width) if c.enhance or c.ctm != "off" else None
        self.content = nn.Parameter(torch.zeros(c.queries, c.width))  # ones in noise groups (reading 7)
        self.decoder = AnchorDecoder(c.queries, c.decoder_layers, *sizes, scaled=False)
        blocks = c.decoder_layers if c.enhance else 0
        self.enhance = nn.ModuleList(SpanEnhance(c.width, c.samples) for _ in range(blocks))
        self.quality_head = nn.Linear(c.width, 1)
        self.add_parts(c)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`: layers `spans [S, B, Q, 2]` and `quality [S, B, Q]`, which ranks.

        extras: the decoder's `states` and `memory`; `aligned`, stage -> clips `[B, T, D]` and words `[B, L,
            D]`;
        see `SpanAware.decode`; in training, where there are several samples, `negative_saliency [B, T]` with
        another sample's text. trace: see `Decoded`.
        """
        c, count, mask = self.config, len(batch), batch.video_mask
        clips, words = self.project(batch)
        position = clip_positions(mask, c.width).to(clips.dtype)
        inputs = [clips, position, mask], [words, batch.text_mask]
        mismatched = self.training and count > 1
        fused, text, hidden, saliency = self.encode(
            *(with_mismatched(*inputs) if mismatched else [*inputs[0], *inputs[1]])
        )
        local = hidden[:count] if c.local == "global" else fused[:count]
        local = self.local(local, F.pad(mask, (1, 0), value=True))
        memory, text = local[:, 1:], text[:count]
        update = None
        if self.enhance:
            update = partial(self.enhance_span, memory, mask, self.pool(text, batch.text_mask))
        token = local[:, 0] if c.token == "fusion" else None
        decoded = self.decode(memory, position, batch, trace, self.content, token, update)
        aligned = {"before": (clips, words), "after": (fused[:count, 1:], text)}
        negative = {"negative_saliency": saliency[count:]} if mismatched else {}
        return self.output(decoded, memory, saliency[:count], aligned=aligned, **negative)

    def encode(
        self, clips: Tensor, position: Tensor, mask: Tensor, text: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clips, position `[B, T, D]`, mask `[B, T]`, words `[B, L, D]`, text_mask `[B, L]`.

        Returns:
            After fusion, token first, `[B, 1 + T, D]`; the words `[B, L, D]`; after the global block
            `[B, 1 + T, D]`; saliency `[B, T]`.
        """
        fused = torch.cat((self.fusion_token.to(clips.dtype).expand(len(clips), 1, -1), clips), 1)
        position, mask = F.pad(position, (0, 0, 1, 0)), F.pad(mask, (1, 0), value=True)
        nowhere = torch.zeros_like(text)
        for layer in self.fusion:
            fused, text = layer(fused, position, text_mask, text), layer(text, nowhere, mask, fused)
        hidden = fused
        for layer in self.encoder:
            hidden = layer(hidden, position, mask)
        asked = self.saliency_clip(hidden[:, 1:]) * self.saliency_global(hidden[:, :1])
        return fused, text, hidden, asked.sum(-1) / math.sqrt(hidden.shape[-1])

    def pool(self, words: Tensor, mask: Tensor) -> Tensor:
        """The sentence token M_t: `[B, L, D]`, `[B, L]` -> `[B, D]`."""
        assert self.sentence is not None
        pooled: Tensor = self.sentence(words, mask)
        return pooled

    def enhance_span(
        self, memory: Tensor, mask: Tensor, sentence: Tensor, layer: int, reference: Tensor, x: Tensor
    ) -> Tensor:
        """An `Update` of the decoder, from what the first three give."""
        updated: Tensor = self.enhance[layer](x, reference, memory, mask, sentence)
        return updated

    def read(self, states: Tensor, references: Tensor | None) -> dict[str, Tensor]:
        """Of states `[..., Q, D]`: `spans [..., Q, 2]`, the references moved by offsets in logit space
        (printed as a plain sum; reading 4), and `quality [..., Q]`, which alone ranks (reading 8).
        """
        assert references is not None
        spans = self.decoder.refine(states).float() + inverse_sigmoid(references.float())
        return {"spans": spans.sigmoid(), "quality": self.quality_head(states).squeeze(-1).float().sigmoid()}

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Eq. 10: moments of all layers (Eq. 7), of anchors and noise queries; quality (Eq. 8, 9); alignment;
        saliency as QD-DETR's. Weighted.
        """
        c, layers, target, valid = self.config, output.layers, batch.spans, batch.span_mask
        cost = MatchCost(score=c.cost_quality, l1=c.weight_l1, giou=c.weight_giou)
        matches = match(layers["spans"], layers["quality"], target, valid, cost)
        found = matches.gather(layers["spans"])
        direct = moment_loss(found, target, matches.valid, c.weight_l1, c.weight_giou).sum()
        quality = quality_loss(layers["quality"], layers["spans"], matches, target, valid, c.weight_matched)
        losses = {"moment": c.weight_moment * direct, "quality": c.weight_quality * quality.sum()}
        saliency = query_saliency(output, batch, c.saliency_margin)
        losses["saliency"] = c.weight_saliency * saliency
        return losses | self.part_losses(output, batch) | self.alignment(output, batch)

    def alignment(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """`vtc`: CLIP's loss of mean clips and mean words; `ctm`: see `clip_text_matching`; where they are
        on.
        """
        c, mask, losses = self.config, batch.video_mask, dict[str, Tensor]()
        shift = len(batch) // 2 if c.pairs == "shuffled" else 0
        if not c.weight_align:
            return losses
        if c.vtc != "off":
            clips, words = output.extras["aligned"][c.vtc]
            video = masked_mean(clips.float(), mask[..., None], (1,))
            text = masked_mean(words.float(), batch.text_mask[..., None], (1,))
            losses["vtc"] = c.weight_align * info_nce(video, text.roll(shift, 0)) / 2
        if c.ctm != "off":
            clips, words = output.extras["aligned"][c.ctm]
            sentence = self.pool(words, batch.text_mask).roll(shift, 0)
            matching = clip_text_matching(clips, mask, sentence, batch.saliency, self.training)
            losses["ctm"] = c.weight_align * matching
        return losses


ENTRY = ModelEntry(SADETR, Config)
