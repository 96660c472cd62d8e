"""Views on the task and its data: a query, statistics and distributions, and what the generator makes of
them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures
from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.foundations.page import items, joined, paragraph, part, percent, wrapped
from vtg_lib.book.foundations.parts import NEEDS
from vtg_lib.book.tables import record_html, table
from vtg_lib.data.statistics import GENERATED, distance, generated, profile

if TYPE_CHECKING:
    from IPython.display import HTML

COMPARED = ("QVHighlights train", "Charades-STA train", "TACoS train")  # drawn beside the generated ones
DISTRIBUTIONS = {
    "moments": "moments of a query",
    "relative": "length of a moment / video",
    "seconds": "length of a moment (s)",
    "position": "place in the video",
    "votes": "annotators' scores",
    "words": "words of a query",
}
WORLDS = ("sim", "rendered")  # kinds whose knobs are shown


# ----------------------------------------------------------------------------------------------------- start,
# the task


def overview(chapter: Foundations) -> HTML:
    """What this execution does, and what it does without."""
    p = chapter.parameters
    here = [NEEDS[name][0].lower() for name, measured in chapter.now.items() if measured]
    shown = {
        "profile": f"{p.profile} (nothing is trained here: every profile shows the same; `seeds` and `rerun` change nothing)",
        "device": p.device,
        "measured here": "; ".join(here) or "nothing real: what the record and the generator have",
    }
    return record_html(shown | ({"missing": " ".join(chapter.missing)} if chapter.missing else {}))


@part("examples")
def one_query(chapter: Foundations) -> HTML:
    """The explorer's query with most moments: where they are, and the annotators' saliency."""
    import dataclasses

    query = max(chapter.timelines(), key=lambda sample: len(sample.windows))
    bare = dataclasses.replace(query, predictions={}, saliency={})
    caption = f"QVHighlights val, {query.name}: its moments, and the annotators' saliency (the sum of three, as a share)."
    return plots.show(plots.timeline(bare, width=figures.WIDTH), plots.timeline_alt(bare), caption)


# ------------------------------------------------------------------------------------------------------------
# the data


@functools.cache
def _generated() -> dict[str, Any]:
    return generated()


@part("annotations")
def data_table(chapter: Foundations) -> HTML:
    """Sizes and statistics of every data set with moments, and of the generated annotations."""
    rows = []
    for label, found in {**chapter.found["annotations"], GENERATED: _generated()}.items():
        entry = found["statistics"]
        if "moments" not in found:
            continue
        begins, ends, _ = found["ends"]
        rows.append(
            {
                "annotations": label,
                "queries / videos": f"{entry['queries']} / {entry['videos']}",
                "video (s)": entry["duration"]["mean"],
                "words": entry["words_per_query"]["mean"],
                "moments": entry["windows_per_query"]["mean"],
                "one moment (%)": 100 * found["moments"][0],
                "length, median / mean (s)": _both(
                    entry["window_length"]["median"], entry["window_length"]["mean"]
                ),
                "video inside (%)": 100 * entry["coverage"],
                "begin at 0 / reach the end (%)": _both(100 * begins, 100 * ends),
                "saliency, 0–12": entry.get("saliency", {}).get("mean"),
            }
        )
    return table(rows, digits=1)


def _both(first: float, second: float) -> str:
    return f"{first:.1f} / {second:.1f}"


@part("annotations")
def label_table(chapter: Foundations) -> HTML:
    """The two data sets that have highlight labels and no moments."""
    rows = [
        {
            "annotations": label,
            "videos": found["statistics"]["videos"],
            "domains": found["labels"]["domains"],
            "clips of a video": found["labels"]["clips"],
            "annotators": found["labels"]["annotators"],
            "scores": f"{found['labels']['scores'][0]:g} to {found['labels']['scores'][-1]:g}",
            "words": found["statistics"]["words_per_query"]["mean"],
        }
        for label, found in chapter.found["annotations"].items()
        if "labels" in found
    ]
    return table(rows, digits=1)


@part("annotations")
def data_oddities(chapter: Foundations) -> HTML:
    """What is odd in the published files, and in how many rows."""
    told = {
        "vid span": "name a video by a span that is longer than its `duration` (the duration is right)",
        "no positive clip": "have saliency 0 from everybody on every clip",
        "short window": "have a moment shorter than one clip of the features",
        "repeated query": "repeat a sentence of the same video",
        "clip past the end": "have a clip that reaches past the last frame",
    }
    lines = [
        f"**{label}**: "
        + "; ".join(
            f"{count} of {found['statistics']['queries']} rows {told.get(kind, kind)}"
            for kind, count in found["notes"].items()
        )
        + "."
        for label, found in chapter.found["annotations"].items()
        if found["notes"]
    ]
    return items(lines)


@part("annotations")
def data_figure(chapter: Foundations) -> HTML:
    """Distributions of three real data sets and of the generated annotations."""
    sets = {label: chapter.found["annotations"][label] for label in COMPARED} | {GENERATED: _generated()}
    told = "; ".join(
        f"{label}: {percent(found['moments'][0])} of queries have one moment, median length "
        f"{found['statistics']['window_length']['median']:.0f} s of {found['statistics']['duration']['mean']:.0f} s"
        for label, found in sets.items()
    )
    alt = f"Six panels of distributions of annotations, one line a data set. {told}."
    return plots.show(
        figures.distributions(sets), alt, "Distributions of annotations. Generated ones are evidence sim."
    )


@part("annotations")
def generated_gap(chapter: Foundations) -> HTML:
    """How far the generated distributions are from QVHighlights', as the share that would have to move."""
    real, ours = chapter.found["annotations"]["QVHighlights train"], _generated()
    gaps = {
        name: distance(
            *(profile(shapes[key]) if key == "position" else shapes[key] for shapes in (real, ours))
        )
        for key, name in DISTRIBUTIONS.items()
    }
    rows = [
        {"distribution": name, "share that would have to move (%)": 100 * gap} for name, gap in gaps.items()
    ]
    furthest, nearest = max(gaps, key=lambda n: gaps[n]), min(gaps, key=lambda n: gaps[n])
    text = f"Nearest: {nearest} ({percent(gaps[nearest])}). Furthest: {furthest} ({percent(gaps[furthest])})."
    return joined(table(rows, digits=1), paragraph(text))


def knob_table() -> HTML:
    """Every knob of the generator and the renderer: its default, and its value in the two kinds of world."""
    from vtg_lib.data.knobs import resolve
    from vtg_lib.data.render import RENDER_VERSION

    worlds = {kind: resolve({"kind": kind}) for kind in WORLDS}
    names = dict.fromkeys(
        name for knobs in worlds.values() for name in knobs if name not in ("kind", "seed", "dataset")
    )
    rows = [
        {"knob": name} | {kind: _shown(knobs.get(name)) for kind, knobs in worlds.items()} for name in names
    ]
    return wrapped(
        f"<details><summary>{RENDER_VERSION}: all {len(rows)} knobs</summary>", table(rows), "</details>"
    )


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return (
        ", ".join(f"{item:g}" for item in value)
        if isinstance(value, tuple)
        else f"{value:g}"
        if value != str(value)
        else value
    )
