"""The decoder that methods share: what it gave before its interface, and what each part of that does."""

from __future__ import annotations

import pytest
import torch
from ragged import TEXT_DIM, VIDEO_DIM, moved, ragged_batch
from torch import Tensor

from vtg_lib.layers.anchors import AnchorDecoder, Groups
from vtg_lib.layers.attention import Modulation
from vtg_lib.layers.positions import clip_positions
from vtg_lib.models import build
from vtg_lib.models.initialisation import build_paired

SMALL = {"video_dim": VIDEO_DIM, "text_dim": TEXT_DIM, "width": 16, "heads": 2, "hidden": 24, "queries": 5}
# Mean span, mean score, losses, mean of the anchors' squared gradient: of the decoder before it had groups,
# modulation and updates (54ecf8e).
BEFORE: dict[str, tuple[float, float, float, float]] = {
    "qd_detr": (0.702917993, 0.68574053, 13.2078018, 0.421171367),
    "tr_detr": (0.675342262, 0.633591294, 14.9618216, 0.453122139),
    "cg_detr": (0.849063396, 0.687546253, 15.7214394, 0.349466145),
    "sim_detr": (0.75136131, 0.267474771, 15.9012423, 0.317288488),
}


@pytest.mark.parametrize("name", BEFORE)
def test_methods_predict_as_before_the_interface(name: str) -> None:
    model, batch = build_paired(lambda: build(name, {**SMALL, "decoder_layers": 3}), 0).eval(), ragged_batch()
    output = model(batch)
    torch.manual_seed(2)
    losses = sum(model.loss(output, batch).values())
    losses.backward()
    gradient = model.decoder.anchors.grad.square().mean()
    found = [value.item() for value in (output.spans.mean(), output.scores.mean(), losses, gradient)]
    assert found == pytest.approx(BEFORE[name], abs=1e-6, rel=1e-6)


@pytest.fixture
def decoder() -> AnchorDecoder:
    torch.manual_seed(0)
    made: AnchorDecoder = moved(AnchorDecoder(3, 2, 8, 2, 16, 0.0)).eval()
    return made


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    return torch.randn(2, 6, 8), clip_positions(mask, 8), mask


def test_given_anchors_stand_in_for_the_learned_ones(decoder: AnchorDecoder) -> None:
    plain = decoder(*inputs())
    same = decoder(*inputs(), anchors=decoder.anchors.sigmoid().expand(2, -1, -1))
    torch.testing.assert_close(same.states, plain.states)
    given = torch.rand(2, 7, 2, requires_grad=True)
    found = decoder(*inputs(), anchors=given)
    assert found.states.shape == (2, 2, 7, 8) and torch.equal(found.references[0], given)
    found.states.square().sum().backward()
    assert given.grad is not None and given.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=r"expected anchors \[B, Q, 2\], as it has learned none"):
        AnchorDecoder(0, 1, 8, 2, 8, 0.0)(*inputs())


def test_isolated_groups_change_nothing_else(decoder: AnchorDecoder) -> None:
    plain = decoder(*inputs(), trace=True)
    group = torch.tensor([0, 0, 0, 1, 1, 2])  # own, and two groups
    groups = Groups(torch.rand(2, 3, 2), torch.ones(8), group[:, None] != group)
    found = decoder(*inputs(), trace=True, groups=groups)
    torch.testing.assert_close(found.states, plain.states)
    torch.testing.assert_close(found.trace, plain.trace)
    assert torch.equal(found.extras["group_references"][0], groups.anchors)
    lone = Groups(
        groups.anchors[:, 2:],
        torch.ones(8),
        torch.tensor([0, 0, 0, 1])[:, None] != torch.tensor([0, 0, 0, 1]),
    )
    alone = decoder(*inputs(), groups=lone).extras["group_states"]
    torch.testing.assert_close(found.extras["group_states"][:, :, 2:], alone)
    mixed = decoder(*inputs(), groups=groups._replace(isolated=torch.zeros(6, 6).bool()))
    assert not torch.allclose(mixed.states, plain.states, atol=1e-3)


def test_modulation_acts_on_the_attention_to_the_clips(decoder: AnchorDecoder) -> None:
    plain = decoder(*inputs(), trace=True)
    one, none = torch.ones(2, 3, 6), torch.zeros(2, 3, 6)
    for still in (Modulation(factor=one), Modulation(bias=none), Modulation(gain=one)):
        torch.testing.assert_close(decoder(*inputs(), modulate=lambda _, m=still: m).states, plain.states)
    even = decoder(*inputs(), trace=True, modulate=lambda _: Modulation(factor=none, trace={"x": none}))
    torch.testing.assert_close(even.trace["clip_attention"][:, 1, :, :4], torch.full((2, 3, 4), 0.25))
    assert (even.trace["clip_attention"][:, 1, :, 4:] == 0).all() and even.trace["x"].shape == (2, 2, 3, 6)
    only = none.masked_fill(torch.arange(6) != 2, -1e4)
    chosen = decoder(*inputs(), trace=True, modulate=lambda _: Modulation(bias=only)).trace["clip_attention"]
    torch.testing.assert_close(chosen[..., 2], torch.ones(2, 2, 3))


def test_updates_come_before_the_clips_are_read(decoder: AnchorDecoder) -> None:
    seen = []

    def update(layer: int, reference: Tensor, x: Tensor) -> Tensor:
        seen.append((layer, reference.shape, x.shape))
        return x + layer

    plain, found = decoder(*inputs()), decoder(*inputs(), update=update)
    assert seen == [(0, (2, 3, 2), (2, 3, 8)), (1, (2, 3, 2), (2, 3, 8))]
    torch.testing.assert_close(found.states[0], plain.states[0])
    assert not torch.allclose(found.states[1], plain.states[1], atol=1e-3)


def test_plain_positions_bear_anchors_of_no_width() -> None:
    decoder = AnchorDecoder(0, 2, 8, 2, 16, 0.0, scaled=False)
    names = {name.split(".")[0] for name, _ in decoder.named_parameters()}
    assert names == {"layers", "norm", "position_head", "refine"}
    states = decoder(*inputs(), anchors=torch.zeros(2, 4, 2)).states
    assert states.isfinite().all()
