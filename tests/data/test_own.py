"""Data sets of one's own: the page's commands in order, what is told from the files, and what is refused."""

import json

import numpy as np
import pytest
import yaml
from pages import run_commands

from vtg_lib.data import load_data, own
from vtg_lib.data.feature_cache import FeatureWarning
from vtg_lib.data.features import FeatureError
from vtg_lib.files import ROOT

PAGE = ROOT / "book" / "your_data.md"


def test_every_command_of_the_page_runs(tmp_path):
    ran = run_commands(PAGE.read_text(encoding="utf-8"), tmp_path)
    assert "mine: train 64 queries of 64 videos, val 16 queries of 16 videos; clips of 2 s" in ran.stdout
    assert ran.stdout.count("MR-full-mAP ") == 3  # of the run, and scored twice
    assert "2 of 16 queries of the annotations are scored" in ran.stderr
    assert not list(ROOT.glob("p.jsonl"))


@pytest.fixture
def made(tmp_path):
    """Four videos of 20 s: SlowFast-like and CLIP-like features, words by number; ActivityNet's layout."""
    rng = np.random.default_rng(0)
    for split, videos in (("train", ("a", "b", "c")), ("val", ("d",))):
        whole = {
            v: {"duration": 20.0, "timestamps": [[2.0, 6.0]], "sentences": ["A dog runs."]} for v in videos
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(whole))
        for v in videos:
            for folder, width in (("slow", 6), ("clip", 4)):
                (tmp_path / folder).mkdir(exist_ok=True)
                np.save(tmp_path / folder / f"{v}.npy", rng.standard_normal((20, width), np.float32))
            (tmp_path / "words").mkdir(exist_ok=True)
            np.savez(tmp_path / "words" / f"{v}_0.npz", last_hidden_state=rng.standard_normal((5, 3)))
    return tmp_path


def added(folder, **changes):
    given = {
        "annotations": {split: folder / f"{split}.json" for split in ("train", "val")},
        "video": {"slow": folder / "slow", "clip": folder / "clip"},
        "text": folder / "words",
        "root": folder / "root",
    }
    return own.add("mine", **{**given, **changes})


def test_what_the_files_are_is_told_from_them(made):
    data, facts = added(made)
    assert facts == {
        "queries": {"train": 3, "val": 1},
        "videos": {"train": 3, "val": 1},
        "video_dim": 10,
        "text_dim": 3,
        "levels": 1,
        "clip_length": 1.0,
    }
    assert data.text.spec.key == "last_hidden_state" and data.video[0].spec.files == ("{id}.npy",)
    assert own.read_own("mine", made / "root") == data
    splits = load_data({"kind": "own", "name": "mine"}, root=made / "root")
    assert splits["train"].video.shape == (3, 20, 10) and splits["val"].text.shape == (1, 5, 3)
    assert splits["val"].clip_length == 1.0 and splits["val"].facts["dataset"] == "mine"
    assert splits["val"].annotations[0]["qid"] == "d_0"


def test_what_cannot_be_a_data_set_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match="expected letters, digits and _, got 'my set'"):
        own.add("my set", {}, {}, "")
    with pytest.raises(ValueError, match="got none for val"):
        added(made, annotations={"train": made / "train.json"})
    with pytest.raises(FeatureError, match="expected a folder of features, got none"):
        added(made, text=made / "nothing")
    (made / "clip" / "b.npy").rename(made / "clip" / "video_b.npy")
    with pytest.raises(FeatureError, match=r"such as b\.npy, got none for 1; .* 4 files, such as a\.npy"):
        added(made)
    (made / "clip" / "video_b.npy").rename(made / "clip" / "b.npy")
    for video in "abc":
        np.save(made / "clip" / f"{video}.npy", np.zeros((7, 4), np.float32))
    with pytest.raises(FeatureError, match="clips of 2.86 s .* no usual length. Fix: --clip-length"):
        added(made)
    assert not (made / "root").exists()


def test_queries_without_features_are_left_out_if_asked(made):
    added(made)
    (made / "clip" / "b.npy").unlink()
    with pytest.raises(FeatureError, match=r"got none for 1 of them.*allow_missing=true"):
        load_data({"kind": "own", "name": "mine"}, root=made / "root")
    with pytest.warns(FeatureWarning, match="train: 1 of 3 queries are left out"):
        splits = load_data({"kind": "own", "name": "mine", "allow_missing": True}, root=made / "root")
    assert [row["vid"] for row in splits["train"].annotations] == ["a", "c"]
    (made / "clip" / "d.npy").unlink()
    with pytest.raises(FeatureError, match="val: expected features, got none"), pytest.warns(FeatureWarning):
        load_data({"kind": "own", "name": "mine", "allow_missing": True}, root=made / "root")


def test_one_qid_in_two_splits_needs_features_by_split(made):
    rows = [{"qid": 0, "vid": "a", "query": "x", "duration": 20, "relevant_windows": [[2, 6]]}]
    for split in ("train", "val"):
        (made / f"{split}.json").write_text(json.dumps(rows[0]))
    np.savez(made / "words" / "0.npz", features=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"got 0 in train and in val.*\{split\}"):
        added(made)


def test_a_corrected_yaml_is_checked(made):
    added(made)
    path = own.path_of("mine", made / "root")
    content = yaml.safe_load(path.read_text())
    content["text"]["spec"]["dims"] = "three"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"mine\.yaml, text, spec, dims: expected a whole number"):
        own.read_own("mine", made / "root")
    with pytest.raises(ValueError, match="'mien'; did you mean 'mine'"):
        own.read_own("mien", made / "root")
