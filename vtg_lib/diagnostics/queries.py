"""What the queries of a DETR-style decoder do: which moment each serves, layer by layer (Sim-DETR, ICCV 2025,
Sec. 3).

For every method that gives `layers["spans"]` and a score of several decoder layers; `states` in `extras` and
`clip_attention` in a trace where a function says so. Axes: S decoder layers, N rows, M moments, Q queries, T
clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.layers.query_relation import class_score
from vtg_lib.losses.bridge import clips_inside
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.models.inference import evaluation_mode
from vtg_lib.spans import cw_to_se, iou

SAMPLES = 512  # rows that a stored diagnostic looks at
BATCH = 64
COSINE_BINS = np.linspace(-1, 1, 41)
SERVES = 0.5  # IoU from which on a query serves a moment
GROUPS = {"1": (1, 1), "2": (2, 2), "3+": (3, 99)}  # rows by their number of moments


@dataclass
class Decoded:
    """What the decoder made of the first rows of a split, on the CPU, float32.

    Attributes:
        spans: `[S, N, Q, 2]` (center, width); scores: `[S, N, Q]`; quality: `[S, N, Q]` predicted IoU, or
            None.
        states: `[S, N, Q, D]`, attention: `[S, N, Q, T]`, or None.
        target: `[N, M, 2]`; mask: `[N, M]`; inside: `[N, M, T]` clips in each moment; clips: `[N, T]` real
            ones.
        matches: of all layers, by DETR's cost.
    """

    spans: Tensor
    scores: Tensor
    quality: Tensor | None
    states: Tensor | None
    attention: Tensor | None
    target: Tensor
    mask: Tensor
    inside: Tensor
    clips: Tensor
    matches: Matches

    @property
    def overlap(self) -> Tensor:
        """IoU of every prediction with every moment, `[S, N, M, Q]`; 0 for moments that do not exist."""
        predicted = cw_to_se(self.spans).clamp(0, 1).unsqueeze(-3)
        return iou(predicted, cw_to_se(self.target).unsqueeze(-2)) * self.mask[..., None]


def decode(model: nn.Module, data: GroundingData, samples: int = SAMPLES) -> Decoded | None:
    """Run the first `samples` rows; None for methods without decoder layers."""
    device = next(model.parameters()).device
    parts: list[dict[str, Any]] = []
    length = int(data.video_length.max())
    with evaluation_mode(model, device):
        for index in torch.arange(min(samples, len(data))).split(BATCH):
            batch = data.batch(index).to(device)
            output = model(batch, trace=True)
            layers = output.layers
            if (
                "spans" not in layers
                or not {"logits", "quality"} & set(layers)
                or layers["spans"].shape[0] < 2
            ):
                return None
            wide = length - batch.video_mask.shape[1]
            part: dict[str, Any] = {
                "spans": layers["spans"],
                "scores": class_score(layers),
                "quality": layers.get("iou"),
                "states": output.extras.get("states"),
                "attention": output.trace.get("clip_attention"),
                "target": batch.spans[None],
                "mask": batch.span_mask[None],
                "inside": F.pad(clips_inside(batch.spans, batch.video_mask), (0, wide))[None],
                "clips": F.pad(batch.video_mask, (0, wide))[None],
            }
            if part["attention"] is not None:
                part["attention"] = F.pad(part["attention"], (0, wide))
            parts.append({name: value if value is None else _plain(value) for name, value in part.items()})
    whole: dict[str, Any] = {
        name: None if parts[0][name] is None else torch.cat([part[name] for part in parts], 1)
        for name in parts[0]
    }
    flat = {name: whole.pop(name)[0] for name in ("target", "mask", "inside", "clips")}
    matches = match(whole["spans"], whole["scores"], flat["target"], flat["mask"], MatchCost())
    return Decoded(**whole, **flat, matches=matches)


def _plain(value: Tensor) -> Tensor:
    return value.cpu() if value.dtype == torch.bool else value.float().cpu()


def matching_consistency(model: nn.Module, data: GroundingData) -> dict[str, Any]:
    """How often a moment keeps its query from one decoder layer to the next.

    Returns:
        `moments`: group -> moments counted; `kept`, `swapped`, `moved`: group -> share `[S - 1]` of moments
            whose query is the
        same in both layers, served another moment of the row before, or served none. Groups are all rows
        ("all") and those with 1, 2 and 3 or more moments. Empty for methods without decoder layers.
    """
    decoded = decode(model, data)
    if decoded is None:
        return {}
    query, valid = decoded.matches.query, decoded.matches.valid
    before, after, both = query[:-1], query[1:], valid[:-1] & valid[1:]  # [S - 1, N, M]
    same = before == after
    others = (after[..., None] == before[..., None, :]) & valid[:-1].unsqueeze(-2)  # [S - 1, N, M, M]
    swapped = others.any(-1) & ~same
    number = decoded.mask.sum(1)
    result: dict[str, Any] = {"moments": {}, "kept": {}, "swapped": {}, "moved": {}}
    for group, (low, high) in {"all": (1, 99), **GROUPS}.items():
        chosen = both & ((number >= low) & (number <= high))[None, :, None]
        count = chosen.sum((1, 2))
        result["moments"][group] = int(count[0])
        for name, what in (("kept", same), ("swapped", swapped), ("moved", ~same & ~swapped)):
            result[name][group] = _shares((what & chosen).sum((1, 2)), count)
    return result


def query_similarity(model: nn.Module, data: GroundingData) -> dict[str, Any]:
    """Are queries of the same moment more alike than queries of different moments?

    A query serves the moment that its prediction overlaps most, from IoU 0.5 on.

    Returns:
        Per layer `[S]`: `same`, `different`: histograms of cosines over `COSINE_BINS` for pairs on the same
            moment and on
        different moments of one row; `same_mean`, `different_mean`; `auc`: the chance that a pair of the
        first kind is more alike than one of the second (None where a kind has no pair). Empty for methods
        without states.
    """
    decoded = decode(model, data)
    if decoded is None or decoded.states is None:
        return {}
    best, moment = decoded.overlap.max(2)  # [S, N, Q]
    states = F.normalize(decoded.states, dim=-1)
    upper = torch.triu(torch.ones(best.shape[-1], best.shape[-1]), 1).bool()
    result: dict[str, Any] = {
        name: [] for name in ("same", "different", "same_mean", "different_mean", "auc")
    }
    for layer in range(len(best)):
        cosine = states[layer] @ states[layer].transpose(-1, -2)
        serves = best[layer] >= SERVES
        pairs = serves[:, :, None] & serves[:, None] & upper
        alike = moment[layer][:, :, None] == moment[layer][:, None]
        same, different = (cosine[pairs & kind].numpy() for kind in (alike, ~alike))
        for name, values in (("same", same), ("different", different)):
            result[name].append(np.histogram(values.clip(-1, 1), COSINE_BINS)[0].tolist())
            result[f"{name}_mean"].append(_rounded(values.mean()) if len(values) else None)
        result["auc"].append(_auc(same, different))
    return result


def global_local(model: nn.Module, data: GroundingData) -> dict[str, Any]:
    """Does a high score mean a good moment? Of the last decoder layer.

    Returns:
        For the score `class` and, with an IoU head, `iou` and `class_iou`: `rank_correlation`, Spearman's rho
        of score and true IoU over the queries of a row, mean over rows; `top_misses`, share of rows whose
        best scored moment has an IoU below 0.5
        with every true one; `best_misses`: the same if the best moment were chosen by its true IoU.
    """
    decoded = decode(model, data)
    if decoded is None:
        return {}
    rows = decoded.mask.any(1)
    overlap = decoded.overlap[-1].amax(1)[rows]  # [N, Q]
    scores = {"class": decoded.scores[-1][rows]}
    if decoded.quality is not None:
        quality = decoded.quality[-1][rows]
        scores |= {"iou": quality, "class_iou": scores["class"] * quality}
    result: dict[str, Any] = {"best_misses": _rounded((overlap.amax(1) < SERVES).float().mean())}
    for name, score in scores.items():
        first, second = (stats.rankdata(values.numpy(), axis=1) for values in (score, overlap))
        spread = (first.std(1) > 0) & (second.std(1) > 0)
        rho = [np.corrcoef(a, b)[0, 1] for a, b in zip(first[spread], second[spread], strict=True)]
        top = overlap.gather(1, score.argmax(1, keepdim=True)).squeeze(1)
        result[name] = {
            "rank_correlation": _rounded(np.mean(rho)) if rho else None,
            "top_misses": _rounded((top < SERVES).float().mean()),
        }
    return result


def attention_mass(model: nn.Module, data: GroundingData) -> dict[str, Any]:
    """How much of its attention to the clips a matched query gives to its own moment.

    Returns:
        Per layer `[S]`: `own`: share on the clips of the matched moment; `others`: on those of the row's
            other moments.
        `length`: the share of the video's clips that the moments have: what even attention would give. Empty
            for methods
        whose trace has no `clip_attention`.
    """
    decoded = decode(model, data)
    if decoded is None or decoded.attention is None:
        return {}
    attention = decoded.attention * decoded.clips[None, :, None]
    attention = attention / attention.sum(-1, keepdim=True).clamp(min=1e-9)
    given = decoded.matches.gather(attention)  # [S, N, M, T]
    inside = decoded.inside.float()
    own = (given * inside).sum(-1)
    every = (given * inside.amax(1)[None, :, None]).sum(-1)
    valid = decoded.matches.valid & (inside.sum(-1) > 0)
    length = inside.sum(-1) / decoded.clips.sum(1, keepdim=True)
    return {
        "own": _shares((own * valid).sum((1, 2)), valid.sum((1, 2))),
        "others": _shares(((every - own) * valid).sum((1, 2)), valid.sum((1, 2))),
        "length": _rounded((length * valid[-1]).sum() / valid[-1].sum().clamp(min=1)),
    }


def epochs_to_share(epochs: Sequence[float], values: Sequence[float], share: float = 0.9) -> float:
    """The first evaluated epoch at which a curve reaches `share` of its last value."""
    return next(
        float(epoch) for epoch, value in zip(epochs, values, strict=True) if value >= share * values[-1]
    )


def _auc(higher: np.ndarray, lower: np.ndarray) -> float | None:
    if not len(higher) or not len(lower):
        return None
    return _rounded(stats.mannwhitneyu(higher, lower).statistic / (len(higher) * len(lower)))


def _shares(counts: Tensor, total: Tensor) -> list[float | None]:
    return [_rounded(c / t) if t else None for c, t in zip(counts.tolist(), total.tolist(), strict=True)]


def _rounded(value: Any) -> float:
    return round(float(value), 4)
