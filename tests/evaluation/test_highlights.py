"""Highlight mAP on labelled clips: by hand, against a slow one, and what moves it."""

import itertools
import json
import math

import numpy as np
import pytest

from vtg_lib.evaluation import scoring
from vtg_lib.evaluation.highlights import highlight_map
from vtg_lib.evaluation.problems import SubmissionError


def row(qid, scores):
    return {"qid": qid, "pred_saliency_scores": scores}


def slow_highlight_ap(labels, scores, top_k):
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:top_k]
    total = sum(labels[i] for i in order)
    hits = area = recall = 0.0
    precision = 1.0
    for rank, i in enumerate(order, start=1):
        hits += labels[i]
        new_recall, new_precision = hits / max(total, 1), hits / rank
        area += (new_recall - recall) * (precision + new_precision) / 2
        recall, precision = new_recall, new_precision
    return area


@pytest.mark.parametrize(("annotators", "top_k"), [(20, 5), (1, None)])
def test_highlight_map(annotators, top_k):
    rng = np.random.default_rng(annotators)
    annotations, predictions, expected = [], [], {"BK": [], "VT": []}
    for qid in range(12):
        clips = int(rng.integers(4, 30))
        label = rng.integers(1, 6, (clips, annotators)) if annotators > 1 else rng.integers(0, 2, (clips, 1))
        scores = rng.normal(size=clips + qid % 3).tolist()
        domain = "BK" if qid % 2 else "VT"
        annotations.append({"qid": f"v{qid}", "label": label.tolist(), "domain": domain})
        predictions.append(row(f"v{qid}", scores))
        for column in label.T.tolist():
            middle = sorted(column)[(clips - 1) // 2] if annotators > 1 else 0
            expected[domain].append(slow_highlight_ap([x > middle for x in column], scores[:clips], top_k))
    result = highlight_map(predictions[::-1], annotations, top_k=top_k)
    assert result["mAP"] == pytest.approx(100 * np.mean(expected["BK"] + expected["VT"]), abs=0.0051)
    for domain, values in expected.items():
        assert result["domains"][domain] == pytest.approx(100 * np.mean(values), abs=0.0051)
    with pytest.raises(SubmissionError, match="'v3'"):
        highlight_map([p for p in predictions if p["qid"] != "v3"], annotations)


ONE = {"qid": "v", "label": [[1.0, 2.0], [3.0, 1.0], [2.0, 2.0]]}
SCORES = {"qid": "v", "pred_saliency_scores": [0.1, 0.2, 0.3]}


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (
            [SCORES | {"pred_saliency_scores": [0.1, 0.2]}],
            [ONE],
            "expected 3 scores, one a labelled clip, got 2",
        ),
        ([SCORES | {"pred_saliency_scores": []}], [ONE], "an empty list"),
        ([SCORES | {"pred_saliency_scores": "high"}], [ONE], "expected a list"),
        ([SCORES | {"pred_saliency_scores": [0.1, "x", 0.2]}], [ONE], "expected a finite number, got 'x'"),
        ([{"qid": "v"}], [ONE], "expected a list, one number a clip, got None"),
        ([SCORES, SCORES], [ONE], "expected each qid once"),
        ([SCORES], [ONE, ONE], "ground truth: expected each qid once, got 2 rows of 1"),
        ([SCORES], [ONE | {"label": [[1.0], [1.0, 2.0], [1.0]]}], "qid 'v', label: expected one list"),
        ([SCORES], [ONE | {"label": [[math.nan]] * 3}], "finite scores"),
        ([SCORES], [ONE | {"label": []}], "expected one list"),
        ([SCORES], [{"qid": "v"}], "expected one list"),
    ],
)
def test_highlight_map_refuses_what_it_cannot_score(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        highlight_map(scores, truth)


@pytest.mark.parametrize(
    ("name", "top_k"),
    [("tvsum/tvsum_val_release", 5), ("youtube_highlights/youtube_highlight_val_release", None)],
)
def test_highlight_map_of_the_labels_themselves_is_perfect(data_root, name, top_k):
    with open(data_root / f"{name}.jsonl") as file:
        annotations = [json.loads(line) for line in file]
    predictions = [row(a["qid"], np.mean(a["label"], axis=1).tolist()) for a in annotations]
    worst = [row(a["qid"], (-np.mean(a["label"], axis=1)).tolist()) for a in annotations]
    best = highlight_map(predictions, annotations, top_k=top_k)
    assert (
        best["mAP"] == 100.0
        if top_k is None
        else best["mAP"] > highlight_map(worst, annotations, top_k=top_k)["mAP"]
    )
    assert set(best["domains"]) == {a["domain"] for a in annotations}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("annotators", "top_k"), [(20, 5), (3, 5), (1, None)])
def test_random_votes_with_ties_against_a_slow_one(seed, annotators, top_k):
    """Scores of few values: every order of equals lies between all lost and all won, and in time is one."""
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(2, 9))
    label = rng.integers(1, 6, (clips, annotators)) if annotators > 1 else rng.integers(0, 2, (clips, 1))
    scores = rng.integers(0, 3, clips).astype(float).tolist()
    truth, given = [{"qid": "v", "label": label.tolist()}], [row("v", scores)]
    found = {
        ties: highlight_map(given, truth, top_k=top_k, ties=ties)["mAP"]
        for ties in ("in time", "won", "lost")
    }
    by_vote = []
    for column in label.T.tolist():
        middle = sorted(column)[(clips - 1) // 2] if annotators > 1 else 0
        wanted = [x > middle for x in column]
        every = [
            slow_highlight_ap([wanted[i] for i in order], [-n for n in range(clips)], top_k)
            for order in itertools.permutations(range(clips))
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
        ]
        by_vote.append((slow_highlight_ap(wanted, scores, top_k), max(every), min(every)))
    in_time, best, worst = (100 * np.mean(each) for each in zip(*by_vote, strict=True))
    assert found["in time"] == pytest.approx(in_time, abs=0.0051)
    if top_k is None:  # among the best five, less to recall may be worth more than a positive
        assert found["won"] == pytest.approx(best, abs=0.0051)
        assert found["lost"] == pytest.approx(worst, abs=0.0051)
    assert worst - 0.0051 <= found["lost"] and found["won"] <= best + 0.0051


def test_top_five_by_hand():
    """Two votes on seven clips. First: median 2, positives 0, 3, 6, of which ranks 1 and 4 are among the best
    five: AP = 1/2 · (1 + 1)/2 + 1/2 · (1/3 + 2/4)/2, with precision 1/3 before the second hit. Second: nobody
    above the median, 0.
    """
    label = [[5, 3], [1, 3], [2, 3], [4, 3], [2, 3], [1, 3], [3, 3]]
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    first = 0.5 * 1 + 0.5 * (1 / 3 + 2 / 4) / 2
    truth = [{"qid": "v", "label": label, "domain": "VT"}]
    nested, notes = scoring.evaluate([row("v", scores)], truth, name="tvsum")
    assert nested["domains"] == {"VT": pytest.approx(100 * first / 2, abs=0.005)}
    assert notes == ["1 of 2 annotators of a video call no clip better than another: counted as 0"]


def test_all_clips_by_hand_and_two_means():
    """Positives at ranks 2 and 3 of 3: AP = 1/2 · (0 + 1/2)/2 + 1/2 · (1/2 + 2/3)/2. Two videos in one
    domain, one in another: the mean of domains is not the mean of videos.
    """
    hard = 0.5 * (0 + 1 / 2) / 2 + 0.5 * (1 / 2 + 2 / 3) / 2
    labels = {"a": [[0], [1], [1]], "b": [[1], [0], [0]], "c": [[1], [0], [0]]}
    truth = [{"qid": q, "label": label, "domain": "cd"[q == "a"]} for q, label in labels.items()]
    nested, _ = scoring.evaluate([row(q, [0.9, 0.8, 0.7]) for q in labels], truth, name="youtube")
    brief = nested["brief"]
    assert brief["HL-mAP d"] == pytest.approx(100 * hard, abs=0.005) and brief["HL-mAP c"] == 100
    assert brief["HL-mAP, mean of domains"] == pytest.approx(50 * (1 + hard), abs=0.01)
    assert brief["HL-mAP, mean of videos"] == pytest.approx(100 * (2 + hard) / 3, abs=0.005)


def test_the_grid_of_two_seconds():
    """A label every 100 frames at 25 a second, every 50: middles at 2, 4, 6 s. On clips of 2 s these are
    clips 1, 2, 3, while by number they are 0, 1, 2.
    """
    video = {"qid": "v", "label": [[0], [0], [1]], "fps": 25.0, "clip": [[0, 100], [50, 150], [100, 200]]}
    scores = [row("v", [0.1, 0.2, 0.3, 0.9])]
    assert highlight_map([row("v", [0.5, 0.6, 0.4, 0.9])], [video], top_k=None)["mAP"] < 100
    assert highlight_map(scores, [video], top_k=None, clip_length=2.0)["mAP"] == 100
    with pytest.raises(SubmissionError, match=r"expected 4 scores, clips of 2 s, got 3"):
        highlight_map([row("v", [0.1, 0.2, 0.3])], [video], top_k=None, clip_length=2.0)
    plain = {"qid": "v", "label": [[0], [0], [1]]}  # TVSum's clips of 2 s, scores of 1 s
    assert highlight_map([row("v", [0, 0, 0, 0, 9, 9])], [plain], top_k=None, clip_length=1.0)["mAP"] == 100


def test_bad_labels_are_told_and_odd_ones_noted():
    one, several = ({"qid": "v", "label": label} for label in ([[0], [1]], [[1, 5], [2, 3]]))
    given = [row("v", [0.1, 0.2])]
    with pytest.raises(SubmissionError, match=r"'v', label: expected votes of several .* got 1 annotator\."):
        scoring.evaluate(given, [one], name="tvsum")
    with pytest.raises(SubmissionError, match=r"expected one label a clip .* got 2 annotators.*tvsum"):
        scoring.evaluate(given, [several], name="youtube")
    with pytest.raises(ValueError, match="qid 'v', label: expected one list of finite scores"):
        scoring.evaluate(given, [{"qid": "v", "label": [[math.nan], [1.0]]}], name="youtube")
    _, notes = scoring.evaluate(given, [{"qid": "v", "label": [[0, 7], [2, 3]]}])
    assert "1 of 1 videos have votes outside 1 to 5; their order counts" in notes
    _, notes = scoring.evaluate([row("v", [0.1, 0.2, 0.3])], [{"qid": "v", "label": [[1], [1]]}])
    assert notes == [
        "no row has a domain: the mean is over videos",
        "1 of 1 videos have positive clips alone and count as 100",
        "1 of 1 videos have more scores than labels: the last are left out",
    ]


def test_released_labels(data_root):
    """No video of YouTube Highlights' files is without a positive; and what votes can be agreed with."""
    for split in ("train", "val"):
        with open(data_root / f"youtube_highlights/youtube_highlight_{split}_release.jsonl") as file:
            rows = [json.loads(line) for line in file]
        same = [row(a["qid"], [clip[0] for clip in a["label"]]) for a in rows]
        nested, notes = scoring.evaluate(same, rows)
        assert not [note for note in notes if "no positive" in note or "alone" in note]
        assert nested["brief"]["HL-mAP, ties lost"] == 100
    with open(data_root / "tvsum/tvsum_val_release.jsonl") as file:
        rows = [json.loads(line) for line in file]
    mean = [row(a["qid"], np.mean(a["label"], axis=1).tolist()) for a in rows]
    assert scoring.evaluate(mean, rows)[0]["brief"]["HL-top5-mAP, mean of domains"] == 84.35
