"""`vtg bench`: how fast this machine is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vtg_lib.cli.options import (
    DataRoot,
    Device,
    Reply,
    device_of,
    names,
)

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec


def bench(
    *,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS", help="comma-separated: evaluator, loading, step, inference; default: all"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="comma-separated, for the parts that train; default: the first of `vtg models`",
        ),
    ] = None,
    size: Annotated[
        Literal["sim", "paper"] | None,
        typer.Option(help="of model and batch; default: sim, or paper with --record"),
    ] = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="only measure a training step at paper size, into results/efficiency.jsonl"
        ),
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="with --record; default: float16 on a GPU, float32 on a CPU")
    ] = None,
    hook: Annotated[
        str, typer.Option(metavar="NAME", help="what is done to a step's batch, e.g. synthesis")
    ] = "",
    device: Device = "cpu",
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="a checkout of jayleicn/moment_detr, to time its evaluator"),
    ] = None,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg bench`."""
    from vtg_lib.experiments.bench import describe, run_benchmarks
    from vtg_lib.experiments.bench.memory import RECORD, measure, save
    from vtg_lib.models import MODELS

    where, models = device_of(device), names(model) or [next(iter(MODELS))]
    if not record:
        if precision is not None:
            raise ValueError(
                "--precision goes with --record; the parts measure every precision that they are about"
            )
        specs = [_bench_spec(name, size or "sim", hook=hook) for name in models]
        value = run_benchmarks(specs, names(only), device=where, data_root=data_root, reference=reference)
        return Reply(value=value, text=describe(value))
    if size == "sim" or only or reference or hook:
        raise ValueError(
            "--record measures a method's training step at paper size: "
            "leave out --size sim, --only, --reference, --hook"
        )
    # as papers train on a GPU; a CPU has no float16
    precision = precision or ("float16" if where.startswith("cuda") else "float32")
    value = {name: measure(_bench_spec(name, "paper", precision), where) for name in models}
    for measured in value.values():
        save(measured)
    one = len(models) == 1
    return Reply(value=value[models[0]] if one else value, text=f"{describe(value)}\nwritten to {RECORD}")


def _bench_spec(model: str, size: str, precision: str = "float32", hook: str = "") -> RunSpec:
    """`model` at the size of the first paper's profile `sim` that has rows of it, or as published ("paper").

    Raises:
        ValueError: no such model, or no paper with such a profile has a row of it.
    """
    from vtg_lib.experiments.bench.steps import at_paper_size
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.models import entry
    from vtg_lib.papers import load_paper, paper_keys

    entry(model)  # refuses unknown names
    name = "sim" if size == "sim" else "rendered"
    for paper in map(load_paper, paper_keys()):
        if name in paper.profiles and any(row.model == model for table in paper.tables for row in table.rows):
            overrides = paper.profiles[name].overrides(model, "qvhighlights")
            train = {"batch_size": overrides.train.get("batch_size", 32), "learning_rate": 1e-5}
            data = {knob: v for knob, v in overrides.data.items() if knob not in ("dataset", "limit")}
            spec = RunSpec.from_dict(
                {
                    "model": model,
                    "config": dict(overrides.config),
                    "data": data | {"kind": "sim"},
                    "train": train | {"precision": precision, "hook": hook},
                }
            )
            return spec if size == "sim" else at_paper_size(spec)
    raise ValueError(f"no paper has a profile {name} and a row of {model}")
