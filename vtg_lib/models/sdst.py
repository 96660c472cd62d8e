"""SDST (Pujol-Perich, Escalera, Clapés, ICCV 2025): a side-tuner with a dense and a sparse stream over K
backbone levels.

No code of the method is public (davidpujol/SDST @ cd64fe9 holds a README). What the text leaves open, and
what was chosen, is numbered in `vtg_lib/papers/sdst/deviations.yaml`. Axes: B, K, T, L, M, Q, D as in
`vtg_lib.data.batches`; S = layers of predictions, K or, with query selection, K + 1.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.branch import BranchInputs, BranchSizes, SparseInputs
from vtg_lib.layers.deformable import SAMPLING, initial_offsets
from vtg_lib.layers.dense_stream import Alignment, DenseStream
from vtg_lib.layers.pooling import pool_words
from vtg_lib.layers.positions import clip_positions, reference_positions
from vtg_lib.layers.precision import full_precision
from vtg_lib.layers.projections import MLP, append_endpoints
from vtg_lib.layers.roi import roi_pool
from vtg_lib.layers.sparse_stream import (
    ATTENTION,
    BRANCHES,
    SparseStream,
    class_head,
    span_head,
)
from vtg_lib.layers.suppression import gaussian, lower_scores
from vtg_lib.losses.contrastive import choose_positive, sampled_nce
from vtg_lib.losses.matching import MatchCost, match
from vtg_lib.losses.set_prediction import best_overlap, focal_loss
from vtg_lib.models.config import ModelEntry, Published
from vtg_lib.models.parts.levels import Paths, alignment_losses, draw_paths, last_levels
from vtg_lib.spans import cw_to_se, inverse_sigmoid, iou

CONDITIONING = ("raw", "cross", "self", "ffn")
ROI_BINS = 16  # Tab. A
MATCH_COST = MatchCost(score=1.0, l1=1.0, giou=1.0)


@dataclass(frozen=True, kw_only=True)
class Config(Published):
    """Sizes, variants and loss weights; the defaults are Tab. A's for QVHighlights with InternVideo2-1B
    features.

    Attributes:
        levels: K refinement steps; level_stride: take every n-th level, counted back from the last (Tab. 4).
        last_level_only: all K steps read the last level (Tab. K, "Interm?" unchecked).
        attention: a key of `ATTENTION` (Tab. 5); sampling, context_cnn: RDSA's spots and CNN (Tab. M);
            points: P.
        conditioning: what the sparse stream reads of the dense one (Tab. 6), one of `CONDITIONING`.
        modules: the sparse stream's modules in order (Tab. 7, Tab. N).
        shared: one set of alignment, dense and sparse modules for all levels (Tab. J).
        weight_*: loss weights (Tab. G); 0 removes a loss (Tab. E).
        dropout: of phi_v and phi_t; droppath: of every residual branch. tef: append temporal endpoint
            features.
        nms_sigma: of the Gaussian soft-NMS.
    """

    presets = {"qvhighlights": {}, "charades_sta": {}, "tacos": {"queries": 5}}  # Tab. A

    video_dim: int = 768
    text_dim: int = 768
    width: int = 256
    heads: int = 8
    queries: int = 30
    levels: int = 4
    level_stride: int = 1
    last_level_only: bool = False
    points: int = 4
    attention: str = "rdsa"
    sampling: str = "l-c-r"
    context_cnn: bool = True
    conditioning: str = "ffn"
    modules: tuple[str, ...] = ("cross", "self", "video", "ffn")
    shared: bool = True
    weight_class: float = 1.0
    weight_l1: float = 1.0
    weight_iou: float = 1.0
    weight_actionness: float = 1.0
    weight_saliency: float = 0.1
    weight_video_align: float = 0.1
    weight_layer_align: float = 0.1
    dropout: float = 0.5
    droppath: float = 0.25
    tef: bool = True
    nms_sigma: float = 0.5

    def __post_init__(self) -> None:
        self.expect_choice(attention=ATTENTION, sampling=SAMPLING, conditioning=CONDITIONING)
        unknown = [name for name in self.modules if name not in BRANCHES]
        if unknown or len(set(self.modules)) != len(self.modules) or not self.modules:
            self.refuse("modules", f"distinct names among {', '.join(BRANCHES)}")
        self.expect_positive("queries", "levels", "level_stride", "points", "heads")
        self.expect_width(4)
        self.expect_probability("droppath")


def detection_losses(output: Output, batch: Batch) -> dict[str, Tensor]:
    """Focal (Eq. 17), L1 (Eq. 18), IoU (Eq. 19) and actionness losses, summed over levels; one matching.

    Focal, L1 and IoU are averaged over moments, the L1 of actionness over queries. What the paper leaves to
    its reference [24] is from xlliu7/TadTR @ 983ae14.
    """
    spans, logits = output.layers["spans"], output.layers["logits"].float()
    matches = match(spans, logits.sigmoid(), batch.spans, batch.span_mask, MATCH_COST)
    moments = batch.span_mask.sum().clamp(min=1)
    predicted = matches.gather(spans.float())
    target = batch.spans.expand_as(predicted)
    l1 = (predicted - target).abs().sum(-1)
    overlap = iou(cw_to_se(predicted), cw_to_se(target))
    quality = best_overlap(cw_to_se(spans.float()), cw_to_se(batch.spans), batch.span_mask)
    error = (output.layers["actionness"].float().sigmoid() - quality).abs()
    return {
        "class": focal_loss(logits, matches.positive).sum() / moments,
        "l1": (l1 * matches.valid).sum() / moments,
        "iou": ((1 - overlap) * matches.valid).sum() / moments,
        "actionness": error.sum() / quality[0].numel(),
    }


class SideTuner(nn.Module):
    """The modules of Eq. 1 that levels share: alignment (Eq. 2), dense stream (Eq. 4), sparse stream (Eq.
    5-6).
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.align = Alignment(c.video_dim + 2 * c.tef, c.text_dim, c.width, c.dropout)
        self.dense = DenseStream(c.width, c.heads)
        sizes = BranchSizes(c.width, c.heads, c.points, c.attention, c.sampling, c.context_cnn)
        self.sparse = SparseStream(c.modules, sizes)


class SDST(nn.Module):
    """Dense embeddings for highlights and recurrent decoder queries for moments, refined together level by
    level.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.tuners = nn.ModuleList(SideTuner(c) for _ in range(1 if c.shared else c.levels))
        self.level_weight = nn.Parameter(torch.zeros(c.levels))
        self.query_source = ATTENTION[c.attention][1](c.queries, c.width)
        self.class_head = class_head(c.width)
        self.span_head = span_head(c.width)
        self.actionness_head = MLP(ROI_BINS * c.width, c.width, 1, 3)
        self.text_pool = nn.Linear(c.width, 1, bias=False)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`.

        layers: `spans [S, B, Q, 2]`, `logits` and `actionness` (logits) `[S, B, Q]`. extras:
        `clips [K, B, T, D]` and pooled `text [K, B, D]`, both in the shared space of Eq. 2. trace: `offsets`
        and `attention` `[K, B, Q, H, P]`, `weighted_offsets [K, B, Q, H]` (what Fig. 4 plots),
        `initial_offsets [H, P]`, all in half widths of the reference, and `references [K + 1, B, Q, 2]`.

        Raises:
            ValueError: the features have fewer levels than the config needs.
        """
        c, mask = self.config, batch.video_mask
        video, text = self._levels(batch)
        if c.tef:
            video = append_endpoints(video, mask)
        share = c.levels // len(self.tuners)  # levels per set of modules
        aligned = [
            tuner.align(v, t)
            for tuner, v, t in zip(self._sets, video.split(share, 1), text.split(share, 1), strict=True)
        ]
        branches = DenseStream.BRANCHES + len(c.modules)
        keep = draw_paths(len(batch), c.levels, branches, self.training * c.droppath, mask.device)
        position = clip_positions(mask, c.width).to(aligned[0][0].dtype)
        stages = self._dense(aligned, position, batch, keep)
        clips, words = (
            aligned[0] if c.shared else (torch.cat(tensors) for tensors in zip(*aligned, strict=True))
        )
        dense, raw = stages["ffn"], {"raw": clips}
        memory = (stages | raw)[c.conditioning]
        length = mask.sum(1).to(torch.float32)
        inputs = [
            SparseInputs(t, batch.text_mask, m, position, mask, length)
            for (_, t), m in zip(aligned, memory.split(share), strict=True)
        ]
        states, spans, first, traced = self._sparse(inputs, keep, trace)
        with full_precision(mask):
            layers = {"spans": spans, "logits": self.class_head(states.float()).squeeze(-1)}
            sentence = pool_words(self.text_pool, words.float(), batch.text_mask)  # App. C.1
            saliency = F.cosine_similarity(dense[-1].float(), sentence[-1][:, None], dim=-1)  # Eq. 16
        regions = dense
        if first:
            layers = {name: torch.cat((first[name][None], layers[name])) for name in layers}
            regions = torch.cat((dense[:1], dense))
        pooled = roi_pool(regions * mask[..., None].to(dense.dtype), layers["spans"], length, ROI_BINS)
        layers["actionness"] = self.actionness_head(pooled).squeeze(-1).float()
        return Output(
            spans=layers["spans"][-1],
            scores=self._scores(layers["logits"][-1], layers["actionness"][-1]),
            saliency=saliency,
            layers=layers,
            extras={"clips": clips, "text": sentence},
            trace=traced,
        )

    @property
    def _sets(self) -> list[SideTuner]:
        """The sets of modules, one for all levels or one a level."""
        return cast(list[SideTuner], list(self.tuners))

    def _levels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The K levels that are used, shallowest first: `[B, K, T, Dv]`, `[B, K, L, Dt]`."""
        c = self.config
        if c.last_level_only:
            video, text = last_levels(batch, 1)
            return video.expand(-1, c.levels, -1, -1), text.expand(-1, c.levels, -1, -1)
        return last_levels(batch, c.levels, c.level_stride, " or level_stride, set last_level_only")

    def _dense(
        self, aligned: list[tuple[Tensor, Tensor]], position: Tensor, batch: Batch, keep: Paths
    ) -> dict[str, Tensor]:
        """The dense stream over all levels (Eq. 3-4): the output of every module, `[K, B, T, D]` each."""
        gate = self.level_weight.sigmoid()
        stages: list[dict[str, Tensor]] = []
        for tuner, (video, text) in zip(self._sets, aligned, strict=True):
            keys, values = tuner.dense.cross.prepare(text, text)
            for clips, key, value in zip(video.unbind(0), keys.unbind(0), values.unbind(0), strict=True):
                level = len(stages)
                fused = clips * gate[level]  # the dense embedding starts at zero
                if stages:
                    fused = torch.lerp(stages[-1]["ffn"].to(clips.dtype), clips, gate[level].to(clips.dtype))
                masks = keep[level][: DenseStream.BRANCHES]
                stages.append(
                    tuner.dense(fused, position, batch.video_mask, key, value, batch.text_mask, masks)
                )
        wanted = {"ffn", self.config.conditioning} - {"raw"}
        return {name: torch.stack([stage[name] for stage in stages]) for name in wanted}

    def _sparse(
        self, inputs: list[SparseInputs], keep: Paths, trace: bool
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The sparse stream over all levels (Eq. 5-6).

        Returns:
            States `[K, B, Q, D]`, refined spans `[K, B, Q, 2]`, the predictions of query selection, the
            trace.
        """
        width, first_level = self.config.width, inputs[0]
        x, references, first = self.query_source(first_level.memory[0], first_level.mask, first_level.length)
        states: list[Tensor] = []
        spans: list[Tensor] = []
        used, traces = [references], []
        for tuner, chunk in zip(self._sets, inputs, strict=True):
            for prepared in tuner.sparse.prepare(chunk):
                record: dict[str, Tensor] = {}
                position = reference_positions(references, width).to(x.dtype)
                masks = keep[len(states)][DenseStream.BRANCHES :]
                read = BranchInputs(position, references, chunk, record if trace else None)
                x = tuner.sparse(x, read, prepared, masks)
                with full_precision(x):
                    refined = (inverse_sigmoid(references) + self.span_head(x.float())).sigmoid()
                references = refined.detach()  # each level learns its own step only (Deformable DETR)
                states.append(x)
                spans.append(refined)
                used.append(references)
                traces.append(record)
        traced: dict[str, Tensor] = {}
        if trace:
            traced = {name: torch.stack([record[name] for record in traces]) for name in traces[0]}
            traced["references"] = torch.stack(used)
            if "offsets" in traced:
                traced["initial_offsets"] = initial_offsets(self.config.heads, self.config.points).to(
                    x.device
                )
        return torch.stack(states), torch.stack(spans), first, traced

    def _scores(self, logits: Tensor, actionness: Tensor) -> Tensor:
        """Eq. 23: sqrt(class x actionness); a score that no loss trains is left out."""
        trained = [
            score.sigmoid()
            for score, weight in (
                (logits, self.config.weight_class),
                (actionness, self.config.weight_actionness),
            )
            if weight
        ] or [logits.sigmoid()]
        return torch.stack(trained).prod(0).sqrt() if len(trained) == 2 else trained[0]

    def post_process(self, output: Output) -> Output:
        """Soft-NMS (App. C.4): the same spans with lowered scores."""
        return dataclasses.replace(
            output, scores=lower_scores(output.spans, output.scores, gaussian(self.config.nms_sigma))
        )

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Eq. 14, weighted; terms of weight 0 are left out. Detection terms are summed over levels (Sec.
        3.4).
        """
        c = self.config
        weights = {
            name: weight
            for name in ("class", "l1", "iou", "actionness", "saliency", "video_align", "layer_align")
            if (weight := getattr(c, f"weight_{name}"))
        }
        if c.last_level_only:
            weights.pop("layer_align", None)  # every level is the same: nothing to tell apart
        terms = detection_losses(output, batch)
        positive, valid = choose_positive(batch.saliency, batch.video_mask, self.training)
        terms |= alignment_losses(output.extras["clips"], output.extras["text"], positive, valid)
        terms["saliency"] = sampled_nce(output.saliency, batch.saliency, batch.video_mask, positive, valid)
        return {name: weight * terms[name] for name, weight in weights.items()}


ENTRY = ModelEntry(
    SDST, Config, published_parameters=4.1, variants=(("not shared", {"shared": False}, 12.43),)
)
