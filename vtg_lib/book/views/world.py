"""What the renderer makes: pictures of features, and statistics beside those of real annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import frame_html
from vtg_lib.data.batches import GroundingData
from vtg_lib.evaluation import released as recorded

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML
    from matplotlib.figure import Figure
    from torch import nn

SHARES = (("1", "one moment (%)"), ("2", "two (%)"), ("3", "three (%)"))


def statistics_table(splits: Mapping[str, GroundingData]) -> HTML:
    """Annotation statistics of this execution's splits, then of real data sets."""
    import pandas as pd

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
    told = "Statistics of these annotations, beside real ones"
    return frame_html(pd.DataFrame(rows), digits=1, fold=told)


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
        axes.barh(-0.8, end - start, left=start, height=0.35, color=plots.TRUTH)
    axes.set_xlabel("time (seconds)")
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
