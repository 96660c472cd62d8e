import copy
import json
import math

import numpy as np
import oracle_metrics
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vtg_lib.evaluation.average_precision import detection_ap, tied_ap
from vtg_lib.evaluation.problems import SubmissionError
from vtg_lib.evaluation.protocol import GroundTruth, evaluate, recall_and_miou

# R1@0.5, R1@0.7, mAP@0.5, mAP@0.75, mAP, HD mAP and HIT@1 (VeryGood) that the reference evaluator gives on
# predictions that their authors published: jayleicn/moment_detr @ b7e553a, wjun0830/QD-DETR @ 56c63b2,
# mingyao1120/TR-DETR @ fca43a9, wjun0830/CGDETR @ 212b2e4, jinhyunj/EaTR @ 384f093. Moment-DETR's and
# QD-DETR's are in their repositories too, in standalone_eval/sample_val_preds_metrics_raw.json and
# results/video_checkpoint/hl_val_submission_metrics.json.
BRIEF = (
    "MR-full-R1@0.5",
    "MR-full-R1@0.7",
    "MR-full-mAP@0.5",
    "MR-full-mAP@0.75",
    "MR-full-mAP",
    "HL-min-VeryGood-mAP",
    "HL-min-VeryGood-Hit1",
)
RELEASED = {
    "moment_detr_val": (53.94, 34.84, 54.96, 31.01, 32.20, 35.65, 55.55),
    "qd_detr_val": (62.90, 46.77, 62.66, 41.51, 41.24, 39.49, 64.13),
    "tr_detr_val": (67.10, 51.48, 66.27, 46.42, 45.09, 40.55, 64.77),
    "cg_detr_val": (67.35, 52.06, 65.57, 45.73, 44.93, 40.79, 66.71),
    "eatr_val": (60.90, 46.13, 62.01, 42.17, 41.43, 36.90, 57.87),
    "tr_detr_test": (64.66, 48.96, 63.98, 43.73, 42.62, 39.91, 63.42),
    "cg_detr_test": (65.43, 48.38, 64.51, 42.77, 42.86, 40.33, 66.21),
}
THRESHOLDS = [str(t) for t in oracle_metrics.THRESHOLDS]


def row(qid, windows=None, scores=None):
    fields = {"qid": qid, "query": "", "vid": ""}
    if windows is not None:
        fields["pred_relevant_windows"] = windows
    if scores is not None:
        fields["pred_saliency_scores"] = scores
    return fields


def truth(qid, windows, *, duration=150, ids=(0,), scores=((4, 4, 4),)):
    return {
        "qid": qid,
        "query": "",
        "vid": "",
        "duration": duration,
        "relevant_windows": [list(w) for w in windows],
        "relevant_clip_ids": list(ids),
        "saliency_scores": [list(s) for s in scores],
    }


def same(result, expected):
    """Equal keys, order of keys and digits; NaN equals NaN."""
    return json.dumps(result) == json.dumps(expected)


@st.composite
def splits(draw):
    """A submission and its annotations, on coarse grids so that everything ties, or on fine ones."""
    step = draw(st.sampled_from([0.5, 2.0, 5.0, 10.0]))
    saliency = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]) if draw(st.booleans()) else st.floats(-1, 1)
    score = st.sampled_from([0.1, 0.5, 0.9])
    annotations, predictions = [], []
    for qid in range(draw(st.integers(1, 8))):
        duration = draw(st.sampled_from([150, 150, 126, 151, 149.9, 33.3, 75]))
        clips, ticks = int(duration / 2), int(duration / step)
        window = st.tuples(st.integers(0, ticks), st.sampled_from([1, 2, 3, 5, 10, 20, 30, 60])).map(
            lambda pair, step=step: [pair[0] * step, (pair[0] + pair[1]) * step]
        )
        edge = st.sampled_from([[0, 10], [20, 50], [0, 150], [0.0, 30.0], [5, 160], [40.0, 40.0]])
        windows = draw(st.lists(st.one_of(window, window, edge), min_size=1, max_size=6))
        windows += draw(st.sampled_from([[], [], windows[:1]]))
        ids = draw(st.lists(st.integers(0, clips - 1), min_size=1, max_size=clips, unique=True).map(sorted))
        ratings = draw(
            st.one_of(
                st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=len(ids), max_size=len(ids)),
                st.sampled_from([[(4, 4, 4)] * len(ids), [(0, 1, 0)] * len(ids)]),
            )
        )
        annotations.append(truth(qid, windows, duration=duration, ids=ids, scores=ratings))
        guess = st.one_of(window, st.sampled_from(windows), st.just([40.0, 40.0]))
        guesses = draw(st.lists(st.tuples(guess, score), max_size=13))
        if draw(st.booleans()):
            guesses.sort(key=lambda pair: -pair[1])
        length = max(1, clips + draw(st.sampled_from([0, 0, -1, -7, 3])))
        scores = draw(st.lists(saliency, min_size=length, max_size=length))
        predictions.append(row(qid, [[*guess, score] for guess, score in guesses], scores))
    if draw(st.booleans()):
        predictions.append(row(0, [[0.0, 20.0, 0.9], [5, 9, 0.1]], [0.5, 1.0, 1.0]))
    return draw(st.permutations(predictions)), annotations


@settings(max_examples=100, deadline=None)
@given(splits())
def test_equals_the_oracle(split):
    predictions, annotations = split
    before = copy.deepcopy(split)
    assert same(evaluate(predictions, annotations), oracle_metrics.evaluate(predictions, annotations))
    assert split == before


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@example(0, 30)
def test_equals_the_oracle_on_continuous_values(seed, queries):
    """Unlike drawn values, these give long lists of distinct scores, where the order of additions shows."""
    rng = np.random.default_rng(seed)
    predictions, annotations = [], []
    for qid in range(queries):
        start = rng.uniform(0, 140, rng.integers(1, 12))
        windows = np.stack(
            [start, start + rng.choice([3, 8, 25, 60], start.size) * rng.random(start.size)], 1
        )
        near = windows[rng.integers(0, start.size, 10)] + rng.normal(0, 1, (10, 2))
        ids = np.flatnonzero(rng.random(75) < rng.random())
        ratings = rng.integers(0, 5, (ids.size, 3))
        annotations.append(truth(qid, windows.tolist(), ids=ids.tolist(), scores=ratings.tolist()))
        guesses = np.concatenate([np.sort(near, 1), rng.random((10, 1))], 1)
        predictions.append(row(qid, guesses.tolist(), rng.normal(size=75).tolist()))
    assert same(evaluate(predictions, annotations), oracle_metrics.evaluate(predictions, annotations))


@pytest.mark.parametrize("field", ["pred_relevant_windows", "pred_saliency_scores"])
def test_the_first_row_decides_what_is_scored(field):
    annotations = [truth(0, [[0, 10]]), truth(1, [[10, 60]])]
    whole = [row(qid, [[0.0, 10.0, 0.9]], [0.5] * 75) for qid in (0, 1)]
    one = [{k: v for k, v in whole[0].items() if k != field}, whole[1]]
    result, full = evaluate(one, annotations), evaluate(whole, annotations)
    moments = field == "pred_saliency_scores"
    assert set(result) - {"brief"} == (
        {"full", "long", "middle", "short"} if moments else {"HL-min-Fair", "HL-min-Good", "HL-min-VeryGood"}
    )
    assert all(same(result[name], full[name]) for name in result if name != "brief")


def test_ap_takes_the_first_ten_of_the_file_and_r1_the_first():
    """The best scored window comes eleventh: neither sees it. The second best comes tenth: AP sees it."""
    windows = [[100.0, 110.0, 0.1]] * 9 + [[0.0, 10.0, 0.8], [0.0, 10.0, 0.9]]
    result = evaluate([row(0, windows)], [truth(0, [[0, 10]])])
    assert result["brief"]["MR-full-mAP"] == 100.0
    assert result["brief"]["MR-full-R1@0.5"] == 0.0
    eleventh = evaluate([row(0, [[100.0, 110.0, 0.1]] * 10 + [[0.0, 10.0, 0.9]])], [truth(0, [[0, 10]])])
    assert eleventh["brief"]["MR-full-mAP"] == 0.0


def test_thresholds_are_inclusive():
    """An IoU of 7 / 10 reaches the threshold 0.7."""
    result = evaluate([row(0, [[0.0, 7.0, 1.0]])], [truth(0, [[0, 10]])])["full"]["MR-R1"]
    assert [result[t] for t in THRESHOLDS] == [100.0] * 5 + [0.0] * 5


def test_window_lengths_on_the_border_belong_to_the_shorter_range():
    annotations = [truth(0, [[0, 10]]), truth(1, [[0, 30]]), truth(2, [[0, 150]])]
    for qid, name in enumerate(("short", "middle", "long")):
        predictions = [
            row(q, [[*(annotations[q]["relevant_windows"][0] if q == qid else (140, 141)), 1.0]])
            for q in range(3)
        ]
        result = evaluate(predictions, annotations)
        assert {n: result["brief"][f"MR-{n}-mAP"] for n in ("short", "middle", "long")} == {
            n: 100.0 if n == name else 0.0 for n in ("short", "middle", "long")
        }


def test_a_query_without_predictions_is_a_miss():
    result = evaluate([row(0, [[0.0, 10.0, 0.9]]), row(1, [])], [truth(0, [[0, 10]]), truth(1, [[0, 10]])])
    assert result["brief"]["MR-full-mAP"] == result["brief"]["MR-full-R1@0.5"] == 50.0


def test_an_empty_length_range_is_not_a_number():
    brief = evaluate([row(0, [[0.0, 10.0, 0.9]])], [truth(0, [[0, 10]])])["brief"]
    assert math.isnan(brief["MR-long-mAP"]) and brief["MR-short-mAP"] == 100.0


def test_padding_outranks_negative_scores_and_hit_reads_beyond_the_clips():
    annotations = [truth(0, [[0, 10]], duration=8, ids=[0], scores=[(4, 4, 4)])]
    short = evaluate([row(0, scores=[-0.5, -1.0, -1.0])], annotations)["HL-min-VeryGood"]
    assert short == {"HL-mAP": 50.0, "HL-Hit1": 100.0}  # the padded clip 3 ranks first in AP, clip 0 in HIT@1
    annotations = [truth(0, [[0, 10]], duration=8, ids=[3], scores=[(4, 4, 4)])]
    long = evaluate([row(0, scores=[0.1, 0.1, 0.1, 0.5, 0.9])], annotations)["HL-min-VeryGood"]
    assert long == {"HL-mAP": 100.0, "HL-Hit1": 0.0}


def test_packed_ground_truth_gives_the_same():
    annotations = [
        truth(qid, [[0, 10], [20, 60]], ids=[1, 2], scores=[(2, 3, 4), (0, 4, 1)]) for qid in range(3)
    ]
    predictions = [row(qid, [[0.0, 9.0, 0.4], [21.0, 55.0, 0.5]], [0.1, 0.9, 0.3]) for qid in (2, 0, 1)]
    assert same(evaluate(predictions, GroundTruth.pack(annotations)), evaluate(predictions, annotations))


def test_labels_that_are_not_there_are_not_scored():
    """Charades-STA has moments alone; models predict saliency all the same."""
    annotations = [{"qid": "a", "duration": 30.9, "relevant_windows": [[1.0, 9.5]]}]
    result = evaluate([row("a", [[1.0, 9.5, 0.5]], [0.1] * 15)], annotations)
    assert "HL-min-Fair" not in result and result["brief"]["MR-full-mAP"] == 100.0


def test_match_number():
    annotations = [truth(0, [[0, 10]]), truth(1, [[0, 10]])]
    predictions = [row(7, [[0.0, 1.0, 0.5]]), row(1, [[0.0, 10.0, 0.5]])]
    with pytest.raises(SubmissionError, match=r"all 2 queries.*none for 1: 0(.|\n)*1 others: 7"):
        evaluate(predictions, annotations)
    assert evaluate(predictions, annotations, match_number=False)["brief"]["MR-full-mAP"] == 100.0
    with pytest.raises(SubmissionError, match="none for 2"):
        evaluate(predictions[:1], annotations, match_number=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pred_relevant_windows": [[0.0, 1.0]]},
            r"predictions\[1\], qid 1, pred_relevant_windows\[0\]: expected \[start",
        ),
        ({"pred_relevant_windows": [[0.0, math.nan, 0.5]]}, r"pred_relevant_windows\[0\]: expected finite"),
        ({"pred_relevant_windows": [[0.0, "1", 0.5]]}, r"pred_relevant_windows\[0\]"),
        ({"pred_relevant_windows": None}, "pred_relevant_windows: expected"),
        ({"pred_saliency_scores": []}, "pred_saliency_scores: expected one number a clip"),
        ({"pred_saliency_scores": [0.1, math.inf]}, r"pred_saliency_scores\[1\]: expected a finite number"),
        ({"pred_saliency_scores": [0.1, 10**400]}, r"pred_saliency_scores\[1\]: expected a finite number"),
        ({"qid": [1]}, "qid: expected an integer or text"),
    ],
)
def test_bad_predictions_are_named(change, message):
    annotations = [truth(0, [[0, 10]]), truth(1, [[0, 10]])]
    predictions = [row(qid, [[0.0, 1.0, 0.5]], [0.1, 0.2]) for qid in (0, 1)]
    predictions[1].update(change)
    with pytest.raises(SubmissionError, match=message):
        evaluate(predictions, annotations)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "got 0 lines"),
        ([truth(0, [[0, 10]]), truth(0, [[0, 10]])], "2 lines of 1 qids"),
        ([truth(0, [])], "qid 0, relevant_windows: expected one window or more"),
        ([truth(0, [[0, 10]], ids=[75])], "relevant_clip_ids: expected 0 to 74 for 75 clips of 2 s, got 75"),
        ([truth(0, [[0, 10]], scores=[(1, 2)])], "expected 3 scores"),
        ([{"qid": 0, "duration": 150}], "highlight_test_with_gt.jsonl"),
    ],
)
def test_bad_ground_truth_is_named(rows, message):
    with pytest.raises(ValueError, match=message):
        GroundTruth.pack(rows)


def test_sums_follow_numpy_at_every_length():
    """A list alone, added up by np.sum, gives each value of the batch to the last bit; 300 crosses NumPy's
    block.
    """
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.concatenate([np.repeat(np.arange(32), 6), [127, 128, 129, 300]]))
    depths = [np.cumsum(rng.integers(1, 4, length)) for length in lengths]
    segment = np.repeat(np.arange(lengths.size), lengths)
    targets = lengths + rng.integers(0, 3, lengths.size)
    ap = detection_ap(segment, np.concatenate(depths), targets)
    tied = tied_ap(segment, np.concatenate([depth[::-1] for depth in depths]), lengths.size)
    for i, (depth, wanted) in enumerate(zip(depths, targets, strict=True)):
        found = np.arange(1, depth.size + 1)
        best = np.array([max(found[k:] / depth[k:]) for k in range(depth.size)])
        area = (found / max(wanted, 1) - (found - 1) / max(wanted, 1)) * best
        assert ap[i] == np.sum(np.append(area, [0.0] * int(wanted > depth.size)))
        assert tied[i] == (np.mean(best[::-1].copy()) if depth.size else 0.0)


def test_recall_and_miou():
    annotations = [{"qid": q, "duration": 30, "relevant_windows": [[0.0, 10.0]]} for q in range(4)]
    ends = (10.0, 7.0, 3.0, 2.0)
    predictions = [row(q, [[0.0, end, 0.1], [0.0, 10.0, 0.9]]) for q, end in enumerate(ends)]
    assert recall_and_miou(predictions, annotations) == {
        "R1@0.3": 75.0,
        "R1@0.5": 50.0,
        "R1@0.7": 50.0,
        "mIoU": 55.0,
    }
    assert recall_and_miou(predictions, GroundTruth.pack(annotations), thresholds=(0.2,)) == {
        "R1@0.2": 100.0,
        "mIoU": 55.0,
    }


def test_recall_and_miou_of_real_annotations(data_root):
    """TACoS has text qids and long videos. Shifted by half its length, a window has IoU 1/3 with itself."""
    with open(data_root / "tacos" / "tacos_test_release.jsonl") as file:
        annotations = [json.loads(line) for line in file]
    predictions = []
    for annotation in annotations:
        start, end = annotation["relevant_windows"][0]
        shift = (end - start) / 2
        predictions.append(row(annotation["qid"], [[start + shift, end + shift, 0.5]]))
    assert recall_and_miou(predictions, annotations) == {
        "R1@0.3": 100.0,
        "R1@0.5": 0.0,
        "R1@0.7": 0.0,
        "mIoU": 33.33,
    }


@pytest.mark.parametrize("name", RELEASED)
def test_released_predictions(data_root, name):
    split = "highlight_test_with_gt" if name.endswith("test") else "highlight_val_release"
    with open(data_root / "qvhighlights" / f"{split}.jsonl") as file:
        annotations = [json.loads(line) for line in file]
    with open(data_root / "released_predictions" / f"{name}.jsonl") as file:
        predictions = [json.loads(line) for line in file]
    result = evaluate(predictions, annotations)
    assert tuple(result["brief"][key] for key in BRIEF) == RELEASED[name]
    some = evaluate(predictions[:150], annotations, match_number=False)
    assert same(some, oracle_metrics.evaluate(predictions[:150], annotations))
