"""What cheap dropout masks, and bfloat16 where the processor has it, do to accuracy: whole trainings at
`sim`, seed by seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

from vtg_lib.experiments.bench.steps import precisions, pytorch_dropout

COLUMN = "MR-full-mAP"
Variant = tuple[Callable[[], AbstractContextManager[None]], Literal["float32", "bfloat16"]]


def accuracy(model: str, device: str, seeds: int = 3, profile: str = "sim") -> dict[str, Any]:
    """Validation mAP of `model`'s row in SDST's Tab. 1: with PyTorch's masks, with ours, and with ours in
    bfloat16.

    Returns:
        per variant the values by seed; per change the mean of the paired differences and its 95 % interval.

    Raises:
        ValueError: the table has no row of this model.
    """
    from vtg_lib.evaluation.statistics import paired_difference
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.run import run
    from vtg_lib.papers import load_paper, row_spec

    paper = load_paper("sdst")
    row = next((row for row in paper.table("tab1").rows if row.model == model), None)
    if row is None:
        raise ValueError(f"bench accuracy: expected a model with a row in SDST's Tab. 1, got {model!r}")
    variants: dict[str, Variant] = {
        "pytorch": (pytorch_dropout, "float32"),
        "fast": (contextlib.nullcontext, "float32"),
    }
    if "bfloat16" in precisions(device):
        variants["bfloat16"] = (contextlib.nullcontext, "bfloat16")
    values: dict[str, dict[int, float]] = {name: {} for name in variants}
    for seed in range(seeds):
        spec = dataclasses.replace(
            row_spec(row, paper.profile(profile), "qvhighlights", seed), diagnostics=()
        )
        for name, (patch, precision) in variants.items():
            trained = dataclasses.replace(spec, train=dataclasses.replace(spec.train, precision=precision))
            with patch():
                result = run(trained, None, Machine(device=device, progress=False))
                values[name][seed] = result.metrics["val"][COLUMN]
    found: dict[str, Any] = {name: list(by_seed.values()) for name, by_seed in values.items()}
    for name, base in (("fast", "pytorch"), ("bfloat16", "fast")):
        if name in values:
            interval = paired_difference(values[name], values[base])
            found[f"{name}_minus_{base}"] = [interval.mean, interval.low, interval.high]
    return found
