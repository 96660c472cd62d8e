"""Does saliency rank clips for words and domains that training lacked? (SG-DETR, WACV 2026, Table 3, ZS)

A query is unseen if one of its content words is in no query that the weights were trained on, in runs that
they start from included; worlds hold words out with the knob `unseen_words`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.data.timeline import content_stem, tokenize
from vtg_lib.diagnostics.origin import origin_of
from vtg_lib.diagnostics.saliency_rank import by_row
from vtg_lib.diagnostics.topic import Record, Table, View, known_mean, rounded

KINDS = ("words", "domains")


def measure(model: nn.Module, data: GroundingData) -> Record:
    """The chance that a relevant clip is above another one of its video, mean over rows: see
    `vtg_lib.diagnostics.saliency_rank.by_row`.

    Returns:
        `words`: {seen, unseen} (None without such a row) and {seen_rows, unseen_rows}; `domains`: the same by
        the rows' `domain`, without numbers where they have none. Empty where it is not known what the model
        was trained on.
    """
    origin = origin_of(data)
    rows = None if origin is None else origin.trained_on()
    if rows is None:
        return {}
    known: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for row in rows:
        known["words"] |= words_of(row)
        known["domains"] |= _domain(row)
    ranks = by_row(model, data)["global"]
    shown = data.annotations[: len(ranks)]
    return {
        "words": _split(ranks, [words_of(row) <= known["words"] for row in shown]),
        "domains": _split(
            ranks, [_domain(row) <= known["domains"] if _domain(row) else None for row in shown]
        ),
    }


def words_of(row: Mapping[str, Any]) -> set[str]:
    """The content words of a row's query, as stems."""
    return {stem for word in tokenize(row["query"]) if (stem := content_stem(word))}


def _domain(row: Mapping[str, Any]) -> set[str]:
    return {row["domain"]} if row.get("domain") else set()


def _split(ranks: Iterable[float | None], seen: Iterable[bool | None]) -> Record:
    """Mean and number of the rows that have a rank, by whether they were seen; None is neither."""
    pairs = [(rank, which) for rank, which in zip(ranks, seen, strict=True) if rank is not None]
    found: Record = {}
    for name, wanted in (("seen", True), ("unseen", False)):
        chosen = [rank for rank, which in pairs if which is wanted]
        mean = known_mean(chosen)
        found |= {name: None if mean is None else rounded(mean), f"{name}_rows": len(chosen)}
    return found


def _rows(record: Record) -> dict[str, dict[str, float | None]]:
    return {
        f"{name} {kind}": {"AUC": record[kind][name], "queries": record[kind][f"{name}_rows"]}
        for kind in KINDS
        for name in ("seen", "unseen")
        if record[kind][f"{name}_rows"]
    }


VIEW = View(
    title="Saliency for words and domains that training did not have",
    number=lambda record: record["words"]["unseen"],
    table=Table(rows=_rows, by="queries of", spread={"AUC": "sd"}, digits=3),
)
