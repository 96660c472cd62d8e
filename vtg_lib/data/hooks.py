"""What may be done to a batch before a training step sees it. Evaluation never does.

A hook is chosen by name with options of its own (`train.hook`, `train.hook_options`) and bound to the
training split. It takes a batch and a random stream of its own, so that switching it on leaves the order of
the data and dropout as they are, and returns the batch to train on. What it counts is kept with the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from vtg_lib.data.batches import Batch, GroundingData


class Hook(Protocol):
    """A bound hook. tallies: what it has counted so far, numbers on whatever device."""

    tallies: dict[str, Tensor]

    def __call__(self, batch: Batch, generator: Generator) -> Batch: ...


class HookOptions(Protocol):
    """A frozen dataclass of a hook's options."""

    def bind(self, data: GroundingData) -> Hook:
        """The hook for batches of a training split."""
        ...


@dataclass(frozen=True, kw_only=True)
class PermutedText:
    """Every sentence goes to another video of the batch: the control in which there is nothing to read."""

    def bind(self, data: GroundingData) -> Hook:
        return _PermutedText()


@dataclass
class _PermutedText:
    tallies: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        import torch

        order = torch.randperm(len(batch), generator=generator).to(batch.text.device)
        # a single cycle, so that nobody keeps their own
        place = torch.empty_like(order).scatter_(0, order, order.roll(1))
        return dataclasses.replace(batch, text=batch.text[place], text_mask=batch.text_mask[place])


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """TD-DETR's videos with a dynamic context (Zhou et al., ICCV 2025, Sec. 3.1 and Eq. 10): the clips from
    the first to the last moment stay whole, and what surrounds them is drawn anew, from the video and from a
    partner.

    Facts not in the paper are from xyangzhou/TD-DETR @ a0ce6d3; there a batch grows by its synthetic samples,
    here they take the place of originals, so that a run with the hook sees as many samples in as many updates
    as one without.

    Attributes:
        alpha: share of the video's own clips outside the moments that are drawn; of the partner's clips 1 -
            alpha is drawn. Either number is then changed by an independent factor of 0.8 to 1.2 (some clips
            twice).
        originals: share of the samples that are left alone (1/3 in the code; the text has pairs of both).
        mode: which video of the `partner`s is taken: the most similar (`sim`), the least (`dissim`), one or
            the other by coin (`mix`), any (`random`); `random_as_released` draws the sample itself too and,
            every other time, the last video of the training set, as an index out of range is clamped there.
        partner: `batch` or the whole training `set`.
        similarity: mean cosine of the 50 most similar pairs of clips (`top50`, the code) or of all (`mean`,
            Eq. 1).
        ceiling: similarities above it count as none: 0.9 in the code outside QVHighlights.
        layout: own and partner's clips in two `blocks` in either order (the code) or `mixed` clip by clip
            (Fig. 2); `exchanged` is a control without a partner: the video cut outside its moments, its two
            parts exchanged.
        shuffled: the partner's clips out of order; clean: without those that agree with the sentence as well
            as the moment's own do on average, and never those of the video whose sentence is this sample's
            negative one. Both are controls of ours.
    """

    alpha: float = 0.7
    originals: float = 1 / 3
    mode: Literal["sim", "dissim", "mix", "random", "random_as_released"] = "sim"
    partner: Literal["batch", "set"] = "batch"
    similarity: Literal["top50", "mean"] = "top50"
    ceiling: float = 1.0
    layout: Literal["blocks", "mixed", "exchanged"] = "blocks"
    shuffled: bool = False
    clean: bool = False

    def __post_init__(self) -> None:
        for name in ("alpha", "originals"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name}: expected a share in [0, 1], got {share}")

    def bind(self, data: GroundingData) -> Hook:
        from vtg_lib.data.synthesis import Synthesizer

        return Synthesizer(self, data)


HOOKS: dict[str, type[Any]] = {"permuted_text": PermutedText, "synthesis": Synthesis}


def hook_options(name: str, given: Mapping[str, Any]) -> Any:
    """The options of a hook, defaults filled in.

    Raises:
        ValueError: no such hook or option, or a value out of range.
    """
    from vtg_lib.data.forms import check, unknown

    if name not in HOOKS:
        raise ValueError(f"train.hook: {unknown(name, HOOKS)}")
    return check(HOOKS[name], dict(given), "train.hook_options")
