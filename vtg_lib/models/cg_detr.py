"""CG-DETR (Moon et al. 2023): cross-attention calibrated by how much each clip and each word have to do with
each other.

Facts not in the paper are from wjun0830/CGDETR @ 212b2e4. Its code counts 141,056 parameters more, which it
never uses: a second projection of the text, and learned positions of up to 32 words. The published 12.0 M are
its count in units of 2^20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output, last_level
from vtg_lib.layers.adaptive_attention import AdaptiveCrossLayer, DropPath, GroupLayer, PathLayer
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.transformer import xavier_
from vtg_lib.losses import masked_mean
from vtg_lib.losses.correlation import (
    distillation,
    guided_saliency,
    membership,
    moment_sentence_alignment,
    orthogonality,
    relevance,
    same_video,
)
from vtg_lib.losses.saliency import extreme_pair, hinge_saliency, saliency_pairs
from vtg_lib.losses.set_prediction import set_losses
from vtg_lib.models.config import DetrConfig, ModelEntry
from vtg_lib.models.parts.detr import Detr, with_mismatched


@dataclass(frozen=True, kw_only=True)
class Config(DetrConfig):
    """`DetrConfig`, and what calibrates the attention.

    Attributes:
        cross_layers: of adaptive cross-attention; dummy_layers, sentence_layers, moment_layers: of the
            encoders of these.
        dummies: N dummy tokens; prompts: tokens that describe what is salient; chosen_prompts: how many of
            them a video takes.
        token_dropout: of the dummy and the sentence encoder.
        weight_attention: of the saliency losses on the attention, beside `weight_saliency`; weight_negative:
            in both, of the silence of clips under another sentence; weight_align, weight_distill,
            weight_orthogonal: of the correlation losses.
        highlights_only: the data set has no moments; only saliency is learned.
    """

    presets = {  # "+" names other features of the same data set
        "qvhighlights": {},
        "qvhighlights+clip": {"video_dim": 512},
        "charades_sta": {"chosen_prompts": 2, "weight_saliency": 4.0},
        "charades_sta+vgg": {
            "video_dim": 4096,
            "text_dim": 300,
            "dropout": 0.2,
            "chosen_prompts": 2,
            "weight_saliency": 4.0,
        },
        "tacos": {"dummies": 50, "chosen_prompts": 2, "weight_saliency": 4.0},
        # For these two the scripts try one and two chosen prompts, video by video domain.
        "tvsum": {"video_dim": 2048, "dummies": 3, "highlights_only": True},
        "youtube_highlights": {
            "dummies": 1,
            "weight_saliency": 4.0,
            "weight_negative": 0.0,
            "highlights_only": True,
        },
    }

    encoder_layers: int = 3
    decoder_layers: int = 3
    cross_layers: int = 2
    dummy_layers: int = 2
    sentence_layers: int = 1
    moment_layers: int = 1
    dummies: int = 45
    prompts: int = 10
    chosen_prompts: int = 1
    token_dropout: float = 0.1
    weight_attention: float = 1.0
    weight_negative: float = 1.0
    weight_align: float = 1.0
    weight_distill: float = 1.0
    weight_orthogonal: float = 1.0
    highlights_only: bool = False

    def __post_init__(self) -> None:
        self.expect_positive("cross_layers", "dummy_layers", "sentence_layers", "moment_layers")
        self.expect_positive("dummies", "chosen_prompts")
        if self.chosen_prompts > self.prompts:
            self.refuse("chosen_prompts", f"at most the {self.prompts} prompts")


class CGDETR(Detr):
    """Dummy tokens that take attention from the words, adaptive cross-attention, saliency token, anchor
    decoder.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        self.modality = nn.Parameter(torch.empty(2, c.width))  # of words, of clips
        nn.init.normal_(self.modality, std=0.02)
        sizes, token_sizes = ((c.width, c.heads, c.hidden, p) for p in (c.dropout, c.token_dropout))
        self.dummies = nn.Parameter(torch.randn(c.dummies, c.width))
        self.dummy_position = nn.Parameter(torch.randn(c.dummies, c.width))
        self.dummy_encoder = nn.ModuleList(PathLayer(*token_sizes) for _ in range(c.dummy_layers))
        self.sentence = nn.Parameter(torch.randn(2, c.width))  # token, its position
        self.sentence_encoder = nn.ModuleList(PathLayer(*token_sizes) for _ in range(c.sentence_layers))
        self.moment = nn.Parameter(torch.randn(2, c.width))  # token, its position
        self.moment_encoder = nn.ModuleList(GroupLayer(*sizes) for _ in range(c.moment_layers))
        self.cross_encoder = nn.ModuleList(AdaptiveCrossLayer(*sizes) for _ in range(c.cross_layers))
        self.prompts = nn.Parameter(torch.randn(c.prompts, c.width))
        self.global_position = nn.Parameter(torch.randn(c.width))
        self.encoder = nn.ModuleList(PathLayer(*sizes) for _ in range(c.encoder_layers))
        self.decoder = AnchorDecoder(c.queries, c.decoder_layers, *sizes)
        for layer in self.decoder.layers:
            layer.dropout = DropPath(c.dropout)
        for module in (self.moment_encoder, self.cross_encoder, self.encoder):
            xavier_(module)
        self.span_head = MLP(c.width, c.width, 2, 3)
        self.class_head = nn.Linear(c.width, 2)
        self.saliency_clip = nn.Linear(c.width, c.width)
        self.saliency_global = nn.Linear(c.width, c.width)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`; extras: the decoder's `states [S, B, Q, D]` and its `memory [B, T, D]`.

        trace: see `Decoded`; and `text_attention [B, T, N + L]` to dummies and words.

        While training it reads `batch.saliency` for the moment tokens; then extras are also what the losses
        read, see `correlate`, and with another sample's text `negative_saliency` and `negative_attention`
        `[B, T]`, `real_negative [B]`.
        """
        c, count = self.config, len(batch)
        video, text = self.project(batch)
        video, text = video + self.modality[1], text + self.modality[0]
        position = clip_positions(batch.video_mask, c.width).to(video.dtype)
        dummies = self.condition(text, batch.text_mask)
        keys, values = AdaptiveCrossLayer.prepare(dummies, self.dummy_position, text, c.heads)
        key_mask = F.pad(batch.text_mask, (c.dummies, 0), value=True)
        inputs = [video, position, batch.video_mask], [keys, values, key_mask]
        # Only the matched pairs are decoded.
        memory, saliency, attention = self.encode(
            *(with_mismatched(*inputs) if self.training else [*inputs[0], *inputs[1]])
        )
        decoded = self.decode(memory[:count], position, batch, trace)
        extras: dict[str, Any] = {}
        if self.training:
            extras |= {
                "attention": attention[:count],
                "negative_saliency": saliency[count:],
                "negative_attention": attention[count:, :, c.dummies :].sum(-1),
                "real_negative": ~same_video(last_level(batch.video), batch.video_mask),
            }
            if not c.highlights_only:
                extras |= self.correlate(video, position, text, dummies, batch)
        if trace:
            decoded.trace["text_attention"] = attention[:count]
        return self.output(decoded, memory[:count], saliency[:count], **extras)

    def condition(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Dummy tokens that have read the words: text `[B, L, D]`, text_mask `[B, L]` -> `[B, N, D]`."""
        number = self.config.dummies
        x = torch.cat((self.dummies.to(text.dtype).expand(len(text), -1, -1), text), 1)
        position = F.pad(self.dummy_position, (0, 0, 0, text.shape[1])).to(text.dtype)  # words carry none
        mask = F.pad(text_mask, (number, 0), value=True)
        *layers, last = self.dummy_encoder
        for layer in layers:
            x = layer(x, position, mask)
        return last(x[:, :number], position[:number], mask, x, position)  # the words' own states are not read

    def encode(
        self, video: Tensor, position: Tensor, mask: Tensor, keys: Tensor, values: Tensor, key_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Clips `[B, T, D]`, keys, values of the text -> memory `[B, T, D]`, saliency `[B, T]`, attention
        `[B, T, N + L]`.
        """
        x, weights = video, []
        for layer in self.cross_encoder:
            x, layer_weights = layer(x, position, keys, values, key_mask)
            weights.append(layer_weights)
        attention = torch.stack(weights).mean(0)
        token = self.saliency_token(video, mask, attention)
        for layer in self.cross_encoder:
            token = cast(AdaptiveCrossLayer, layer).advance(
                token, torch.zeros_like(token)
            )  # it reads no words
        memory = torch.cat((token.to(x.dtype), x), 1)
        positions = torch.cat((self.global_position.to(x.dtype).expand(len(x), 1, -1), position), 1)
        mask = F.pad(mask, (1, 0), value=True)
        for layer in self.encoder:
            memory = layer(memory, positions, mask)
        token = memory[:, :1]
        memory = memory[:, 1:] + token
        saliency = (self.saliency_clip(memory) * self.saliency_global(token)).sum(-1) / math.sqrt(
            memory.shape[-1]
        )
        return memory, saliency, attention

    def saliency_token(self, video: Tensor, mask: Tensor, attention: Tensor) -> Tensor:
        """Context of the video plus the prompts that suit its relevant clips best (moment-adaptive saliency
        detector).

        Args:
            video: `[B, T, D]`, mask: `[B, T]`, attention: `[B, T, N + L]`; what a clip gives to words is its
                relevance.

        Returns:
            `[B, 1, D]`.
        """
        c = self.config
        context = masked_mean(video.detach(), mask[..., None], (1,))[:, None]
        cosine = F.normalize(video - context, dim=-1) @ F.normalize(self.prompts.to(video.dtype), dim=-1).T
        relevant = attention[..., c.dummies :].detach().sum(-1) * mask
        share = relevant / relevant.sum(1, keepdim=True).clamp(min=1e-6)
        suits = (share[:, None] @ cosine.float().softmax(-1)).squeeze(1)  # [B, prompts]
        best, index = suits.topk(c.chosen_prompts, 1)
        return context + (torch.zeros_like(suits).scatter(1, index, best) @ self.prompts)[:, None]

    def correlate(
        self, video: Tensor, position: Tensor, text: Tensor, dummies: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """The joint space of moments and sentences.

        Returns:
            `moment`, `background`, `sentence` and `dummy_sentence` tokens `[B, D]`; `clips [B, T, D]`, each
            in the company of its moment or of the background; `words [B, N + L, D]`, dummies first; the
            `dummies [B, N, D]` themselves.
        """
        group = F.pad(
            (batch.saliency <= 0).long(), (1, 0), value=1
        )  # 0: moment, 1: background, led by a token each
        tokens, places = self.moment.to(video.dtype).expand(len(video), -1, -1).split(1, 1)
        x, places = torch.cat((tokens, tokens, video), 1), torch.cat((places, places, position), 1)
        for layer in self.moment_encoder:
            x = layer(x, places, F.pad(batch.video_mask, (2, 0), value=True), F.pad(group, (1, 0)))
        no_position = text.new_zeros(1, 1, 1)
        words = _lead(
            self.sentence_encoder, self.sentence, text, no_position.expand_as(text), batch.text_mask
        )
        every = batch.text_mask.new_ones(dummies.shape[:2])
        empty = _lead(
            self.sentence_encoder, self.sentence, dummies, self.dummy_position.expand_as(dummies), every
        )
        return {
            "moment": x[:, 0],
            "background": x[:, 1],
            "sentence": words[:, 0],
            "dummy_sentence": empty[:, 0],
            "clips": x[:, 2:],
            "words": torch.cat((empty[:, 1:], words[:, 1:]), 1),
            "dummies": dummies,
        }

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Set prediction; saliency, also of the attention; alignment, distillation and orthogonality.
        Weighted.
        """
        c, extras, mask = self.config, output.extras, batch.video_mask
        losses = (
            {}
            if c.highlights_only
            else set_losses(output.layers, batch, matches=output.extras.get("matches"))
        )
        pairs = (extreme_pair if c.highlights_only else saliency_pairs)(batch.saliency, mask)
        if "attention" not in extras:
            return losses | {
                "saliency": c.weight_saliency * hinge_saliency(output.saliency, *pairs, c.saliency_margin)
            }
        common = (batch.saliency, mask, pairs, extras["real_negative"], c.saliency_margin, c.weight_negative)
        other = extras["negative_saliency"]
        losses["saliency"] = c.weight_saliency * guided_saliency(
            (output.saliency, other, F.softplus(other)), *common
        )
        share = extras["attention"][..., c.dummies :].float().sum(-1).clamp(0, 1)
        other = extras["negative_attention"].float().clamp(0, 1)
        attended = guided_saliency((share, other, -torch.log1p(-other.clamp(max=1 - 1e-6))), *common)
        losses["attention"] = (
            c.weight_saliency * c.weight_attention * (attended + relevance(share, batch.saliency, mask))
        )
        if c.highlights_only:
            return losses
        inside = (batch.saliency > 0) & mask
        first = torch.arange(len(batch), device=mask.device)
        # The public code names one dummy sentence for all moments: that of the first sample, and of the
        # second for the first.
        dummy = (first == 0).long()
        losses["align"] = c.weight_align * (
            moment_sentence_alignment(extras["moment"], extras["background"], extras["sentence"], first)
            + moment_sentence_alignment(
                extras["moment"], extras["background"], extras["dummy_sentence"], dummy
            )
            + membership(extras["moment"], extras["clips"], inside, mask)
        )
        key_mask = F.pad(batch.text_mask, (c.dummies, 0), value=True)
        joint = (extras["clips"], extras["words"])
        losses["distill"] = c.weight_distill * distillation(extras["attention"], *joint, key_mask, inside)
        losses["orthogonal"] = c.weight_orthogonal * (
            orthogonality(extras["dummies"]) + orthogonality(self.prompts)
        )
        return losses


def _lead(layers: nn.ModuleList, token: Tensor, x: Tensor, position: Tensor, mask: Tensor) -> Tensor:
    """`layers` over a token (row 0 of `token`, its position row 1) and x `[B, N, D]`; mask `[B, N]` ->
    `[B, 1 + N, D]`.
    """
    lead, lead_position = token.to(x.dtype).expand(len(x), -1, -1).split(1, 1)
    x, position = torch.cat((lead, x), 1), torch.cat((lead_position, position.to(x.dtype)), 1)
    for layer in layers:
        x = layer(x, position, F.pad(mask, (1, 0), value=True))
    return x


ENTRY = ModelEntry(CGDETR, Config, published_parameters=12.0)
