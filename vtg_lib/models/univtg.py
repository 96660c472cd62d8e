"""UniVTG (Lin et al., ICCV 2023): every clip predicts whether it is relevant, where its moment ends, and its
saliency.

Facts not in the paper are from showlab/UniVTG @ 32659ac. Its code counts 43,406,855 parameters with the
paper's features; 78,848 of them embed positions of words and are never used. Ours are the others, 43,328,007:
the published 41.3 M is this number in units of 2^20.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.adaptive_attention import PathLayer
from vtg_lib.layers.convolution import ConvHead
from vtg_lib.layers.pooling import pool_words
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.suppression import greedy_nms, hard
from vtg_lib.layers.transformer import xavier_
from vtg_lib.losses import masked_mean
from vtg_lib.losses.contrastive import choose_positive, info_nce, intra_video_nce
from vtg_lib.losses.points import assign_moments, clip_points, foreground_loss
from vtg_lib.losses.set_prediction import loss_giou
from vtg_lib.models.config import FeatureConfig, ModelEntry
from vtg_lib.models.parts.detr import Projected
from vtg_lib.spans import cw_to_se, se_to_cw

HEAD_DEPTH = 3  # convolutions of kernel 3


@dataclass(frozen=True, kw_only=True)
class Config(FeatureConfig):
    """`FeatureConfig` and loss weights; the defaults are published for QVHighlights without pretraining.

    Attributes:
        dropout: of the attention; droppath: of every residual branch.
        point_offset: where in its clip a prediction starts, in clips. The public code adds half the clip's
            length in seconds to the clip's number: the end of the clip for 2 s, its middle for 1 s.
        weight_*: loss weights; background_weight: of clips outside the moments, relative to those inside.
        add_foreground: rank highlights by cosine + foreground probability, else by the cosine alone.
        highlights_only: the data set has no moments; no borders are learned, and foreground are the clips
            above the video's mean label, as in the public code (`main/dataset.py`, `model/univtg.py`).
        nms_threshold: IoU above which the lower prediction is dropped; predictions: kept after that.
    """

    width: int = 1024
    encoder_layers: int = 4
    dropout: float = 0.0
    droppath: float = 0.1
    point_offset: float = 1.0
    weight_l1: float = 10.0
    weight_iou: float = 1.0
    weight_foreground: float = 10.0
    background_weight: float = 0.1
    weight_intra: float = 0.05
    weight_inter: float = 0.01
    add_foreground: bool = True
    nms_threshold: float = 0.7
    predictions: int = 10
    highlights_only: bool = False


class UniVTG(Projected):
    """Encoder over clips and words; convolutional heads on the clips; saliency from the projected features
    before it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        self.modality = nn.Parameter(torch.empty(2, c.width))  # words, clips
        nn.init.normal_(self.modality, std=0.02)
        self.encoder = nn.ModuleList(
            PathLayer(c.width, c.heads, c.hidden, c.dropout, c.droppath, nn.GELU)
            for _ in range(c.encoder_layers)
        )
        xavier_(self.encoder)
        self.border_head = ConvHead(c.width, 2, HEAD_DEPTH)
        self.class_head = ConvHead(c.width, 1, HEAD_DEPTH)
        self.text_pool = nn.Linear(c.width, 1, bias=False)
        nn.init.xavier_uniform_(self.text_pool.weight)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`: Q = T, one prediction a clip, 0 scored on padding.

        layers: `spans [1, B, T, 2]`, `logits [1, B, T]`. extras: `clips [B, T, D]` and the pooled
        `text [B, D]` of the shared space, their cosine `similarity [B, T]`.
        """
        c, mask = self.config, batch.video_mask
        video, text = self.project(batch)
        video, text = video + self.modality[1], text + self.modality[0]
        memory = torch.cat((video, text), 1)
        # Words carry no position.
        position = torch.cat((clip_positions(mask, c.width).to(video.dtype), torch.zeros_like(text)), 1)
        for layer in self.encoder:
            memory = layer(memory, position, torch.cat((mask, batch.text_mask), 1))
        memory = memory[:, : video.shape[1]]
        logits = self.class_head(memory, mask).squeeze(-1).float()
        reach = self.border_head(memory, mask).float().sigmoid()  # to the start and to the end
        points = clip_points(mask, c.point_offset)[..., None]
        spans = se_to_cw(torch.cat((points - reach[..., :1], points + reach[..., 1:]), -1))
        sentence = pool_words(self.text_pool, text.float(), batch.text_mask)
        similarity = F.cosine_similarity(video.float(), sentence[:, None], dim=-1)
        scores = logits.sigmoid()
        return Output(
            spans=spans,
            scores=scores * mask,
            saliency=similarity + scores if c.add_foreground else similarity,
            layers={"spans": spans[None], "logits": logits[None]},
            extras={"clips": video, "text": sentence, "similarity": similarity},
        )

    def post_process(self, output: Output) -> Output:
        """Spans cut to the video, non-maximum suppression, the best `predictions`."""
        c = self.config
        spans = se_to_cw(cw_to_se(output.spans).clamp(0, 1))
        spans, scores = greedy_nms(spans, output.scores, c.predictions, hard(c.nms_threshold))
        return dataclasses.replace(output, spans=spans, scores=scores)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Foreground, both boundary losses, intra- and inter-video contrastive saliency, weighted."""
        c, mask = self.config, batch.video_mask
        relevant, losses = batch.saliency, dict[str, Tensor]()
        if c.highlights_only:
            foreground = (batch.saliency > masked_mean(batch.saliency, mask, (1,))[:, None]) & mask
            relevant = batch.saliency * foreground
        else:
            target, foreground = assign_moments(
                clip_points(mask, c.point_offset), mask, batch.spans, batch.span_mask
            )
            borders = cw_to_se(output.layers["spans"][0])
            smooth_l1 = F.smooth_l1_loss(borders, target, reduction="none").sum(-1)
            losses["l1"] = c.weight_l1 * masked_mean(smooth_l1, foreground, (0, 1))
            losses["iou"] = c.weight_iou * loss_giou(borders, target, foreground)
        positive, valid = choose_positive(relevant, mask, self.training)
        clips, similarity = output.extras["clips"], output.extras["similarity"]
        chosen = clips[torch.arange(len(batch), device=clips.device), positive]
        return losses | {
            "foreground": c.weight_foreground
            * foreground_loss(output.layers["logits"][0], foreground, mask, c.background_weight),
            "intra": c.weight_intra * intra_video_nce(similarity, batch.saliency, mask, positive, valid),
            "inter": c.weight_inter * info_nce(chosen, output.extras["text"], valid),
        }


ENTRY = ModelEntry(UniVTG, Config, published_parameters=41.3)
