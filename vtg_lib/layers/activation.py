"""PReLU with a cheap backward pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PReLU(nn.PReLU):
    """`nn.PReLU` with one learned slope: max(x, 0) + slope min(x, 0).

    PyTorch's CPU kernel writes the slope's gradient element by element before it sums it up; here it is one
    dot product. On other devices and in compiled code PyTorch's kernel is used.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.prelu(x, self.weight.to(x.dtype))
        return _PReLU.apply(x, self.weight)  # type: ignore[no-untyped-call]


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = float(weight)
        return F.leaky_relu(x, ctx.slope)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (x,) = ctx.saved_tensors
        slope_gradient = torch.dot(gradient.float().reshape(-1), x.clamp(max=0).float().reshape(-1))
        return torch.ops.aten.leaky_relu_backward(gradient, x, ctx.slope, False), slope_gradient.view(1)
