"""Views of a split: what is hidden or exchanged, and what stays."""

import dataclasses

import pytest
import torch

from vtg_lib.data import load_data
from vtg_lib.data.views import FILLS, decoy, masked, painted, swapped_text, swapped_video

DATA = load_data({"kind": "sim", "train": 4, "val": 20, "semantic_dim": 8, "motion_dim": 4})["val"]
LEVELS = load_data({"kind": "sim", "train": 4, "val": 6, "semantic_dim": 8, "layout": "levels", "levels": 2})[
    "val"
]


def inside(data, row):
    clips = torch.arange(data.video.shape[-2])
    hit = torch.zeros(len(clips), dtype=torch.bool)
    for start, end in data.annotations[row]["relevant_windows"]:
        hit |= (clips >= start / 2) & (clips < end / 2)
    return hit


def test_swapped_text_is_about_another_video():
    other = swapped_text(DATA)
    assert torch.equal(other.text, DATA.text.roll(-1, 0)) and torch.equal(other.video, DATA.video)
    assert other.annotations is DATA.annotations and other.fingerprint != DATA.fingerprint
    shared = dataclasses.replace(DATA, video_index=torch.arange(20) // 2)  # two rows a video
    swapped = swapped_text(shared)
    for row in range(20):
        (source,) = [r for r in range(20) if torch.equal(DATA.text[r], swapped.text[row])][:1]
        assert shared.video_index[source] != shared.video_index[row]
    with pytest.raises(ValueError, match="at least two videos"):
        swapped_text(dataclasses.replace(DATA, video_index=torch.zeros(20, dtype=torch.int64)))


def test_swapped_video_keeps_the_sentence():
    other = swapped_video(DATA)
    assert torch.equal(other.text, DATA.text) and torch.equal(other.video_index, DATA.video_index.roll(-1))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("data", [DATA, LEVELS], ids=["clips", "levels"])
def test_masked_hides_the_moments_and_nothing_else(data, fill):
    hidden = masked(data, fill)
    for row in range(len(data)):
        changed = (hidden.video[row] != data.video[data.video_index[row]]).any(-1)
        changed = changed if changed.dim() == 1 else changed.all(0)
        assert torch.equal(changed, inside(data, row))
    if fill == "zeros":
        assert (hidden.video[0][..., inside(data, 0), :] == 0).all()
    assert torch.equal(masked(data, fill).video, hidden.video)


def test_a_margin_hides_more():
    near = masked(DATA, "zeros", margin=3.0).video[0]
    clips = inside(DATA, 0)
    first = int(torch.nonzero(clips)[0])
    if first > 1:  # 3 s touch two clips of 2 s
        assert (near[first - 2 : first] == 0).all()
    assert ((near == 0).all(-1) >= clips).all()


def test_a_decoy_hides_as_much_elsewhere():
    seen = 0
    for seed in range(3):
        hidden = decoy(DATA, "zeros", seed=seed)
        for row in range(len(DATA)):
            changed = (hidden.video[row] != DATA.video[row]).any(-1)
            moment = inside(DATA, row)
            assert not (changed & moment).any()
            assert changed.sum() == min(moment.sum(), (~moment).sum())
            seen += int(changed.sum())
    assert seen > 0
    assert not torch.equal(decoy(DATA, "zeros", seed=0).video, decoy(DATA, "zeros", seed=1).video)


def test_refusals():
    with pytest.raises(ValueError, match="expected a fill of zeros, mean, other, noise; got 'black'"):
        masked(DATA, "black")
    with pytest.raises(ValueError, match="rows without"):
        masked(dataclasses.replace(DATA, span_count=torch.zeros(20, dtype=torch.int64)))


def test_painted_hides_what_a_mask_touches():
    view = painted(DATA, 3, [(0.0, 0.0), (4.0, 8.0), (5.0, 5.5)], "zeros")
    assert len(view) == 3 and [row["qid"] for row in view.annotations] == [DATA.annotations[3]["qid"]] * 3
    original = DATA.video[DATA.video_index[3]]
    assert torch.equal(view.video[0], original)
    hidden = (view.video != original).any(-1)
    assert hidden[1].nonzero().flatten().tolist() == [2, 3] and hidden[2].nonzero().flatten().tolist() == [2]
    for wrong, message in (((20, [(0, 1)]), "0 to 19"), ((0, [(3, 1)]), "start <= end")):
        with pytest.raises(ValueError, match=message):
            painted(DATA, *wrong)
    with pytest.raises(ValueError, match="'other'"):
        painted(DATA, 0, [(0, 1)], "other")
