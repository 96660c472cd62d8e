"""What a submission is scored by, and the word for everything that is not."""

import pytest

from vtg_lib.evaluation import scoring
from vtg_lib.evaluation.problems import SubmissionError

TRUTH = [
    {"qid": 1, "duration": 20, "relevant_windows": [[4, 10]]},
    {"qid": 2, "duration": 400, "relevant_windows": [[10, 300]]},
]
MOMENTS = [
    {"qid": row["qid"], "pred_relevant_windows": [[*row["relevant_windows"][0], 1.0]]} for row in TRUTH
]


def test_what_is_left_out_is_told():
    nested, notes = scoring.evaluate(MOMENTS, TRUTH, recall=True)
    assert nested["brief"]["MR-full-mAP"] == 100 and nested["recall"]["mIoU"] == 100
    assert notes == [
        "highlights are not scored: the predictions have no pred_saliency_scores",
        "1 window is longer than 150 s and in none of the length ranges, only in `full`",
        "MR-middle-mAP is not a number: no window is 10 to 30 s long",
        "MR-long-mAP is not a number: no window is 30 to 150 s long",
    ]
    empty = [MOMENTS[0], {"qid": 2, "pred_relevant_windows": []}]
    assert "1 of 2 queries have no window and count as misses" in scoring.evaluate(empty, TRUTH)[1]
    some = scoring.evaluate(MOMENTS[:1], TRUTH, match_number=False)[1]
    assert "1 of 2 queries of the annotations are scored" in some


def test_scores_that_say_nothing_are_told():
    clips = [{"qid": 1, "duration": 4, "relevant_clip_ids": [0], "saliency_scores": [[4, 4, 4]]}]
    _, notes = scoring.evaluate([{"qid": 1, "pred_saliency_scores": [0.5, 0.5]}], clips)
    assert "1 of 1 videos have one score for all clips, so their order says nothing" in notes


LABELLED = [
    {"qid": 1, "duration": 3, "label": [[1, 5], [2, 1], [3, 3]], "domain": "A"},
    {"qid": 2, "duration": 3, "label": [[5, 1], [4, 2], [3, 3]], "domain": "B"},
]


def test_labelled_clips_are_scored_as_tvsum_or_youtube():
    scores = [{"qid": qid, "pred_saliency_scores": [0.1, 0.2, 0.3]} for qid in (1, 2)]
    nested, notes = scoring.evaluate(scores, LABELLED)
    brief = nested["brief"]
    assert set(nested["domains"]) == {"A", "B"} and notes == []
    assert brief["HL-top5-mAP, mean of domains"] == pytest.approx(
        sum(nested["domains"].values()) / 2, abs=0.01
    )
    one = [{**row, "label": [[0], [0], [n - 1]]} for n, row in enumerate(LABELLED, 1)]
    nested, notes = scoring.evaluate(scores, one)
    assert nested["brief"]["HL-mAP B"] > 0 == nested["brief"]["HL-mAP A"]
    assert notes == ["1 of 2 videos have no positive clip and count as 0"]
    with pytest.raises(
        SubmissionError, match="predictions with pred_saliency_scores in every row, for tvsum"
    ):
        scoring.evaluate(MOMENTS, TRUTH, name="tvsum")
