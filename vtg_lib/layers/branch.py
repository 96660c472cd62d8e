"""What a branch of SDST's sparse stream is built from and what it reads (Eq. 5-6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class SparseInputs:
    """What the sparse stream reads of S levels.

    Attributes:
        text: `[S, B, L, D]`; text_mask: `[B, L]`.
        memory: `[S, B, T, D]`, the conditioning signal; position: `[B, T, D]`; mask: `[B, T]`; length: `[B]`
            clips.
    """

    text: Tensor
    text_mask: Tensor
    memory: Tensor
    position: Tensor
    mask: Tensor
    length: Tensor

    @property
    def clip_weight(self) -> Tensor:
        """`[B, T, 1]`, 0 on padding."""
        return self.mask[..., None].to(self.memory.dtype)


@dataclass(frozen=True)
class BranchSizes:
    """What a branch of the sparse stream is built from; see `vtg_lib.models.sdst.Config`."""

    width: int
    heads: int
    points: int
    attention: str
    sampling: str
    context_cnn: bool


@dataclass(frozen=True)
class BranchInputs:
    """What a branch reads at one level, beside the queries.

    Attributes:
        position: `[B, Q, D]` of the queries; references: `[B, Q, 2]` (center, width), normalised.
        video: the levels that this one belongs to; trace: where a branch leaves what diagnostics read.
    """

    position: Tensor
    references: Tensor
    video: SparseInputs
    trace: dict[str, Tensor] | None = None


class Branch(nn.Module):
    """A residual branch of the sparse stream. `forward(x, inputs, *prepared)` runs one level: queries x and
    result `[B, Q, D]`.
    """

    def prepare(self, inputs: SparseInputs) -> tuple[Tensor, ...]:
        """What does not depend on the queries, each tensor with a leading level axis; `forward` gets it back
        by level.
        """
        return ()
