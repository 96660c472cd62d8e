"""Running a model over rows of a split and keeping what a diagnostic looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.models.inference import evaluation_mode

BATCH = 64


def collect(
    model: nn.Module,
    data: GroundingData,
    rows: Tensor,
    pick: Callable[[Batch, Output], Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """What `pick` takes from each batch and the model's output with its trace.

    Args:
        rows: `[N]`, int64, on the CPU.
        pick: gives tensors with the sample axis second (`[S, B, ...]`), or nothing if the model lacks them.

    Returns:
        The tensors on the CPU (floating ones as float32), joined on the sample axis.
    """
    device = next(model.parameters()).device
    parts: list[dict[str, Tensor]] = []
    with evaluation_mode(model, device):
        for index in torch.split(rows, BATCH):
            batch = data.batch(index).to(device)
            picked = pick(batch, model(batch, trace=True))
            if not picked:
                return {}
            parts.append({name: _plain(value) for name, value in picked.items()})
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}


def first_rows(data: GroundingData, number: int) -> Tensor:
    return torch.arange(min(number, len(data)))


def rounded(value: Any) -> float:
    """A number as JSON keeps it: four decimals."""
    return round(float(value), 4)


def shares(counts: Tensor, total: Tensor) -> list[float | None]:
    """`counts / total`, both `[S]`; None where the total is 0."""
    return [rounded(c / t) if t else None for c, t in zip(counts.tolist(), total.tolist(), strict=True)]


def _plain(value: Tensor) -> Tensor:
    return value.float().cpu() if value.is_floating_point() else value.cpu()
