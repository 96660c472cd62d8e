"""The record of real files: complete, and equal to what the files give where they are there."""

import json

import pytest

from vtg_lib.evaluation import released as recorded
from vtg_lib.papers import load_paper
from vtg_lib.papers.evidence import released_scores


def test_the_record_serves_readers_without_files(tmp_path) -> None:
    scores = released_scores(load_paper("sdst"), tmp_path)
    assert scores["tr_detr_test"]["MR-full-mAP"] == 42.62  # SDST Tab. 1, test
    assert set(scores) == set(recorded.load()["released"])


def test_unknown_files_have_no_score(tmp_path) -> None:
    assert recorded.released_score("nobody_val", "val", tmp_path) is None


def test_log_lines_are_read(tmp_path) -> None:
    metrics = {"brief": {"MR-full-mAP": 13.48, "HL-min-VeryGood-Hit1": 45.48}}
    log = tmp_path / "eval.log.txt"
    log.write_text(f"2022_11 [Epoch] 004 [Loss] loss_span 0.6 [Metrics] {json.dumps(metrics)}\nnoise\n")
    assert recorded.log_curve(log) == {"epoch": [5], "MR-full-mAP": [13.48], "HL-min-VeryGood-Hit1": [45.48]}


def test_the_record_is_what_the_files_give(data_root) -> None:
    made = json.loads(json.dumps(recorded.make(data_root)))
    assert made == recorded.load()


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="_predictions"):
        recorded.make(tmp_path)
