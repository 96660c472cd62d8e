"""What may be done to a batch before a training step sees it. Evaluation never does.

A hook takes the batch and a random stream of its own, so that switching it on leaves the order of the data
and dropout as they are, and returns the batch to train on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator

    from vtg_lib.data.batches import Batch

Hook = Callable[["Batch", "Generator"], "Batch"]


def permuted_text(batch: Batch, generator: Generator) -> Batch:
    """Every sentence goes to another video of the batch: the control in which there is nothing to read."""
    import torch

    order = torch.randperm(len(batch), generator=generator).to(batch.text.device)
    shift = order.roll(1)
    # a single cycle, so that nobody keeps their own
    place = torch.empty_like(order).scatter_(0, order, shift)
    return dataclasses.replace(batch, text=batch.text[place], text_mask=batch.text_mask[place])


HOOKS: dict[str, Hook] = {"permuted_text": permuted_text}
