"""The evaluator from close by: steps that add up to its numbers, and habits that move nothing where they find
nothing.
"""

import numpy as np
import pytest

from tests.evaluation.test_per_query import world
from vtg_lib.book import habits as evaluator_habits
from vtg_lib.evaluation.protocol import evaluate


def test_a_worked_query_comes_to_the_evaluators_numbers() -> None:
    predictions, truth = world()
    for row, annotation in zip(predictions, truth, strict=True):
        steps, scored = evaluator_habits.worked(row, annotation), evaluate([row], [annotation])
        at = scored["full"]["MR-mAP"]
        assert 100 * steps["ap"]["mean"] == pytest.approx(at["average"], abs=0.0051)
        assert 100 * steps["ap"]["0.5"] == pytest.approx(at["0.5"], abs=0.0051)
        assert 100 * steps["ap"]["0.75"] == pytest.approx(at["0.75"], abs=0.0051)
        assert (steps["r1"] >= 0.5) == (scored["brief"]["MR-full-R1@0.5"] > 50)
        for level in ("0.5", "0.75"):
            taken = [step[level] for step in steps["steps"] if step[level] is not None]
            assert len(set(taken)) == len(taken), "a moment is taken once"
            assert steps["precision"][level][-1] == pytest.approx(len(taken) / len(steps["steps"]))


def test_a_taken_moment_stays_taken() -> None:
    row = {"pred_relevant_windows": [[0, 10, 0.9], [0, 9, 0.8], [20, 30, 0.7]]}
    steps = evaluator_habits.worked(row, {"relevant_windows": [[0, 10], [20, 30]]})
    assert [step["0.5"] for step in steps["steps"]] == [0, None, 1]
    assert steps["ap"]["0.5"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_ties_at_random_move_tied_predictions_only() -> None:
    predictions, truth = world(120)
    tied = evaluator_habits.habits(predictions, truth, seeds=range(3))
    assert tied["tied_windows"] == tied["tied_saliency"] == 120 and tied["unsorted"] == 0
    assert np.ptp(tied["windows_random"]) > 0 and np.ptp(tied["saliency_random"]) > 0
    for row in predictions:
        row["pred_relevant_windows"] = [
            [*w[:2], 1 - rank / 20] for rank, w in enumerate(row["pred_relevant_windows"])
        ]
        row["pred_saliency_scores"] = np.random.default_rng(row["qid"]).standard_normal(75).tolist()
    free = evaluator_habits.habits(predictions, truth, seeds=range(3))
    assert free["tied_windows"] == free["tied_saliency"] == 0
    assert free["windows_random"] == free["saliency_random"] == [0, 0, 0]
    assert free["lifted"] == 0  # no list is a clip short


def test_what_is_counted() -> None:
    predictions, truth = world(20)
    predictions[0]["pred_saliency_scores"].pop()
    predictions[1]["pred_relevant_windows"][3] = [8.0, 8.0, predictions[1]["pred_relevant_windows"][3][2]]
    predictions[2]["pred_relevant_windows"].reverse()
    before = sum(w[1] <= w[0] for row in predictions for w in row["pred_relevant_windows"])
    found = evaluator_habits.habits(predictions, truth, seeds=[0])
    assert (found["queries"], found["one_short"], found["unsorted"]) == (20, 1, 1)
    assert found["no_length"] == before >= 1


def test_a_padded_clip_outranks_negative_scores() -> None:
    truth = [
        {
            **world(1)[1][0],
            "relevant_windows": [[0, 2]],
            "relevant_clip_ids": [0],
            "saliency_scores": [[4, 4, 4]],
        }
    ]
    row = {
        "qid": 0,
        "pred_relevant_windows": [[0, 2, 1.0]],
        "pred_saliency_scores": [-1.0, *[-2.0 - n for n in range(73)]],
    }
    assert evaluator_habits.habits([row], truth, seeds=[0])["lifted"] == pytest.approx(
        50
    )  # 0 is first, the right clip second


def test_short_predictions_alone_lose_no_short_moment() -> None:
    truth = [
        {
            **world(1)[1][0],
            "relevant_windows": [[0, 8]],
            "relevant_clip_ids": [0],
            "saliency_scores": [[4, 4, 4]],
        }
    ]
    row = {
        "qid": 0,
        "pred_relevant_windows": [[0, 100, 0.9], [0, 8, 0.5]],
        "pred_saliency_scores": [0.0] * 75,
    }
    found = evaluator_habits.habits([row], truth, seeds=[0])
    assert found["short"] == 50 and found["short_kept"] == 100


def test_bounds_by_hand() -> None:
    row = {"qid": 0, "duration": 150, "relevant_windows": [[0, 10], [20, 50]]}
    row |= {"relevant_clip_ids": [0, 1], "saliency_scores": [[4, 1, 0], [2, 1, 0]]}
    many = {**row, "qid": 1, "relevant_windows": [[4 * n, 4 * n + 2] for n in range(20)]}
    found = evaluator_habits.bounds([row, many])
    assert (found["queries"], found["windows"], found["over_ten"]) == (2, 22, 1)
    assert (found["at_10"], found["at_30"], found["at_150"]) == (1, 1, 0)
    assert found["perfect_map"] == 75  # ten of twenty moments can be given
    assert found["no_positive"] == pytest.approx(2 / 3)
    assert found["perfect_hd"] == pytest.approx(33.33) and found["perfect_hit"] == 100
