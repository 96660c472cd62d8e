"""Generated worlds: real words, a world a seed, and the knobs that chapters turn."""

import numpy as np
import pytest
import torch

from vtg_lib.data import load_data
from vtg_lib.data.appearance import Embeddings, RenderConfig
from vtg_lib.data.generate import WORDS, WorldConfig
from vtg_lib.data.hooks import PermutedText
from vtg_lib.data.knobs import resolve
from vtg_lib.data.timeline import Event, Vocabulary, _put
from vtg_lib.experiments.spec import RunSpec

SMALL = {"kind": "sim", "train": 48, "val": 24, "test": 24, "semantic_dim": 32, "motion_dim": 8}


def windows(split):
    return [window for row in split.annotations for window in row["relevant_windows"]]


def log_lengths(split):
    return [np.log([end - start for start, end in row["relevant_windows"]]) for row in split.annotations]


def test_sentences_are_english_and_short():
    known = {word for words in WORDS.values() for word in words} | {"a", "the", "that", "with", "it"}
    rows = load_data(SMALL)["train"].annotations
    assert {word for row in rows for word in row["query"].split()} <= known
    assert all(5 <= len(row["query"].split()) <= 8 for row in rows)
    with pytest.raises(ValueError, match="subjects: expected at most the 10 words"):
        WorldConfig(subjects=11)


def test_a_seed_is_a_world_and_worlds_are_alike():
    first, second = (load_data({**SMALL, "seed": seed})["train"] for seed in (0, 1))
    assert first.fingerprint != second.fingerprint and not torch.equal(first.video, second.video)
    for seed in (0, 1):
        words = Vocabulary()
        for number in range(20):
            words.add(f"word{number}", moves=number < 5)
        vectors = Embeddings(RenderConfig(semantic_dim=32, motion_dim=8), words, 4, seed).semantic[4:]
        likeness = vectors @ vectors.T
        assert (likeness - torch.eye(20)).abs().max() == pytest.approx(
            0.3, abs=1e-5
        )  # what the pooler looks for
        assert likeness[0, 1] == pytest.approx(0.3, abs=1e-5)


def test_a_run_lives_in_the_world_of_its_seed_unless_it_says_otherwise():
    assert RunSpec(model="qd_detr", seed=5).resolved["data"]["seed"] == 5
    fixed = RunSpec(model="qd_detr", seed=5, data={"seed": 7})
    assert fixed.resolved["data"]["seed"] == 7
    one, other = RunSpec(model="qd_detr", seed=5), RunSpec(model="qd_detr", seed=6)
    assert one.hash != other.hash and one.cost_key == other.cost_key != fixed.cost_key
    assert RunSpec(model="qd_detr", seed=5, data={"kind": "rendered"}).resolved["data"]["seed"] == 0


def test_draws_of_a_world_share_its_words_and_nothing_else():
    first, second = (load_data({**SMALL, "draw": draw}) for draw in (0, 1))
    other = load_data({**SMALL, "seed": 1})
    known, drawn, foreign = map(mean_vectors, (first, second, other))
    for word in known.keys() & drawn.keys() & foreign.keys():
        assert torch.cosine_similarity(known[word], drawn[word], 0) > 0.9
        assert torch.cosine_similarity(known[word], foreign[word], 0) < 0.7
    clips = {
        split: {tuple(clip.tolist()) for clip in part.video.flatten(0, 1)} for split, part in first.items()
    }
    for part in second.values():
        drawn = {tuple(clip.tolist()) for clip in part.video.flatten(0, 1)}
        assert all(len(drawn & known) <= 1 for known in clips.values())  # the padding
    assert [row["relevant_windows"] for row in first["val"].annotations] != [
        row["relevant_windows"] for row in second["val"].annotations
    ]
    with pytest.raises(ValueError, match="no negative number"):
        WorldConfig(draw=-1)


def mean_vectors(data):
    """Of every word of a world's sentences."""
    found = {}
    for split in data.values():
        for row, text in zip(split.annotations, split.text, strict=True):
            for word, vector in zip(row["query"].split(), text, strict=False):
                found.setdefault(word, []).append(vector.float())
    return {word: torch.stack(vectors).mean(0) for word, vectors in found.items()}


def test_stored_hashes_do_not_change():
    """Fields at their defaults are no part of a hash, so that new ones leave it alone."""
    specs = {
        "5d8afa84f2de": RunSpec(model="tr_detr", seed=3),
        "366cda412403": RunSpec(model="sdst", config={"width": 32}, data={"layout": "levels"}, seed=1),
        "dcebb755c81d": RunSpec(model="qd_detr", data={"kind": "rendered"}),
    }
    assert {spec.hash for spec in specs.values()} == set(specs)
    spelled = RunSpec.from_dict(specs["366cda412403"].resolved)
    assert spelled.hash == "366cda412403"


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_window_between_keeps_the_whole_variance(share: float):
    spec = {**SMALL, "train": 4000, "clips": 400, "window_median": 100.0, "moments": [0.0, 1.0]}
    spec |= {
        "window_between": share,
        "window_sigma": 0.5,
        "semantic_dim": 2,
        "motion_dim": 2,
        "background_events": 0.0,
    }
    lengths = np.array(log_lengths(load_data({**spec, "test": 0, "val": 1})["train"]))
    assert lengths.var() == pytest.approx(0.25, rel=0.06)  # rounding to clips and the sample alone take some
    assert lengths.mean(1).var() - lengths.var(1, ddof=1).mean() / 2 == pytest.approx(0.25 * share, abs=0.02)


def test_window_between_is_told_by_the_scene():
    spec = {
        **SMALL,
        "train": 600,
        "window_between": 1.0,
        "scenes": 6,
        "scene_strength": 3.0,
        "background_events": 0.0,
    }
    data = load_data(spec)["train"]
    first = data.video[:, 0, 8:].float()
    target = torch.tensor([float(lengths.mean()) for lengths in log_lengths(data)])
    fit = torch.linalg.lstsq(torch.cat((first, torch.ones(len(first), 1)), 1), target[:, None]).solution
    predicted = (torch.cat((first, torch.ones(len(first), 1)), 1) @ fit)[:, 0]
    assert np.corrcoef(predicted, target)[0, 1] > 0.8


def test_irrelevant_share_is_by_length_at_the_same_moments():
    plain, long = (load_data({**SMALL, "irrelevant_share": share})["train"] for share in (0.0, 0.9))
    relevant = [sum(end - start for start, end in row["relevant_windows"]) for row in long.annotations]
    share = [1 - r / row["duration"] for r, row in zip(relevant, long.annotations, strict=True)]
    free = [s for s, row in zip(share, long.annotations, strict=True) if row["duration"] < 4 * 64]
    assert np.mean(free) == pytest.approx(0.9, abs=0.02)
    sizes = [sorted(e - s for s, e in row["relevant_windows"]) for row in plain.annotations]
    assert sizes == [sorted(e - s for s, e in row["relevant_windows"]) for row in long.annotations]
    with pytest.raises(ValueError, match="irrelevant_share: expected a share"):
        WorldConfig(irrelevant_share=1.0)


def test_centre_bias():
    middle = load_data({**SMALL, "centre_bias": 1.0, "moments": [1.0]})["train"]
    assert max(abs((start + end) / 2 - 32) for start, end in windows(middle)) <= 2
    anywhere = load_data({**SMALL, "moments": [1.0]})["train"]
    assert max(abs((start + end) / 2 - 32) for start, end in windows(anywhere)) > 10


def test_a_scene_is_put_in_the_place_of_others():
    tiles = [Event(0, 10, (1,)), Event(10, 30, (2,)), Event(30, 40, (3,))]
    put = _put(tiles, Event(8, 20, (9,)))
    assert [(e.start, e.end, e.concepts[0]) for e in put] == [(0, 8, 1), (8, 20, 9), (20, 30, 2), (30, 40, 3)]
    inside = _put(tiles, Event(12, 14, (9,)))
    assert [(e.start, e.end) for e in inside] == [(0, 10), (10, 12), (12, 14), (14, 30), (30, 40)]


def test_training_and_test_may_differ_in_what_happens():
    spec = {**SMALL, "train_moments": [1.0], "test_moments": [0.0, 0.0, 1.0]}
    data = load_data(spec)
    assert {len(row["relevant_windows"]) for row in data["train"].annotations} == {1}
    assert {len(row["relevant_windows"]) for row in data["val"].annotations} > {1}
    plain = load_data(SMALL)
    assert [r["query"] for r in plain["val"].annotations] == [r["query"] for r in data["val"].annotations]
    assert resolve({"train_scene_action": 0.3})["train_scene_action"] == 0.3
    with pytest.raises(ValueError, match=r"no knobs \['test_clips'\]"):
        resolve({"test_clips": 8})
    with pytest.raises(ValueError, match=r"data.train_moments: expected tuple"):
        resolve({"train_moments": 3})


def test_permuted_text_gives_every_sentence_away():
    data = load_data(SMALL)["train"]
    batch = data.batch(torch.arange(16))
    hook = PermutedText().bind(data)
    one, same = (hook(batch, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.text, same.text) and torch.equal(one.video, batch.video)
    assert not any(torch.equal(a, b) for a, b in zip(one.text, batch.text, strict=True))
    assert sorted(one.text.sum((1, 2)).tolist()) == pytest.approx(sorted(batch.text.sum((1, 2)).tolist()))
