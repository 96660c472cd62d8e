"""Are queries of the same moment more alike than others? (Sim-DETR, ICCV 2025, Sec. 3)"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F

from vtg_lib.diagnostics.decoder import SERVES, Decoded, of_decoder
from vtg_lib.diagnostics.topic import Histograms, Panel, Record, View, auc, rounded, text

COSINE_BINS = np.linspace(-1, 1, 41)
COLUMNS = 3  # of the figure


@of_decoder
def measure(decoded: Decoded) -> Record:
    """Cosines of pairs of queries of a row.

    A query serves the moment that its prediction overlaps most, from IoU 0.5 on.

    Returns:
        Per layer `[S]`: `same`, `different`: histograms of cosines over `COSINE_BINS` for pairs on the same
        moment and on different moments of one row; `same_mean`, `different_mean`; `auc`: the chance that a
        pair of the first kind is more alike than one of the second (None where a kind has no pair). Empty for
        methods without states.
    """
    if decoded.states is None:
        return {}
    best, moment = decoded.overlap.max(2)  # [S, N, Q]
    states = F.normalize(decoded.states, dim=-1)
    upper = torch.triu(torch.ones(best.shape[-1], best.shape[-1]), 1).bool()
    names = ("same", "different", "same_mean", "different_mean", "auc")
    result: Record = {name: [] for name in names}
    for layer in range(len(best)):
        cosine = states[layer] @ states[layer].transpose(-1, -2)
        serves = best[layer] >= SERVES
        pairs = serves[:, :, None] & serves[:, None] & upper
        alike = moment[layer][:, :, None] == moment[layer][:, None]
        same, different = (cosine[pairs & kind].numpy() for kind in (alike, ~alike))
        for name, values in (("same", same), ("different", different)):
            result[name].append(np.histogram(values.clip(-1, 1), COSINE_BINS)[0].tolist())
            result[f"{name}_mean"].append(rounded(values.mean()) if len(values) else None)
        result["auc"].append(auc(same, different))
    return result


def _told(record: Record) -> str:
    return f"AUC {text(record['auc'][-1], '.2f')}"


def _panels(records: Mapping[str, Record]) -> list[list[Panel]]:
    """One a method, of the last decoder layer."""
    panels = [
        Panel(
            counts={f"{kind} moment": record[kind][-1] for kind in ("same", "different")},
            title=f"{label}\n{_told(record)}",
        )
        for label, record in records.items()
    ]
    return [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)]


VIEW = View(
    title="Cosine similarity of query pairs",
    number=lambda record: record["auc"][-1],
    figure=Histograms(
        panels=_panels,
        edges=COSINE_BINS.tolist(),
        xlabel="cosine of two queries",
        size=(2.0, 1.6),
        told=_told,
        caption="Pairs of queries whose predictions overlap the same moment or different moments of one "
        "video by half or more.",
    ),
)
