"""Generated worlds and the renderer: statistics, determinism, what each knob does."""

import numpy as np
import pytest
import torch

from vtg_lib.data import feature_dims, load_data, real_rows
from vtg_lib.data.batches import targets
from vtg_lib.data.generate import WorldConfig, generate
from vtg_lib.data.knobs import resolve
from vtg_lib.data.timeline import TimelineConfig, Vocabulary, content_stem

TINY = {"kind": "sim", "semantic_dim": 24, "motion_dim": 12, "train": 40, "val": 20, "clips": 20}


def aligned(data, level: int | None = None) -> float:
    """Mean cosine of clip and sentence inside the moments minus outside."""
    rows = torch.arange(len(data))
    video = data.video[data.video_index].float()
    video = video[:, level] if level is not None else video[..., -data.text.shape[-1] :]
    sentence = data.text[rows, data.text_length - 1].float()
    similarity = torch.einsum("ntd,nd->nt", video, sentence)
    inside = data.saliency > 0
    return (similarity[inside].mean() - similarity[~inside].mean()).item()


def test_same_seed_same_bits_other_seed_other() -> None:
    first, again, other = load_data(TINY), load_data(TINY), load_data({**TINY, "seed": 1})
    assert torch.equal(first["train"].video, again["train"].video)
    assert first["train"].fingerprint == again["train"].fingerprint != other["train"].fingerprint
    assert not torch.equal(first["train"].video, other["train"].video)
    assert first["train"].annotations[0] != first["val"].annotations[0]


def test_layouts_have_the_promised_shapes() -> None:
    clips = load_data(TINY)["train"]
    assert clips.video.shape == (40, 20, 36) and feature_dims(TINY) == (36, 24)
    levels = load_data({**TINY, "layout": "levels", "levels": 5})["train"]
    assert levels.video.shape == (40, 5, 20, 24)
    assert torch.allclose(levels.video.float().norm(dim=-1), torch.ones(40, 5, 20), atol=2e-3)
    batch = levels.batch(torch.tensor([3, 1]))
    assert batch.video.shape[:3] == (2, 5, 20) and batch.index.tolist() == [3, 1]


def test_fewer_levels_are_the_same_last_levels() -> None:
    five = load_data({**TINY, "layout": "levels", "levels": 5})["val"].video
    three = load_data({**TINY, "layout": "levels", "levels": 3})["val"].video
    assert torch.equal(five[:, -3:], three)


def test_moment_statistics_follow_the_knobs() -> None:
    rows = load_data({**TINY, "train": 600, "clips": 75, "window_median": 16.0, "window_sigma": 0.95})[
        "train"
    ].annotations
    counts = np.array([len(row["relevant_windows"]) for row in rows])
    assert (counts == 1).mean() == pytest.approx(0.67, abs=0.06)
    lengths = np.array([end - start for row in rows for start, end in row["relevant_windows"]])
    assert np.median(lengths) == pytest.approx(16, abs=2.1)  # a clip is 2 seconds
    for row in rows:
        windows = row["relevant_windows"]
        assert all(0 <= s < e <= row["duration"] for s, e in windows)
        assert all(a[1] < b[0] for a, b in zip(windows, windows[1:], strict=False))
        covered = [clip for s, e in windows for clip in range(int(s / 2), int(e / 2))]
        assert row["relevant_clip_ids"] == covered and len(row["saliency_scores"]) == len(covered)


def test_query_moments_stand_out_and_noise_hides_them() -> None:
    clean, noisy = (aligned(load_data({**TINY, "semantic_noise": noise})["val"]) for noise in (0.05, 2.0))
    assert clean > 2 * noisy > 0


def test_levels_turn_away_from_text_with_depth() -> None:
    levels = {**TINY, "layout": "levels", "level_misalignment": 0.4}
    data = load_data(levels)["val"]
    assert aligned(data, level=3) > aligned(data, level=0)
    straight = load_data({**levels, "level_misalignment": 0.0})["val"]
    assert aligned(straight, level=0) > aligned(data, level=0)


def test_poolers_rank_as_built() -> None:
    gain = {
        pooling: aligned(load_data({**TINY, "layout": "levels", "pooling": pooling})["val"], level=3)
        for pooling in ("adaptive", "avg", "cls")
    }
    assert gain["adaptive"] > gain["avg"] > gain["cls"]


def test_spurious_scene_is_a_knob_of_train_alone() -> None:
    tied = load_data({**TINY, "train_scene_action": 1.0})
    plain = load_data(TINY)
    assert torch.equal(tied["val"].video, plain["val"].video)
    assert not torch.equal(tied["train"].video, plain["train"].video)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"noise": 3}, "has no knobs"),
        ({"layout": "grid"}, "'clips' or 'levels', got 'grid'"),
        ({"pooling": "max"}, "expected one of"),
        ({"kind": "dream"}, "'rendered', 'official' or 'own', got 'dream'"),
        ({"visibility": 1.5}, r"\[0, 1\], got 1.5"),
        ({"moments": [0.5, 0.1]}, "sum to 1"),
        ({"kind": "official"}, r"missing \['features', 'text', 'video'\]"),
    ],
)
def test_bad_knobs_are_named(spec: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data({**TINY, **spec})


def test_missing_annotations_say_how_to_get_them(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="vtg data fetch qvhighlights"):
        load_data({"kind": "rendered", "dataset": "qvhighlights"}, root=tmp_path)


def test_batches_copy_large_rows_right() -> None:
    data = load_data({**TINY, "motion_dim": 1200, "train": 5})["train"]
    index = torch.tensor([4, 0, 4])
    batch = data.batch(index)
    assert torch.equal(batch.video, data.video[data.video_index[index]].float())
    assert torch.equal(batch.text, data.text[index][:, : batch.text.shape[1]].float())


def test_highlight_labels_become_saliency() -> None:
    rows = [{"qid": "a", "label": [[5, 1], [1, 1], [3, 3]], "relevant_windows": None, "duration": 6}]
    spans, count, saliency = targets(rows, np.array([3]), 2.0, 4)
    assert count.tolist() == [0] and saliency.tolist() == [[6, 0, 6, 0]]


def test_content_words() -> None:
    assert [content_stem(w) for w in ("the", "dogs", "walking", "is", "red")] == [
        None,
        "dog",
        "walk",
        None,
        "red",
    ]
    vocabulary = Vocabulary()
    assert vocabulary.concepts("Two dogs, a dog and a cat.") == vocabulary.concepts("dog cat")


def test_real_annotations_render(data_root) -> None:
    spec = {"kind": "rendered", "dataset": "qvhighlights", "limit": 50, "semantic_dim": 16, "motion_dim": 8}
    data = load_data(spec, root=data_root)["val"]
    assert len(data) == 50 and data.video.shape[1:] == (75, 24)
    assert aligned(data) > 0.1


def test_background_events_fill_unannotated_time_alone() -> None:
    def timelines(share: float) -> tuple[list, list]:
        config = TimelineConfig(background_events=share)
        rows, made, _ = generate(WorldConfig(train=50, val=1), config, Vocabulary(), "train", seed=0)
        return rows, made

    rows, full = timelines(1.0)
    for row, timeline in zip(rows, full, strict=True):
        events = sorted(timeline.events, key=lambda event: event.start)
        assert all(a.end <= b.start + 1e-9 for a, b in zip(events, events[1:], strict=False))
        assert sum(event.end - event.start for event in events) == pytest.approx(row["duration"])
    again, empty = timelines(0.0)
    assert again == rows  # the annotations do not depend on what surrounds them
    assert sum(len(t.events) for t in empty) == sum(len(row["relevant_windows"]) for row in rows)


def test_a_world_without_votes_has_the_same_moments():
    voted, plain = (
        load_data({"kind": "sim", "train": 6, "val": 2, "clips": 8, "saliency": votes})
        for votes in (True, False)
    )
    assert all("saliency_scores" in row for row in voted["val"].annotations)
    assert not any("saliency_scores" in row for row in plain["val"].annotations)
    assert torch.equal(plain["train"].spans[0], voted["train"].spans[0])
    assert plain["train"].saliency.unique().tolist() == [0, 1]  # inside a moment or not


def test_a_world_may_have_a_test_split():
    data = load_data({"kind": "sim", "train": 4, "val": 3, "test": 2, "clips": 8})
    plain = load_data({"kind": "sim", "train": 4, "val": 3, "clips": 8})
    assert {name: len(split) for name, split in data.items()} == {"train": 4, "val": 3, "test": 2}
    assert set(plain) == {"train", "val"}
    assert (
        torch.equal(data["val"].video, plain["val"].video)
        and data["test"].annotations[0] != data["val"].annotations[0]
    )


def test_worlds_like_other_data_sets():
    assert resolve({"kind": "sim", "dataset": "qvhighlights"}) == resolve({"kind": "sim"})
    charades, tacos = (
        load_data(
            {"kind": "sim", "train": 400, "val": 2, "dataset": name, "semantic_dim": 8, "motion_dim": 4}
        )["train"]
        for name in ("charades_sta", "tacos")
    )
    for split, share in ((charades, 0.25), (tacos, 0.06)):  # of the video, in the median
        assert (split.span_count == 1).all() and split.saliency.max() == 1
        assert split.spans[:, 0, 1].median() == pytest.approx(share, abs=0.035)
    assert tacos.video.shape[1] == 2 * charades.video.shape[1]
    assert resolve({"kind": "sim", "dataset": "tacos", "clips": 40})["clips"] == 40
    with pytest.raises(
        ValueError, match="world like qvhighlights, charades_sta, .*, tvsum, .*got 'activitynet'"
    ):
        resolve({"kind": "sim", "dataset": "activitynet"})
    with pytest.raises(ValueError, match="expected kind"):
        resolve({"kind": "sim like tacos"})


def test_every_knob_moves_the_fingerprint() -> None:
    prints = {
        load_data({**TINY, **change})["val"].fingerprint
        for change in ({}, {"background_events": 0.1}, {"scenes": 5}, {"text_noise": 0.2}, {"seed": 3})
    }
    assert len(prints) == 5


def test_spelling_does_not_matter() -> None:
    assert resolve({"kind": "sim", "window_median": 10}) == resolve({"window_median": 10.0, "seed": None})
    assert resolve({"moments": [0.5, 0.5]}) == resolve({"moments": (0.5, 0.5)})
    for spec in ({"kind": "rendered", "window_median": 5.0}, {"kind": "sim", "limit": 5}):
        with pytest.raises(ValueError, match="has no knobs"):
            resolve(spec)
    for value in (2.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"data.clips: expected int, got {value}"):
            resolve({"clips": value})
    with pytest.raises(ValueError, match="data.text_noise: expected float, got nan"):
        resolve({"text_noise": float("nan")})


def test_charades_holds_out_training_videos(data_root) -> None:
    rows = real_rows("charades_sta", data_root)
    videos = {split: {row["vid"] for row in part} for split, part in rows.items()}
    assert set(rows) == {"train", "val", "test"} and not videos["train"] & videos["val"]
    assert len(videos["val"]) / len(videos["train"]) == pytest.approx(1 / 9, rel=0.2)
