"""What a column of a paper's table is called in our evaluator."""

from __future__ import annotations

from vtg_lib.papers.schema import Column, Split

# the part of a column's name after its data set or split -> key in the evaluator's "brief" result
METRICS: dict[str, str] = {
    "R1@0.3": "MR-full-R1@0.3",
    "R1@0.5": "MR-full-R1@0.5",
    "R1@0.7": "MR-full-R1@0.7",
    "mIoU": "MR-full-mIoU",
    "mAP@0.5": "MR-full-mAP@0.5",
    "mAP@0.75": "MR-full-mAP@0.75",
    "mAP": "MR-full-mAP",
    "mAP short": "MR-short-mAP",
    "mAP middle": "MR-middle-mAP",
    "mAP long": "MR-long-mAP",
    "HD mAP": "HL-min-VeryGood-mAP",
    "HIT@1": "HL-min-VeryGood-Hit1",
}
PARAMETERS = "#Params (M)"


def _labelled(key: str, domains: dict[str, str]) -> dict[str, str]:
    """Names of a highlight set's columns: its domains, and what an average is of."""
    return {
        **{name: f"{key} {domain}" for name, domain in domains.items()},
        "Avg.": f"{key}, mean of domains",
        "videos": f"{key}, mean of videos",
        **{f"ties {order}": f"{key}, ties {order}" for order in ("won", "lost")},
    }


_TVSUM = ("VT", "VU", "GA", "MS", "PK", "PR", "FM", "BK", "BT", "DS")
_YOUTUBE = ("dog", "gymnastics", "parkour", "skating", "skiing", "surfing")
_SHORT = ("Dog", "Gym.", "Par.", "Ska.", "Ski.", "Sur.")
# The same of columns of one data set alone.
OWN: dict[str, dict[str, str]] = {
    "tvsum": _labelled("HL-top5-mAP", {name: name for name in _TVSUM}),
    "youtube_highlights": _labelled("HL-mAP", dict(zip(_SHORT, _YOUTUBE, strict=True))),
}
# First word of a column's name -> (data set, split). Charades-STA and TACoS are reported on their test
# splits; DETR and ATSS are single heads of a method that fuses both. TVSum and YouTube Highlights have one
# split beside training. Its numbers are those after the last epoch; "-best": after the epoch that is best on
# it, as the field reports; "-unseen": that epoch on further videos, which generated worlds alone have.
PREFIXES: dict[str, tuple[str, Split]] = {
    "test": ("qvhighlights", "test"),
    "val": ("qvhighlights", "val"),
    "Charades": ("charades_sta", "test"),
    "TACoS": ("tacos", "test"),
    "DETR": ("qvhighlights", "val:detr"),
    "ATSS": ("qvhighlights", "val:atss"),
    "TVSum": ("tvsum", "last"),
    "TVSum-best": ("tvsum", "val"),
    "TVSum-unseen": ("tvsum", "test"),
    "YouTube": ("youtube_highlights", "last"),
    "YouTube-best": ("youtube_highlights", "val"),
    "YouTube-unseen": ("youtube_highlights", "test"),
}


def axis_label(name: str) -> str:
    """A column's name with its unit, as an axis has it; the names of other columns tell their unit."""
    return name if column(name).metric in (None, "parameters") else f"{name} (points, 0 to 100)"


def column(name: str, computed: bool = False) -> Column:
    """Read a column's name: `"mAP"`, `"val HD mAP"`, `"TACoS mIoU"`, `"TVSum VT"`, `"#Params (M)"`, or any
    other (no metric).

    With `computed`, the column holds something derived (a rank) rather than the metric it is named after.
    """
    prefix, _, rest = name.partition(" ")
    dataset, split = PREFIXES.get(prefix, ("qvhighlights", "val"))
    metric = OWN.get(dataset, METRICS).get(rest if prefix in PREFIXES else name)
    if name == PARAMETERS:
        return Column(name=name, dataset=None, split=None, metric="parameters")
    if metric is None or computed:
        return Column(name=name, dataset=None, split=None, metric=None)
    return Column(name=name, dataset=dataset, split=split, metric=metric)
