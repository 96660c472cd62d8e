"""Pseudo-labels where the truth is known: the generated world, its knobs, and how right the labels are."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from vtg_lib.data import load_data
from vtg_lib.data.annotations import validate_annotations
from vtg_lib.data.batches import targets
from vtg_lib.data.knobs import configs, resolve
from vtg_lib.data.pseudo.labels import LabelConfig, Labels, PseudoLabels, moments_of
from vtg_lib.data.pseudo.quality import example, measure
from vtg_lib.data.pseudo.world import captions, intervals, pseudo_labels, quality, relabelled, scores_of
from vtg_lib.experiments.spec import RunSpec

WORLD = {"kind": "sim", "train": 96, "val": 8, "clips": 24, "semantic_dim": 48, "motion_dim": 4}
SEVERAL = {**WORLD, "moments": [0.0, 0.5, 0.5]}


def test_new_knobs_leave_stored_worlds_and_hashes_alone():
    tiny = {"kind": "sim", "train": 8, "val": 4, "clips": 8, "semantic_dim": 8, "motion_dim": 4}
    assert load_data(tiny)["train"].fingerprint == "acea2a2630f5a088"  # of the commit before them
    half = load_data({**tiny, "background_overlap": 1.0})
    assert [split.fingerprint for split in half.values()] == ["54d3a8175117b21a", "f08904ef62354046"]
    spelled = {"labels": "true", "distractor_similarity": 0.5, "label_grades": "edges"}
    assert load_data({**tiny, **spelled})["train"].fingerprint == "acea2a2630f5a088"
    assert RunSpec(model="tr_detr", seed=3, data=spelled).hash == "5d8afa84f2de"
    others = [
        {"labels": "pseudo"},
        {"distractor_similarity": 0.8},
        {"labels": "pseudo", "label_grades": "linear"},
    ]
    assert len({RunSpec(model="tr_detr", seed=3, data=other).hash for other in [spelled, *others]}) == 4


@pytest.mark.parametrize(("share", "shared"), [(0.0, 1), (0.2, 1), (0.5, 2), (0.8, 3), (1.0, 4)])
def test_distractors_share_that_many_concepts(share, shared):
    from vtg_lib.data.generate import generate
    from vtg_lib.data.timeline import Vocabulary

    spec = resolve(
        {**WORLD, "distractor_similarity": share, "background_overlap": 1.0, "background_events": 1.0}
    )
    world, timeline, *_ = configs(spec)
    rows, timelines, _ = generate(world, timeline, Vocabulary(), "train", 0)
    counts = []
    for row, shown in zip(rows, timelines, strict=True):
        number = len(row["relevant_windows"])
        query = set(shown.events[0].concepts)
        counts += [len(query & set(event.concepts)) for event in shown.events[number:]]
    assert min(counts) >= shared and np.median(counts) == shared  # others may share more by chance


def test_alike_distractors_score_higher():
    def gap(share):
        data = load_data({**WORLD, "distractor_similarity": share, "background_overlap": 1.0})["train"]
        outside = [
            scores_of(data, row)[data.saliency[row, : int(data.video_length[row])].numpy() == 0]
            for row in range(len(data))
        ]
        return float(np.concatenate(outside).mean())

    assert gap(0.2) < gap(0.5) < gap(0.8)


def test_captions_name_one_moment_of_their_row():
    data = load_data(SEVERAL)["train"]
    named = intervals(data, 0)
    assert all(list(one) in row["relevant_windows"] for one, row in zip(named, data.annotations, strict=True))
    places = {
        row["relevant_windows"].index(list(one)) for one, row in zip(named, data.annotations, strict=True)
    }
    assert places == {0, 1, 2} and named != intervals(data, 1)
    first = captions(data, 0)[0]
    assert first == {
        "qid": 0, "vid": "train0", "caption": data.annotations[0]["query"], "interval": list(named[0]),
        "duration": data.annotations[0]["duration"],
    }  # fmt: skip
    few = load_data({**SEVERAL, "train": 10})["train"]
    assert intervals(few, 0) == named[:10]  # a larger world begins as a smaller one


@pytest.mark.parametrize("layout", [{}, {"layout": "levels", "levels": 2}])
def test_labels_are_a_knob_of_training_alone(layout):
    true = load_data({**SEVERAL, **layout})
    made = {
        name: load_data({**SEVERAL, **layout, "labels": name}) for name in ("pseudo", "interval", "permuted")
    }
    for splits in made.values():
        assert splits["val"].annotations == true["val"].annotations
        assert torch.equal(splits["train"].video, true["train"].video)
        validate_annotations(splits["train"].annotations, "qvhighlights")
    assert len({splits["train"].fingerprint for splits in (*made.values(), true)}) == 4
    pseudo, interval, permuted = (made[name]["train"] for name in ("pseudo", "interval", "permuted"))
    assert [row["relevant_windows"] for row in interval.annotations] == [
        [list(one)] for one in intervals(true["train"], 0)
    ]
    assert (interval.span_count == 1).all() and pseudo.span_count.float().mean() > 1
    assert torch.equal(permuted.spans, pseudo.spans) and not torch.equal(permuted.text, pseudo.text)
    for split in (pseudo, interval):
        length = split.video_length[split.video_index].numpy()
        spans, count, saliency = targets(split.annotations, length, 2.0, split.saliency.shape[1])
        assert np.array_equal(spans, split.spans) and np.array_equal(count, split.span_count)
        assert np.array_equal(saliency, split.saliency) and set(np.unique(saliency)) <= {0, 3, 6, 9, 12}
        batch = split.batch(torch.tensor([5, 2]))
        assert batch.spans.shape[0] == 2 and batch.span_mask.any(1).all()


def test_labels_follow_the_settings_and_the_seed():
    def windows(**knobs):
        return [
            row["relevant_windows"]
            for row in load_data({**SEVERAL, "labels": "pseudo", **knobs})["train"].annotations
        ]

    assert windows() == windows() != windows(label_threshold="min")
    near = windows(label_extend="near")
    assert windows() != near and sum(map(len, near)) < sum(map(len, windows()))
    with pytest.raises(
        ValueError, match="labels: expected one of true, pseudo, interval, permuted; got 'false'"
    ):
        load_data({**WORLD, "labels": "false"})
    with pytest.raises(ValueError, match="threshold: expected one of"):
        load_data({**WORLD, "label_threshold": "median"})


def test_what_cannot_be_labelled_is_refused():

    data = load_data(WORLD)["train"].first(4)
    for labels in ("pseudo", "interval", "permuted"):
        with pytest.raises(ValueError, match="expected clips of 2 s, got 1 s"):
            relabelled(dataclasses.replace(data, clip_length=1.0), LabelConfig(labels=labels), 0)
    unlabelled = [
        {name: value for name, value in row.items() if "relevant" not in name} for row in data.annotations
    ]
    with pytest.raises(ValueError, match="expected moments in every row, got none in that of qid 0"):
        captions(dataclasses.replace(data, annotations=unlabelled), 0)


def test_quality_by_hand():
    """Two rows of eight clips; the caption of the first names its moment at 4 s."""
    data = load_data({**WORLD, "clips": 8, "train": 2})["train"]
    rows = [
        {**data.annotations[0], "relevant_windows": [[4, 8], [10, 14]], "relevant_clip_ids": [2, 3, 5, 6],
         "saliency_scores": [[1] * 3, [2] * 3, [3] * 3, [4] * 3]},
        {**data.annotations[1], "relevant_windows": [[0, 4]], "relevant_clip_ids": [0, 1],
         "saliency_scores": [[4] * 3, [0] * 3]},
    ]  # fmt: skip
    saliency = torch.zeros_like(data.saliency)
    saliency[0, [2, 3, 5, 6]] = torch.tensor([3.0, 6, 9, 12])
    saliency[1, :2] = torch.tensor([12.0, 0])

    data = dataclasses.replace(data, annotations=rows, saliency=saliency)
    named = [(4.0, 8.0), (0.0, 4.0)]

    def made(grades):
        grades = np.array(grades)
        return Labels(0.0, grades > 0, moments_of(grades > 0), grades)

    found = quality(data, [made([0, 0, 1, 2, 0, 3, 4, 0]), made([0, 0, 0, 0, 0, 0, 0, 4])], named)
    assert found == {
        "clips": {"precision": 4 / 5, "recall": 4 / 6},
        "moments": {"precision": 2 / 3, "recall": 2 / 3},
        "unnamed": 1.0,
        "moments_per_query": 1.5,
        "grade_rank": pytest.approx(1.0),
        "salience": {"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0},
    }
    # one clip of two is IoU 0.5, found; one of four is not; grades against the votes
    other = quality(data, [made([0, 0, 4, 0, 0, 3, 2, 0]), made([1, 0, 0, 0, 0, 0, 0, 0])], named)
    assert other["moments"] == {"precision": 1.0, "recall": 1.0} and other["grade_rank"] == pytest.approx(
        -1.0
    )
    wide = quality(data, [made([1] * 8), made([1] * 8)], named)
    assert wide["moments"] == {"precision": 0.0, "recall": 0.0} and wide["clips"]["recall"] == 1.0
    assert (
        wide["clips"]["precision"] == 6 / 16 and wide["grade_rank"] is None and wide["salience"]["4"] is None
    )


def test_votes_are_not_needed():
    data = load_data({**WORLD, "saliency": False})["train"]
    named = intervals(data, 0)
    found = quality(data, pseudo_labels(data, PseudoLabels(), named), named)
    assert found["grade_rank"] is None and found["clips"]["precision"] > 0.5


def test_precision_falls_with_how_alike_distractors_are():
    rows = measure({**SEVERAL, "train": 256, "background_overlap": 1.0})
    assert json.loads(json.dumps(rows)) == rows and len(rows) == 12
    table = {(row["threshold"], row["distractor_similarity"]): row for row in rows}
    for rule in ("mean_minus_sd", "mean", "min"):
        precision = [table[rule, share]["clips"]["precision"] for share in (0.2, 0.5, 0.8)]
        assert precision[0] > precision[1] > precision[2]
        assert table[rule, 0.2]["unnamed"] > 0
    # of the readings the mean asks most and the minimum least
    at = {rule: table[rule, 0.5]["clips"] for rule in ("mean_minus_sd", "mean", "min")}
    assert at["mean"]["precision"] > at["mean_minus_sd"]["precision"] > at["min"]["precision"]
    assert at["mean"]["recall"] < at["mean_minus_sd"]["recall"] < at["min"]["recall"]
    alone = table["interval", 0.5]
    assert alone["clips"]["precision"] == 1.0 and alone["unnamed"] == 0.0
    assert alone["clips"]["recall"] < at["mean_minus_sd"]["recall"]


def test_gaps_may_be_filled():
    """A clip that fails parts a moment; filled, labelled moments are more often true ones."""
    rows = {
        join: measure(
            {**SEVERAL, "train": 128},
            similarities=[0.5],
            thresholds=["mean_minus_sd"],
            settings=PseudoLabels(join=join),
        )[-1]
        for join in (0.0, 4.0)
    }
    assert rows[4.0]["moments"]["precision"] > rows[0.0]["moments"]["precision"]
    assert rows[4.0]["moments_per_query"] < rows[0.0]["moments_per_query"]
    knob = load_data({**SEVERAL, "labels": "pseudo", "label_join": 4.0})["train"]
    assert knob.span_count.sum() < load_data({**SEVERAL, "labels": "pseudo"})["train"].span_count.sum()


def test_an_example_is_json_and_follows_the_slider():
    data = load_data(SEVERAL)["train"]
    named = intervals(data, 0)
    whole = quality(data, pseudo_labels(data, PseudoLabels(), named), named)
    shown = [example(data, row, named[row], PseudoLabels()) for row in range(len(data))]
    assert json.loads(json.dumps(shown[3])) == shown[3]
    right = sum(sum(grade > 0 for grade in one["grades"]) * one["clips"]["precision"] for one in shown)
    assert right / sum(sum(grade > 0 for grade in one["grades"]) for one in shown) == pytest.approx(
        whole["clips"]["precision"]
    )
    low, high = (example(data, 3, named[3], PseudoLabels(), threshold) for threshold in (-1.0, 2.0))
    assert (
        low["clips"]["recall"] == 1.0
        and all(low["grades"])
        and low["truth"] == data.annotations[3]["relevant_windows"]
    )
    assert high["relevant_windows"] == [] and high["clips"] == {"precision": None, "recall": 0.0}
    assert shown[3]["threshold"] <= max(np.array(shown[3]["scores"])[shown[3]["captioned"]])
