"""Attention, dropout, positions and projections."""

import pytest
import torch

from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.attention import MultiHeadAttention
from vtg_lib.layers.dropout import Dropout
from vtg_lib.layers.positions import clip_positions, reference_positions
from vtg_lib.layers.projections import append_endpoints, temporal_endpoints


def test_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(8, 2).eval(), torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    weight, bias = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    for linear, w, b in zip((ours.query, ours.key, ours.value), weight, bias, strict=True):
        linear.load_state_dict({"weight": w, "bias": b})
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    query, key = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]]).bool()
    expected, weights = theirs(query, key, key, key_padding_mask=~mask)
    got, own = ours(query, key, key, mask, need_weights=True)
    assert torch.allclose(got, expected, atol=1e-6)
    assert torch.allclose(own.mean(1), weights, atol=1e-6)
    assert torch.allclose(ours(query, key, key, mask), expected, atol=1e-6)


def test_attention_refuses_odd_widths() -> None:
    with pytest.raises(ValueError, match="divisible by 3 heads, got 8"):
        MultiHeadAttention(8, 3)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_right_share(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 501)
    y = Dropout(p).train()(x)
    kept = (y != 0).float().mean().item()
    assert kept == pytest.approx(1 - p, abs=5e-3)
    assert torch.allclose(y[y != 0], torch.tensor(256 / (256 - round(256 * p))))
    # Neighbours come from one 64-bit draw: they must not move together.
    keep = (y.flatten()[: 8 * 25_000] != 0).float().view(-1, 8)
    correlation = torch.corrcoef(keep.T) - torch.eye(8)
    assert correlation.abs().max() < 0.02
    assert torch.equal(Dropout(p).eval()(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_passes_where_elements_were_kept(dtype: torch.dtype) -> None:
    x = torch.randn(31, 17, dtype=dtype).transpose(0, 1).requires_grad_()
    y = Dropout(0.25).train()(x)
    y.backward(torch.ones_like(y))
    kept = (y != 0) | (x == 0)
    assert 0.6 < kept.float().mean() < 0.9
    assert torch.equal(x.grad, kept.to(dtype) * torch.tensor(4 / 3, dtype=dtype))


def test_dropout_is_seeded_and_refuses_one() -> None:
    torch.manual_seed(3)
    first = Dropout(0.5)(torch.ones(10))
    torch.manual_seed(3)
    assert torch.equal(first, Dropout(0.5)(torch.ones(10)))
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        Dropout(1.0)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)])
def test_dropout_adds_the_residual(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    x, residual = (torch.randn(5, 7, 3, dtype=dtype) for dtype in dtypes)
    gradient, results = torch.randn(5, 7, 3), []
    for fused in (True, False):
        inputs = [t.clone().transpose(0, 1).requires_grad_() for t in (x, residual)]
        module = Dropout(0.25).train()
        torch.manual_seed(0)
        out = module(*inputs) if fused else inputs[1] + module(inputs[0])
        out.backward(gradient.transpose(0, 1))
        results.append((out, inputs[0].grad, inputs[1].grad))
    assert all(torch.equal(fused, plain) for fused, plain in zip(*results, strict=True))
    assert torch.equal(Dropout(0.25).eval()(x, residual), residual + x)


@pytest.mark.parametrize("slope", [0.25, -0.5])
def test_prelu_is_pytorchs(slope: float) -> None:
    torch.manual_seed(0)
    x, gradient = torch.randn(5, 7, 3), torch.randn(5, 7, 3)
    results = []
    for module in (PReLU(), torch.nn.PReLU()):
        with torch.no_grad():
            module.weight.fill_(slope)
        inputs = x.transpose(0, 1).requires_grad_()
        out = module(inputs)
        out.backward(gradient.transpose(0, 1))
        results.append((out, inputs.grad, module.weight.grad))
        x = x.detach().clone()
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_positions_ignore_padding() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0]]).bool()
    assert torch.allclose(clip_positions(mask, 8)[0, :3], clip_positions(mask[:, :3], 8)[0])
    references = torch.tensor([[0.5, 0.1], [0.5, 0.2]])
    encoded = reference_positions(references, 8)
    assert encoded.shape == (2, 8)
    assert torch.equal(encoded[0, :4], encoded[1, :4]) and not torch.equal(encoded[0, 4:], encoded[1, 4:])


def test_endpoints_cover_the_real_clips() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    tef = temporal_endpoints(mask)
    assert torch.allclose(tef[1], torch.tensor([[0, 0.5], [0.5, 1.0], [0, 0], [0, 0]]))
    assert append_endpoints(torch.zeros(2, 3, 4, 5), mask).shape == (2, 3, 4, 7)


def test_anchor_decoder_starts_from_its_anchors() -> None:
    torch.manual_seed(0)
    decoder = AnchorDecoder(queries=3, layers=2, width=8, heads=2, hidden=16, dropout=0.0)
    with torch.no_grad():
        decoder.refine.layers[-1].weight.zero_()
    memory, mask = torch.randn(2, 5, 8), torch.ones(2, 5).bool()
    states, references = decoder(memory, clip_positions(mask, 8), mask)[:2]
    assert states.shape == (2, 2, 3, 8)
    assert torch.allclose(references[0], decoder.anchors.sigmoid().expand(2, -1, -1))
    # Without a refinement references stay, up to the clamp of the inverse sigmoid.
    assert torch.allclose(references[0], references[1], atol=2e-3)
