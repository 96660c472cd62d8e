"""What a training step at the published size costs on a machine: measured, kept in
`results/efficiency.jsonl`, shown.

`vtg bench --record --model M` measures; one line per model, device and precision. Every measurement is made
by a process of its own, which does nothing else, so that its peak memory is that of the training. A GPU's
memory is what PyTorch allocated on it; a CPU's is the resident set of the whole process. The two are never
shown in one column.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.files import RESULTS, ROOT, atomic_write, locked

if TYPE_CHECKING:
    from vtg_lib.papers.evidence import RowResults, TableResults

RECORD = RESULTS / "efficiency.jsonl"
KEY = ("model", "device", "precision")
FIELDS = frozenset(
    {*KEY, "size", "torch", "batch", "parameters", "iterations_per_s", "steps", "peak_memory_mb", "memory"}
    | {"date", "code_version"}
)
CUDA_ALLOCATED = "CUDA allocated"
RESIDENT, RESIDENT_WHOLE = "resident set while training", "resident set, making the data included"
MEMORY = (CUDA_ALLOCATED, RESIDENT, RESIDENT_WHOLE)
LEAST_STEPS, MOST_STEPS, SECONDS = 5, 200, 20.0  # steps are timed for SECONDS, within these bounds
MEMORY_COLUMN, RATE_COLUMN = "Memory (GB)", "Runtime (it/s)"


# ---------------------------------------------------------------------------------------------------------
# measurement


def default_precision(device: str) -> str:
    """float16 on a GPU, as papers train there; float32 on a CPU, which has no float16."""
    return "float16" if device.startswith("cuda") else "float32"


def measure(model: str, device: str, precision: str | None = None) -> dict[str, Any]:
    """One record of a training step at the published size, from a fresh process.

    Args:
        precision: of `vtg_lib.models.inference.PRECISIONS`; default as `default_precision`.

    Raises:
        ValueError: unknown model, a precision that the device does not have, or the process failed (out of
            memory).
    """
    import torch

    from vtg_lib import models
    from vtg_lib.models.inference import PRECISIONS, autocast

    precision = precision or default_precision(device)
    models.entry(model)
    if precision not in PRECISIONS:
        raise ValueError(f"--precision: expected one of {', '.join(PRECISIONS)}; got {precision!r}")
    autocast(torch.device(device), precision)  # refuses what the device cannot do before anything is made
    command = [sys.executable, "-m", "vtg_lib.experiments.bench.memory", model, device, precision]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message; it may have been killed for its memory"])[
            -1
        ]
        raise ValueError(f"measuring {model} on {device} failed (exit code {done.returncode}): {last}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measure_here(model: str, device: str, precision: str) -> dict[str, Any]:
    """The record, measured in this process, whose peak memory is only right if it has done nothing else."""
    import torch

    from vtg_lib.experiments.bench.steps import prepare
    from vtg_lib.experiments.config import TrainConfig
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.provenance import provenance
    from vtg_lib.experiments.training import _Trainer
    from vtg_lib.models import count_parameters

    cuda = device.startswith("cuda")
    bench = prepare(model, "paper", device)
    rows = torch.arange(bench.batch_size)
    batch = bench.data.batch(rows)
    memory = CUDA_ALLOCATED if cuda else _forget_peak()
    config = TrainConfig(batch_size=bench.batch_size, learning_rate=1e-5, precision=precision)  # type: ignore[arg-type]
    trainer = _Trainer(
        bench.model, bench.data, bench.data, config, seed=0, machine=Machine(device=device, progress=False)
    )

    def step() -> None:
        trainer._step(rows)
        if cuda:
            torch.cuda.synchronize()

    seconds = _step_seconds(step, warmup=10 if cuda else 2)
    machine = provenance(device)
    return {
        "model": model,
        "size": "paper",
        "device": machine["device"],
        "torch": machine["versions"]["torch"],
        "precision": precision,
        "batch": {"samples": len(rows), "video": list(batch.video.shape), "text": list(batch.text.shape)},
        "parameters": count_parameters(bench.model),
        "iterations_per_s": 1 / statistics.median(seconds),
        "steps": len(seconds),
        "peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else peak_resident_mb(),
        "memory": memory,
        "date": machine["date"],
        "code_version": machine["code_version"],
    }


def _step_seconds(step: Callable[[], None], warmup: int) -> list[float]:
    for _ in range(warmup):
        step()
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < LEAST_STEPS or (
        len(seconds) < MOST_STEPS and time.perf_counter() - started < SECONDS
    ):
        before = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - before)
    return seconds


def _forget_peak() -> str:
    """Start the peak of the resident set anew where the system can (Linux); says what the peak then is of."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return RESIDENT_WHOLE
    return RESIDENT


def peak_resident_mb() -> float:
    """Highest resident set of this process, in MiB.

    Linux's `VmHWM` comes first: `ru_maxrss` of a child process starts at what its parent had.
    """
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) / 2**10
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# ----------------------------------------------------------------------------------------------------------
# the record


def load(path: Path = RECORD) -> list[dict[str, Any]]:
    """The records, sorted by model, device and precision; none if there is no file.

    Raises:
        ValueError: a line is no record.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            _check(record)
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: {error}; remove the line and run `vtg bench --record` again"
            ) from None
        records.append(record)
    return records


def _check(record: Any) -> None:
    if not isinstance(record, dict) or set(record) != FIELDS:
        raise ValueError(f"expected an object with the fields {', '.join(sorted(FIELDS))}")
    if record["memory"] not in MEMORY:
        raise ValueError(f"memory: expected one of {', '.join(MEMORY)}; got {record['memory']!r}")


def save(record: Mapping[str, Any], path: Path = RECORD) -> None:
    """Put `record` in place of the line of the same model, device and precision: the new file is there whole,
    or the old.

    Raises:
        ValueError: the record lacks a field, or the file has a line that is no record.
    """
    _check(dict(record))
    with locked(path):  # two measurements that end together keep both lines
        lines = {_key(old): old for old in load(path)} | {_key(record): dict(record)}
        rows = [json.dumps(lines[key], sort_keys=True) + "\n" for key in sorted(lines)]
        atomic_write(path, "".join(rows).encode())


def _key(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(record[name] for name in KEY)


# ------------------------------------------------------------------------------------------------------------- display


def table_html(results: TableResults, records: Sequence[Mapping[str, Any]]) -> str:
    """Parameters, memory and speed of a table's rows, paper | ours, one line per device that we measured on.

    Columns that the table lacks are left out. A row is measured as the published model, so rows with
    overrides are not.
    """
    printed = [column.name for column in results.table.columns]
    names = [name for name in ("#Params (M)", MEMORY_COLUMN, RATE_COLUMN) if name in printed]
    head = "".join(f'<th scope="colgroup" colspan="2">{html.escape(_shown(name))}</th>' for name in names)
    rest = "".join(
        f'<th rowspan="2" scope="col">{name}</th>'
        for name in ("CPU process memory (GB), ours", "our device", "measured")
    )
    pairs = '<th scope="col">paper</th><th scope="col">ours</th>' * len(names)
    body = "".join(_row(row, names, records) for row in results.rows)
    title = f"{results.table.title} ({results.table.place}). {results.table.caption} Paper | measured here."
    return (
        f'<div class="vtg-scroll" role="region" tabindex="0" aria-label="{html.escape(results.table.title)}, efficiency">'
        f"<table><caption>{html.escape(title)}</caption>"
        f'<thead><tr><th rowspan="2" scope="col">row</th>{head}{rest}</tr><tr>{pairs}</tr></thead><tbody>{body}</tbody></table>'
        f"{_notes(results, records)}</div>"
    )


def _shown(name: str) -> str:
    return "GPU memory (GB)" if name == MEMORY_COLUMN else name


def _row(row: RowResults, names: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str:
    found = _records_of(row, records)
    counted = None if row.counted is None else row.counted.summary("#Params (M)").mean
    shown: list[Mapping[str, Any] | None] = [*found] or [None]
    lines = []
    for number, record in enumerate(shown):
        cells = []
        for name in names:
            cells.append(_number(row.row.paper[name]) if number == 0 else "")
            cells.append(_ours(name, record, counted))
        cells.append(_gigabytes(record) if record is not None and record["memory"] != CUDA_ALLOCATED else "")
        if record is None:
            cells += ["", _why_not(row)]
        else:
            cells += [html.escape(f"{record['device']}, {record['precision']}"), _measured(record, counted)]
        label = (
            f'<th scope="rowgroup" rowspan="{len(shown)}">{html.escape(row.row.label)}</th>'
            if number == 0
            else ""
        )
        lines.append(f"<tr>{label}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return "".join(lines)


def _records_of(row: RowResults, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if row.row.model is None or row.row.overrides.config:
        return []
    return [record for record in records if record["model"] == row.row.model]


def _ours(name: str, record: Mapping[str, Any] | None, counted: float | None) -> str:
    if name == "#Params (M)":
        return _number(counted if record is None else record["parameters"] / 1e6)
    if record is None:
        return ""
    if name == MEMORY_COLUMN:
        return _gigabytes(record) if record["memory"] == CUDA_ALLOCATED else ""
    return _number(record["iterations_per_s"])


def _why_not(row: RowResults) -> str:
    from vtg_lib.models import MODELS

    if row.row.model is None:
        return "quoted"
    if row.row.model not in MODELS:
        return "not measured: the method is not in the library"
    if row.row.overrides.config:
        return "not measured: only published models are"
    return f"not measured: <code>{html.escape(command(row.row.model))}</code>"


def command(model: str) -> str:
    """The command that measures `model`."""
    return f"vtg bench --record --model {model}"


def _measured(record: Mapping[str, Any], counted: float | None) -> str:
    batch = record["batch"]
    text = f"{record['date'][:10]}, batch of {batch['samples']}, torch {record['torch']}, code {record['code_version']}"
    if counted is not None and abs(counted * 1e6 - record["parameters"]) >= 1:
        text += f"; out of date: the model now has {counted:.2f} M parameters"
    return html.escape(text)


def _notes(results: TableResults, records: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "Absolute memory and speed on another device than the paper's cannot be compared with it; within one device, rows can.",
        "Our GPU memory is the peak that PyTorch allocated; CPU process memory is the peak resident set, interpreter and "
        "libraries included, and is no counterpart of the paper's. Data is resident and generated: loading costs nothing.",
        *_relative(results, records),
    ]
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _relative(results: TableResults, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Speed relative to the first measured row, which can be compared with the paper's: one sentence per
    device.
    """
    rates: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for row in results.rows:
        printed = row.row.paper.get(RATE_COLUMN)
        if printed is None:
            continue
        for record in _records_of(row, records):
            where = record["device"], record["precision"]
            rates.setdefault(where, []).append((row.row.label, printed, record["iterations_per_s"]))
    lines = []
    for (device, precision), ((base, paper, ours), *others) in sorted(rates.items()):
        told = "; ".join(
            f"{label} {p / paper:.2f} in the paper, {o / ours:.2f} in ours" for label, p, o in others
        )
        if told:
            lines.append(f"Iterations per second relative to {base} on {device}, {precision}: {told}.")
    return lines


def _gigabytes(record: Mapping[str, Any]) -> str:
    return _number(record["peak_memory_mb"] * 2**20 / 1e9)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


if __name__ == "__main__":
    print(json.dumps(measure_here(*sys.argv[1:4])))
