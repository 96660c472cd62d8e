"""Distributions of annotations: right on small examples, and the same for real and generated rows."""

import numpy as np
import pytest

from vtg_lib.data import statistics as annotation_shapes
from vtg_lib.data.statistics import distance, generated, profile, shapes

ROW = {
    "qid": 0,
    "query": "one two three",
    "vid": "v_0.0_150.0",
    "duration": 150,
    "relevant_windows": [[0, 30], [120, 150]],
    "relevant_clip_ids": [*range(15), *range(60, 75)],
    "saliency_scores": [[4, 4, 0]] * 30,
}
WHOLE = {
    **ROW,
    "qid": 1,
    "vid": "w_0.0_150.0",
    "relevant_windows": [[0, 150]],
    "relevant_clip_ids": [*range(75)],
}
WHOLE["saliency_scores"] = [[4, 4, 0]] * 75


def test_shapes_by_hand() -> None:
    found = shapes([ROW, WHOLE], "qvhighlights")
    assert found["moments"] == [0.5, 0.5, 0, 0, 0, 0]
    assert found["words"][2] == 1 and sum(found["words"]) == 1
    lengths = dict(zip(annotation_shapes.SECONDS[1:], found["seconds"], strict=True))
    assert lengths[30.0] == pytest.approx(2 / 3) and lengths[150.0] == pytest.approx(1 / 3)
    assert found["relative"][3] == pytest.approx(2 / 3) and found["relative"][-1] == pytest.approx(
        1 / 3
    )  # 0.2 and 1
    assert found["position"][0] == pytest.approx(2 / 3) and found["position"][25] == pytest.approx(1 / 3)
    assert found["ends"] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert found["votes"] == pytest.approx([1 / 3, 0, 0, 0, 2 / 3])
    assert found["notes"] == {} and "labels" not in found


def test_labels_without_moments() -> None:
    row = {"qid": "a", "query": "dog", "vid": "a", "duration": 3, "relevant_windows": None, "domain": "BK"}
    found = shapes([{**row, "label": [[1.0, 2.0], [1.0, 5.0], [3.0, 1.0]]}], "tvsum")
    assert found["labels"] == {"clips": 3, "annotators": 2, "scores": [1, 2, 3, 5], "domains": 1}
    assert "moments" not in found and "votes" not in found


def test_generated_annotations_have_every_distribution() -> None:
    found = generated({"train": 200})
    assert found["statistics"]["queries"] == 200
    for key in ("moments", "seconds", "relative", "words", "votes"):
        assert sum(found[key]) == pytest.approx(1), key
    assert np.argmax(found["moments"]) == 0
    one_moment = generated({"train": 200, "moments": (1.0,)})
    assert one_moment["moments"][0] == 1 and distance(one_moment["moments"], found["moments"]) > 0.1


def test_distance_and_profile() -> None:
    assert distance([1, 0], [0, 1]) == 1 and distance([0.5, 0.5], [0.5, 0.5]) == 0
    assert profile([1, 3]) == [0.25, 0.75]
