"""Annotations: what is refused and how the message reads, what is only noted, and the published files."""

import json
import warnings

import pytest

from vtg_lib.data.annotations import (
    AnnotationError,
    AnnotationWarning,
    read_annotations,
    validate_annotations,
)
from vtg_lib.data.datasets import DATASETS, dataset_of
from vtg_lib.data.statistics import statistics


def row(**changes):
    base = {
        "qid": 1,
        "query": "a dog runs",
        "duration": 20,
        "vid": "abc_0.0_20.0",
        "relevant_windows": [[4, 8]],
        "relevant_clip_ids": [2, 3],
        "saliency_scores": [[1, 2, 3], [0, 4, 4]],
    }
    return {k: v for k, v in (base | changes).items() if v is not ...}


@pytest.fixture
def write(tmp_path):
    def inner(text, name="qvhighlights/highlight_val_release.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text if isinstance(text, str) else "\n".join(json.dumps(r) for r in text))
        return path

    return inner


REFUSED = [
    ({"qid": ...}, "qid", "an integer or a non-empty string"),
    ({"qid": True}, "qid", "got true"),
    ({"vid": ""}, "vid", "a non-empty string"),
    ({"query": 5}, "query", "got 5"),
    ({"duration": 0}, "duration", "positive"),
    ({"duration": float("nan")}, "duration", "positive"),
    ({"relevant_windows": [[8, 4]]}, "relevant_windows", "start < end"),
    ({"relevant_windows": [[4, 4]]}, "relevant_windows", "start < end"),
    ({"relevant_windows": [[4, 22]]}, "relevant_windows", "within 0 and 20 s"),
    ({"relevant_windows": [[-2, 4]]}, "relevant_windows", "within 0 and 20 s"),
    ({"relevant_windows": []}, "relevant_windows", "at least one"),
    ({"relevant_windows": [[1, "2"]]}, "relevant_windows", "finite numbers"),
    ({"relevant_windows": ...}, "relevant_windows", "all of"),
    ({"relevant_clip_ids": [2, 10]}, "relevant_clip_ids", "0..9"),
    ({"relevant_clip_ids": [-1, 2]}, "relevant_clip_ids", "0..9"),
    ({"relevant_clip_ids": [2, 2]}, "relevant_clip_ids", "each clip once"),
    ({"relevant_clip_ids": [2.5, 3]}, "relevant_clip_ids", "integers"),
    ({"saliency_scores": [[1, 2, 3]]}, "saliency_scores", "one entry per clip id, 2"),
    ({"saliency_scores": [[1, 2], [1, 2]]}, "saliency_scores", "three scores"),
    ({"saliency_scores": [[1, 2, 5], [1, 2, 3]]}, "saliency_scores", "0..4"),
]


@pytest.mark.parametrize(("change", "field", "expected"), REFUSED)
def test_refuses_and_says_where_and_how_to_fix(write, change, field, expected):
    path = write([row(), row(**({"qid": 2} | change))])
    with pytest.raises(AnnotationError) as error:
        read_annotations(path)
    message = str(error.value)
    assert f"{path}, line 2" in message
    assert f"'{field}'" in message and expected in message
    assert "got" in message and "Fix:" in message


def test_refuses_duplicate_qid_and_two_lengths_of_a_video(write):
    with pytest.raises(AnnotationError, match="line 2.*'qid'.*also on line 1"):
        read_annotations(write([row(), row()]))
    with pytest.raises(AnnotationError, match="line 2.*'duration'.*20 as on line 1"):
        read_annotations(write([row(), row(qid=2, duration=18)]))


def test_refuses_labelled_and_unlabelled_rows_together(write):
    bare = row(qid=2, relevant_windows=..., relevant_clip_ids=..., saliency_scores=...)
    assert len(read_annotations(write([bare]))) == 1
    with pytest.raises(AnnotationError, match="line 2.*labels as on line 1"):
        read_annotations(write([row(), bare]))


def test_line_numbers_count_blank_lines(write):
    path = write(json.dumps(row()) + "\n\n\n" + json.dumps(row(qid=2, duration=-1)))
    with pytest.raises(AnnotationError, match="line 4"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(row()) + '\n{"qid": 2, "que', "line 2: .*torn line.*fetch or write the file again"),
        ('{"qid": 2, "que\n' + json.dumps(row()), "line 1: .*write one JSON object a line"),
        ("<!DOCTYPE html><html></html>", "a web page .HTML."),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1", "a Git LFS pointer"),
        ("", "got an empty file"),
        ("[1, 2]", "a JSON object"),
    ],
)
def test_refuses_files_that_are_not_annotations(write, text, expected):
    with pytest.raises(AnnotationError, match=expected):
        read_annotations(write(text))


def test_missing_file_and_unknown_data_set(tmp_path):
    with pytest.raises(AnnotationError, match="gone.jsonl.*Fix"):
        read_annotations(tmp_path / "gone.jsonl")
    with pytest.raises(AnnotationError, match="expected one of qvhighlights"):
        validate_annotations([row()], "qvh")


def test_notes_do_not_stop_but_unpublished_oddities_warn(write):
    shorter = row(vid="abc_0.0_150.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the published files have videos shorter than their name says
        read_annotations(write([shorter]))
    overlapping = row(relevant_windows=[[4, 8], [6, 8]])
    with pytest.warns(AnnotationWarning, match="overlapping windows in 1 row"):
        read_annotations(write([overlapping]))
    assert [n.kind for n in validate_annotations([row(relevant_clip_ids=[2, 4])], "qvhighlights")] == [
        "clips and windows differ"
    ]
    assert validate_annotations([row()], "qvhighlights") == []


def test_tvsum_duration_counts_clips():
    video = {
        "qid": "a",
        "query": "x",
        "duration": 3,
        "vid": "a",
        "relevant_windows": None,
        "label": [[1.0, 2.0]] * 3,
    }
    validate_annotations([video], "tvsum")
    assert statistics([video], "tvsum")["duration"]["mean"] == 6
    with pytest.raises(AnnotationError, match="counts clips"):
        validate_annotations([video | {"duration": 6}], "tvsum")
    with pytest.raises(
        AnnotationError, match="one list of 1 scores .annotators. for each clip, got a list of 2"
    ):
        validate_annotations([video | {"label": [[1.0], [1.0, 2.0], [1.0]]}], "tvsum")


def test_data_set_from_path():
    assert dataset_of("x/qvhighlights/a.jsonl").name == "qvhighlights"
    assert dataset_of("charades/charades_test.jsonl").name == "charades_sta"
    assert dataset_of("highlight_val_release.jsonl").name == "qvhighlights"
    assert dataset_of("youtube_highlights/youtube_highlight_val_release.jsonl").name == "youtube_highlights"
    assert dataset_of("mine.jsonl").name == "generic"


def test_statistics_by_hand():
    rows = [
        row(relevant_windows=[[0, 4], [10, 20]]),
        row(qid=2, query="one two three four five", relevant_windows=[[0, 10]]),
        row(qid=3, vid="other", relevant_windows=[[0, 8], [4, 12]]),
    ]
    found = statistics(rows)
    assert found["queries"] == 3 and found["videos"] == 2
    assert found["queries_per_video"]["mean"] == 1.5
    assert found["words_per_query"]["mean"] == pytest.approx(11 / 3)
    assert found["window_count_share"] == {"1": 1 / 3, "2": 2 / 3, "3": 0, "4": 0, "5": 0, "6+": 0}
    assert found["window_length"] == {"mean": 8, "median": 8, "min": 4, "max": 10}
    assert found["length_share"] == {"short": 1, "middle": 0, "long": 0}
    assert found["coverage"] == pytest.approx((14 / 20 + 10 / 20 + 12 / 20) / 3)  # overlap counts once
    assert found["saliency"]["mean"] == 7


PUBLISHED = {
    "qvhighlights/highlight_train_release.jsonl": 7218,
    "qvhighlights/highlight_val_release.jsonl": 1550,
    "qvhighlights/highlight_test_release.jsonl": 1542,
    "qvhighlights/highlight_test_with_gt.jsonl": 1542,
    "charades_sta/charades_train_release.jsonl": 12404,
    "charades_sta/charades_test_release.jsonl": 3720,
    "tacos/tacos_train_release.jsonl": 9790,
    "tacos/tacos_val_release.jsonl": 4436,
    "tacos/tacos_test_release.jsonl": 4001,
    "tvsum/tvsum_train_release.jsonl": 40,
    "tvsum/tvsum_val_release.jsonl": 10,
    "youtube_highlights/youtube_highlight_train_release.jsonl": 233,
    "youtube_highlights/youtube_highlight_val_release.jsonl": 152,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_files_read_without_a_warning(data_root, name, count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = read_annotations(data_root / name)
    assert len(rows) == count
    profile = dataset_of(data_root / name)
    notes = {note.kind for note in validate_annotations(rows, profile.name)}
    assert notes <= DATASETS[profile.name].known
    assert statistics(rows, profile.name)["queries"] == count


def test_qvhighlights_statistics_are_the_known_ones(data_root):
    found = statistics(
        read_annotations(data_root / "qvhighlights/highlight_train_release.jsonl"), "qvhighlights"
    )
    assert round(100 * found["window_count_share"]["1"]) == 67
    assert round(100 * found["window_count_share"]["2"]) == 17
    assert round(found["window_length"]["mean"]) == 25 and found["window_length"]["median"] == 16
    assert round(found["words_per_query"]["mean"], 1) == 10.5
