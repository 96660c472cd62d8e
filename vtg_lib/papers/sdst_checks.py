"""What the SDST paper says about its own numbers, recomputed from the tables that it prints.

Nothing is trained here: ranks (Tab. O), Friedman's and Nemenyi's tests (App. M, Tab. P) and the claims of the
prose follow from printed cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vtg_lib.evaluation import statistics as stats
from vtg_lib.papers.loader import load_paper
from vtg_lib.papers.schema import Paper

OURS = "Ours†"
# Tab. O's name of a method -> its name in Tabs. 1 and 2
IN_TAB2 = {"Moment-DETR": "M-DETR", "Flash-VTG†": "FlashVTG†"}
ALPHA = 0.05


def frame(table_id: str, paper: Paper | None = None) -> pd.DataFrame:
    """The printed numbers of a table: rows by label, columns by name, NaN where nothing is printed."""
    table = (paper or load_paper("sdst")).table(table_id)
    data = {row.label: row.paper for row in table.rows if not row.added}
    return pd.DataFrame.from_dict(data, orient="index", dtype=float)[[c.name for c in table.columns]]


def ranked_scores() -> pd.DataFrame:
    """The numbers behind Tab. O: its 9 methods by its 13 metrics, from Tab. 1 (test) and Tab. 2."""
    tab1, tab2, printed = frame("tab1"), frame("tab2"), frame("tabO")
    scores = pd.DataFrame(index=printed.index, columns=printed.columns, dtype=float)
    for method in printed.index:
        for name in printed.columns:
            source, label = (tab1, method) if name in tab1 else (tab2, IN_TAB2.get(method, method))
            scores.loc[method, name] = source.loc[label, name]
    return scores


def rank_check() -> pd.DataFrame:
    """Tab. O cell by cell, where it disagrees with Tabs. 1 and 2: method, metric, score, printed and
    recomputed rank.

    Ties may be printed as the mean of their places (1.5), the best (1) or in either order: a printed rank
    between the best and the worst place of a tie agrees. "dense rank" counts a tie as one place; where the
    printed rank is that one, the convention differs (and does not suit the test), not the order.
    """
    scores, printed = ranked_scores(), frame("tabO")
    best, worst = (scores.rank(ascending=False, method=m) for m in ("min", "max"))
    mean, dense = stats.ranks(scores), scores.rank(ascending=False, method="dense")
    rows = []
    for metric in printed.columns:
        for method in printed.index:
            p, low, high = (t.loc[method, metric] for t in (printed, best, worst))
            if (np.isnan(p) and np.isnan(low)) or low <= p <= high:
                continue
            rows.append(
                (
                    method,
                    metric,
                    scores.loc[method, metric],
                    p,
                    mean.loc[method, metric],
                    dense.loc[method, metric],
                )
            )
    columns = ["method", "metric", "score", "printed rank", "recomputed rank", "dense rank"]
    return pd.DataFrame(rows, columns=columns)


def friedman_check() -> stats.Friedman:
    """Friedman's test on the complete blocks of Tabs. 1 and 2."""
    return stats.friedman(ranked_scores())


def nemenyi_check() -> pd.DataFrame:
    """Tab. P beside Nemenyi's p values, recomputed from the scores and from Tab. O's printed ranks.

    The rank difference is the method's mean rank over the complete blocks minus ours (positive: ours is
    better); significance needs more than the critical difference.
    """
    printed = frame("tabP")["p-value"]
    scores = ranked_scores()
    test = stats.friedman(scores)
    p = stats.nemenyi(scores)[OURS]
    p_from_ranks = stats.nemenyi(frame("tabO"), higher_is_better=False)[OURS]
    cd = stats.critical_difference(test.methods, test.blocks)
    rows = [
        {
            "method": method,
            "printed p": printed[method],
            "recomputed p": float(p[method]),
            "p from Tab. O": float(p_from_ranks[method]),
            "rank difference": test.mean_ranks[method] - test.mean_ranks[OURS],
            "critical difference": cd,
            "printed different": bool(printed[method] < ALPHA),
            "recomputed different": bool(p[method] < ALPHA),
        }
        for method in printed.index
    ]
    table = pd.DataFrame(rows)
    table["agrees"] = table["printed different"] == table["recomputed different"]
    return table


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper: where, what it says in short, and how to recompute it -> (recomputed, holds)."""

    place: str
    claim: str
    printed: str
    check: Callable[[], tuple[str, bool]]


def claims() -> pd.DataFrame:
    """The paper's claims about its own tables: place, claim, printed, recomputed, agrees."""
    from vtg_lib.papers.sdst_claims import CLAIMS

    rows = []
    for claim in CLAIMS:
        recomputed, agrees = claim.check()
        rows.append((claim.place, claim.claim, claim.printed, recomputed, agrees))
    return pd.DataFrame(rows, columns=["place", "claim", "printed", "recomputed", "agrees"])
