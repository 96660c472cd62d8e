"""Pictures of what the renderer makes, beside the statistics of real annotations and the authors' training
logs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vtg_lib.book import figures as plots
from vtg_lib.data.batches import GroundingData
from vtg_lib.evaluation import released as recorded
from vtg_lib.files import RESULTS
from vtg_lib.models import MODELS

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML
    from matplotlib.figure import Figure
    from torch import nn

    from vtg_lib.book.chapter import Chapter

COMMAND = (
    "vtg sweep --paper sdst --profile calibration --tables tab1 --models moment_detr,qd_detr,sdst --seeds 1 "
    "--store results/calibration.jsonl"
)
CALIBRATION = RESULTS / "calibration.jsonl"
SHARES = (("1", "one moment (%)"), ("2", "two (%)"), ("3", "three (%)"))


def statistics_table(splits: Mapping[str, GroundingData]) -> HTML:
    """Annotation statistics of this execution's splits, then of real data sets."""
    import pandas as pd

    from vtg_lib.book.views.common import frame_html
    from vtg_lib.data.statistics import statistics

    found = {f"{split.facts['kind']} {name}": statistics(split.annotations) for name, split in splits.items()}
    found |= {f"{name} (real)": entry["statistics"] for name, entry in recorded.load()["annotations"].items()}
    rows = [
        {
            "annotations": name,
            "queries": entry["queries"],
            **{title: 100 * entry["window_count_share"][key] for key, title in SHARES},
            "length median (s)": entry["window_length"]["median"],
            "length mean (s)": entry["window_length"]["mean"],
            "video (s)": entry["duration"]["mean"],
            "inside moments (%)": 100 * entry["coverage"],
            "words": entry["words_per_query"]["mean"],
            "saliency (0–12)": entry.get("saliency", {}).get("mean", np.nan),
        }
        for name, entry in found.items()
    ]
    return frame_html(pd.DataFrame(rows), digits=1)


def similarity(data: GroundingData, row: int) -> tuple[list[str], np.ndarray]:
    """Cosine of every clip with the sentence's vector, per level (or of the semantic channel), shallowest
    first.

    Returns:
        names and `[K, T]`.
    """
    video = data.video[data.video_index[row], ..., : int(data.video_length[data.video_index[row]]), :].float()
    text = data.text[row].float()
    text = text[-1] if text.dim() == 3 else text
    sentence = text[int(data.text_length[row]) - 1]
    video = video[..., -sentence.shape[0] :]
    video = video if video.dim() == 3 else video[None]
    values = torch.nn.functional.cosine_similarity(video, sentence, dim=-1).numpy()
    last = len(values) - 1
    names = (
        ["semantic channel"]
        if last == 0
        else [f"level −{last - k}" if k < last else "last level" for k in range(last + 1)]
    )
    return names, values


def feature_picture(data: GroundingData, row: int) -> HTML:
    """One query: similarity of clips and sentence per level, under its moments."""
    names, values = similarity(data, row)
    annotation = data.annotations[row]
    seconds = (np.arange(values.shape[1]) + 0.5) * data.clip_length
    figure = _strips(names, values, seconds, annotation["relevant_windows"], data.clip_length)
    inside = np.zeros(values.shape[1], bool)
    for start, end in annotation["relevant_windows"]:
        inside |= (seconds >= start) & (seconds < end)
    gaps = "; ".join(
        f"{name}: {level[inside].mean():.2f} inside, {level[~inside].mean():.2f} outside"
        for name, level in zip(names, values, strict=True)
    )
    alt = f"Similarity of clips with the sentence, by level, for “{annotation['query']}”. Means: {gaps}."
    return plots.show(
        figure,
        alt,
        f"“{annotation['query']}”: cosine of each clip with the sentence. Bars above: the query's moments.",
    )


@plots.styled
def _strips(
    names: Iterable[str],
    values: np.ndarray,
    seconds: np.ndarray,
    windows: Iterable[Iterable[float]],
    clip_length: float,
) -> Figure:
    figure, axes = plots.subplots(size=(6.8, 0.9 + 0.42 * len(values)))
    edges = (0, seconds[-1] + clip_length / 2)
    image = axes.imshow(
        values,
        aspect="auto",
        cmap="cividis",
        extent=(*edges, len(values) - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.grid(False)
    axes.set_yticks(range(len(values)), list(names))
    axes.set_ylim(len(values) - 0.5, -1.1)
    for start, end in windows:
        axes.barh(-0.8, end - start, left=start, height=0.35, color=plots.SERIES[0])
    axes.set_xlabel("seconds")
    figure.colorbar(image, ax=axes, label="cosine", pad=0.02)
    return figure


def text_blind(models: Mapping[str, nn.Module], data: GroundingData) -> pd.DataFrame:
    """mAP with each query's own sentence and with the sentence of another query: what is left without
    reading.
    """
    import pandas as pd

    from vtg_lib.models.inference import evaluate_model

    other = dataclasses.replace(data, text=data.text.roll(1, 0), text_length=data.text_length.roll(1, 0))
    rows = []
    for name, model in models.items():
        own, blind = (evaluate_model(model, split)["brief"] for split in (data, other))
        keys = {"mAP": "MR-full-mAP", "HD mAP": "HL-min-VeryGood-mAP"}
        rows.append(
            {"model": name}
            | {label: own[key] for label, key in keys.items()}
            | {f"{label}, another query's sentence": blind[key] for label, key in keys.items()}
        )
    return pd.DataFrame(rows)


def calibration_runs() -> list[dict[str, Any]]:
    """The stored runs on real annotations that the renderer's defaults rest on."""
    from vtg_lib.experiments.store import Store

    return list(Store(CALIBRATION)) if CALIBRATION.exists() else []


def calibration_figure() -> HTML:
    """Validation mAP by epoch of our runs on rendered features, and of the authors' logs (dashed)."""
    runs = {record["spec"]["model"]: record for record in calibration_runs()}
    x = sorted({epoch for record in runs.values() for epoch in record["curves"]["epoch"]})
    series = {f"{name}, ours": [_at(record, epoch) for epoch in x] for name, record in runs.items()}
    logs = recorded.load()["logs"]
    kept = {
        f"{n}, authors' log": _until(log, max(x, default=15))
        for n, log in logs.items()
        if n in runs or not runs
    }
    values = {name: np.asarray(value, float) for name, value in series.items()}
    figure = plots.curves(x, values, xlabel="epoch", ylabel="mAP (val)", reference=kept)
    ends = ", ".join(
        f"{name} ends at {record['metrics']['last']['MR-full-mAP']:.1f}" for name, record in runs.items()
    )
    return plots.show(
        figure, f"Validation mAP by epoch on rendered features and in the authors' logs; {ends or 'not run'}."
    )


def calibration_table() -> HTML:
    """mAP at the epochs that the authors' logs have, ours beside theirs, and whether it is within 6 points."""
    import pandas as pd

    from vtg_lib.book.views.common import frame_html

    logs, rows = recorded.load()["logs"], []
    for record in calibration_runs():
        log = logs.get(record["spec"]["model"])
        for epoch, theirs in zip(log["epoch"], log["MR-full-mAP"], strict=True) if log else ():
            ours = _at(record, epoch)
            if not np.isnan(ours):
                gap = ours - theirs
                close = "within 6" if abs(gap) <= 6 else "above" if gap > 0 else "below"
                name = record["spec"]["model"]
                row = {
                    "model": name,
                    "epoch": epoch,
                    "log": theirs,
                    "ours": ours,
                    "gap": gap,
                    "verdict": close,
                }
                rows.append(row | {"code": _code(record)})
    return frame_html(
        pd.DataFrame(rows) if rows else pd.DataFrame({"runs on real annotations": [f"not run: {COMMAND}"]})
    )


def _code(record: Mapping[str, Any]) -> str:
    """Whether a run's code is today's, for the model's modules and all that training goes through."""
    from vtg_lib.experiments.provenance import source_digest
    from vtg_lib.experiments.replay import same_code
    from vtg_lib.models import entry

    code = same_code()
    same = code.of(record["provenance"]["source_digest"]) == code.of(
        source_digest(entry(record["spec"]["model"]).module)
    )
    return "today's" if same else f"earlier ({record['provenance']['code_version']})"


def _at(record: Mapping[str, Any], epoch: int) -> float:
    curves = record["curves"]
    values = dict(zip(curves["epoch"], curves["MR-full-mAP"], strict=True))
    return float("nan") if values.get(epoch) is None else float(values[epoch])


def _until(log: Mapping[str, Any], last: int) -> tuple[list[float], list[float]]:
    pairs = [(e, v) for e, v in zip(log["epoch"], log["MR-full-mAP"], strict=True) if e <= max(last, 15)]
    return [e for e, _ in pairs], [v for _, v in pairs]


def spread_table(chapter: Chapter, seeds: Iterable[int] = range(5), limit: float = 2.0) -> HTML:
    """Mean and standard deviation of mAP over seeds at `sim`, for every model of Tab. 1 that the store has."""
    import pandas as pd

    from vtg_lib.book.views.common import frame_html
    from vtg_lib.evaluation.statistics import summarise
    from vtg_lib.experiments.run import find
    from vtg_lib.papers import row_spec

    rows = []
    for row in chapter.paper.table("tab1").rows:
        if row.model is None or row.model not in MODELS:
            continue
        specs = [row_spec(row, chapter.paper.profile("sim"), "qvhighlights", seed) for seed in seeds]
        found = [result for spec in specs if (result := find(chapter.store, spec)) is not None]
        summary = summarise([result.metrics["val"]["MR-full-mAP"] for result in found])
        verdict = (
            "not run" if summary.n < 2 else "small enough" if summary.sd <= limit else f"above {limit:g}"
        )
        seconds = np.median([result.provenance["wall_s"] for result in found]) if found else np.nan
        rows.append(
            {
                "model": row.model,
                "epochs": specs[0].train.epochs,
                "seeds": summary.n,
                "mAP": summary.mean,
                "sd": summary.sd,
                "verdict": verdict,
                "median run (s)": seconds,
            }
        )
    return frame_html(pd.DataFrame(rows))


def real_run_table() -> HTML:
    """The runs on real annotations with rendered features: size, length and result."""
    import pandas as pd

    from vtg_lib.book.views.common import frame_html

    columns = {
        "R1@0.5": "MR-full-R1@0.5",
        "R1@0.7": "MR-full-R1@0.7",
        "mAP": "MR-full-mAP",
        "HD mAP": "HL-min-VeryGood-mAP",
    }
    rows = []
    for record in calibration_runs():
        spec, origin = record["spec"], record["provenance"]
        rows.append(
            {
                "model": spec["model"],
                "width": spec["config"]["width"],
                "feature channels": spec["config"]["video_dim"],
                "parameters (M)": origin["parameters"] / 1e6,
                "epochs": spec["train"]["epochs"],
                "best epoch": origin["best_epoch"],
                **{name: record["metrics"]["val"][key] for name, key in columns.items()},
                "hours": origin["wall_s"] / 3600,
                "device": origin["device"],
                "code": _code(record),
            }
        )
    return (
        frame_html(pd.DataFrame(rows))
        if rows
        else frame_html(pd.DataFrame({"runs on real annotations": [f"not run: {COMMAND}"]}))
    )
