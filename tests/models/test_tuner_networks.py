"""The side networks themselves: LST's ladder, E3VA's highways, LoSA's gated adapters."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from vtg_lib.models import build, count_parameters
from vtg_lib.models.e3va import Adapter, LowRankLinear
from vtg_lib.models.parts.side_tuning import Levels

WIDTH = 16


def make_levels(samples: int = 5, levels: int = 4, clips: int = 14, words: int = 6) -> Levels:
    """Random levels of videos and sentences of different lengths; the last video fills its row."""
    generator = torch.Generator().manual_seed(2)
    video, text = (torch.randn(levels, samples, n, WIDTH, generator=generator) for n in (clips, words))
    mask = torch.arange(clips) < torch.tensor([9, 7, 12, 14, 14])[:, None]
    return Levels(video, mask, text, torch.arange(words) < torch.tensor([2, 6, 4, 3, 5])[:, None])


def make_tuner(name: str, moved: bool) -> nn.Module:
    """The tuner of a small model; `moved` shifts every parameter off its initial value."""
    torch.manual_seed(0)
    tuner = build(name, {"video_dim": 12, "text_dim": 10, "width": WIDTH, "heads": 4}).eval().tuner
    if moved:
        with torch.no_grad():
            for parameter in tuner.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return tuner


def test_ladder_gates_mix_the_level_and_the_side_state():
    tuner, levels = make_tuner("lst", moved=True), make_levels()
    with torch.no_grad():
        tuner.gates.copy_(torch.tensor([0.3, -0.1, 0.0, 10.0]))  # the last level's ladder is shut
    before = tuner(levels)[0]
    closed = dataclasses.replace(levels, video=levels.video.clone())
    closed.video[3] += 5
    torch.testing.assert_close(tuner(closed)[0], before)
    closed.video[2] += 5
    assert not torch.allclose(tuner(closed)[0], before, atol=1e-3)
    state = torch.zeros(5, 14, 4)
    words, position = tuner.words(levels.text), levels.position(4)
    for k, gate in enumerate((torch.tensor([0.3, -0.1, 0.0, 10.0]) * 10).sigmoid()):
        mixed = gate * state + (1 - gate) * tuner.ladders[k](levels.video[k])
        key, value = (t[0] for t in tuner.blocks[k].cross.prepare(words[k : k + 1], words[k : k + 1]))
        state = tuner.blocks[k](mixed, position, levels.mask, key, value, levels.text_mask, [None] * 3)["ffn"]
    torch.testing.assert_close(tuner.up(state), before)


def test_adapters_are_of_low_rank_and_start_as_the_identity():
    adapter, x = Adapter(16, 8, 3), torch.randn(4, 16)
    assert torch.equal(adapter(x), x)
    assert isinstance(adapter.down, LowRankLinear) and count_parameters(adapter) == 2 * 3 * (16 + 8) + 16 + 8
    nn.init.normal_(adapter.up[1].weight)
    assert torch.linalg.matrix_rank(adapter.up[1].weight @ adapter.up[0].weight) == 3


def test_highways_sum_the_adapted_levels():
    tuner, levels = make_tuner("e3va", moved=False), make_levels()
    torch.testing.assert_close(tuner.video(levels.video), F.layer_norm(levels.video.sum(0), (16,)))
    torch.testing.assert_close(tuner(levels)[1], F.layer_norm(levels.text.sum(0), (16,)))


def test_fusion_starts_from_the_last_level_and_gates_open_one_adapter_each():
    tuner, levels = make_tuner("losa", moved=False), make_levels()
    torch.testing.assert_close(tuner(levels)[0], F.layer_norm(levels.video[-1], (16,)))
    with torch.no_grad():
        tuner.gates[1, 0] = 5.0  # the short-range adapter of the first level
        for parameter in tuner.short[0].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    before = tuner(levels)[0]
    row, clip = 4, 7
    changed = dataclasses.replace(levels, video=levels.video.clone())
    changed.video[0, row, clip] += 3
    reached = (tuner(changed)[0] - before).abs().amax(-1) > 1e-5
    assert reached[row].nonzero().flatten().tolist() == [6, 7, 8] and not reached[:row].any()
    with torch.no_grad():
        tuner.gates.zero_()
        tuner.gates[0, 0] = 5.0  # the long-range one sees the whole video
    difference = (tuner(changed)[0] - tuner(levels)[0]).abs().amax(-1)
    assert (difference[row] > 1e-6).all() and not difference[:row].any()
