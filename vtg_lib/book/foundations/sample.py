"""One generated sample from sentence to metric: what happens in the video, what the features show of it, what
a trained model answers, and what the evaluator makes of that.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.figures import GREY, OURS, PREDICTION, TRUTH, styled, subplots
from vtg_lib.book.foundations import worked
from vtg_lib.book.foundations.chapter import Foundations, page
from vtg_lib.book.foundations.figures import WIDTH
from vtg_lib.book.foundations.record import worked_query
from vtg_lib.book.tables import folded, frame_html, table
from vtg_lib.data.generate import generate
from vtg_lib.data.knobs import configs, resolve
from vtg_lib.data.timeline import FIRST_WORD, Timeline, Vocabulary
from vtg_lib.evaluation.per_query import overlap
from vtg_lib.evaluation.protocol import evaluate

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure
    from torch import nn

    from vtg_lib.data.batches import GroundingData
    from vtg_lib.experiments.spec import RunSpec

PAPER, TABLE, ROW, METHOD = "simdetr", "tab3", "Baseline (TR-DETR)", "TR-DETR"  # whose stored weights answer
TOP = 12  # of an annotator's scores, three of which are added
FIELDS = {"MR-full-R1@0.5": "R1@0.5", "MR-full-R1@0.7": "R1@0.7", "MR-full-mAP@0.5": "AP at IoU 0.5"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A query of a generated split, and a model's answer.

    Attributes:
        timeline: all events of its video; words: of its vocabulary; concepts: ids that the sentence names.
        similarity: `[T]` cosine of every clip's semantic channel with the sentence.
        saliency: `[T]` the annotators' mean as a share; predicted: `[T]` the model's, rescaled to 0..1.
        worked: see `worked_query`; scores: the evaluator's nested numbers of this query alone.
    """

    timeline: Timeline
    words: Sequence[str]
    concepts: tuple[int, ...]
    similarity: np.ndarray
    saliency: np.ndarray
    predicted: np.ndarray
    clip_length: float
    worked: Mapping[str, Any]
    scores: Mapping[str, Any]

    def word(self, concept: int) -> str:
        """What a concept is called."""
        return self.words[concept - FIRST_WORD]


def generated_timelines(spec: Mapping[str, Any], split: str = "val") -> tuple[list[Timeline], Vocabulary]:
    """The timelines that the features of a generated split are rendered from, and its words."""
    known = resolve(spec)
    world, timeline, *_ = configs(known, split)
    vocabulary = Vocabulary()
    _, timelines, index = generate(world, timeline, vocabulary, split, known["seed"])
    return [timelines[place] for place in index], vocabulary


def make(model: nn.Module, data: GroundingData, spec: Mapping[str, Any], method: str) -> Sample:
    """The first query of two moments that a model finds in part: see `worked_query`.

    Args:
        data: the validation split of the specification `spec`.

    Raises:
        ValueError: there is no such query.
    """
    from vtg_lib.book.views.world import similarity
    from vtg_lib.models.inference import predict

    answers = predict(model, data)
    found = worked_query(answers, data.annotations) | {"method": method}
    row = next(n for n, annotation in enumerate(data.annotations) if annotation["qid"] == found["qid"])
    annotation, timelines = data.annotations[row], generated_timelines(spec)
    clips = int(data.video_length[data.video_index[row]])
    scores = np.asarray(answers[row]["pred_saliency_scores"], float)
    return Sample(
        timeline=timelines[0][row],
        words=timelines[1].words,
        concepts=timelines[1].concepts(annotation["query"]),
        similarity=similarity(data, row)[1][-1],
        saliency=data.saliency[row, :clips].numpy() / TOP,
        predicted=(scores - scores.min()) / (np.ptp(scores) or 1.0),
        clip_length=data.clip_length,
        worked=found,
        scores=evaluate([answers[row]], [annotation]),
    )


@functools.lru_cache(maxsize=1)
def sample(chapter: Foundations) -> Sample | None:
    """The chapter's sample, answered by stored weights; None where the store has none."""
    from vtg_lib.experiments.run import find, trained_model
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers import load_paper

    store, spec = Store(chapter.store.path.parent / f"{load_paper(PAPER).chapter}.jsonl"), _spec()
    if find(store, spec) is None:
        return None
    # A video is drawn by its number, so validation is the same whatever other splits there are.
    small = dataclasses.replace(spec, data={**spec.data, "train": 1, "test": 0})
    return make(trained_model(spec, store), chapter.data(small)["val"], small.data, METHOD)


def _spec() -> RunSpec:
    from vtg_lib.papers import load_paper, row_spec
    from vtg_lib.papers.rule import DATASET, PROFILE

    paper = load_paper(PAPER)
    spec = row_spec(paper.table(TABLE).row(ROW), paper.profile(PROFILE), DATASET, 0)
    return dataclasses.replace(spec, keep=True, diagnostics=())


# --- what the page shows


def video(chapter: Foundations) -> HTML:
    """The sample's sentence and video: concepts over time, similarity, moments and saliency."""
    found = sample(chapter)
    return _absent() if found is None else page(video_shown(found), _events(found))


def answers(chapter: Foundations) -> HTML:
    """The model's ranking, and each prediction's overlap with its best true moment."""
    found = sample(chapter)
    if found is None:
        return _absent()
    source = f"Evidence: sim, {METHOD} of chapter {PAPER}, seed 0, stored weights."
    return page(worked.figure(found.worked, source), table(ranks(found), text=("event there",)))


def scores(chapter: Foundations) -> HTML:
    """How these become the query's numbers."""
    found = sample(chapter)
    return _absent() if found is None else page(scores_told(found))


def _absent() -> HTML:
    command = f"`vtg sweep --paper {PAPER} --profile sim --tables {TABLE}`"
    return page(f"One generated sample: no weights of {METHOD} in the store. {command} makes them.")


def video_shown(found: Sample) -> HTML:
    """The figure of `video`."""
    truth = _spans(found.worked["relevant_windows"])
    inside = found.saliency > 0
    shown = [found.word(concept) for concept in found.concepts]
    partly = sum(0 < _shared(event.concepts, found) < len(found.concepts) for event in found.timeline.events)
    alt = (
        f"“{found.worked['query']}” in a video of {found.timeline.duration:.0f} s, four rows over time."
        f" Concepts of the sentence: {', '.join(shown)}; all are shown at the moments, {truth}, and some of"
        f" them at {partly} other events. Mean similarity of clips and sentence: {_mean(found, inside):.2f}"
        f" inside the moments, {_mean(found, ~inside):.2f} outside. Saliency: the annotators' and the"
        " model's."
    )
    caption = (
        f"“{found.worked['query']}” (query {found.worked['qid']} of the generated validation split). Green:"
        " its moments. From the top: which concepts of the sentence events show, and events of other words,"
        " fainter where they are less visible; cosine of the semantic channel with the sentence; saliency,"
        f" the annotators' mean (filled) and {found.worked['method']}'s, rescaled (line)."
    )
    return plots.show(video_figure(found), alt, caption)


@styled
def video_figure(found: Sample) -> Figure:
    """Concepts, similarity and saliency over the seconds of the sample's video."""
    lanes = [*found.concepts, None]  # None: words that the sentence does not have
    heights = [0.26 * len(lanes), 0.9, 0.9]
    figure, (top, middle, low) = subplots(
        3, 1, size=(WIDTH, sum(heights) + 1.0), sharex=True, height_ratios=heights
    )
    for axes in (top, middle, low):
        for start, end in found.worked["relevant_windows"]:
            axes.axvspan(start, end, color=TRUTH, alpha=0.10, linewidth=0)
    for event in found.timeline.events:
        seen = 1.0 if event.salience is None else float(np.mean(event.salience))
        whole = _shared(event.concepts, found) == len(found.concepts)
        for row, lane in enumerate(lanes):
            if lane in event.concepts or (lane is None and set(event.concepts) - set(found.concepts)):
                top.barh(
                    row,
                    event.end - event.start,
                    left=event.start,
                    height=0.7,
                    color=TRUTH if whole else GREY,
                    alpha=0.25 + 0.75 * seen,
                    linewidth=0.6,
                    edgecolor="white",
                )
    names = [found.word(lane) if lane is not None else "other words" for lane in lanes]
    top.set_yticks(range(len(lanes)), names)
    top.set_ylim(len(lanes) - 0.4, -0.6)
    top.grid(axis="y", visible=False)
    seconds = (np.arange(len(found.similarity)) + 0.5) * found.clip_length
    middle.plot(seconds, found.similarity, color=OURS, drawstyle="steps-mid")
    middle.set_ylabel("similarity\n(cosine)")
    low.fill_between(seconds, found.saliency, color=TRUTH, alpha=0.35, step="mid")
    low.plot(seconds, found.predicted, color=PREDICTION, marker="o", markersize=2.5, linewidth=1.2)
    low.set(ylabel="saliency\n(0 to 1)", ylim=(0, 1.05), xlabel="time (seconds)")
    low.set_xlim(0, found.timeline.duration)
    return figure


def _events(found: Sample) -> HTML:
    """All events of the video, on demand."""
    import pandas as pd
    from IPython.display import HTML

    rows = [
        {
            "seconds": f"{event.start:.1f} to {event.end:.1f}",
            "shows": ", ".join(map(found.word, event.concepts)),
            "of the sentence": f"{_shared(event.concepts, found)} of {len(found.concepts)}",
        }
        for event in sorted(found.timeline.events, key=lambda event: event.start)
    ]
    inside = frame_html(pd.DataFrame(rows))
    return HTML(folded(f"The {len(rows)} events of this video", inside.data))


def ranks(found: Sample) -> list[dict[str, Any]]:
    """Every prediction by rank, with the words of the event and the true moment that it overlaps most,
    whether it takes a moment, and precision and recall after it.
    """
    windows = np.array(found.worked["relevant_windows"], float)
    events = np.array([(event.start, event.end) for event in found.timeline.events])
    rows, hits = [], 0
    for rank, step in enumerate(found.worked["steps"]):
        span = np.array([step["start"], step["end"]], float)
        iou, there = (np.nan_to_num(overlap(span, others)) for others in (windows, events))
        shown = found.timeline.events[there.argmax()].concepts if there.any() else ()
        hits += step["0.5"] is not None
        rows.append(
            {
                "prediction": f"{rank + 1}: {step['start']:.1f} to {step['end']:.1f} s",
                "score": step["score"],
                "event there": ", ".join(map(found.word, shown)) or "–",
                "best moment": _spans(windows[[iou.argmax()]]) if iou.any() else None,
                "IoU": float(iou.max()),
                "takes it at 0.5": "yes" if step["0.5"] is not None else "",
                "precision": found.worked["precision"]["0.5"][rank],
                "recall": hits / len(windows),
            }
        )
    return rows


def scores_told(found: Sample) -> list[str]:
    """The steps, then all thresholds and the evaluator's numbers of this query."""
    at = found.scores["full"]["MR-mAP"]
    levels = ", ".join(f"{value:.2f} at {level}" for level, value in at.items() if level != "average")
    brief = found.scores["brief"]
    numbers = ", ".join(f"{name} {brief[key]:.2f}" for key, name in FIELDS.items())
    return [
        *worked.steps(found.worked),
        f"**All thresholds**: AP in percent is {levels}; their mean is {at['average']:.2f}.",
        (
            f"**The evaluator**, given this query alone: {numbers}, mAP {brief['MR-full-mAP']:.2f}. R1 of one"
            " query is 0 or 100; a table has the mean of such numbers over all queries."
        ),
    ]


def _shared(concepts: Sequence[int], found: Sample) -> int:
    return len(set(concepts) & set(found.concepts))


def _mean(found: Sample, clips: np.ndarray) -> float:
    return float(found.similarity[clips].mean())


def _spans(windows: Any) -> str:
    return ", ".join(f"{start:g} to {end:g} s" for start, end in windows)
