"""What a training step at the published size costs on a machine: measured, and kept in
`results/efficiency.jsonl`.

`vtg bench --record --model M` measures; one line per model, device and precision. Every measurement is made
by a process of its own, which does nothing else, so that its peak memory is that of the training. A GPU's
memory is what PyTorch allocated on it; a CPU's is the resident set of the whole process. The two are never
shown in one column (`vtg_lib.book.views.efficiency`).
"""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.files import RESULTS, atomic_write, locked

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec

RECORD = RESULTS / "efficiency.jsonl"
KEY = ("model", "device", "precision")
FIELDS = {*KEY, "size", "torch", "batch", "parameters", "iterations_per_s", "steps", "peak_memory_mb"}
FIELDS |= {"memory", "date", "code_version"}
CUDA_ALLOCATED = "CUDA allocated"
RESIDENT, RESIDENT_WHOLE = "resident set while training", "resident set, making the data included"
MEMORY = (CUDA_ALLOCATED, RESIDENT, RESIDENT_WHOLE)
WARMUP, SECONDS = 2, 20.0  # steps, and for how long they are timed after that


def measure(spec: RunSpec, device: str) -> dict[str, Any]:
    """One record of a training step of `spec`, a model at the published size, from a fresh process.

    Raises:
        ValueError: unknown model, a precision that the device does not have, or the process failed (out of
            memory).
    """
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure_here, spec, device).result()
    except (RuntimeError, ValueError) as error:  # of a process that was killed, too
        raise ValueError(f"measuring {spec.model} on {device} failed: {error}") from error


def measure_here(spec: RunSpec, device: str) -> dict[str, Any]:
    """The record, measured in this process, whose peak memory is only right if it has done nothing else."""
    from vtg_lib.experiments.bench.steps import Step, timed
    from vtg_lib.experiments.provenance import provenance
    from vtg_lib.models import count_parameters

    step, machine = Step(spec, device), provenance(device)
    memory = forget_peak(device)
    for _ in range(WARMUP):
        step()
    times = timed(step, SECONDS)
    shapes = {"video": list(step.batch.video.shape), "text": list(step.batch.text.shape)}
    return {
        "model": spec.model,
        "size": "paper",
        "device": machine["device"],
        "torch": machine["versions"]["torch"],
        "precision": spec.train.precision,
        "batch": {"samples": spec.train.batch_size, **shapes},
        "parameters": count_parameters(step.model),
        "iterations_per_s": 1 / times.median,
        "steps": len(times.times) * times.number_per_run,
        "peak_memory_mb": peak_mb(device),
        "memory": memory,
        "date": machine["date"],
        "code_version": machine["code_version"],
    }


def forget_peak(device: str) -> str:
    """Start the peak of the memory anew where the system can (on Linux); says what the peak then is of."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()
        return CUDA_ALLOCATED
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return RESIDENT_WHOLE
    return RESIDENT


def peak_mb(device: str) -> float:
    """Highest memory in MiB: what PyTorch allocated on a GPU, or the resident set of this process.

    Linux's `VmHWM` comes before `ru_maxrss`, which in a child starts at what its parent had.
    """
    status = Path("/proc/self/status")
    text = "" if device.startswith("cuda") or not status.exists() else status.read_text(encoding="utf-8")
    if found := re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE):
        return int(found[1]) / 2**10
    from vtg_lib.experiments.machine import peak_memory

    return next(iter(peak_memory(device).values()))


def load(path: Path = RECORD) -> list[dict[str, Any]]:
    """The records, sorted by model, device and precision; none if there is no file.

    Raises:
        ValueError: a line is no record.
    """
    records = []
    for number, line in enumerate(path.read_text("utf-8").splitlines() if path.exists() else (), 1):
        try:
            records.append(_checked(json.loads(line)))
        except ValueError as error:
            fix = "remove the line and run `vtg bench --record` again"
            raise ValueError(f"{path}, line {number}: {error}; {fix}") from None
    return records


def _checked(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict) or set(record) != FIELDS:
        raise ValueError(f"expected an object with the fields {', '.join(sorted(FIELDS))}")
    if record["memory"] not in MEMORY:
        raise ValueError(f"memory: expected one of {', '.join(MEMORY)}; got {record['memory']!r}")
    return record


def save(record: Mapping[str, Any], path: Path = RECORD) -> None:
    """Put `record` in place of the line of the same model, device and precision: the new file is there whole,
    or the old.

    Raises:
        ValueError: the record lacks a field, or the file has a line that is no record.
    """
    new = _checked(dict(record))
    with locked(path):  # two measurements that end together keep both lines
        lines = {tuple(old[name] for name in KEY): old for old in [*load(path), new]}
        text = "".join(json.dumps(lines[key], sort_keys=True) + "\n" for key in sorted(lines))
        atomic_write(path, text.encode())
