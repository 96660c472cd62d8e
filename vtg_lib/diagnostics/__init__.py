"""Diagnostic studies of trained models. Each function takes a model and a split and returns plain JSON
values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.diagnostics.queries import attention_mass, global_local, matching_consistency, query_similarity
from vtg_lib.models.inference import evaluation_mode

OFFSET_BINS = np.linspace(-2, 2, 41)  # half widths; what lies outside counts in the first or last bin
SAMPLES = 256  # rows that a stored diagnostic looks at
BATCH = 64


def trace(
    model: nn.Module, data: GroundingData, names: tuple[str, ...], samples: int = SAMPLES
) -> dict[str, Tensor]:
    """Traced tensors of the first `samples` rows, joined on the sample axis; names that the model lacks are
    left out.

    Returns:
        Tensors on the CPU with the sample axis second (`[K, N, ...]`).
    """
    device = next(model.parameters()).device
    found: dict[str, list[Tensor]] = {}
    with evaluation_mode(model, device):
        for index in torch.arange(min(samples, len(data))).split(BATCH):
            traced = model(data.batch(index).to(device), trace=True).trace
            for name in names:
                if name in traced:
                    found.setdefault(name, []).append(traced[name].float().cpu())
    return {name: torch.cat(parts, 1) for name, parts in found.items()}


def offset_statistics(model: nn.Module, data: GroundingData) -> dict[str, Any]:
    """Where deformable attention looks (SDST, Fig. 4): the weighted offset sum_p A_p o_p of every head and
    level.

    Offsets are in half widths of the current reference: beyond -1 or +1 is outside of the estimated moment.

    Returns:
        `initial [H]`; and, per level and head, `mean`, `sd`, `moved` (mean distance from the initial value),
        `beyond` (share of queries whose weighted offset leaves the borders) `[K][H]` and
        `histogram [K][H][40]` (counts over
        `OFFSET_BINS`); `beyond_points`: share of single sampling points, weighted by attention, that lie
            outside. Empty
        for models without deformable attention.
    """
    traced = trace(model, data, ("weighted_offsets", "offsets", "attention"))
    if not traced:
        return {}
    weighted = traced["weighted_offsets"].flatten(1, 2).permute(0, 2, 1)  # [K, H, N * Q]
    outside = (traced["attention"] * (traced["offsets"].abs() > 1)).sum(-1)  # [K, N, Q, H]
    initial = _initial_weighted_offset(model, traced)
    counts = [
        [np.histogram(head.clamp(-2, 2).numpy(), OFFSET_BINS)[0].tolist() for head in level]
        for level in weighted
    ]
    return {
        "initial": _rounded(initial),
        "mean": _rounded(weighted.mean(-1)),
        "sd": _rounded(weighted.std(-1)),
        "moved": _rounded((weighted - initial[:, None]).abs().mean(-1)),
        "beyond": _rounded((weighted.abs() > 1).float().mean(-1)),
        "beyond_points": _rounded(outside.mean((1, 2))),
        "histogram": counts,
    }


def _initial_weighted_offset(model: nn.Module, traced: Mapping[str, Tensor]) -> Tensor:
    """`[H]`: uniform attention over the initial offsets."""
    from vtg_lib.layers.deformable import initial_offsets

    heads, points = traced["offsets"].shape[-2:]
    return initial_offsets(heads, points).mean(-1)


def _rounded(values: Tensor) -> list:
    return np.round(values.numpy().astype(float), 4).tolist()


DIAGNOSTICS: dict[str, Callable[[nn.Module, GroundingData], dict[str, Any]]] = {
    "offsets": offset_statistics,
    "matching": matching_consistency,
    "similarity": query_similarity,
    "global_local": global_local,
    "attention": attention_mass,
}
OBSERVED = ("matching",)  # also computed after every evaluation of a run that asks for them
