"""A checked submission against checked annotations: every number that there is, and a word for each that
there is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from vtg_lib.evaluation import protocol
from vtg_lib.evaluation.arrays import GroundTruth
from vtg_lib.evaluation.highlights import Ties, highlight_map, positives, read_labels
from vtg_lib.evaluation.problems import SubmissionError
from vtg_lib.evaluation.submission import CLIP, SALIENCY, WINDOWS, Row, clip_counts

Protocol = Literal["qvhighlights", "tvsum", "youtube"]
LONGEST = protocol.LENGTH_RANGES["long"][1]
# Of the protocols for labelled clips: what the metric is called, and how many of the best clips count.
METRICS: dict[str, tuple[str, int | None]] = {"tvsum": ("HL-top5-mAP", 5), "youtube": ("HL-mAP", None)}
VOTES = (1.0, 5.0)  # TVSum's scale


def evaluate(
    predictions: Sequence[Row],
    ground_truth: Sequence[Row],
    *,
    name: Protocol | None = None,
    recall: bool = False,
    match_number: bool = True,
    clip_length: float | None = None,
    ties: Ties = "in time",
) -> tuple[dict[str, Any], list[str]]:
    """Nested metrics, and notes on what they leave out.

    Args:
        name: of the protocol; by default that of the labels: every clip labelled is TVSum's, or YouTube
            Highlights' where one annotator did it, anything else QVHighlights'.
        recall: add R1@{0.3, 0.5, 0.7} and mIoU, as Charades-STA and TACoS are reported.
        match_number, clip_length: see `submission.check`; clip_length of labelled clips, and ties, see
            `highlights.highlight_map`.

    Returns:
        `brief` and more, see `protocol.evaluate`; `recall`; for labelled clips `brief` and `domains`.

    Raises:
        SubmissionError: nothing can be scored, or the labels are not the protocol's.
    """
    labelled = [row for row in ground_truth if row.get("label")]
    if name is None:
        several = any(len(row["label"][0]) > 1 for row in labelled)
        name = ("tvsum" if several else "youtube") if labelled else "qvhighlights"
    if name != "qvhighlights":
        return _labelled(predictions, ground_truth, name, ties, clip_length, match_number)
    truth = GroundTruth.pack(ground_truth, clip_length=clip_length or CLIP)
    nested = protocol.evaluate(predictions, truth, match_number=match_number)
    if recall:
        nested["recall"] = protocol.recall_and_miou(predictions, truth, match_number=match_number)
    return nested, _notes(predictions, ground_truth, truth, match_number)


def _labelled(
    predictions: Sequence[Row],
    ground_truth: Sequence[Row],
    name: Protocol,
    ties: Ties,
    clip_length: float | None,
    match_number: bool,
) -> tuple[dict[str, Any], list[str]]:
    every, told = len(ground_truth), []
    if not match_number:
        asked, answered = ({row["qid"] for row in rows} for rows in (ground_truth, predictions))
        ground_truth = [row for row in ground_truth if row["qid"] in answered]
        predictions = [row for row in predictions if row["qid"] in asked]
        told.append(f"{len(ground_truth)} of {every} videos of the annotations are scored")
    if any(not row.get("label") for row in ground_truth) or not all(SALIENCY in row for row in predictions):
        raise SubmissionError.single(
            expected=f"annotations with `label` and predictions with {SALIENCY} in every row, for {name}",
            got="rows without",
            fix="give the files of a highlight data set, or another protocol",
        )
    for row in ground_truth:
        _expect_annotators(row, name)
    key, top_k = METRICS[name]

    def scored(order: Ties) -> tuple[dict[str, float], float, float]:
        found = highlight_map(predictions, ground_truth, top_k=top_k, ties=order, clip_length=clip_length)
        domains, videos = found["domains"], found["mAP"]
        assert isinstance(domains, dict) and isinstance(videos, float)
        return domains, round(sum(domains.values()) / len(domains), 2) if domains else videos, videos

    domains, mean, videos = scored(ties)
    brief = {f"{key} {domain}": value for domain, value in domains.items()}
    if domains:
        brief[f"{key}, mean of domains"] = mean
    brief[f"{key}, mean of videos"] = videos
    brief |= {f"{key}, ties {order}": scored(order)[1] for order in ("won", "lost")}
    notes = told if domains else [*told, "no row has a domain: the mean is over videos"]
    notes += _about_labels(ground_truth, name)
    of = {row["qid"]: len(row[SALIENCY]) for row in predictions}
    more = sum(of[row["qid"]] > len(row["label"]) for row in ground_truth)
    if more and clip_length is None:
        notes.append(
            f"{more} of {len(ground_truth)} videos have more scores than labels: the last are left out"
        )
    return {"brief": brief, "domains": domains}, [*notes, *_constant(predictions)]


def _expect_annotators(row: Row, name: Protocol) -> None:
    """Refuse labels of the other protocol, which would be scored without a word."""
    annotators = read_labels(row).shape[1]
    if (annotators > 1) == (name == "tvsum"):
        return
    several = name == "tvsum"
    raise SubmissionError.single(
        place=f"annotations, qid {row['qid']!r}",
        field="label",
        expected="votes of several annotators a clip (TVSum)" if several else "one label a clip (YouTube)",
        got=f"{annotators} annotator{'s' if annotators > 1 else ''}",
        fix=f"score by the protocol {'youtube' if several else 'tvsum'}, or give the other annotations",
    )


def _about_labels(ground_truth: Sequence[Row], name: Protocol) -> list[str]:
    """What the labels make of a score, whatever the predictions are."""
    labels = [read_labels(row) for row in ground_truth]
    relevant = [positives(each) for each in labels]
    none = sum(int((~each.any(0)).sum()) for each in relevant)
    every = sum(int(each.all(0).sum()) for each in relevant)
    if name == "youtube":
        notes = [f"{none} of {len(labels)} videos have no positive clip and count as 0"] if none else []
        return notes + (
            [f"{every} of {len(labels)} videos have positive clips alone and count as 100"] if every else []
        )
    notes = []
    if none:
        votes = sum(each.shape[1] for each in labels)
        notes.append(
            f"{none} of {votes} annotators of a video call no clip better than another: counted as 0"
        )
    outside = sum(bool(((each < VOTES[0]) | (each > VOTES[1])).any()) for each in labels)
    if outside:
        low, high = VOTES
        notes.append(
            f"{outside} of {len(labels)} videos have votes outside {low:g} to {high:g}; their order counts"
        )
    return notes


def _notes(
    predictions: Sequence[Row], ground_truth: Sequence[Row], truth: GroundTruth, match_number: bool
) -> list[str]:
    notes = []
    has = {field: any(field in row for row in predictions) for field in (WINDOWS, SALIENCY)}
    if not has[WINDOWS]:
        notes.append(f"moments are not scored: the predictions have no {WINDOWS}")
    elif truth.windows is None:
        notes.append("moments are not scored: the annotations have no relevant_windows")
    if not has[SALIENCY]:
        notes.append(f"highlights are not scored: the predictions have no {SALIENCY}")
    elif truth.level is None:
        _, length = clip_counts(predictions, ground_truth)
        clips = f" (the predictions' clips are of {length:g} s)" if length else ""
        notes.append(f"highlights are not scored: the annotations have no saliency_scores{clips}")
    else:
        notes += _constant(predictions)
    if not match_number:
        shared = len({row["qid"] for row in predictions} & set(truth.row))
        notes.append(f"{shared} of {len(truth.row)} queries of the annotations are scored")
    if has[WINDOWS] and truth.windows is not None:
        length_of = truth.windows[:, 1] - truth.windows[:, 0]
        longer = int((length_of > LONGEST).sum())
        if longer:
            what = "1 window is" if longer == 1 else f"{longer} windows are"
            notes.append(f"{what} longer than {LONGEST:g} s and in none of the length ranges, only in `full`")
        for name, (low, high) in protocol.LENGTH_RANGES.items():
            if not ((low < length_of) & (length_of <= high)).any():
                notes.append(f"MR-{name}-mAP is not a number: no window is {low:g} to {high:g} s long")
        empty = sum(not len(row[WINDOWS]) for row in predictions)
        notes += (
            [f"{empty} of {len(predictions)} queries have no window and count as misses"] if empty else []
        )
    return notes


def _constant(predictions: Sequence[Row]) -> list[str]:
    flat = sum(len(set(row[SALIENCY])) == 1 < len(row[SALIENCY]) for row in predictions)
    if not flat:
        return []
    return [f"{flat} of {len(predictions)} videos have one score for all clips, so their order says nothing"]
