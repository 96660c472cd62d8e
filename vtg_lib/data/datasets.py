"""What the rows of each data set hold: labels, units, limits, and the oddities of its published files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SLACK = 1e-3  # seconds that rounding may add to a window's end


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What the rows of a data set hold.

    Attributes:
        labels: fields that are all there, or all missing in an unlabelled split.
        clip_length: seconds per clip, as clip ids and labels count them.
        duration_unit: seconds that one unit of `duration` stands for.
        regular: whether clips have one length in seconds; YouTube Highlights' have 100 frames at each video's
            own rate.
        known: kinds of notes that the published files have.
        partial: whether rows may have some of the labels only, the same ones in all rows.
        needed: fields that every row must have besides `duration`.
        slack: seconds that a window may end after the video.
        votes: lowest and highest label of a clip; several: whether more than one annotator labels it;
            domains: what a video's may be. None and empty where nothing tells.
    """

    name: str
    labels: tuple[str, ...]
    clip_length: float = 2.0
    duration_unit: float = 1.0
    regular: bool = True
    known: frozenset[str] = frozenset()
    partial: bool = False
    needed: tuple[str, ...] = ("qid", "vid", "query")
    slack: float = SLACK
    votes: tuple[float, float] | None = None
    several: bool | None = None
    domains: tuple[str, ...] = ()


DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            name="qvhighlights",
            labels=("relevant_windows", "relevant_clip_ids", "saliency_scores"),
            known=frozenset({"vid span", "no positive clip"}),
        ),
        Dataset(name="charades_sta", labels=("relevant_windows",), clip_length=1.0),
        Dataset(
            name="tacos", labels=("relevant_windows",), known=frozenset({"repeated query", "short window"})
        ),
        Dataset(
            name="tvsum",
            labels=("label",),
            duration_unit=2.0,
            votes=(1, 5),
            several=True,
            domains=("VT", "VU", "GA", "MS", "PK", "PR", "FM", "BK", "BT", "DS"),
        ),
        Dataset(
            name="youtube_highlights",
            labels=("label",),
            regular=False,
            known=frozenset({"clip past the end"}),
            votes=(0, 1),
            several=False,
            domains=("dog", "gymnastics", "parkour", "skating", "skiing", "surfing"),
        ),
        Dataset(name="generic", labels=("relevant_windows",)),
    )
}
# What the evaluator reads, of whatever data set: queries may be without text, and windows end up to a second
# after the video, as ActivityNet's do.
SCORED = Dataset(
    name="scored",
    labels=("relevant_windows", "saliency_scores"),
    partial=True,
    needed=("qid",),
    slack=1.0,
    known=frozenset(
        {"no positive clip", "overlapping windows", "repeated query", "short window", "unknown field"}
    ),
)
# The same of data sets that label every clip; TVSum's `duration` counts clips, YouTube Highlights' seconds.
LABELLED = Dataset(
    name="labelled", labels=("label",), needed=("qid",), known=SCORED.known | {"clip past the end"}
)
_FOLDERS = {
    "charades": "charades_sta",
    "youtube": "youtube_highlights",
    "qvh": "qvhighlights",
    "highlight_": "qvhighlights",
}


def dataset_of(path: str | Path) -> Dataset:
    """The data set that a file belongs to, from its folder and name; `generic` if neither tells."""
    path = Path(path)
    text = f"{path.parent.name}/{path.name}".lower()
    for name in DATASETS:
        if name in text:
            return DATASETS[name]
    return DATASETS[next((name for part, name in _FOLDERS.items() if part in text), "generic")]
