"""`vtg bench`: what this machine needs for the evaluator, loading, a training step, dropout, seeds and
inference.

All parts run in one process, one after the other. Times are medians over repeats, after a warm-up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.experiments.bench import steps as bench_steps
from vtg_lib.experiments.bench.accuracy import accuracy
from vtg_lib.experiments.provenance import provenance

# Not measured here: the public evaluator (jayleicn/moment_detr @ b7e553a, standalone_eval) on a released
# QVHighlights validation file of 1,550 queries, two CPU cores, scikit-learn 1.9: 4.8 s with its 8 workers,
# 7.2 s with one.
RECORDED_REFERENCE_S = 4.8
REFERENCE_SCRIPT = """
import json, sys, time
from standalone_eval.eval import eval_submission
predictions, truth = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
started = time.perf_counter()
result = eval_submission(predictions, truth, verbose=False)
print(json.dumps([time.perf_counter() - started, result["brief"]]))
"""
QUERIES, CLIPS = 1550, 75  # the QVHighlights validation split
LONG = ("accuracy",)  # minutes, so only when asked for


def run_benchmarks(
    only: Iterable[str] | None = None,
    *,
    model: str = "sdst",
    size: str = "sim",
    device: str = "cpu",
    data_root: Path | str | None = None,
    reference: Path | str | None = None,
) -> dict[str, Any]:
    """{part: numbers} and the provenance of the machine.

    Args:
        only: parts; default all but the `LONG` ones.
        size: "sim" (model and batch of the profile `sim`) or "paper" (published sizes, batch 32 of 75 clips).
        reference: a checkout of jayleicn/moment_detr, whose evaluator is then timed too.

    Raises:
        ValueError: an unknown part or model.
    """
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "evaluator": lambda: evaluator(data_root, reference),
        "loading": loading,
        "step": lambda: bench_steps.step(model, size, device),
        "dropout": lambda: bench_steps.dropout(model, size, device),
        "seeds": lambda: bench_steps.seeds(model, size, device),
        "inference": lambda: bench_steps.inference(model, size, device),
        "accuracy": lambda: accuracy(model, device),
    }
    chosen = [part for part in parts if part not in LONG] if only is None else list(only)
    if unknown := sorted(set(chosen) - set(parts)):
        raise ValueError(f"--only: unknown part {', '.join(unknown)}; there are {', '.join(parts)}")
    found: dict[str, Any] = {"machine": provenance(device)}
    for name in chosen:
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        found[name] = parts[name]()
    return found


def evaluator(data_root: Path | str | None = None, reference: Path | str | None = None) -> dict[str, Any]:
    """Our evaluator on one file of 1,550 queries, from lists of dicts as anybody would call it, against the
    reference's.
    """
    from vtg_lib.data import data_root as find_root
    from vtg_lib.evaluation import protocol as metrics
    from vtg_lib.evaluation.submission import read_jsonl

    root = find_root(data_root)
    files = root / "released_predictions/qd_detr_val.jsonl", root / "qvhighlights/highlight_val_release.jsonl"
    real = all(path.exists() for path in files)
    predictions, truth = (read_jsonl(path) for path in files) if real else generated_submission()
    packed = metrics.GroundTruth.pack(truth)
    ours = bench_steps.median_s(lambda: metrics.evaluate(predictions, truth), 20)
    found: dict[str, Any] = {
        "file": files[0].name if real else "generated",
        "queries": len(predictions),
        "ours_s": ours,
        "packed_s": bench_steps.median_s(lambda: metrics.evaluate(predictions, packed), 20),
    }
    if reference is None:  # no ratio: machines differ by more than a factor of two
        return found | {"reference_recorded_s": RECORDED_REFERENCE_S}
    seconds, theirs = _time_reference(Path(reference), predictions, truth)
    equal = theirs == metrics.evaluate(predictions, truth)["brief"]
    return found | {"reference_s": seconds, "times_faster": seconds / ours, "equal": equal}


def _time_reference(
    folder: Path, predictions: list[dict], truth: list[dict]
) -> tuple[float, dict[str, float]]:
    if not (folder / "standalone_eval" / "eval.py").exists():
        raise FileNotFoundError(
            f"--reference {folder}: expected a checkout of jayleicn/moment_detr with standalone_eval/eval.py"
        )
    with tempfile.TemporaryDirectory() as temporary:
        paths = []
        for name, rows in (("predictions", predictions), ("truth", truth)):
            paths.append(str(Path(temporary) / f"{name}.jsonl"))
            Path(paths[-1]).write_text("\n".join(json.dumps(row) for row in rows))
        command = [sys.executable, "-c", REFERENCE_SCRIPT, *paths]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the reference evaluator failed: {done.stderr.strip().splitlines()[-1]}")
    seconds, brief = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, brief


def generated_submission(queries: int = QUERIES, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """A random submission and annotations of the size of the QVHighlights validation split."""
    rng = np.random.default_rng(seed)
    truth, predictions = [], []
    for qid in range(queries):
        first = int(rng.integers(0, CLIPS - 12))
        clips = list(range(first, first + int(rng.integers(1, 12))))
        starts = rng.integers(0, CLIPS - 1, 10) * 2.0
        windows = np.stack(
            [starts, np.minimum(starts + 2 * rng.integers(1, 30, 10), 150), np.sort(rng.random(10))[::-1]], 1
        )
        truth.append(
            {
                "qid": qid,
                "query": "",
                "vid": str(qid),
                "duration": 150,
                "relevant_windows": [[2 * clips[0], 2 * clips[-1] + 2]],
                "relevant_clip_ids": clips,
                "saliency_scores": rng.integers(0, 5, (len(clips), 3)).tolist(),
            }
        )
        predictions.append(
            {
                "qid": qid,
                "query": "",
                "vid": str(qid),
                "pred_relevant_windows": windows.tolist(),
                "pred_saliency_scores": rng.standard_normal(CLIPS).round(3).tolist(),
            }
        )
    return predictions, truth


def loading() -> dict[str, Any]:
    """Loading and collating a sample: three `.npz` files against the resident cache."""
    from vtg_lib.data.official import loading_benchmark

    return dict(loading_benchmark())


def describe(found: Mapping[str, Any]) -> str:
    """The numbers as text, one a line."""
    lines: list[str] = []
    for part, numbers in found.items():
        lines.append(part)
        for name, value in numbers.items():
            if isinstance(value, Mapping):
                value = ", ".join(f"{key} {_number(item)}" for key, item in value.items())
            lines.append(f"  {name:26} {_number(value)}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
