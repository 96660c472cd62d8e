"""`vtg pseudo-label`: the README's commands, one JSON document, messages without tracebacks."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pages import run_commands

from vtg_lib.cli.main import main
from vtg_lib.data import load_data
from vtg_lib.data.annotations import read_annotations
from vtg_lib.files import ROOT, locked

HEADING = "## Pretrain on your captions"
KNOBS = {
    "kind": "sim",
    "train": 24,
    "val": 4,
    "clips": 16,
    "layout": "levels",
    "levels": 1,
    "semantic_dim": 16,
}


@pytest.fixture
def made(tmp_path, capsys):
    knobs = [f"{name}={value}" for name, value in KNOBS.items()]
    assert main(["render", "--out", str(tmp_path / "raw"), "--captions", "--data", *knobs]) == 0
    capsys.readouterr()
    return tmp_path


def words(folder, *more):
    raw = folder / "raw"
    given = [
        "--captions",
        raw / "train_captions.jsonl",
        "--features",
        raw / "train",
        "--out",
        folder / "p.jsonl",
    ]
    return ["pseudo-label", *map(str, [*given, *more])]


def test_the_commands_of_the_readme_run(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    ran = run_commands(text, tmp_path)
    assert "64 captions: 64 kept" in ran.stdout and "QVHighlights" in ran.stdout
    assert "captioned: train 64 queries of 64 videos, val 16 queries of 16 videos" in ran.stdout
    assert ran.stdout.count("MR-full-mAP ") >= 2
    assert len(list((tmp_path / "runs" / "weights").iterdir())) == 1


def test_files_and_the_knob_give_the_same_labels(made, capsys):
    """A world written as captions and features, and the training split with `labels: pseudo`."""
    assert main([*words(made), "--threshold", "min", "--grades", "linear", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kept"] == 24 and report["made_of"]["settings"]["threshold"] == "min"
    assert report["qvhighlights"]["window_length"]["median"] == 16
    rows = read_annotations(made / "p.jsonl", "qvhighlights")
    knobs = {**KNOBS, "labels": "pseudo", "label_threshold": "min", "label_grades": "linear"}
    assert rows == load_data(knobs)["train"].annotations
    assert rows != read_annotations(made / "raw" / "train.jsonl", "qvhighlights")


def test_progress_and_words_for_people(made, capsys):
    assert main(words(made)) == 0
    out, error = capsys.readouterr()
    assert "24 captions: 24 kept; left out: empty 0" in out and "seconds a moment, mean" in out
    assert "24/24" in error
    assert main([*words(made), "--extend", "near"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*words(made), "--extend", "near", "--near", "0", "--overwrite"]) == 0
    assert "queries with 1" in capsys.readouterr().out


def test_rows_of_trimmed_videos_without_files_are_told(made, capsys):
    assert main([*words(made), "--window", "12", "--skip-bad"]) == 0
    out = capsys.readouterr().out
    assert "rows show part of a video and have no feature file of their own: --video-out DIR" in out
    folder = made / "videos"
    assert (
        main([*words(made), "--window", "12", "--skip-bad", "--video-out", str(folder), "--overwrite"]) == 0
    )
    assert "--video-out" not in capsys.readouterr().out
    rows = read_annotations(made / "p.jsonl", "qvhighlights")
    assert {row["vid"] for row in rows} == {path.stem for path in folder.iterdir()}
    assert all(len(np.load(folder / f"{row['vid']}.npy")) == row["duration"] / 2 for row in rows)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--window", "1"], "window: expected seconds, 2 or more"),
        (["--near", "-1"], "near: expected seconds, 0 or more"),
        (["--captions", "nowhere.jsonl"], "nowhere.jsonl: expected a readable file"),
        (["--features", "nowhere"], "expected a folder of video features, got none"),
        (["--out", "."], "--out: expected a file, got the folder"),
    ],
)
def test_what_cannot_be_done_is_said(made, capsys, more, message):
    assert main([*words(made), *more, "--json"]) == 1
    out, error = capsys.readouterr()
    assert out == "" and "vtg: error:" in error and message in error and "Traceback" not in error


def test_features_that_share_no_space_are_refused(tmp_path, capsys):
    knobs = [
        "train=6",
        "val=4",
        "clips=8",
        "semantic_dim=8",
        "motion_dim=4",
    ]  # motion beside the words' space
    assert main(["render", "--out", str(tmp_path / "raw"), "--captions", "--data", *knobs]) == 0
    assert main(words(tmp_path)) == 1
    assert "expected video and text in one space, got 12 and 8 channels" in capsys.readouterr().err


def test_unknown_choices_and_doubled_runs(made, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*words(made), "--threshold", "median"])
    assert "expected one of mean_minus_sd, mean, min" in capsys.readouterr().err
    with locked(made / "p.jsonl"):
        assert main(words(made)) == 1
    assert "p.jsonl: another run is writing it. Fix: wait" in capsys.readouterr().err


def test_it_starts_without_torch(made):
    run = "import sys; from vtg_lib.cli.main import main; assert main(sys.argv[1:]) == 0"
    code = f"{run}; assert 'torch' not in sys.modules"
    ran = subprocess.run([sys.executable, "-c", code, *words(made)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-1000:]
