"""Submissions in the layouts that people have; answers in words; units; and mutated files."""

import gzip
import json
import os
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtg_lib.evaluation import answers
from vtg_lib.evaluation.problems import SubmissionError, SubmissionWarning
from vtg_lib.evaluation.reading import read_submission
from vtg_lib.evaluation.submission import clip_counts

FUZZ = int(os.environ.get("VTG_FUZZ", "200"))  # mutated files for each reader
TRUTH = [{"qid": qid, "duration": 20, "vid": f"v{qid}", "relevant_windows": [[4, 10]]} for qid in range(3)]
ROWS = [{"qid": qid, "vid": f"v{qid}", "pred_relevant_windows": [[4.0, 10.0, 0.9]]} for qid in range(3)]


def write(tmp_path, content):
    path = tmp_path / "p"
    text = content if isinstance(content, str | bytes) else "\n".join(map(json.dumps, content))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def windows(rows):
    return [row["pred_relevant_windows"] for row in rows]


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        json.dumps(ROWS),
        json.dumps({"predictions": ROWS}, indent=2),
        gzip.compress("\n".join(map(json.dumps, ROWS)).encode()),
    ],
    ids=["lines", "list", "wrapped", "gzip"],
)
def test_layouts(tmp_path, content):
    assert read_submission(write(tmp_path, content), TRUTH) == ROWS


def test_windows_by_qid_and_as_objects(tmp_path):
    expected = [[[4.0, 10.0, 0.9]]] * 3
    by_qid = {str(row["qid"]): row["pred_relevant_windows"] for row in ROWS}
    read = read_submission(write(tmp_path, json.dumps(by_qid)), TRUTH)
    assert windows(read) == expected and [row["qid"] for row in read] == [0, 1, 2]
    objects = [{**row, "pred_relevant_windows": [{"start": 4.0, "end": 10.0, "score": 0.9}]} for row in ROWS]
    assert windows(read_submission(write(tmp_path, objects), TRUTH)) == expected
    objects[0]["pred_relevant_windows"] = [{"from": 4.0, "to": 10.0}]
    with pytest.raises(SubmissionError, match=r"got \{'from': 4.0"):
        read_submission(write(tmp_path, objects), TRUTH)


def test_windows_without_scores_count_in_their_order(tmp_path):
    rows = [{**row, "pred_relevant_windows": [[4, 10], [0, 2]]} for row in ROWS]
    with pytest.warns(SubmissionWarning, match="windows without scores"):
        read = read_submission(write(tmp_path, rows), TRUTH)
    assert windows(read)[0] == [[4, 10, 1.0], [0, 2, 0.5]]
    mixed = [rows[0], *ROWS[1:]]
    with pytest.raises(SubmissionError, match=r"expected \[start, end, score\], got \[4, 10\]"):
        read_submission(write(tmp_path, mixed), TRUTH)


SAID = [
    ("The person opens the door from 4.0 to 10.0 seconds.", None, [[4.0, 10.0]]),
    ("It happens at 00:14 - 00:20.", None, [[14.0, 20.0]]),
    ("14s-20s", None, [[14.0, 20.0]]),
    ("between 1:02:03 and 1:02:10.5", None, [[3723.0, 3730.5]]),
    ("from 1 minute to 1.5 minutes", None, [[60.0, 90.0]]),
    ("start: 3s, end: 7s; then 12s to 15s", None, [[3.0, 7.0], [12.0, 15.0]]),
    ("20% to 50% of the video", None, [[20.0, 50.0]]),
    ("frames 20 to 50 frames", None, []),
    ("from 20 to 50", None, []),
    ("from 20 to 50", "seconds", [[20.0, 50.0]]),
    ("from 20 to 50", "percent", [[20.0, 50.0]]),
    ("[0.2, 0.5]", "fraction", [[20.0, 50.0]]),
    ("This is not shown in the video.", None, []),
    ("from 10 to 4 seconds", None, []),
    ("version 1.2.3-4", None, []),
    ("", None, []),
]


@pytest.mark.parametrize(("text", "unit", "expected"), SAID)
def test_times_in_words(text, unit, expected):
    assert answers.windows(text, 100.0, unit) == [pytest.approx(window) for window in expected]


def test_answers_are_read_and_those_without_a_time_counted(tmp_path):
    said = ["from 4.0 to 10.0 seconds", "not shown", "00:14 - 00:20"]
    rows = [{"qid": qid, "answer": text} for qid, text in enumerate(said)]
    with pytest.warns(SubmissionWarning, match=r"3 answers in words, 1 without a time .*qid 1.*--unit"):
        read = read_submission(write(tmp_path, rows), TRUTH)
    assert windows(read) == [[[4.0, 10.0, 1.0]], [], [[14.0, 20.0, 1.0]]]


def test_fractions_are_not_taken_for_seconds(tmp_path):
    rows = [{**row, "pred_relevant_windows": [[0.2, 0.5, 0.9]]} for row in ROWS]
    path = write(tmp_path, rows)
    with pytest.raises(SubmissionError, match="fractions of the video.*--unit fraction"):
        read_submission(path, TRUTH)
    assert windows(read_submission(path, TRUTH, unit="fraction"))[0] == [[4.0, 10.0, 0.9]]
    assert windows(read_submission(path, TRUTH, unit="seconds"))[0] == [[0.2, 0.5, 0.9]]


@pytest.mark.parametrize("unit", ["seconds", "fraction", "percent"])
@pytest.mark.parametrize("qid", [[1], {"id": 1}, None])
def test_a_qid_that_is_no_id_is_told_whatever_the_unit(tmp_path, qid, unit):
    path = write(tmp_path, [{**ROWS[0], "qid": qid}, *ROWS[1:]])
    with pytest.raises(SubmissionError, match="line 1.*qid"):
        read_submission(path, TRUTH, unit=unit)


def test_other_videos_under_the_same_qids_are_told(tmp_path):
    rows = [ROWS[0], {**ROWS[1], "vid": "another"}, ROWS[2]]
    with pytest.warns(SubmissionWarning, match="1 of 3 queries name another vid .*qid 1: 'another' and 'v1'"):
        read_submission(write(tmp_path, rows), TRUTH)


def test_the_length_of_a_clip():
    def scores(*numbers):
        return [{"qid": qid, "pred_saliency_scores": [0.5] * n} for qid, n in enumerate(numbers)]

    assert clip_counts(scores(20, 20, 21), TRUTH) == ({0: 20, 1: 20, 2: 20}, 1.0)
    assert clip_counts(scores(10, 9, 11), TRUTH)[1] == 2.0
    assert clip_counts(scores(160, 160, 160), TRUTH)[1] == 1 / 8
    assert clip_counts(scores(20, 20, 20), TRUTH, clip_length=2.0)[0] == {0: 10, 1: 10, 2: 10}
    labelled = [{**row, "saliency_scores": [[1, 1, 1]]} for row in TRUTH]
    assert clip_counts(scores(20, 20, 20), labelled)[1] == 2.0  # as QVHighlights counts them
    tvsum = [{"qid": 0, "duration": 12, "label": [[1.0, 2.0]] * 12}]
    assert clip_counts(scores(12), tvsum) == ({0: 12}, None)


@st.composite
def mutated(draw):
    rows = [{**row, "pred_saliency_scores": [0.5] * 10, "answer": "from 1s to 2s"} for row in ROWS]
    forms = ["\n".join(map(json.dumps, rows)), json.dumps(rows), json.dumps({"data": rows})]
    text = draw(st.sampled_from(forms))
    values = ["null", "NaN", "-1", '"x"', "[]", "{}", "1e999", "true", "", '"from 1 to 2"', "9" * 400]
    olds = ['"qid"', "0.9", "[", "]", "4.0", "{", "}", ":", ",", '"pred_relevant_windows"', "0.5", "0"]
    for old, new in draw(
        st.lists(st.tuples(st.sampled_from(olds), st.sampled_from(values)), min_size=1, max_size=3)
    ):
        place = text.find(old, draw(st.integers(0, len(text))))
        text = text if place < 0 else text[:place] + new + text[place + len(old) :]
    data = bytearray(text.encode())
    if draw(st.booleans()):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        data[start : start + draw(st.integers(0, 6))] = draw(st.binary(max_size=4))
    return bytes(data)


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=mutated(), unit=st.sampled_from([None, "seconds", "fraction", "percent"]))
def test_no_file_ends_in_a_fault_of_ours(tmp_path, data, unit):
    path = tmp_path / "fuzzed"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = read_submission(path, TRUTH, unit=unit)
        except SubmissionError as error:
            assert all(problem.fix for problem in error.problems)
        else:
            assert {row["qid"] for row in read} == {0, 1, 2}
            json.dumps(windows(read), allow_nan=False)  # of fields that are not read nothing is asked
