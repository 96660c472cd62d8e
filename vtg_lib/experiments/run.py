"""Runs as values: a `RunSpec` says what to train, a `RunResult` what came out and where it came from.

Asking for a run that the store has returns it; otherwise it is trained, from its last checkpoint where it was
interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.experiments.checkpoint import discard_checkpoint, discard_stale
from vtg_lib.experiments.machine import CPU, Machine
from vtg_lib.experiments.origin import parameters, watched
from vtg_lib.experiments.provenance import model_digest, provenance
from vtg_lib.experiments.spec import RunSpec, canonical, check_features
from vtg_lib.experiments.store import Store
from vtg_lib.experiments.weights import kept, pack, read_weights, start_from, unpack, weights_path
from vtg_lib.files import atomic_write, cache_root, locked

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "weights.safetensors"  # in the folder of a run that no store was given
CURVE_POINTS = 32  # epochs that a stored curve keeps
CURVE_METRICS = (
    *("MR-full-mAP", "MR-full-R1@0.5", "MR-full-R1@0.7", "HL-min-VeryGood-mAP"),
    *("HL-top5-mAP, mean of domains", "HL-mAP, mean of domains"),
)


class PausedError(RuntimeError):
    """A run reached its deadline; it has a checkpoint and goes on when it is asked for again."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run, one line of the store.

    metrics: {split: {metric: value}}, the evaluator's "brief" numbers: "val" of the selected epoch, "last" of
    the last one, "test" where the data has a test split (scored once, with the selected epoch), "swapped" of
    the selected epoch on val with every sentence at another video, where there is one: what is found without
    reading; "val:NAME" of the selected epoch read in another way, where a method has `readings` (one of two
    heads, say). curves: {column: [a value per kept epoch]}. diagnostics: {name: {"before": …, "after": …}},
    and for those that are `vtg_lib.diagnostics.OBSERVED` "by_epoch": {epoch: …}. provenance: see
    `vtg_lib.experiments.provenance`.
    """

    hash: str
    spec: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    weights: bytes | None = None  # of the selected epoch, packed; a store keeps them beside the line

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RunResult:
        """The result in one line of a store; fields that this version does not know are ignored."""
        return cls(**{f.name: value[f.name] for f in dataclasses.fields(cls) if f.name in value})

    def to_dict(self) -> dict[str, Any]:
        """One line of a store: plain JSON values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "weights"}


def find(store: Store, spec: RunSpec) -> RunResult | None:
    """The stored result of `spec`, if it has the diagnostics and the weights that the spec asks for.

    A line written before a config gained a field counts as having that field's default: new fields must
    default to what was done before.
    """
    record = store.get(spec.hash)
    if record is None or _current_hash(record) != spec.hash:  # a default has changed since
        record = store.get_alias(spec.hash, _current_hash)
    if record is None or not set(spec.diagnostics) <= set(record.get("diagnostics", {})):
        return None
    if spec.keep and not weights_path(store, record["hash"]).exists():
        return None
    return RunResult.from_dict(record)


def _current_hash(record: Mapping[str, Any]) -> str | None:
    try:
        return RunSpec.from_dict(record["spec"]).hash
    except (ValueError, TypeError, KeyError):  # a model or a field that is gone
        return None


@functools.lru_cache(maxsize=2)
def _load_data(data: str, data_root: str | None) -> dict[str, Any]:
    from vtg_lib import data as data_module

    return data_module.load_data(json.loads(data), root=data_root)


def load_data(spec: RunSpec, data_root: Path | str | None = None) -> dict[str, Any]:
    """The splits of a spec; the last two data sets stay in memory, as many runs share one."""
    return _load_data(canonical(spec.resolved["data"]), None if data_root is None else str(data_root))


def build_model(spec: RunSpec) -> nn.Module:
    """The spec's model as it is before training; rows of an ablation share what parameters they have in
    common.
    """
    from vtg_lib import models
    from vtg_lib.models.initialisation import build_paired

    return build_paired(lambda: models.build(spec.model, spec.config), spec.seed)


def initial_model(
    spec: RunSpec, store: Store | None = None, machine: Machine = CPU
) -> tuple[nn.Module, bytes]:
    """The spec's model as its training begins, and the packed weights that it starts from (none: empty).

    Raises:
        ValueError: see `read_weights` and `start_from`.
    """
    model, packed = build_model(spec), b""
    if spec.init:
        packed = (
            read_weights(spec.init, store)
            if isinstance(spec.init, str)
            else trained_weights(spec.init, store, machine)
        )
        start_from(model, packed, spec.init_scope)
    return model, packed


def initial_parameters(
    spec: RunSpec, store: Store | None = None, machine: Machine = CPU
) -> Callable[[], dict[str, Tensor]]:
    """The parameters of `initial_model`, made when they are asked for."""
    return lambda: parameters(initial_model(spec, store, machine)[0])


def run(
    spec: RunSpec,
    store: Store | None = None,
    machine: Machine = CPU,
    *,
    append: bool = True,
) -> RunResult:
    """The result of `spec`: from the store if it is there, else trained (and stored).

    Args:
        append: False only looks into the store, and leaves the last checkpoint to callers that store the
            result themselves.

    Raises:
        PausedError: the machine's deadline came first.
        ValueError, NonFiniteLossError, CheckpointError: see `vtg_lib.experiments.training.train`.
    """
    if store is not None and not machine.rerun and (found := find(store, spec)) is not None:
        return found
    folder = run_folder(spec, machine)
    with locked(folder):
        # whoever held the lock may have finished this very run
        if store is not None and not machine.rerun and (found := find(store, spec)) is not None:
            return found
        result = _train(spec, folder, machine, store)
        if result.weights is not None and store is None:
            atomic_write(folder / WEIGHTS, result.weights)
        if append:
            if store is not None:
                store_result(store, result)
            discard_checkpoint(folder)
    return result


def store_result(store: Store, result: RunResult) -> None:
    """Add a line, and before it the weights that belong to it: a line says that all of it is there."""
    if result.weights is not None:
        atomic_write(weights_path(store, result.hash), result.weights)
    store.append(result.to_dict())


def run_folder(spec: RunSpec, machine: Machine) -> Path:
    """Where a run keeps its checkpoint and weights: `runs/<hash>-<device type>` in the machine's root."""
    root = cache_root() if machine.checkpoint_root is None else machine.checkpoint_root
    return root / "runs" / f"{spec.hash}-{machine.device.split(':')[0]}"


def trained_model(spec: RunSpec, store: Store | None = None, machine: Machine = CPU) -> nn.Module:
    """The spec's model with its `trained_weights`, on the machine's device."""
    model = build_model(spec)
    start_from(model, trained_weights(spec, store, machine))
    return model.to(machine.device).eval()


def trained_weights(spec: RunSpec, store: Store | None = None, machine: Machine = CPU) -> bytes:
    """The packed weights of the spec's selected epoch: those that the store kept, or those in the cache if
    today's code trained them; else it is trained, and the cache keeps them.
    """
    if store is not None and (packed := kept(store, spec.hash)) is not None:
        return packed
    path = run_folder(spec, machine) / WEIGHTS
    with locked(path):  # several runs may start from this one
        if path.exists():
            packed = path.read_bytes()
            if unpack(packed)[1].get("source_digest") == model_digest(spec.model):
                return packed
        packed = run(dataclasses.replace(spec, keep=True), None, machine).weights
    assert packed is not None
    return packed


def _train(spec: RunSpec, folder: Path, machine: Machine, store: Store | None) -> RunResult:
    from vtg_lib import models
    from vtg_lib.data.views import swapped_text
    from vtg_lib.experiments.training import train
    from vtg_lib.models.inference import evaluate_model

    started = time.time()
    splits = load_data(spec, machine.data_root)
    check_features(spec, splits["train"])
    model, initial = initial_model(spec, store, machine)
    diagnostics: dict[str, Any] = {name: {} for name in spec.diagnostics}
    first = parameters(model)
    val = watched(spec, splits["val"], lambda: first, store, machine.data_root)
    _diagnose(diagnostics, "before", model.to(machine.device), val)
    digest = model_digest(spec.model)
    discard_stale(folder, digest)
    outcome = train(
        model,
        splits["train"],
        splits["val"],
        spec.train,
        seed=spec.seed,
        machine=machine,
        checkpoint_dir=folder,
        identity=f"{spec.hash} {digest}",
        observe=_observer(diagnostics, val),
    )
    if not outcome.finished:
        raise PausedError(f"run {spec.hash} paused after epoch {len(outcome.curves)} of {spec.train.epochs}")
    _diagnose(diagnostics, "after", model, val)
    for row in outcome.curves:
        for name, found in row.get("observed", {}).items():
            diagnostics[name].setdefault("by_epoch", {})[str(row["epoch"])] = found
    metrics = {"val": outcome.best, "last": outcome.last}
    precision = spec.train.precision
    if splits["val"].video_index.unique().numel() > 1:
        metrics["swapped"] = evaluate_model(model, swapped_text(splits["val"]), precision=precision)
    for name, reading in getattr(model, "readings", {}).items():
        metrics[f"val:{name}"] = evaluate_model(reading, splits["val"], precision=precision)
    if "test" in splits:
        metrics["test"] = evaluate_model(model, splits["test"], precision=precision)
    return RunResult(
        hash=spec.hash,
        spec=spec.resolved,
        # a range of lengths without a single query gives NaN, which JSON does not have
        metrics={
            split: {name: value for name, value in nested["brief"].items() if not math.isnan(value)}
            for split, nested in metrics.items()
        },
        curves=thin_curves(outcome.curves),
        diagnostics=diagnostics,
        provenance={
            **provenance(machine.device),
            "source_digest": digest,
            "wall_s": round(outcome.timings["train_s"] + outcome.timings["evaluate_s"], 2),
            "session_s": round(time.time() - started, 2),
            "step_ms": round(outcome.timings["step_ms"], 3),
            **outcome.memory,
            **({"hook": outcome.hook} if outcome.hook else {}),
            "parameters": models.count_parameters(model),
            "best_epoch": outcome.best_epoch,
            "resumed_from": outcome.resumed_from,
            # of a run that went on elsewhere, or with another number of threads
            **({"devices": outcome.devices} if len(outcome.devices) > 1 else {}),
            "data_fingerprint": {name: split.fingerprint for name, split in splits.items()},
            "render_version": spec.resolved["renderer"],
            **({"init_sha256": hashlib.sha256(initial).hexdigest()} if initial else {}),
        },
        weights=pack(model, {"hash": spec.hash, "source_digest": digest}) if spec.keep else None,
    )


def _diagnose(diagnostics: dict[str, Any], when: str, model: nn.Module, data: Any) -> None:
    if not diagnostics:
        return
    from vtg_lib.diagnostics import DIAGNOSTICS

    for name, values in diagnostics.items():
        if name not in DIAGNOSTICS:
            raise ValueError(f"diagnostics: expected some of {', '.join(sorted(DIAGNOSTICS))}; got {name!r}")
        values[when] = DIAGNOSTICS[name](model, data)


def _observer(diagnostics: Mapping[str, Any], data: Any) -> Callable[[nn.Module], dict[str, Any]] | None:
    """What looks at the model after every evaluation: those of the run's diagnostics that are about the
    course of training.
    """
    from vtg_lib.diagnostics import DIAGNOSTICS, OBSERVED

    names = [name for name in diagnostics if name in OBSERVED]
    return (lambda model: {name: DIAGNOSTICS[name](model, data) for name in names}) if names else None


def thin_curves(curves: list[dict[str, Any]], points: int = CURVE_POINTS) -> dict[str, list[float | None]]:
    """Columns with at most `points` of the evaluated epochs, the first and the last always; four significant
    digits.
    """
    rows = [row for row in curves if "val" in row]
    if len(rows) > points:
        rows = [rows[round(i * (len(rows) - 1) / (points - 1))] for i in range(points)]
    flat = [
        {
            "epoch": row["epoch"],
            "step": row["step"],
            "learning_rate": row["learning_rate"],
            "gradient_norm": row["gradient_norm"],
            "loss": sum(row["loss"].values()),
            **{f"loss/{name}": value for name, value in row["loss"].items()},
            **{name: row["val"][name] for name in CURVE_METRICS if name in row["val"]},
        }
        for row in rows
    ]
    columns = {name: [row.get(name) for row in flat] for name in (flat[0] if flat else {})}
    return {name: [_short(value) for value in values] for name, values in columns.items()}


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None
