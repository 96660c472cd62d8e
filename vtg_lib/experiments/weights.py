"""Weights of finished runs, kept small: half precision, in the safetensors format, which holds no code.

A store keeps them beside its lines, in `weights/<hash>.safetensors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vtg_lib.experiments.store import Store


def weights_path(store: Store, key: str) -> Path:
    """Where a store keeps the weights of a run."""
    return store.path.parent / "weights" / f"{key}.safetensors"


def pack(model: nn.Module, facts: Mapping[str, str]) -> bytes:
    """The model's parameters and buffers, floating point as float16, with `facts` in the header."""
    import torch
    from safetensors.torch import save

    state = {
        name: (value.to(torch.float16) if value.is_floating_point() else value).cpu().contiguous().clone()
        for name, value in model.state_dict().items()
    }
    return save(state, metadata=dict(facts))


def unpack(packed: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, floating point as float32, and the header's facts.

    Raises:
        ValueError: not such a file, or a damaged one.
    """
    import json

    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = load(packed)
        size = int.from_bytes(packed[:8], "little")
        facts = json.loads(packed[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"weights: expected a whole safetensors file, got {error}") from None
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }, facts


def kept(store: Store, key: str) -> bytes | None:
    """The packed weights that a store keeps of a run, if it does."""
    path = weights_path(store, key)
    return path.read_bytes() if path.exists() else None


def start_from(model: nn.Module, init: str, store: Store | None) -> None:
    """Give `model` the weights of a run in `store` (by its hash) or of a file, all of them.

    Raises:
        ValueError: there are no such weights, or they are another model's.
    """
    packed = kept(store, init) if store is not None else None
    if packed is None and Path(init).is_file():
        packed = Path(init).read_bytes()
    if packed is None:
        raise ValueError(
            f"init: expected a file, or the hash of a run whose weights the store keeps; got {init!r}. "
            "Run that one first, with keep."
        )
    state = unpack(packed)[0]
    own = model.state_dict()
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    other = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or surplus or other:
        raise ValueError(
            f"init: {init} has the weights of another model: missing {missing[:3]}, surplus {surplus[:3]}, "
            f"of another shape {sorted(other)[:3]}"
        )
    model.load_state_dict(state)
