"""Released predictions query by query: against the evaluator, against slow obvious versions, and by hand."""

import numpy as np
import pytest

from vtg_lib.evaluation import per_query as released
from vtg_lib.evaluation.per_query import Ranked
from vtg_lib.evaluation.problems import SubmissionError
from vtg_lib.evaluation.protocol import evaluate


def world(queries: int = 60, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Annotations with one to twelve moments on a grid of 2 s, and predictions near them, with ties and
    repeats.
    """
    rng = np.random.default_rng(seed)
    truth, predictions = [], []
    for qid in range(queries):
        edges = np.sort(rng.choice(75, 2 * int(rng.integers(1, 13)), replace=False)) * 2
        windows = edges.reshape(-1, 2).tolist()
        near = np.array([windows[i] for i in rng.integers(0, len(windows), 10)]) + 2 * rng.integers(
            -2, 3, (10, 2)
        )
        near = np.clip(np.sort(near, axis=1), 0, 150)
        scores = np.sort(rng.integers(0, 8, 10) / 8)[::-1]
        clips = sorted({c for start, end in windows for c in range(start // 2, end // 2)})
        truth.append(
            {
                "qid": qid,
                "query": "a b",
                "vid": f"v{qid}",
                "duration": 150,
                "relevant_windows": windows,
                "relevant_clip_ids": clips,
                "saliency_scores": rng.integers(0, 5, (len(clips), 3)).tolist(),
            }
        )
        predictions.append(
            {
                "qid": qid,
                "pred_relevant_windows": np.column_stack([near, scores]).tolist(),
                "pred_saliency_scores": rng.standard_normal(75).round(1).tolist(),
            }
        )
    return predictions, truth


def one(windows: list, predicted: list) -> Ranked:
    return Ranked.join(
        [{"qid": 0, "pred_relevant_windows": predicted}], [{"qid": 0, "relevant_windows": windows}]
    )


@pytest.mark.parametrize("seed", range(5))
def test_mean_ap_is_the_evaluators(seed: int) -> None:
    predictions, truth = world(seed=seed)
    ranked = Ranked.join(predictions, truth)
    scored = evaluate(predictions, truth)
    assert 100 * ranked.ap.mean() == pytest.approx(scored["brief"]["MR-full-mAP"], abs=0.0051)
    single = [evaluate([p], [t])["brief"]["MR-full-mAP"] for p, t in zip(predictions, truth, strict=True)]
    np.testing.assert_allclose(100 * ranked.ap, single, atol=0.0051)
    assert 100 * ranked.right.mean() == pytest.approx(scored["brief"]["MR-full-R1@0.5"], abs=0.0051)


def test_released_files_have_the_evaluators_map(data_root) -> None:
    from vtg_lib.evaluation.reading import read_jsonl

    truth = read_jsonl(data_root / "qvhighlights/highlight_val_release.jsonl")
    rows = read_jsonl(data_root / "released_predictions/cg_detr_val.jsonl")
    assert round(100 * Ranked.join(rows, truth).ap.mean(), 2) == 44.93  # SDST Tab. 1


def test_predictions_are_ranked_by_score_in_the_annotations_order() -> None:
    rows = [
        {"qid": "b", "pred_relevant_windows": [[0, 2, 0.1], [4, 8, 0.9], [5, 6, 0.9]]},
        {"qid": "a", "pred_relevant_windows": [[0, 10, 0.5]]},
    ]
    ranked = Ranked.join(rows, [{"qid": q, "relevant_windows": [[4, 8], [20, 24]]} for q in "ab"])
    assert ranked.spans[1, :, 0].tolist() == [4, 5, 0] and np.isnan(ranked.scores[0, 1:]).all()
    assert ranked.best[1].tolist() == [1, 0.25, 0] and ranked.best[0].tolist() == [0.4, 0, 0]
    with pytest.raises(SubmissionError, match="the 1 queries of the annotations"):
        Ranked.join(rows, [{"qid": "a", "relevant_windows": [[0, 1]]}])


def test_reliability_by_hand() -> None:
    found = released.reliability(np.array([0.05, 0.05, 0.95, 1.0]), np.array([0.05, 0.25, 0.5, 0.5]))
    assert found["count"] == [2] + [0] * 8 + [2]
    assert found["score"][-1] == pytest.approx(0.975) and found["outcome"][1] is None
    assert found["ece"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.475)


def test_scores_that_are_the_iou_are_calibrated() -> None:
    predictions, truth = world()
    perfect = Ranked.join(released.reordered(predictions, truth), truth)
    found = released.calibration(perfect)
    assert found["first"]["ece"] == pytest.approx(0) and found["all"]["ece"] == pytest.approx(0)
    assert found["rank_first"] == pytest.approx(1) and found["rank_within"] == pytest.approx(1)
    assert released.calibration(Ranked.join(predictions, truth))["first"]["ece"] > 0.05


def test_a_perfect_ranking_puts_the_best_window_first_and_keeps_them_all() -> None:
    predictions, truth = world()
    rows = released.reordered(predictions, truth)
    ranked, perfect = Ranked.join(predictions, truth), Ranked.join(rows, truth)
    np.testing.assert_allclose(perfect.best[:, 0], ranked.best.max(1))
    for before, after in zip(predictions, rows, strict=True):
        spans = [sorted(w[:2] for w in row["pred_relevant_windows"]) for row in (before, after)]
        assert spans[0] == spans[1]
    assert perfect.ap.mean() > ranked.ap.mean()


def test_recall_by_length_counts_moments_where_they_belong() -> None:
    ranked = one([[0, 10], [20, 60], [70, 72]], [[0, 10, 0.9], [20, 60, 0.5], [100, 110, 0.1]])
    found = released.recall_by_length(ranked, (0, 10, 30, 150))
    assert found["n"] == [2, 0, 1]  # exactly 10 s is short
    assert found["first"][0] == 0.5 and np.isnan(found["first"][1]) and found["first"][2] == 0
    assert found["any"][0] == 0.5 and found["any"][2] == 1


def test_recall_by_count_looks_at_the_first_k_predictions() -> None:
    ranked = one([[0, 10], [20, 30]], [[0, 10, 0.9], [1, 10, 0.8], [20, 30, 0.7]])
    found = released.recall_by_count(ranked, (1, 2))
    assert found["n"] == [0, 1] and np.isnan(found["ap"][0])
    assert found["found"][1] == 0.5  # the third prediction is beyond k = 2
    assert found["repeats"][1] == 0.5  # the second repeats the first
    apart = one([[0, 10], [20, 30]], [[0, 10, 0.9], [20, 30, 0.8]])
    assert released.recall_by_count(apart, (1, 2))["repeats"][1] == 0


def test_agreement_of_a_method_with_itself_and_with_another() -> None:
    predictions, truth = world()
    a = Ranked.join(predictions, truth)
    b = Ranked.join(released.reordered(predictions, truth), truth)
    same = released.agreement(a, a)
    assert same["iou"] == pytest.approx(
        (np.ptp(a.spans[:, 0], axis=1) > 0).mean()
    )  # 0 for windows without length
    assert same["first"] == same["second"] == 0 and same["gap"] == 0 and same["rank"] == pytest.approx(1)
    there, back = released.agreement(a, b), released.agreement(b, a)
    assert there["gap"] == pytest.approx(-back["gap"]) and there["low"] == pytest.approx(-back["high"])
    assert there["low"] < there["gap"] < there["high"] < 0
    assert there["first"] == back["second"]
    assert sum(there[name] for name in ("both", "first", "second", "none")) == pytest.approx(1)


def test_solved_beside_chance() -> None:
    hit, miss = one([[0, 10]], [[0, 10, 1.0]]), one([[0, 10]], [[50, 60, 1.0]])
    assert released.solved([hit, miss, hit]) == {"share": [0, 0, 1, 0], "chance": [0, 0, 1, 0]}
    predictions, truth = world()
    a = Ranked.join(predictions, truth)
    found = released.solved([a, a])
    rate = a.right.mean()
    np.testing.assert_allclose(found["chance"], [(1 - rate) ** 2, 2 * rate * (1 - rate), rate**2])
    np.testing.assert_allclose(found["share"], [1 - rate, 0, rate])
