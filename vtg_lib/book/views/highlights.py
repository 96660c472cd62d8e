"""What chapters display of TVSum and YouTube Highlights: protocols, labels, ranks over domains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtg_lib.book.tables import code, frame_html
from vtg_lib.book.views.common import not_run
from vtg_lib.papers import highlights

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter


def protocols(chapter: Chapter) -> HTML:
    """What each difference of protocol moves in our runs, beside the spread over seeds."""
    found = highlights.moves(chapter.compared["protocols"], chapter.compared["folds"])
    if not found["n"].any():
        return not_run(chapter, "What protocols move", "--tables protocols,folds")
    return frame_html(found)


def labels(chapter: Chapter) -> HTML:
    """What the released labels allow a ranking to score; without the data, how to get it."""
    from IPython.display import HTML

    try:
        found = highlights.label_bounds(chapter.parameters.data_root)
    except FileNotFoundError as error:
        return HTML(f"<p><em>{code(str(error))}</em></p>")
    return frame_html(found)


def domain_ranks(chapter: Chapter, table_id: str, row: str, without: Sequence[str] = ()) -> HTML:
    """A row among the methods of a table over its domains: Friedman's and Nemenyi's tests, paper | ours.
    Printed numbers of the rows `without` are left out.
    """
    import pandas as pd

    both = highlights.domain_ranks(chapter.compared[table_id], row, without)
    found = [(name, each) for name, each in zip(("printed", "ours"), both, strict=True) if each is not None]
    lines = [
        {
            "numbers": name,
            "methods, domains": f"{ranking.test.methods}, {ranking.test.blocks}",
            "Friedman p": f"{ranking.test.p:.2g}",
            "mean ranks": ", ".join(
                f"{method} {rank:.1f}"
                for method, rank in sorted(ranking.test.mean_ranks.items(), key=lambda item: item[1])
            ),
            "critical difference": ranking.distance,
            f"{row} differs from": ", ".join(ranking.apart) or "none",
        }
        for name, ranking in found
    ]
    return frame_html(pd.DataFrame(lines), digits=1)
