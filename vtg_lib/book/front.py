"""The claims of all chapters as one picture and a few sentences, for the README and the book's first page;
all follow from the store.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vtg_lib.book import figures as plots
from vtg_lib.book.figures.style import OURS, PAPER, SKY, STYLE
from vtg_lib.book.views.claims import KEY, XLABEL, decided, gap_rows, gaps_told
from vtg_lib.experiments.store import Store
from vtg_lib.files import RESULTS
from vtg_lib.papers import Paper
from vtg_lib.papers.claims import Judged, judge_claims, runs_behind
from vtg_lib.papers.verdict import DECIDED

LIGHT, DARK = "book/static/claims-light.svg", "book/static/claims-dark.svg"
INK = "#1f2328"
# What each colour of the picture becomes on a dark page.
ON_DARK = {
    INK: "#e6edf3",
    STYLE["axes.edgecolor"]: "#9198a1",
    STYLE["grid.color"]: "#30363d",
    PAPER: "#a8a8a8",
    OURS: SKY,
}
WIDTH, PITCH, LABEL = 9.6, 0.3, 58  # inches, inches a line, characters a line

Claims = list[tuple[Paper, list[Judged], int]]  # a paper, what is known of its claims, from how many runs


def judged(papers: Iterable[Paper], results: Path = RESULTS) -> Claims:
    """The claims of the papers that make any, by the run stores in a folder."""
    found = []
    for paper in papers:
        store = Store(results / f"{paper.chapter}.jsonl")
        if verdicts := judge_claims(paper, store):
            found.append((paper, verdicts, runs_behind(paper, store, verdicts)))
    return found


def sentence(claims: Claims) -> str:
    """How many claims are decided, which way, and from how many runs."""
    every = [one for _, verdicts, _ in claims for one in verdicts]
    kinds = sorted({one.verdict.evidence for one in every if one.verdict.evidence})
    told, counts = decided(every, f"causal claims of {len(claims)} papers")
    runs = sum(number for *_, number in claims)
    evidence = f" (evidence: {', '.join(kinds)})" if kinds else ""
    return f"{told} by {runs} runs{evidence}: {counts}."


def clearest(claims: Claims) -> list[str]:
    """A line for each paper, as the book's first page has it: how many claims are decided, and of those the
    one whose difference is largest beside half its interval.
    """
    lines = []
    for paper, verdicts, _ in claims:
        told, counts = decided(verdicts)
        line = f"[{paper.method or paper.short}](chapters/{paper.chapter}.ipynb): {told} ({counts})."
        settled = [
            (abs(found.mean) / (found.high - found.mean), one, found)
            for one in verdicts
            if one.verdict.word in DECIDED and (found := one.verdict.difference) is not None
        ]
        if settled:
            _, one, found = max(settled, key=lambda entry: entry[0])
            line += (
                f" Clearest: \u201c{one.claim.claim.rstrip('.')}\u201d \u2013 **{one.verdict.word}**, "
                f"{one.claim.number} {found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})."
            )
        lines.append(f"- {line}\n")
    return lines


def page(claims: Claims, coming: Iterable[str], *, live: bool = False) -> str:
    """The picture and the sentences, as the book's first page has them.

    Args:
        coming: papers that no chapter judges yet; live: as a chart, which the rendered page draws.
    """
    parts = [f"**{sentence(claims)}**\n\n{''.join(clearest(claims))}"]
    if names := ", ".join(coming):
        parts.append(f"Not judged yet: {names}.\n")
    if live:
        return "\n".join([*parts, f"{_chart(claims)}\n"])
    for name, theme in ((LIGHT, "only-light"), (DARK, "only-dark")):
        options = f":alt: {alt(claims)}\n:class: {theme}\n:width: 100%"
        parts.append(f"```{{image}} {name.removeprefix('book/')}\n{options}\n```\n")
    return "\n".join([*parts, f"{KEY}\n"])


def _chart(claims: Claims) -> str:
    """The picture with its chart beside it, as HTML."""
    figure = plots.gaps(rows(claims), xlabel=XLABEL, width=WIDTH, pitch=PITCH)
    made = plots.bundle(figure, alt(claims), KEY)
    return plots.page_html(made) or str(made["text/markdown"])


def rows(claims: Claims) -> list[plots.Gap]:
    """The lines of the picture: papers, and below each its claims about mAP that have runs."""
    found: list[plots.Gap] = []
    for paper, verdicts, _ in claims:
        if lines := gap_rows(verdicts, LABEL):
            found += [plots.Gap(label=paper.method or paper.short), *lines]
    return found


def alt(claims: Claims) -> str:
    """The picture in words."""
    return gaps_told([row for row in rows(claims) if row.word])


def markdown(claims: Claims) -> str:
    """The picture and the sentence, as the README has them; the picture itself describes every line."""
    shown = sum(bool(row.word) for row in rows(claims))
    told = f"{shown} claims about mAP, each a difference with its interval"
    return (
        f'<picture>\n<source media="(prefers-color-scheme: dark)" srcset="{DARK}">\n'
        f'<img alt="{told}" src="{LIGHT}">\n</picture>\n\n**{sentence(claims)}**\n{KEY}\n'
    )


def pictures(claims: Claims) -> dict[str, str]:
    """The picture for light and for dark pages: path below the root -> SVG, the same for the same claims."""
    light = _svg(rows(claims), alt(claims))
    dark = light
    for colour, instead in ON_DARK.items():
        dark = dark.replace(colour, instead)
    return {LIGHT: light, DARK: dark}


def _svg(lines: Sequence[plots.Gap], told: str) -> str:
    """As an SVG whose letters are text, which keeps it small, and which holds its text alternative."""
    import matplotlib

    settings: Any = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    settings |= {"svg.fonttype": "none", "svg.hashsalt": "claims"}
    out = io.StringIO()
    with matplotlib.rc_context(settings):
        figure = plots.gaps(lines, xlabel=XLABEL, width=WIDTH, pitch=PITCH)
        about = {"Date": None, "Creator": None, "Description": told}
        figure.savefig(out, format="svg", transparent=True, metadata=about)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
