"""Views on the task, its data and its evaluator: a query, statistics and distributions, what the generator
makes of them, one query worked through, and what the evaluator's habits move.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.figures import Timeline
from vtg_lib.book.foundations import figures, worked
from vtg_lib.book.foundations.chapter import Foundations, page, part, percent
from vtg_lib.book.foundations.record import NEEDS
from vtg_lib.book.tables import record_html, table
from vtg_lib.data.knobs import resolve
from vtg_lib.data.render import RENDER_VERSION
from vtg_lib.data.statistics import GENERATED, distance, generated, profile
from vtg_lib.evaluation.per_query import METHODS

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
ODDITIES = {
    "vid span": "name a video by a span that is longer than its `duration` (the duration is right)",
    "no positive clip": "have saliency 0 from everybody on every clip",
    "short window": "have a moment shorter than one clip of the features",
    "repeated query": "repeat a sentence of the same video",
    "clip past the end": "have a clip that reaches past the last frame",
}
WORLDS = ("sim", "rendered")  # kinds whose knobs are shown
_generated = functools.cache(generated)


def overview(chapter: Foundations) -> HTML:
    """What this execution does, and what it does without."""
    here = [NEEDS[name][0].lower() for name, measured in chapter.now.items() if measured]
    same = "nothing is trained here: every profile shows the same; `seeds` and `rerun` change nothing"
    shown = {
        "profile": f"{chapter.parameters.profile} ({same})",
        "device": chapter.parameters.device,
        "measured here": "; ".join(here) or "nothing real: what the record and the generator have",
    }
    return record_html(shown | ({"missing": " ".join(chapter.missing)} if chapter.missing else {}))


def timelines(chapter: Foundations) -> list[Timeline]:
    """The explorer's queries."""
    return [
        Timeline(
            name=f"query {query['qid']}",
            query=query["query"],
            duration=float(query["duration"]),
            windows=query["relevant_windows"],
            predictions={METHODS[name]: windows for name, windows in query["windows"].items()},
            saliency_truth=query["truth"],
            saliency={METHODS[name]: scores for name, scores in query["saliency"].items()},
        )
        for query in chapter.found["examples"].get("queries", [])
    ]


@part("examples")
def one_query(chapter: Foundations) -> HTML:
    """The explorer's query with most moments: where they are, and the annotators' saliency."""
    query = max(timelines(chapter), key=lambda sample: len(sample.windows))
    bare = dataclasses.replace(query, predictions={}, saliency={})
    told = "its moments, and the annotators' saliency (the sum of three, as a share)."
    picture = plots.timeline(bare, width=figures.WIDTH)
    return plots.show(picture, plots.timeline_alt(bare), f"QVHighlights val, {query.name}: {told}")


# --- the data


@part("annotations")
def data_table(chapter: Foundations) -> HTML:
    """Sizes and statistics of every data set with moments, and of the generated annotations."""
    sets = chapter.found["annotations"] | {GENERATED: _generated()}
    rows = [
        {
            "annotations": label,
            "queries / videos": f"{entry['queries']} / {entry['videos']}",
            "video (s)": entry["duration"]["mean"],
            "words": entry["words_per_query"]["mean"],
            "moments": entry["windows_per_query"]["mean"],
            "one moment (%)": 100 * found["moments"][0],
            "length, median / mean (s)": " / ".join(
                f"{entry['window_length'][key]:.1f}" for key in ("median", "mean")
            ),
            "video inside (%)": 100 * entry["coverage"],
            "begin at 0 / reach the end (%)": " / ".join(f"{100 * share:.1f}" for share in found["ends"][:2]),
            "saliency, 0–12": entry.get("saliency", {}).get("mean"),
        }
        for label, found, entry in ((label, found, found["statistics"]) for label, found in sets.items())
        if "moments" in found
    ]
    return table(rows, digits=1)


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
        label: "; ".join(
            f"{count} of {found['statistics']['queries']} rows {ODDITIES.get(kind, kind)}"
            for kind, count in found["notes"].items()
        )
        for label, found in chapter.found["annotations"].items()
    }
    return page([f"**{label}**: {text}." for label, text in told.items() if text])


@part("annotations")
def data_figure(chapter: Foundations) -> HTML:
    """Distributions of three real data sets and of the generated annotations."""
    sets = {label: chapter.found["annotations"][label] for label in COMPARED} | {GENERATED: _generated()}
    told = "; ".join(
        f"{label}: {percent(found['moments'][0])} of queries have one moment, median length"
        f" {found['statistics']['window_length']['median']:.0f} s of"
        f" {found['statistics']['duration']['mean']:.0f} s"
        for label, found in sets.items()
    )
    alt = f"Six panels of distributions of annotations, one line a data set. {told}."
    caption = "Distributions of annotations. Generated ones are evidence sim."
    return plots.show(figures.distributions(sets), alt, caption)


@part("annotations")
def generated_gap(chapter: Foundations) -> HTML:
    """How far the generated distributions are from QVHighlights', as the share that would have to move."""
    sets = chapter.found["annotations"]["QVHighlights train"], _generated()
    shapes = [{**found, "position": profile(found["position"])} for found in sets]
    gaps = {name: distance(*(found[key] for found in shapes)) for key, name in DISTRIBUTIONS.items()}
    rows = [{"distribution": name, "share that would have to move (%)": 100 * gaps[name]} for name in gaps]
    nearest, *_, furthest = sorted(gaps, key=lambda name: gaps[name])
    ends = f"Nearest: {nearest} ({percent(gaps[nearest])}). Furthest: {furthest} ({percent(gaps[furthest])})."
    return page(table(rows, digits=1), ends)


def knob_table() -> HTML:
    """Every knob of the generator and the renderer: its default, and its value in the two kinds of world."""
    from IPython.display import HTML

    worlds = {kind: resolve({"kind": kind}) for kind in WORLDS}
    names = dict.fromkeys(name for knobs in worlds.values() for name in knobs)
    rows = [
        {"knob": name} | {kind: _shown(knobs.get(name)) for kind, knobs in worlds.items()}
        for name in names
        if name not in ("kind", "seed", "dataset")
    ]
    title = f"{RENDER_VERSION}: all {len(rows)} knobs"
    return HTML(f"<details><summary>{title}</summary>{table(rows).data}</details>")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return "–" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


# --- the evaluator


@part("evaluator")
def worked_figure(chapter: Foundations) -> HTML:
    """One query's ranking and its precision-recall curve."""
    return worked.figure(chapter.found["evaluator"]["worked"], chapter.source("evaluator"))


@part("evaluator")
def worked_steps(chapter: Foundations) -> HTML:
    """What the worked example comes to, step by step."""
    return page(worked.steps(chapter.found["evaluator"]["worked"]))


@part("evaluator")
def bounds_list(chapter: Foundations) -> HTML:
    """What the annotations decide before any model is asked."""
    b = chapter.found["evaluator"]["bounds"]
    return page(
        [
            (
                f"{b['over_ten']} of {b['queries']} val queries have more than ten moments, and only ten"
                f" predictions are looked at: perfect predictions reach an mAP of **{b['perfect_map']:.2f}**."
            ),
            (
                f"{b['at_10']}, {b['at_30']} and {b['at_150']} of {b['windows']} moments are exactly 10, 30"
                " and 150 s long: on which side a range is closed decides where they count. They count in"
                " the shorter one."
            ),
            (
                f"{percent(b['no_positive'])} of the pairs of query and annotator have no clip of score 4,"
                " and their AP is 0 whatever is predicted. A model that returned the sum of the three"
                f" annotators' own scores would get an HD mAP of **{b['perfect_hd']:.2f}** and a HIT@1 of"
                f" **{b['perfect_hit']:.2f}**."
            ),
        ]
    )


@part("evaluator")
def habits_table(chapter: Foundations) -> HTML:
    """How often released predictions meet the evaluator's habits, and what these move."""
    rows = [
        {
            "predictions": METHODS[name],
            f"queries with tied windows, of {h['queries']}": h["tied_windows"],
            "mAP moves by, ties broken at random": _moved(h["windows_random"]),
            "queries whose first row is not the best scored": h["unsorted"],
            "queries with tied saliency": h["tied_saliency"],
            "HD mAP moves by, ties broken at random": _moved(h["saliency_random"]),
            "queries with saliency one clip short": h["one_short"],
            "HD mAP moves by, saliency lifted above 0": f"{h['lifted']:+.2f}",
            "windows without length": h["no_length"],
            "mAP short": f"{h['short']:.2f}",
            "mAP short, with short predictions alone": f"{h['short_kept']:.2f}",
        }
        for name, h in chapter.found["evaluator"]["habits"].items()
    ]
    return page(table(rows, across=True), chapter.source("evaluator"))


@part("evaluator")
def habits_told(chapter: Foundations) -> HTML:
    """What ties are worth, beside the differences between methods."""
    habits = chapter.found["evaluator"]["habits"]
    gain, most = max((float(np.mean(h["saliency_random"])), name) for name, h in habits.items())
    names = [f"{name}_val" for name in habits if f"{name}_val" in chapter.scores]
    scores = np.array([chapter.scores[name]["HL-min-VeryGood-mAP"] for name in names])
    gaps = np.abs(scores[:, None] - scores)[np.triu_indices(len(scores), 1)]  # of every pair
    windows = max(abs(value) for h in habits.values() for value in h["windows_random"])
    return page(
        [
            (
                "Breaking ties of saliency at random instead of as one threshold raises HD mAP most for"
                f" {METHODS[most]}, by **{gain:+.2f}**; {(gaps <= gain).sum()} of {len(gaps)} pairs of these"
                " methods are no further apart than that."
            ),
            f"Breaking ties between windows at random moves no mAP by more than **{windows:.2f}**.",
        ]
    )


def _moved(values: list[float]) -> str:
    return f"{np.mean(values):+.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
