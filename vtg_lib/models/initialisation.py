"""Initial weights that two variants of a model share wherever they share a parameter.

Rows of an ablation are compared seed by seed. If one row has a module more, PyTorch's single stream of random
numbers gives every later module other weights too, and the difference between the rows carries that noise.
Here each parameter draws from a stream of its own, seeded by the run's seed and the parameter's name, with
whatever distribution the model's constructor chose: the constructor is watched, and its random fills are
repeated parameter by parameter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

FILLS = ("uniform_", "normal_", "random_", "bernoulli_")
CREATORS = {"randn": torch.ops.aten.normal_.default, "rand": torch.ops.aten.uniform_.default}


@dataclass(frozen=True)
class _Operation:
    """One in-place operation on (a view of) a tensor."""

    function: Any
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def repeat(self, tensor: Tensor) -> None:
        self.function(
            tensor.as_strided(self.size, self.stride, self.offset), *self.arguments, **self.keywords
        )


class _Recorder(TorchDispatchMode):
    """Remembers, for each storage, the in-place operations since it was last created or overwritten as a
    whole.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.history: dict[int, list[_Operation]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = _name(func)
        if name.endswith("_") and args and isinstance(args[0], Tensor):
            self._record(func, args[0], args[1:], kwargs)
        else:
            inputs = {_storage(a) for a in args if isinstance(a, Tensor)}
            for tensor in result if isinstance(result, (list, tuple)) else [result]:
                if isinstance(tensor, Tensor) and _storage(tensor) not in inputs:
                    self.history.pop(_storage(tensor), None)  # new memory, perhaps where another tensor was
                    if name in CREATORS:
                        self._record(CREATORS[name], tensor, (), {})
        return result

    def _record(self, func: Any, tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key = _storage(tensor)
        whole = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
        if whole and _name(func) in (*FILLS, "zero_", "fill_", "copy_"):
            self.history[key] = []
        operation = _Operation(
            func, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), args, kwargs
        )
        self.history.setdefault(key, []).append(operation)


def _name(function: Any) -> str:
    return str(function._schema.name).split("::")[1]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def build_paired(builder: Callable[[], nn.Module], seed: int) -> nn.Module:
    """`builder()`, with every randomly filled parameter drawn from the stream of (seed, its name).

    Parameters that the constructor computed in another way (from constants, or out of place from a random
    tensor) keep what it gave them, under the plain seed. The global random state is as before afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with _Recorder() as recorder:
            model = builder()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                operations = recorder.history.get(_storage(parameter), [])
                if any(_name(operation.function) in FILLS for operation in operations):
                    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
                    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
                    for operation in operations:
                        operation.repeat(parameter)
    return model
