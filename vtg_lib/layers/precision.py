"""Switching autocast off for a part of a forward pass."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> torch.autocast:
    """No autocast on the device of `x`, for what is ranked or compared: half precision ties scores and rounds
    borders.
    """
    return torch.autocast(x.device.type, enabled=False)
