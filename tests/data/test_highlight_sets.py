"""Highlight data sets: labels, generated worlds like them, domains and folds, bad labels."""

import numpy as np
import pytest
import torch

from vtg_lib.data import load_data
from vtg_lib.data.annotations import AnnotationError, validate_annotations
from vtg_lib.data.batches import label_target
from vtg_lib.data.feature_cache import FeatureWarning
from vtg_lib.data.features import FeatureError
from vtg_lib.data.generate import HIGHLIGHTS, WorldConfig
from vtg_lib.data.knobs import resolve
from vtg_lib.data.official import _fitted, official_data
from vtg_lib.data.votes import votes
from vtg_lib.experiments.spec import RunSpec

THIN = {"kind": "sim", "semantic_dim": 8, "motion_dim": 4, "test": 0}
TVSUM, YOUTUBE = ({**THIN, "dataset": name} for name in ("tvsum", "youtube_highlights"))


def test_targets_of_votes():
    everybody = np.array([[1] * 20, [5] * 20, [1] * 10 + [5] * 10, [3] * 20], float)
    assert label_target(everybody).tolist() == [0, 12, 6, 6]
    random = np.random.default_rng(0).integers(1, 6, (9, 20)).astype(float)
    assert label_target(random) == pytest.approx((random.sum(1) - 20) / 80 * 12)
    assert label_target(np.array([[0.0], [1.0]])).tolist() == [0, 1]
    assert label_target(np.array([[0.0, 7.0], [2.0, 7.0]])).tolist() == [3.5, 4.5]  # a scale that nobody told


def test_a_world_like_tvsum():
    data = load_data(TVSUM)
    assert {split: len(part) for split, part in data.items()} == {"train": 40, "val": 10}
    rows = data["train"].annotations
    domains = [row["domain"] for row in rows]
    assert all(domains.count(name) == 4 for name in domains) and len(set(domains)) == 10
    assert {row["domain"] for row in data["val"].annotations} == set(domains)
    assert all(row["relevant_windows"] is None and "saliency_scores" not in row for row in rows)
    labels = [np.array(row["label"]) for row in rows]
    assert {each.shape for each in labels} == {(48, 20)} and set(np.unique(labels)) == {1, 2, 3, 4, 5}
    agree = [np.corrcoef(each.T)[np.triu_indices(20, 1)].mean() for each in labels]
    assert np.mean(agree) == pytest.approx(0.20, abs=0.03)  # as TVSum's annotators
    assert not data["train"].span_count.any()
    targets = torch.tensor(np.array([label_target(each) for each in labels]))
    assert torch.allclose(data["train"].saliency, targets.float())
    assert len({row["query"] for row in rows}) > 30  # titles


def test_a_world_like_youtube_highlights():
    rows = load_data(YOUTUBE)["train"].annotations
    assert {len(clip) for row in rows for clip in row["label"]} == {1}
    words = {row["domain"]: {r["query"] for r in rows if r["domain"] == row["domain"]} for row in rows}
    assert len(words) == 6 and all(len(queries) == 1 for queries in words.values())
    sizes = {name: sum(row["domain"] == name for row in rows) for name in words}
    assert sizes == {  # as 55, 56, 29, 33, 117, 95 of 385
        **{"dog": 33, "gymnastics": 34, "parkour": 18, "skating": 20, "skiing": 71, "surfing": 57}
    }
    shares = [np.mean(row["label"]) for row in rows]
    assert np.mean(shares) == pytest.approx(0.44, abs=0.05)  # as in the released files
    assert min(shares) > 0


def test_votes_follow_what_is_shown():
    rng = np.random.default_rng(0)
    shown = np.array([0.0, 0.5, 1.0])
    assert votes(shown, 3, 0.0, rng) == [[1, 1, 1], [3, 3, 3], [5, 5, 5]]
    assert votes(shown, 1, 0.0, rng) == [[0], [1], [1]]
    noisy = np.array(votes(np.full(400, 0.5), 20, 1.0, rng))
    assert noisy.mean() == pytest.approx(3, abs=0.05) and len(set(noisy.ravel())) == 5


def test_worlds_with_moments_do_not_know_the_new_fields():
    plain = resolve({"kind": "sim"})
    assert not set(plain) & {*HIGHLIGHTS, "domain", "fold"}
    assert resolve({"kind": "sim", "domain": "", "fold": 0}) == plain
    same = [RunSpec(model="cg_detr", data={**TVSUM, **own}).hash for own in ({}, {"fold": 0})]
    assert same[0] == same[1] != RunSpec(model="cg_detr", data={**TVSUM, "fold": 1}).hash
    with pytest.raises(ValueError, match="domains: expected different names, at most one for each of the 7"):
        WorldConfig(domains=("a",) * 2)
    with pytest.raises(ValueError, match="domain_sizes: expected none, or a positive number for each of 2"):
        WorldConfig(domains=("a", "b"), domain_sizes=(1.0, 0.0))
    with pytest.raises(ValueError, match="annotators: expected at least 1"):
        WorldConfig(annotators=0)


def test_folds_leave_each_video_out_once():
    whole = load_data(TVSUM)
    every = {row["vid"] for part in whole.values() for row in part.annotations}
    seen: list[str] = []
    for fold in range(1, 6):
        data = load_data({**TVSUM, "fold": fold})
        train, val = ({row["vid"] for row in data[split].annotations} for split in ("train", "val"))
        assert not train & val and train | val == every and len(val) == 10
        assert len({row["domain"] for row in data["val"].annotations}) == 10
        seen += val
    assert sorted(seen) == sorted(every)
    assert {row["vid"] for row in whole["val"].annotations} == val  # the last fold is the released split
    row = data["val"].annotations[3]
    number = next(n for n, other in enumerate(whole["val"].annotations) if other["vid"] == row["vid"])
    one, other = data["val"].batch(torch.tensor([3])), whole["val"].batch(torch.tensor([number]))
    for name in ("video", "saliency", "text"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    with pytest.raises(ValueError, match=r"fold: expected 0, or 1 to 5, the videos of domain '..'; got 6"):
        load_data({**TVSUM, "fold": 6})


def test_one_domain_alone():
    data = load_data({**TVSUM, "domain": "BK", "fold": 2})
    assert {split: len(part) for split, part in data.items()} == {"train": 4, "val": 1}
    assert {row["domain"] for part in data.values() for row in part.annotations} == {"BK"}
    with pytest.raises(ValueError, match="data.domain: expected one of BK, .*, VU; got 'XX'"):
        load_data({**TVSUM, "domain": "XX"})
    for kind in ("sim", "official"):
        with pytest.raises(ValueError, match="data.fold: expected int, got 'one'"):
            load_data({"kind": kind, "dataset": "tvsum", "fold": "one"})
    with pytest.raises(ValueError, match="expected a data set whose videos have a domain"):
        load_data({**THIN, "domain": "BK", "train": 4, "val": 2})


@pytest.mark.parametrize("name", ["tvsum", "youtube_highlights"])
def test_real_labels_render(data_root, name):
    spec = {"kind": "rendered", "dataset": name, "semantic_dim": 16, "motion_dim": 8, "limit": 12}
    data = load_data(spec, root=data_root)
    for part in data.values():
        clips = [len(row["label"]) for row in part.annotations]
        assert part.video_length[part.video_index].tolist() == clips and "test" not in data
        assert part.saliency.max() == 1 if name != "tvsum" else part.saliency.max() > 6


ROW = {"qid": 1, "vid": "v", "query": "q", "relevant_windows": None, "relevant_clip_ids": None}


@pytest.mark.parametrize(
    ("dataset", "change", "message"),
    [
        ("tvsum", {"domain": "XX"}, "field 'domain': expected one of VT, .*, got \"XX\""),
        ("tvsum", {"label": [[1], [2]]}, "field 'label': expected votes of several annotators .*, got 1"),
        ("tvsum", {"label": [[1, 2], [6, 2]]}, r"expected labels from 1 to 5, got \[6\]"),
        ("tvsum", {"label": [[1, 2], [float("nan"), 2]]}, "expected finite numbers, got nan"),
        ("tvsum", {"label": [[1, 2]]}, "expected 2 clips"),
        ("youtube_highlights", {"label": [[0, 1], [1, 0]]}, "expected one label for each clip, got 2"),
        ("youtube_highlights", {"label": [[0], [2]]}, r"expected labels from 0 to 1, got \[2\]"),
        ("youtube_highlights", {"domain": "VT", "label": [[0], [1]]}, "expected one of dog"),
    ],
)
def test_bad_labels(dataset, change, message):
    row = {**ROW, "duration": 2, "label": [[1, 2], [2, 3]], **change}
    with pytest.raises(AnnotationError, match=f"line 1: .*{message}.*Fix: "):
        validate_annotations([row], dataset)


def labelled_features(folder, lengths):
    """Features of a set of TVSum's, of as many clips a video; all videos have six labels."""
    rows = [
        {**ROW, "qid": vid, "vid": vid, "duration": 6, "label": [[1, 5]] * 5 + [[2, 2]], "domain": domain}
        for vid, domain in zip(lengths, ("VT", "BK", "VT", "BK"), strict=True)
    ]
    base = folder / "features" / "tvsum_umt"
    for row in rows:
        for name, shape in (
            (f"video_features/{row['vid']}_rgb.npy", (lengths[row["vid"]], 1024)),
            (f"video_features/{row['vid']}_opt.npy", (lengths[row["vid"]], 1024)),
        ):
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(base / name, np.ones(shape, np.float32))
        (base / "query_features").mkdir(exist_ok=True)
        np.savez(base / "query_features" / f"{row['vid']}.npz", token=np.ones((3, 512), np.float32))
    return {"train": rows[:2], "val": rows[2:]}


def test_features_of_another_length(tmp_path):
    load = {"video_arrays": ("i3d",), "text_array": "clip_text", "progress": False}
    rows = labelled_features(tmp_path / "near", {"a": 6, "b": 8, "c": 5, "d": 6})
    with pytest.warns(
        FeatureWarning, match="val: labels of 1 of 2 videos are cut to their features, by up to 1"
    ):
        data = official_data("tvsum", rows, "tvsum_umt", data_root=tmp_path / "near", **load)
    assert [len(row["label"]) for row in data["val"].annotations] == [5, 6]
    assert [len(row["label"]) for row in data["train"].annotations] == [6, 6]
    assert data["train"].saliency[1, :6].tolist() == [6] * 5 + [3] and not data["train"].saliency[1, 6:].any()
    rows = labelled_features(tmp_path / "far", {"a": 6, "b": 6, "c": 6, "d": 3})
    with pytest.raises(FeatureError, match="d: 3 clips|expected about 6 clips"):
        official_data("tvsum", rows, "tvsum_umt", data_root=tmp_path / "far", **load)
    rows = [{**row, "duration": 1} for row in rows["val"]]
    with pytest.raises(FeatureError, match=r"test: expected features .* lacking are of d: 3 clips\. Fix: "):
        _fitted(rows, np.array([6, 3]), "test")
