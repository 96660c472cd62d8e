"""`vtg bench`: what this machine needs for the evaluator, loading, a training step and inference.

All parts run in one process, one after the other; times are medians. Nothing heavy is imported before a part
asks for it, because `memory` measures processes that import this package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec

# Not measured here: the public evaluator (jayleicn/moment_detr @ b7e553a, standalone_eval) on a released
# QVHighlights validation file of 1,550 queries, two CPU cores, scikit-learn 1.9: 4.8 s with its 8 workers,
# 7.2 s with one.
RECORDED_REFERENCE_S = 4.8
REFERENCE_SCRIPT = """
import json, sys, time
from standalone_eval.eval import eval_submission
predictions, truth = json.load(sys.stdin)
started = time.perf_counter()
result = eval_submission(predictions, truth, verbose=False)
print(json.dumps([time.perf_counter() - started, result["brief"]]))
"""
QUERIES, CLIPS = 1550, 75  # the QVHighlights validation split
Rows = list[dict[str, Any]]


def run_benchmarks(
    specs: Sequence[RunSpec],
    only: Iterable[str] | None = None,
    *,
    device: str = "cpu",
    data_root: Path | str | None = None,
    reference: Path | str | None = None,
) -> dict[str, Any]:
    """{part: numbers} and the provenance of the machine.

    Args:
        specs: the models to time, at the sizes to time them at; only their data's knobs, config, batch size
            and model count.
        only: parts; default all.
        reference: a checkout of jayleicn/moment_detr, whose evaluator is then timed too.

    Raises:
        ValueError: an unknown part.
    """
    from vtg_lib.experiments.bench import steps
    from vtg_lib.experiments.bench.loading import loading_benchmark
    from vtg_lib.experiments.provenance import provenance

    parts: dict[str, Callable[[], Any]] = {
        "evaluator": lambda: evaluator(data_root, reference),
        "loading": loading_benchmark,
        "step": lambda: [row for spec in specs for row in steps.step_rows(spec, device)],
        "inference": lambda: [steps.inference(spec, device) for spec in specs],
    }
    chosen = list(parts if only is None else only)
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
    from vtg_lib.evaluation.protocol import GroundTruth, evaluate
    from vtg_lib.evaluation.reading import read_jsonl
    from vtg_lib.experiments.bench.steps import timed
    from vtg_lib.files import data_root as find_root

    root = find_root(data_root)
    files = root / "released_predictions/qd_detr_val.jsonl", root / "qvhighlights/highlight_val_release.jsonl"
    real = all(path.exists() for path in files)
    predictions, truth = map(read_jsonl, files) if real else generated_submission()
    packed = GroundTruth.pack(truth)
    found: dict[str, Any] = {
        "file": files[0].name if real else "generated",
        "queries": len(predictions),
        "ours_s": timed(lambda: evaluate(predictions, truth)).median,
        "packed_s": timed(lambda: evaluate(predictions, packed)).median,
    }
    if reference is None:  # no ratio: machines differ by more than a factor of two
        return found | {"reference_recorded_s": RECORDED_REFERENCE_S}
    seconds, theirs = _time_reference(Path(reference), predictions, truth)
    equal = theirs == evaluate(predictions, packed)["brief"]
    return found | {"reference_s": seconds, "times_faster": seconds / found["ours_s"], "equal": equal}


def _time_reference(folder: Path, predictions: Rows, truth: Rows) -> tuple[float, dict[str, float]]:
    if not (folder / "standalone_eval" / "eval.py").exists():
        raise FileNotFoundError(
            f"--reference {folder}: expected a checkout of jayleicn/moment_detr with standalone_eval/eval.py"
        )
    command, rows = [sys.executable, "-c", REFERENCE_SCRIPT], json.dumps([predictions, truth])
    done = subprocess.run(command, cwd=folder, input=rows, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the reference evaluator failed: {done.stderr.strip().splitlines()[-1]}")
    seconds, brief = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, brief


def generated_submission(queries: int = QUERIES, seed: int = 0) -> tuple[Rows, Rows]:
    """A random submission and annotations of the size of the QVHighlights validation split."""
    rng = np.random.default_rng(seed)
    first, count = rng.integers(0, CLIPS - 12, queries), rng.integers(1, 12, queries)
    starts = rng.integers(0, CLIPS - 1, (queries, 10)) * 2.0
    ends = np.minimum(starts + 2 * rng.integers(1, 30, (queries, 10)), 2.0 * CLIPS)
    scores, saliency = np.sort(rng.random((queries, 10)))[:, ::-1], rng.standard_normal((queries, CLIPS))
    rows: Rows = [{"qid": qid, "query": "", "vid": str(qid)} for qid in range(queries)]
    truth = [
        row
        | {
            "duration": 2 * CLIPS,
            "relevant_windows": [[2 * begin, 2 * (begin + clips)]],
            "relevant_clip_ids": list(range(begin, begin + clips)),
            "saliency_scores": rng.integers(0, 5, (clips, 3)).tolist(),
        }
        for row, begin, clips in zip(rows, first.tolist(), count.tolist(), strict=True)
    ]
    windows = np.stack([starts, ends, scores], -1).tolist()
    predictions = [
        row | {"pred_relevant_windows": moments, "pred_saliency_scores": clips}
        for row, moments, clips in zip(rows, windows, saliency.round(3).tolist(), strict=True)
    ]
    return predictions, truth


def describe(found: Mapping[str, Any]) -> str:
    """The numbers as text: one a line, or, of several models, a line each."""
    import pandas as pd

    lines = []
    for part, numbers in found.items():
        frame = pd.json_normalize(numbers)
        few = len(frame) == 1
        text = (frame.T if few else frame).to_string(header=not few, index=few, float_format="{:.4g}".format)
        lines += [part, text]
    return "\n".join(lines)
