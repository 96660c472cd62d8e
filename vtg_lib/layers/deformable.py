"""Deformable attention over one temporal axis: from queries (Eq. 8) and from references (RDSA, Eq. 10-11).

Equation numbers are those of SDST (Pujol-Perich et al., ICCV 2025). Offsets are in half widths of the
reference: -1 and +1 are its left and right border. Axes: B samples, Q queries, H heads, P points, T clips, D
channels, S levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vtg_lib.layers.attention import merge_heads
from vtg_lib.layers.branch import Branch, BranchInputs, BranchSizes, SparseInputs
from vtg_lib.layers.projections import MLP

LATENT_WIDTH = 64  # App. A: the MLP after the concatenation ends in 64 channels
SAMPLING = {
    "c": (0.0,),
    "l-r": (-1.0, 1.0),
    "l-c-r": (-1.0, 0.0, 1.0),
}  # spots of the reference, in half widths


def initial_offsets(heads: int, points: int) -> Tensor:
    """Offsets `[H, P]` before training, in half widths: heads point right, stay, left, stay, ...; points
    reach further.

    The directions are those of xlliu7/TadTR @ a993480 for its 8 heads; the magnitude of point p is (p + 1) /
    P.
    """
    direction = torch.cos(torch.arange(heads) * (math.pi / 2)).round() + 0.0
    return direction[:, None] * torch.arange(1, points + 1) / points


def clip_index(location: Tensor, length: Tensor) -> Tensor:
    """Fractional clip index (clip t's center is t) of normalised `location` `[B, ...]` in videos of `length`
    `[B]` clips.
    """
    return location * length.view(-1, *[1] * (location.dim() - 1)) - 0.5


def sampling_matrix(index: Tensor, weight: Tensor, clips: int) -> Tensor:
    """Linear interpolation as a matrix: `matrix @ values` is the weighted sum of sampled values (Eq. 9).

    Args:
        index: `[..., P]` fractional clip indices; what lies outside -1..T samples zero.
        weight: `[..., P]`; clips: T.

    Returns:
        `[..., T]`, sum_p weight_p max(0, 1 - |index_p - t|).
    """
    if index.device.type != "cpu":  # atomic additions would make sums depend on their order
        tent = (1 - (index[..., None] - torch.arange(clips, device=index.device)).abs()).relu()
        return (weight[..., None] * tent).sum(-2)
    # Two entries a point instead of T; columns 0, T + 1 and T + 2 collect what falls outside.
    index = index.clamp(-1, clips)
    low = index.detach().floor()
    part = weight * (index - low)
    column = low.long() + 1
    matrix = weight.new_zeros(*index.shape[:-1], clips + 3)
    matrix = matrix.scatter_add(-1, torch.cat((column, column + 1), -1), torch.cat((weight - part, part), -1))
    return matrix[..., 1 : clips + 1]


def sample_clips(features: Tensor, location: Tensor, length: Tensor) -> Tensor:
    """Clips at `location`, linearly interpolated; beyond the video its first or last clip.

    Args:
        features: `[B, T, D]`; location: `[B, Q, P]`, normalised, gets a gradient; length: `[B]` clips.

    Returns:
        `[B, Q, P, D]`.
    """
    index = clip_index(location, length).clamp(min=0)
    index = torch.minimum(index, (length - 1)[:, None, None]).flatten(1)
    matrix = sampling_matrix(index[..., None], torch.ones_like(index)[..., None], features.shape[1])
    return (matrix.to(features.dtype) @ features).unflatten(1, location.shape[1:])


def level_heads(x: Tensor, heads: int) -> Tensor:
    """`[S, B, N, D]` to `[S, B, H, N, D / H]`."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


class ContextCNN(nn.Module):
    """Two depthwise temporal convolutions of kernel 3 with LayerNorm and ReLU between them (App. A)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Two-dimensional with height 1: on a CPU the channels-last kernel is many times faster than the 1-D
        # one.
        self.first = nn.Conv2d(width, width, (1, 3), padding=(0, 1), groups=width)
        self.second = nn.Conv2d(width, width, (1, 3), padding=(0, 1), groups=width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x `[S, B, T, D]`; mask `[B, T, 1]`, 0 on padding, so that videos end alike padded or not."""
        levels = x.shape[:2]
        hidden = self._convolve(self.first, x * mask)
        hidden = self.norm(hidden.unflatten(0, levels)).relu() * mask
        return self._convolve(self.second, hidden).unflatten(0, levels)

    @staticmethod
    def _convolve(convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """`[S, B, T, D]` -> `[S * B, T, D]`."""
        return convolution(x.flatten(0, 1).unsqueeze(1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).squeeze(1)


class NoContext(nn.Module):
    """Stands for the missing CNN in Tab. M."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


CONTEXT = {True: ContextCNN, False: NoContext}


class DeformableAttention(Branch):
    """Eq. 9: every head samples P clips around the reference and sums them with P attention weights.

    Subclasses say what offsets and weights are predicted from.

    Args:
        source: channels of what offsets and weights are predicted from.
    """

    def __init__(self, sizes: BranchSizes, source: int) -> None:
        super().__init__()
        self.heads, self.points = sizes.heads, sizes.points
        self.value = nn.Linear(sizes.width, sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)
        self.offset = nn.Linear(source, sizes.heads * sizes.points)
        self.weight = nn.Linear(source, sizes.heads * sizes.points)

    def reset_parameters(self) -> None:
        """Deformable DETR's initialisation: fixed offsets and uniform weights, whatever the source."""
        for linear in (self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.offset, self.weight):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.offset.bias.copy_(self.points * initial_offsets(self.heads, self.points).flatten())

    def prepare(self, inputs: SparseInputs) -> tuple[Tensor, ...]:
        """The values by head, `[S, B, H, T, D / H]`, zero on padding."""
        return (level_heads(self.value(inputs.memory) * inputs.clip_weight, self.heads),)

    def sample(self, source: Tensor, inputs: BranchInputs, value: Tensor) -> Tensor:
        """source `[B, Q, C]`, what offsets and weights are read off; value `[B, H, T, D / H]` ->
        `[B, Q, D]`.
        """
        shape = (self.heads, self.points)
        offset = self.offset(source).float().unflatten(-1, shape) / self.points  # [B, Q, H, P]
        weight = self.weight(source).float().unflatten(-1, shape).softmax(-1)
        center, half = inputs.references[..., None, :1], inputs.references[..., None, 1:] / 2  # [B, Q, 1, 1]
        index = clip_index(torch.addcmul(center, offset, half), inputs.video.length)
        matrix = sampling_matrix(index, weight, value.shape[-2]).transpose(1, 2)  # [B, H, Q, T]
        if inputs.trace is not None:
            weighted = (offset * weight).sum(-1)
            inputs.trace.update(offsets=offset, attention=weight, weighted_offsets=weighted)
        return self.out(merge_heads(matrix.to(value.dtype) @ value))


class QueryDeformableAttention(DeformableAttention):
    """Deformable cross-attention (Eq. 8): offsets and weights are read off the queries, blind to the
    video.
    """

    def __init__(self, sizes: BranchSizes) -> None:
        super().__init__(sizes, sizes.width)
        self.reset_parameters()

    def forward(self, x: Tensor, inputs: BranchInputs, value: Tensor) -> Tensor:
        """x `[B, Q, D]`; value of one level from `prepare` -> `[B, Q, D]`."""
        return self.sample(x + inputs.position, inputs, value)


class ReferenceDeformableAttention(DeformableAttention):
    """RDSA (Eq. 10-11): offsets and weights are read off the memory, at the borders and center of the
    reference.
    """

    spots: Tensor

    def __init__(self, sizes: BranchSizes) -> None:
        super().__init__(sizes, LATENT_WIDTH)
        spots = SAMPLING[sizes.sampling]
        self.register_buffer("spots", torch.tensor(spots), persistent=False)
        self.context = CONTEXT[sizes.context_cnn](sizes.width)
        self.latent = MLP(sizes.width * len(spots), LATENT_WIDTH, LATENT_WIDTH, 2)
        self.reset_parameters()

    def prepare(self, inputs: SparseInputs) -> tuple[Tensor, ...]:
        """The values, and the memory in its local context `[S, B, T, D]`."""
        return *super().prepare(inputs), self.context(inputs.memory, inputs.clip_weight)

    def forward(self, x: Tensor, inputs: BranchInputs, value: Tensor, context: Tensor) -> Tensor:
        """As in `QueryDeformableAttention`; context `[B, T, D]`. The queries themselves are not read."""
        references = inputs.references
        location = torch.addcmul(references[..., :1], self.spots, references[..., 1:] / 2)  # [B, Q, spots]
        spots = sample_clips(context, location, inputs.video.length).flatten(-2)
        return self.sample(self.latent(spots), inputs, value)
