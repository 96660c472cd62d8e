"""What a chapter displays of decoder queries: stored diagnostics over seeds, and a walk through the layers of
one sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vtg_lib.book import figures as plots
from vtg_lib.book.figures.queries import LayerPicture, decoder_layer, matching_flow, similarity_histograms
from vtg_lib.book.views.common import frame_html, not_run
from vtg_lib.diagnostics.queries import COSINE_BINS, epochs_to_share
from vtg_lib.evaluation.statistics import summarise

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import HTML
    from torch import nn

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.data.batches import GroundingData
    from vtg_lib.experiments.run import RunResult

SCORES = {"class": "class", "iou": "IoU head", "class_iou": "class × IoU head"}
Records = dict[str, list[dict[str, Any]]]  # row -> a diagnostic of each seed


def stored_runs(chapter: Chapter, table: str) -> dict[str, list[RunResult]]:
    """The stored runs of a table's rows, by label, at the first profile with evidence that has any; rows
    without are left out.
    """
    from vtg_lib.experiments.run import find
    from vtg_lib.papers import row_spec
    from vtg_lib.papers.plan import row_datasets

    rows = [row for row in chapter.paper.table(table).rows if row.model is not None]
    seeds = sorted({record["spec"]["seed"] for record in chapter.store})
    for name, size in chapter.paper.profiles.items():
        if size.evidence is None:
            continue
        datasets = row_datasets(chapter.paper.table(table), size)
        found: dict[str, list[RunResult]] = {}
        for row in rows:
            runs = [
                find(chapter.store, row_spec(row, chapter.paper.profile(name), datasets[0], seed))
                for seed in seeds
            ]
            if kept := [run for run in runs if run is not None]:
                found[row.label] = kept
        if found:
            return found
    return {}


def records(chapter: Chapter, table: str, diagnostic: str, when: str = "after") -> Records:
    """A stored diagnostic of a table's rows, by label, one for each seed."""
    found = {
        label: [run.diagnostics.get(diagnostic, {}).get(when) for run in runs]
        for label, runs in stored_runs(chapter, table).items()
    }
    return {label: [record for record in kept if record] for label, kept in found.items() if any(kept)}


def consistency(chapter: Chapter, found: Records, group: str = "all") -> HTML:
    """The flow of moments from layer to layer, mean over seeds."""
    if not found:
        return not_run(chapter, "Matching from layer to layer", "--tables tab3")
    shares = {
        f"{label} (n = {len(kept)})": {
            kind: _mean([record[kind][group] for record in kept]) for kind in ("kept", "swapped", "moved")
        }
        for label, kept in found.items()
    }
    told = "; ".join(
        f"{label}: {', '.join(f'{share:.0%}' for share in value['kept'])} kept"
        for label, value in shares.items()
    )
    caption = "Share of moments whose query in the next decoder layer is the same, was another moment's, or had none."
    return plots.show(matching_flow(shares), f"Matching from layer to layer. {told}.", caption)


def consistency_table(chapter: Chapter, found: Records) -> HTML:
    """Share of moments that keep their query between the last two layers and on average, by moments of the
    query.
    """
    import pandas as pd

    if not found:
        return not_run(chapter, "Matching by number of moments", "--tables tab3")
    rows = []
    for label, kept in found.items():
        for group in kept[0]["moments"]:
            pairs = np.array([[np.nan if v is None else v for v in record["kept"][group]] for record in kept])
            if np.isnan(pairs).all():
                continue
            every = summarise(pairs.mean(1).tolist())
            cells = {f"{i + 1} → {i + 2}": 100 * pairs[:, i].mean() for i in range(pairs.shape[1])}
            rows.append(
                {
                    "row": label,
                    "moments": group,
                    **cells,
                    "all pairs": 100 * every.mean,
                    "sd": 100 * every.sd,
                    "n": every.n,
                }
            )
    return frame_html(pd.DataFrame(rows), digits=1)


def consistency_by_epoch(chapter: Chapter, found: Records) -> HTML:
    """Share of moments that keep their query, mean over pairs of layers, by epoch; found:
    `records(…, when="by_epoch")`.
    """
    if not found:
        return not_run(chapter, "Matching over training", "--tables tab3")
    epochs = sorted({int(epoch) for kept in found.values() for record in kept for epoch in record})
    series = {
        label: np.array(
            [
                [_plain_mean(record.get(str(epoch), {}).get("kept", {}).get("all", [])) for epoch in epochs]
                for record in kept
            ]
        )
        for label, kept in found.items()
    }
    figure = plots.curves(epochs, series, xlabel="epoch", ylabel="share kept")
    told = "; ".join(f"{label} ends at {values[:, -1].mean():.0%}" for label, values in series.items())
    return plots.show(
        figure,
        f"Share of moments that keep their query, by epoch. {told}.",
        "Mean over pairs of layers; bands: ± sd over seeds.",
    )


def similarity(chapter: Chapter, found: Records) -> HTML:
    """Cosines of query pairs in the last decoder layer, counts summed over seeds, AUC averaged."""
    if not found:
        return not_run(chapter, "Similarity of queries", "--tables tab3")
    joined = {label: _joined(kept) for label, kept in found.items()}
    told = "; ".join(f"{label}: AUC {_text(record['auc'][-1])}" for label, record in joined.items())
    caption = "Pairs of queries whose predictions overlap the same moment or different moments of one video by half or more."
    return plots.show(
        similarity_histograms(joined, COSINE_BINS), f"Cosine similarity of query pairs. {told}.", caption
    )


def global_local_table(chapter: Chapter, found: Records) -> HTML:
    """Rank correlation of score and true IoU, and how often the best scored moment misses, by score."""
    import pandas as pd

    if not found:
        return not_run(chapter, "Score against IoU", "--tables tab3")
    rows = []
    for label, kept in found.items():
        for score in SCORES:
            given = [record for record in kept if score in record]
            if not given:
                continue
            rho = summarise([record[score]["rank_correlation"] for record in given])
            miss = summarise([100 * record[score]["top_misses"] for record in given])
            best = summarise([100 * record["best_misses"] for record in given])
            cells = {"row": label, "score": SCORES[score], "Spearman's ρ": rho.mean, "sd of ρ": rho.sd}
            rows.append(
                cells
                | {
                    "top misses (%)": miss.mean,
                    "sd of misses": miss.sd,
                    "no query hits (%)": best.mean,
                    "n": rho.n,
                }
            )
    return frame_html(pd.DataFrame(rows))


def attention_table(chapter: Chapter, found: Records) -> HTML:
    """Attention of matched queries to their own moment and to others, by decoder layer, in percent."""
    import pandas as pd

    if not found:
        return not_run(chapter, "Attention inside the moment", "--tables tab3")
    rows = []
    for label, kept in found.items():
        own, others = (
            100 * np.array([record[kind] for record in kept], dtype=float) for kind in ("own", "others")
        )
        cells = {f"layer {i + 1}": own[:, i].mean() for i in range(own.shape[1])}
        length = 100 * np.mean([record["length"] for record in kept])
        rows.append(
            {
                "row": label,
                **cells,
                "other moments, last layer": others[:, -1].mean(),
                "length of moments": length,
                "n": len(kept),
            }
        )
    return frame_html(pd.DataFrame(rows), digits=1)


def convergence_table(chapter: Chapter, table: str) -> HTML:
    """Epochs until a run reaches 90 % of its last validation mAP, of those that were evaluated; and where
    runs ended.

    Highlights are learned first, and from the sentence: the run of a row that ranks clips worst shows whether
    it was read.
    """
    import pandas as pd

    found = stored_runs(chapter, table)
    if not found:
        return not_run(chapter, "Convergence", f"--tables {table}")
    rows = []
    for label, runs in found.items():
        epochs, moments, highlights = (
            [np.array(run.curves[name], dtype=float).tolist() for run in runs]
            for name in ("epoch", "MR-full-mAP", "HL-min-VeryGood-mAP")
        )
        whole = summarise([epochs_to_share(*curve) for curve in zip(epochs, moments, strict=True)])
        cells: dict[str, Any] = {"row": label, "epochs to 90 %": whole.mean, "sd": whole.sd}
        for name, curves in (("mAP", moments), ("HD mAP", highlights)):
            last = [curve[-1] for curve in curves]
            cells |= {f"last {name}": np.mean(last), f"lowest {name}": min(last)}
        rows.append(cells | {"n": whole.n})
    return frame_html(pd.DataFrame(rows), digits=1)


# ------------------------------------------------------------------------------------------------------------
# one sample


def layer_pictures(
    model: nn.Module, data: GroundingData, rows: Sequence[int]
) -> dict[str, list[LayerPicture]]:
    """What a DETR-style model does on some rows, decoder layer by decoder layer: query -> a picture a layer."""
    from vtg_lib.layers.query_relation import class_score
    from vtg_lib.losses.matching import MatchCost, match
    from vtg_lib.models.inference import evaluation_mode
    from vtg_lib.spans import cw_to_se

    device = next(model.parameters()).device
    with evaluation_mode(model, device):
        batch = data.batch(torch.as_tensor(list(rows))).to(device)
        output = model(batch, trace=True)
    layers, score = output.layers, class_score(output.layers)
    matches = match(layers["spans"], score, batch.spans, batch.span_mask, MatchCost())
    rank = score * layers["iou"] if "iou" in layers else score
    factor = output.trace.get("attention_factor")
    found: dict[str, list[LayerPicture]] = {}
    for sample, row in enumerate(rows):
        annotation, clips = data.annotations[row], int(batch.video_mask[sample].sum())
        seconds = clips * data.clip_length
        served = torch.full(layers["spans"].shape[:1] + layers["spans"].shape[2:3], -1)
        for moment in range(int(batch.span_mask[sample].sum())):
            for layer in range(len(served)):
                if matches.valid[layer, sample, moment]:
                    served[layer, matches.query[layer, sample, moment]] = moment
        found[annotation["query"]] = [
            LayerPicture(
                query=annotation["query"],
                layer=layer + 1,
                seconds=seconds,
                moments=[tuple(window) for window in annotation["relevant_windows"]],
                spans=(cw_to_se(layers["spans"][layer, sample]).clamp(0, 1) * seconds).float().cpu().numpy(),
                rank=rank[layer, sample].float().cpu().numpy(),
                served=served[layer].numpy(),
                attention=output.trace["clip_attention"][layer, sample, :, :clips].float().cpu().numpy(),
                factor=factor[layer, sample].float().cpu().numpy()
                if factor is not None and layer < len(factor)
                else None,
            )
            for layer in range(len(served))
        ]
    return found


def layer_explorer(
    models: Mapping[str, nn.Module], data: GroundingData, rows: Sequence[int]
) -> ipywidgets.VBox:
    """Step through samples, methods and decoder layers: predictions, matching, ranks, attention, S_attn."""
    from vtg_lib.book.widgets import picture_explorer

    walks = {name: layer_pictures(model, data, rows) for name, model in models.items()}
    pictures = {}
    for number, query in enumerate(next(iter(walks.values())), 1):
        for name, walk in walks.items():
            for picture in walk[query]:
                matched = np.flatnonzero(picture.served >= 0) + 1
                alt = f"{name}, layer {picture.layer}: moments are matched to queries {', '.join(map(str, matched))}."
                element = plots.figure_html(decoder_layer(picture), alt, f"{query}. {alt}")
                pictures[f"{number}. {query[:34]} | {name} | layer {picture.layer}"] = element
    return picture_explorer(pictures, description="step")


def _mean(values: Sequence[Sequence[float | None]]) -> list[float]:
    """Mean over the seeds that have a value, position by position; 0 where none has."""
    array = np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
    return np.ma.masked_invalid(array).mean(0).filled(0.0).tolist()


def _plain_mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _joined(kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = {
        kind: np.sum([record[kind] for record in kept], axis=0).tolist() for kind in ("same", "different")
    }
    layers = range(len(kept[0]["auc"]))
    auc = [[record["auc"][layer] for record in kept if record["auc"][layer] is not None] for layer in layers]
    return counts | {"auc": [float(np.mean(values)) if values else None for values in auc]}


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
