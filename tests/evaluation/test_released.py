"""The record of real files: complete, and equal to what the files give where they are there."""

import json

import pytest

from vtg_lib.book.foundations.record import make, write
from vtg_lib.evaluation import released as recorded
from vtg_lib.papers import load_paper
from vtg_lib.papers.evidence import released_scores


def test_the_record_serves_readers_without_files(tmp_path) -> None:
    scores = released_scores(load_paper("sdst"), tmp_path)
    assert scores["tr_detr_test"]["MR-full-mAP"] == 42.62  # SDST Tab. 1, test
    assert set(scores) == set(recorded.load()["released"])


def test_unknown_files_have_no_score(tmp_path) -> None:
    assert recorded.released_score("nobody_val", "val", tmp_path) is None


def test_logs_are_read_and_matched(tmp_path) -> None:
    lines = [
        f"2022 [Epoch] {epoch:03d} [Loss] x 1 [Metrics] {json.dumps({'brief': {'a': value, 'b': 1.0}})}"
        for epoch, value in ((4, 10.0), (9, 20.0))
    ]
    path = tmp_path / "log.txt"
    path.write_text("\n".join([*lines, "noise"]))
    log = recorded.read_log(path)
    assert [epoch for epoch, _ in log] == [5, 10]
    assert recorded.matching_epoch(log, {"a": 20.0, "b": 1.0}) == {"epoch": 10, "equal": 2, "of": 2}
    assert recorded.matching_epoch(log, {"a": 20.01, "b": 1.0, "c": 3.0})["equal"] == 1


def test_the_record_is_what_the_files_give(data_root, tmp_path) -> None:
    write(make(data_root), tmp_path / "recorded.json")
    assert (tmp_path / "recorded.json").read_text() == recorded.RECORD.read_text()


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="_predictions"):
        make(tmp_path)


def test_one_torn_file_stops_no_table(tmp_path, monkeypatch):
    from vtg_lib.evaluation import released
    from vtg_lib.evaluation.problems import SubmissionWarning

    truth = tmp_path / released.ANNOTATIONS["qvhighlights"]["val"]
    predictions = tmp_path / released.PREDICTIONS.format("qd_detr_val")
    for path, text in ((truth, "{}"), (predictions, '{"qid": 1}\n{"qid": 2, "pred_rel')):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.warns(SubmissionWarning, match="(?s)qd_detr_val.jsonl, line 2: .*is left out"):
        assert released.released_score("qd_detr_val", "val", tmp_path) is None
