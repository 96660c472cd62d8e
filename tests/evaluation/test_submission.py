import json

import numpy as np
import pytest

from vtg_lib.evaluation.problems import SubmissionError
from vtg_lib.evaluation.reading import read_jsonl, read_submission
from vtg_lib.evaluation.submission import check, write_submission

GROUND_TRUTH = [{"qid": qid, "duration": 20} for qid in range(3)]


def rows(n=3):
    return [
        {
            "qid": qid,
            "query": "a dog",
            "vid": f"v{qid}",
            "pred_relevant_windows": [[0.0, 4.0, 0.9], [6.0, 6.0, 0.8]],
            "pred_saliency_scores": [0.5, -1.0] * 5,
        }
        for qid in range(n)
    ]


def write(path, lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def changed(index, **fields):
    result = rows()
    result[index] = {key: value for key, value in {**result[index], **fields}.items() if value is not ...}
    return result


def test_reads_what_the_reference_accepts(tmp_path):
    """Unsorted, empty, without length, outside the video, one clip short, and blank lines at the end."""
    lines = rows()
    lines[0]["pred_relevant_windows"] = [[-1.0, 30, 0.1], [2, 3, 5]]
    lines[1]["pred_relevant_windows"] = []
    lines[2]["pred_saliency_scores"] = [0] * 9
    path = write(tmp_path / "p.jsonl", [*lines, "\n", "\n"])
    assert read_submission(path, GROUND_TRUTH) == lines == read_jsonl(path)
    alone = [{"qid": r["qid"], "pred_saliency_scores": r["pred_saliency_scores"]} for r in rows()]
    assert read_submission(write(path, alone), GROUND_TRUTH) == alone


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"p\.jsonl: expected JSON, one object a line, got an empty file"),
        (["\n"], "got an empty file"),
        (
            [*rows(2), '{"qid": 2, "pred_relevant_windows": [[0.0, 1'],
            r"p\.jsonl, line 3: .*ends after 44 .*cut off",
        ),
        (
            [rows()[0], "{broken}\n", rows()[2]],
            r"p\.jsonl, line 2: expected one JSON object, got '\{broken\}'",
        ),
        (["<!DOCTYPE html>\n"], "line 1: .*got a web page.*download the file again"),
        ([[1, 2]], "item 1: expected one JSON object, a query, got 1"),
        (changed(1, qid=0), r"line 2, qid: expected each qid once, got 0 again, after .*p\.jsonl, line 1"),
        (changed(1, qid=...), "line 2, qid: .*no such field"),
        (changed(1, qid=1.5), "line 2, qid: expected an integer or text, got 1.5"),
        (changed(1, qid=None), "line 2, qid: expected an integer or text, got None"),
        (
            changed(1, qid=9),
            (
                r"(?s)expected all 3 queries.*none for 1: 1.*expected queries of the ground truth only, got 1"
                r" others: 9"
            ),
        ),
        (rows(2), "none for 1: 2.*match_number=False"),
        ([{**r, "qid": str(r["qid"])} for r in rows()], "qid: expected type int, got type str. Fix: convert"),
        (
            changed(0, pred_relevant_windows=..., pred_saliency_scores=...),
            "(?s)line 1, qid 0, pred_relevant_windows: .*no such field.*or no row: line 2 has it.*saliency",
        ),
        (
            changed(1, pred_relevant_windows=...),
            "line 2, qid 1, pred_relevant_windows: expected a list, got no such field",
        ),
        (changed(2, pred_relevant_windows={}), r"line 3, qid 2, pred_relevant_windows: expected \[\[start"),
        (
            changed(2, pred_relevant_windows=[[0, 1, 1], [0, 1]]),
            r"pred_relevant_windows\[1\]: expected \[start, end, score\]",
        ),
        (
            changed(2, pred_relevant_windows=[[0, 1, "0.5"]]),
            r"pred_relevant_windows\[0\]: .*got \[0, 1, '0.5'\]",
        ),
        (changed(2, pred_relevant_windows=[0, 1, 1]), r"pred_relevant_windows\[0\]: .*got 0"),
        (
            changed(2, pred_relevant_windows=[[0, float("nan"), 1]]),
            r"pred_relevant_windows\[0\]: expected finite numbers",
        ),
        (changed(2, pred_relevant_windows=[[9, 4.0, 1]]), r"expected start <= end, got \[9, 4.0, 1\]"),
        (changed(2, pred_saliency_scores=0.5), "line 3, qid 2, pred_saliency_scores: expected a list"),
        (changed(2, pred_saliency_scores=[]), "pred_saliency_scores: .*an empty list"),
        (changed(2, pred_saliency_scores=[0.5] * 4 + [True] * 6), r"pred_saliency_scores\[4\]: .*got True"),
        (changed(2, pred_saliency_scores=[0.5, float("inf")] * 5), r"pred_saliency_scores\[1\]: .*got inf"),
        (
            changed(2, pred_saliency_scores=[0.5] * 7),
            "pred_saliency_scores: expected 10 scores, one a clip of 2 s, got 7",
        ),
    ],
)
def test_refuses(tmp_path, lines, message):
    with pytest.raises(SubmissionError, match=message) as error:
        read_submission(write(tmp_path / "p.jsonl", lines), GROUND_TRUTH)
    assert all(problem.fix and "p.jsonl" in problem.place for problem in error.value.problems)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"\x1f\x8b\x08\xff", "a whole gzip file"), (b"\xff\xfa\x00", "binary data")],
)
def test_refuses_unreadable_files(tmp_path, content, message):
    path = tmp_path / "p.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SubmissionError, match=message):
        read_submission(path)


def test_lists_ten_problems_and_counts_the_rest():
    bad = [{**r, "pred_relevant_windows": [[4, 1, 0.5]]} for r in rows(14)]
    with pytest.raises(SubmissionError) as error:
        check(bad)
    text = str(error.value).splitlines()
    assert len(error.value.problems) == 14 and len(text) == 11
    assert text[9].startswith(
        "predictions[9], qid 9, pred_relevant_windows[0]: expected start <= end, got [4, 1, 0.5]. Fix:"
    )
    assert text[10] == "… and 4 more problems."


def test_match_number_allows_other_queries_but_not_only_others():
    some = [*rows(2), {**rows()[0], "qid": 77}]
    check(some, GROUND_TRUTH, match_number=False)
    with pytest.raises(SubmissionError, match="none for 3"):
        check([{**rows()[0], "qid": 77}], GROUND_TRUTH, match_number=False)


def test_write_then_read(tmp_path):
    path = tmp_path / "new" / "p.jsonl"
    arrays = rows()
    arrays[0]["pred_saliency_scores"] = np.array(arrays[0]["pred_saliency_scores"])
    arrays[1]["qid"] = np.int64(1)
    write_submission(path, arrays)
    assert read_submission(path, GROUND_TRUTH) == rows()
    assert [entry.name for entry in path.parent.iterdir()] == ["p.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.jsonl"
    write_submission(path, rows())
    with pytest.raises(SubmissionError, match="finite"):
        write_submission(path, changed(1, pred_saliency_scores=[float("nan")]))
    with pytest.raises(TypeError, match="JSON cannot"):
        write_submission(path, changed(1, query={1, 2}))
    assert read_submission(path) == rows()
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.jsonl"]


def test_released_predictions_pass(data_root):
    for path in sorted((data_root / "released_predictions").glob("*.jsonl")):
        split = "highlight_test_with_gt" if path.stem.endswith("test") else "highlight_val_release"
        ground_truth = read_jsonl(data_root / "qvhighlights" / f"{split}.jsonl")
        assert len(read_submission(path, ground_truth)) == len(ground_truth)
