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

# The parts of models, by the name of their first module, that find moments in what the others have read.
MOMENTS = {
    *("decoder", "detector", "pyramid", "task", "queries", "query_source", "content", "initial", "noise"),
    *("span_head", "class_head", "distance_head", "border_head", "iou_head", "quality_head", "ranking"),
    *("actionness_head", "relation", "bridge_net", "bridge_scale"),
}


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


def read_weights(init: str, store: Store | None) -> bytes:
    """The packed weights of a run in `store`, by its hash, or of a file.

    Raises:
        ValueError: there are no such weights.
    """
    packed = kept(store, init) if store is not None else None
    if packed is None and Path(init).is_file():
        packed = Path(init).read_bytes()
    if packed is None:
        raise ValueError(
            f"init: expected a file, or the hash of a run whose weights the store keeps; got {init!r}. "
            "Run that one first, with keep."
        )
    return packed


def start_from(model: nn.Module, packed: bytes, scope: str = "all") -> None:
    """Give `model` other weights than its own.

    Args:
        scope: "all" of them; or those of the "encoder", everything but what finds moments in what was read
            (`MOMENTS`): this stays as it is, and the weights may lack it or have one of another kind.

    Raises:
        ValueError: they are damaged, or another model's.
    """

    def taken(name: str) -> bool:
        return scope == "all" or name.split(".")[0] not in MOMENTS

    state = {name: value for name, value in unpack(packed)[0].items() if taken(name)}
    own = {name: value for name, value in model.state_dict().items() if taken(name)}
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    other = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or surplus or other:
        raise ValueError(
            f"init: expected weights of this model (scope {scope}); missing {missing[:3]}, surplus "
            f"{surplus[:3]}, of another shape {sorted(other)[:3]}. Fix: give the run that starts the config "
            "of the run whose weights it takes."
        )
    model.load_state_dict(state, strict=False)
