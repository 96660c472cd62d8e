"""The sparse (moment-level) stream of SDST: recurrent decoder queries, refined level by level (Eq. 5-6).

Every branch prepares what does not depend on the queries for all levels at once (`prepare`), then runs per
level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vtg_lib.layers.attention import FeedForward
from vtg_lib.layers.branch import Branch, BranchInputs, BranchSizes, SparseInputs
from vtg_lib.layers.deformable import QueryDeformableAttention, ReferenceDeformableAttention
from vtg_lib.layers.dense_stream import ContextAttention, PostNorm, kaiming_
from vtg_lib.layers.projections import MLP
from vtg_lib.spans import inverse_sigmoid

PROPOSAL_WIDTH = 0.1  # share of the video; the width that a clip of the memory proposes before regression


class TextBranch(Branch):
    """Cross-attention from the queries to the words (Eq. 5)."""

    def __init__(self, sizes: BranchSizes) -> None:
        super().__init__()
        self.attention = ContextAttention(sizes.width, sizes.heads)

    def prepare(self, inputs: SparseInputs) -> tuple[Tensor, ...]:
        return self.attention.prepare(inputs.text, inputs.text)

    def forward(self, x: Tensor, inputs: BranchInputs, key: Tensor, value: Tensor) -> Tensor:
        return self.attention.mix(x + inputs.position, key, value, inputs.video.text_mask)


class QueryBranch(Branch):
    """Self-attention among the queries (Eq. 5)."""

    def __init__(self, sizes: BranchSizes) -> None:
        super().__init__()
        self.attention = ContextAttention(sizes.width, sizes.heads)

    def forward(self, x: Tensor, inputs: BranchInputs) -> Tensor:
        query = x + inputs.position
        key, value = self.attention.prepare(query[None], x[None])
        return self.attention.mix(query, key[0], value[0], None)


class FeedForwardBranch(Branch):
    """Point-wise feed-forward (Eq. 6)."""

    def __init__(self, sizes: BranchSizes) -> None:
        super().__init__()
        self.feed_forward = FeedForward(sizes.width, 4 * sizes.width)
        kaiming_(self.feed_forward)

    def forward(self, x: Tensor, inputs: BranchInputs) -> Tensor:
        return self.feed_forward(x)


class StandardAttention(Branch):
    """Standard cross-attention to every clip of the memory (Tab. 5, "Stand. CA")."""

    def __init__(self, sizes: BranchSizes) -> None:
        super().__init__()
        self.attention = ContextAttention(sizes.width, sizes.heads)

    def prepare(self, inputs: SparseInputs) -> tuple[Tensor, ...]:
        return self.attention.prepare(inputs.memory + inputs.position, inputs.memory)

    def forward(self, x: Tensor, inputs: BranchInputs, key: Tensor, value: Tensor) -> Tensor:
        return self.attention.mix(x + inputs.position, key, value, inputs.video.mask)


class LearnedQueries(nn.Module):
    """Learned (center, width) references and embeddings, the same for every video.

    The references start on a grid of centers, with widths that a golden-ratio sequence spreads over
    0.05..0.75.
    """

    def __init__(self, queries: int, width: int) -> None:
        super().__init__()
        rank = torch.arange(queries)
        grid = torch.stack(((rank + 0.5) / queries, 0.05 + 0.7 * (rank * 0.618034 % 1)), -1)
        self.content = nn.Parameter(torch.randn(queries, width))
        self.anchors = nn.Parameter(inverse_sigmoid(grid))

    def forward(
        self, memory: Tensor, mask: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """memory `[B, T, D]`, mask `[B, T]`, length `[B]`.

        Returns:
            embeddings `[B, Q, D]`, references `[B, Q, 2]`, and predictions to supervise (`spans`, `logits`),
            here none.
        """
        batch = len(memory)
        return self.content.expand(batch, -1, -1), self.anchors.sigmoid().expand(batch, -1, -1), {}


class MemoryQueries(nn.Module):
    """References read off the top-scoring clips of the first level's memory (DINO's query selection)."""

    def __init__(self, queries: int, width: int) -> None:
        super().__init__()
        self.queries = queries
        self.project, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.class_head, self.span_head = class_head(width), span_head(width)

    def select(
        self, memory: Tensor, mask: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As `LearnedQueries.forward`; a video of fewer clips than queries offers its clips again and
        again.
        """
        memory = self.norm(self.project(memory))
        logits = self.class_head(memory).squeeze(-1).float()
        count = min(self.queries, memory.shape[1])
        best = logits.detach().masked_fill(~mask, -torch.inf).topk(count, 1).indices
        rank = torch.arange(self.queries, device=memory.device) % length.long().clamp(max=count)[:, None]
        index = best.gather(1, rank)  # [B, Q]
        content = memory.gather(1, index[..., None].expand(-1, -1, memory.shape[-1]))
        center = (index + 0.5) / length[:, None]
        proposal = torch.stack((center, torch.full_like(center, PROPOSAL_WIDTH)), -1)
        spans = (inverse_sigmoid(proposal) + self.span_head(content).float()).sigmoid()
        return content.detach(), spans.detach(), {"spans": spans, "logits": logits.gather(1, index)}


class PureQueries(MemoryQueries):
    """PureInit (Tab. 5): references and embeddings both come from the memory."""

    def forward(
        self, memory: Tensor, mask: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As `LearnedQueries.forward`."""
        return self.select(memory, mask, length)


class MixedQueries(MemoryQueries):
    """MixedInit (Tab. 5): references from the memory, learned embeddings (DINO's mixed query selection)."""

    def __init__(self, queries: int, width: int) -> None:
        super().__init__(queries, width)
        self.content = nn.Parameter(torch.randn(queries, width))

    def forward(
        self, memory: Tensor, mask: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As `LearnedQueries.forward`."""
        _, references, predictions = self.select(memory, mask, length)
        return self.content.expand(len(memory), -1, -1), references, predictions


def class_head(width: int) -> nn.Linear:
    """One layer (App. A); starts at a foreground probability of 0.01 (focal loss, as xlliu7/TadTR @
    983ae14).
    """
    head = nn.Linear(width, 1)
    nn.init.constant_(head.bias, -4.59512)
    return head


def span_head(width: int) -> MLP:
    """Three layers (App. A) that start at no refinement."""
    head = MLP(width, width, 2, 3)
    for parameter in head.layers[-1].parameters():
        nn.init.zeros_(parameter)
    return head


# config.attention -> (attention to the video, where the queries come from)
ATTENTION: dict[str, tuple[type[Branch], type[nn.Module]]] = {
    "rdsa": (ReferenceDeformableAttention, LearnedQueries),
    "cross": (StandardAttention, LearnedQueries),
    "deformable": (QueryDeformableAttention, LearnedQueries),
    "deformable_pure_init": (QueryDeformableAttention, PureQueries),
    "deformable_mixed_init": (QueryDeformableAttention, MixedQueries),
}


BRANCHES: dict[str, Callable[[BranchSizes], Branch]] = {
    "cross": TextBranch,
    "self": QueryBranch,
    "video": lambda sizes: ATTENTION[sizes.attention][0](sizes),
    "ffn": FeedForwardBranch,
}


class SparseStream(nn.Module):
    """Branches in the order of `modules` (Tab. 7, Tab. N), each with residual and post-norm."""

    def __init__(self, modules: Sequence[str], sizes: BranchSizes) -> None:
        super().__init__()
        # By name, so that rows of Tab. 7 and Tab. N start with the same weights in what they share.
        self.branches = nn.ModuleDict({name: BRANCHES[name](sizes) for name in modules})
        self.norms = nn.ModuleDict({name: PostNorm(sizes.width) for name in modules})

    def prepare(self, inputs: SparseInputs) -> list[list[tuple[Tensor, ...]]]:
        """Per level, per branch: the tensors that the branch wants back in `forward`."""
        branches = cast(Iterable[Branch], self.branches.values())
        per_branch = [tuple(t.unbind(0) for t in branch.prepare(inputs)) for branch in branches]
        levels = range(inputs.memory.shape[0])
        return [[tuple(t[level] for t in tensors) for tensors in per_branch] for level in levels]

    def forward(
        self,
        x: Tensor,
        inputs: BranchInputs,
        prepared: list[tuple[Tensor, ...]],
        keep: Sequence[Tensor | None],
    ) -> Tensor:
        """One level: x `[B, Q, D]`, prepared of that level, a mask of `PostNorm` a branch -> `[B, Q, D]`."""
        for branch, norm, tensors, mask in zip(
            self.branches.values(), self.norms.values(), prepared, keep, strict=True
        ):
            x = norm(x, branch(x, inputs, *tensors), mask)
        return x
