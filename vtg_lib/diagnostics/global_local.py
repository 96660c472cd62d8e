"""Does a high score mean a good moment? (Sim-DETR, ICCV 2025, Sec. 3)"""

from __future__ import annotations

import numpy as np
from scipy import stats

from vtg_lib.diagnostics.decoder import SERVES, Decoded, of_decoder
from vtg_lib.diagnostics.topic import Record, Table, View, rounded

SCORES = {"class": "class", "iou": "IoU head", "class_iou": "class × IoU head"}


@of_decoder
def measure(decoded: Decoded) -> Record:
    """Scores of the last decoder layer against the true IoU.

    Returns:
        For the score `class` and, with an IoU head, `iou` and `class_iou`: `rank_correlation`, Spearman's rho
        of score and true IoU over the queries of a row, mean over rows (None if no row has a spread of both);
        `top_misses`, share of rows whose best scored moment has an IoU below 0.5 with every true one.
        `best_misses`: the same if the best moment were chosen by its true IoU. Empty for methods without
        decoder layers.
    """
    rows = decoded.mask.any(1)
    overlap = decoded.overlap[-1].amax(1)[rows]  # [N, Q]
    scores = {"class": decoded.scores[-1][rows]}
    if decoded.quality is not None:
        quality = decoded.quality[-1][rows]
        scores |= {"iou": quality, "class_iou": scores["class"] * quality}
    result: Record = {"best_misses": rounded((overlap.amax(1) < SERVES).float().mean())}
    for name, score in scores.items():
        first, second = (stats.rankdata(values.numpy(), axis=1) for values in (score, overlap))
        spread = (first.std(1) > 0) & (second.std(1) > 0)
        rho = [np.corrcoef(a, b)[0, 1] for a, b in zip(first[spread], second[spread], strict=True)]
        top = overlap.gather(1, score.argmax(1, keepdim=True)).squeeze(1)
        result[name] = {
            "rank_correlation": rounded(np.mean(rho)) if rho else None,
            "top_misses": rounded((top < SERVES).float().mean()),
        }
    return result


def _rows(record: Record) -> dict[str, dict[str, float | None]]:
    return {
        label: {
            "Spearman's ρ": record[score]["rank_correlation"],
            "top misses (%)": 100 * record[score]["top_misses"],
            "no query hits (%)": 100 * record["best_misses"],
        }
        for score, label in SCORES.items()
        if score in record
    }


VIEW = View(
    title="Score against IoU",
    table=Table(by="score", rows=_rows, spread={"Spearman's ρ": "sd of ρ", "top misses (%)": "sd of misses"}),
)
