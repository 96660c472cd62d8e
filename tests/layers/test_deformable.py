"""Deformable attention, RDSA and RoI pooling against slow versions for one sample, head and point at a
time.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vtg_lib.layers.branch import BranchInputs, BranchSizes, SparseInputs
from vtg_lib.layers.deformable import (
    ContextCNN,
    QueryDeformableAttention,
    ReferenceDeformableAttention,
    clip_index,
    initial_offsets,
    sampling_matrix,
)
from vtg_lib.layers.roi import roi_pool

WIDTH, HEADS, POINTS = 16, 4, 3


def interpolate(row: Tensor, index: float) -> Tensor:
    """`row [T, D]` at a fractional index, zero outside."""
    low = math.floor(index)
    total = torch.zeros(row.shape[1])
    for neighbour, share in ((low, 1 - (index - low)), (low + 1, index - low)):
        if 0 <= neighbour < len(row):
            total = total + share * row[neighbour]
    return total


@pytest.fixture
def scene() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    length = torch.tensor([9.0, 5.0, 7.0])
    mask = torch.arange(9) < length[:, None]
    return {
        "x": torch.randn(3, 4, WIDTH, generator=generator),
        "position": torch.randn(3, 4, WIDTH, generator=generator),
        "references": torch.rand(3, 4, 2, generator=generator),
        "length": length,
        "mask": mask,
        "memory": torch.randn(1, 3, 9, WIDTH, generator=generator),
        "clip_position": torch.randn(3, 9, WIDTH, generator=generator),
    }


def trained(module: torch.nn.Module) -> torch.nn.Module:
    """The module with its parameters moved off their initial values, so that nothing is zero by
    construction.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def sizes(
    width: int, heads: int, points: int, sampling: str = "l-c-r", context_cnn: bool = True
) -> BranchSizes:
    return BranchSizes(width, heads, points, "rdsa", sampling, context_cnn)


def inputs_of(memory: Tensor, position: Tensor, mask: Tensor) -> SparseInputs:
    no_text = (
        torch.zeros(len(memory), len(mask), 0, memory.shape[-1]),
        torch.zeros(len(mask), 0, dtype=torch.bool),
    )
    return SparseInputs(*no_text, memory, position, mask, mask.sum(1).float())


def run(module: torch.nn.Module, scene: dict[str, Tensor], trace: dict | None = None) -> Tensor:
    inputs = inputs_of(scene["memory"], scene["clip_position"], scene["mask"])
    prepared = module.prepare(inputs)
    read = BranchInputs(scene["position"], scene["references"], inputs, trace)
    return module(scene["x"], read, *(tensor[0] for tensor in prepared))


def slow_sample(module: torch.nn.Module, source: Tensor, memory: Tensor, reference: Tensor) -> Tensor:
    """Eq. 9 for one query: `source [C]`, the real clips `memory [T, D]`, `reference` (center, width)."""
    value = module.value(memory)
    offset = module.offset(source).view(HEADS, POINTS) / POINTS
    weight = module.weight(source).view(HEADS, POINTS).softmax(-1)
    heads = []
    for h in range(HEADS):
        part = value[:, h * WIDTH // HEADS : (h + 1) * WIDTH // HEADS]
        total = torch.zeros(WIDTH // HEADS)
        for p in range(POINTS):
            location = reference[0] + offset[h, p] * reference[1] / 2
            total = total + weight[h, p] * interpolate(part, (location * len(memory) - 0.5).item())
        heads.append(total)
    return module.out(torch.cat(heads))


def slow_context(cnn: ContextCNN, memory: Tensor) -> Tensor:
    """The context CNN on the real clips of one video, clip by clip."""

    def convolve(conv: torch.nn.Conv2d, x: Tensor) -> Tensor:
        zero = torch.zeros_like(x[:1])
        padded = torch.cat((zero, x, zero))
        kernel = conv.weight[:, 0, 0]  # [D, 3]
        return torch.stack([(padded[t : t + 3].T * kernel).sum(1) + conv.bias for t in range(len(x))])

    return convolve(cnn.second, cnn.norm(convolve(cnn.first, memory)).relu())


def test_query_deformable_attention_equals_the_slow_one(scene):
    module = trained(QueryDeformableAttention(sizes(WIDTH, HEADS, POINTS)))
    result = run(module, scene)
    for b in range(3):
        memory = scene["memory"][0, b, : int(scene["length"][b])]
        for q in range(4):
            source = scene["x"][b, q] + scene["position"][b, q]
            expected = slow_sample(module, source, memory, scene["references"][b, q])
            torch.testing.assert_close(result[b, q], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("context_cnn", [True, False])
@pytest.mark.parametrize(
    ("sampling", "spots"), [("c", [0.0]), ("l-r", [-1.0, 1.0]), ("l-c-r", [-1.0, 0.0, 1.0])]
)
def test_rdsa_equals_the_slow_one(scene, sampling, spots, context_cnn):
    module = trained(ReferenceDeformableAttention(sizes(WIDTH, HEADS, POINTS, sampling, context_cnn)))
    result = run(module, scene)
    for b in range(3):
        memory = scene["memory"][0, b, : int(scene["length"][b])]
        context = slow_context(module.context, memory) if context_cnn else memory
        for q in range(4):
            center, width = scene["references"][b, q].tolist()
            index = [(center + spot * width / 2) * len(memory) - 0.5 for spot in spots]
            read = [interpolate(context, min(max(i, 0.0), len(memory) - 1.0)) for i in index]
            expected = slow_sample(module, module.latent(torch.cat(read)), memory, scene["references"][b, q])
            torch.testing.assert_close(result[b, q], expected, atol=1e-4, rtol=1e-4)


def test_rdsa_does_not_read_the_queries_and_deformable_attention_does(scene):
    other = scene | {"x": scene["x"] + 1}
    rdsa = trained(ReferenceDeformableAttention(sizes(WIDTH, HEADS, POINTS)))
    deformable = trained(QueryDeformableAttention(sizes(WIDTH, HEADS, POINTS)))
    torch.testing.assert_close(run(rdsa, scene), run(rdsa, other))
    assert (run(deformable, scene) - run(deformable, other)).abs().max() > 1e-3


def test_initial_offsets_are_what_an_untrained_module_predicts(scene):
    assert initial_offsets(8, 2).tolist() == [[0.5, 1], [0, 0], [-0.5, -1], [0, 0]] * 2
    for cls in (QueryDeformableAttention, ReferenceDeformableAttention):
        trace: dict[str, Tensor] = {}
        run(cls(sizes(WIDTH, HEADS, POINTS)), scene, trace)
        torch.testing.assert_close(trace["offsets"], initial_offsets(HEADS, POINTS).expand(3, 4, -1, -1))
        torch.testing.assert_close(trace["attention"], torch.full((3, 4, HEADS, POINTS), 1 / POINTS))
        torch.testing.assert_close(trace["weighted_offsets"], trace["offsets"].mean(-1))


def test_offsets_scale_with_the_width_of_the_reference():
    # The value of a clip is its own center, so what is sampled is where was sampled.
    module = QueryDeformableAttention(sizes(4, 4, 1))  # heads point to +1, 0, -1, 0
    with torch.no_grad():
        for linear in (module.value, module.out):
            linear.weight.copy_(torch.eye(4))
    clips = 40
    memory = ((torch.arange(clips) + 0.5) / clips)[None, None, :, None].expand(1, 1, -1, 4)
    inputs = inputs_of(memory, memory[0], torch.ones(1, clips, dtype=torch.bool))
    (value,) = module.prepare(inputs)
    for width in (0.2, 0.5):
        read = BranchInputs(torch.zeros(1, 1, 4), torch.tensor([[[0.5, width]]]), inputs)
        out = module.sample(torch.zeros(1, 1, 4), read, value[0])
        expected = torch.tensor([0.5 + width / 2, 0.5, 0.5 - width / 2, 0.5])
        torch.testing.assert_close(out[0, 0], expected, atol=1e-5, rtol=0)


def test_both_forms_of_the_sampling_matrix_agree():
    generator = torch.Generator().manual_seed(3)
    index = torch.rand(5, 6, 3, generator=generator) * 14 - 3  # also outside 0..7
    index[0, 0] = torch.tensor([-1.0, 2.0, 8.0])
    index.requires_grad_()
    weight = torch.rand(5, 6, 3, generator=generator, requires_grad=True)
    probe = torch.randn(5, 6, 8, generator=generator)
    scattered = sampling_matrix(index, weight, 8)
    tent = (weight[..., None] * (1 - (index[..., None] - torch.arange(8)).abs()).relu()).sum(-2)
    torch.testing.assert_close(scattered, tent)
    off_grid = index.detach() != index.detach().round()  # the slope of a tent is not defined on the grid
    first, second = (torch.autograd.grad(matrix, (index, weight), probe) for matrix in (scattered, tent))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a[off_grid], b[off_grid])


def test_clip_index_of_the_ends_and_the_middle():
    index = clip_index(torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]]), torch.tensor([4.0, 10.0]))
    assert index.tolist() == [[-0.5, 1.5, 3.5], [-0.5, 4.5, 9.5]]


def test_roi_pooling_averages_the_interpolated_clips():
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(2, 2, 12, 3, generator=generator)
    length = torch.tensor([12.0, 7.0])
    features = features * (torch.arange(12) < length[:, None])[None, ..., None]
    spans = torch.rand(2, 2, 5, 2, generator=generator)
    pooled = roi_pool(features, spans, length, 4).view(2, 2, 5, 4, 3)
    fine = 400
    for level, b, q in [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3), (1, 1, 4)]:
        center, width = spans[level, b, q].tolist()
        start, end = max(0.0, center - width / 2) * length[b], min(1.0, center + width / 2) * length[b]
        for part in range(4):
            at = start + (end - start) * (part + (torch.arange(fine) + 0.5) / fine) / 4 - 0.5
            row = features[level, b, : int(length[b])]
            expected = torch.stack([interpolate(row, i) for i in at.tolist()]).mean(0)
            torch.testing.assert_close(pooled[level, b, q, part], expected, atol=2e-3, rtol=0)


def test_roi_pooling_of_an_empty_span_is_finite():
    pooled = roi_pool(
        torch.ones(1, 1, 6, 2), torch.tensor([[[[0.5, 0.0], [1.0, 0.0]]]]), torch.tensor([6.0]), 16
    )
    assert pooled.isfinite().all()
    torch.testing.assert_close(pooled[0, 0, 0], torch.ones(32), atol=1e-4, rtol=0)
