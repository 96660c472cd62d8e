"""What a model is made of, read off the model: one batch goes through it, and hooks note which modules are
called, in which order and on which shapes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.book.shapes import Letters, choose_sizes, example
from vtg_lib.data.batches import Batch
from vtg_lib.models import count_parameters

SHAPES = 4  # different ones that are told of an input or output


@dataclass(frozen=True, kw_only=True)
class Block:
    """A module that was called, or several equal ones in a row.

    Attributes:
        name: its attribute, from the model on; kind: its class; times: how many there are of it.
        calls: of one of them in a forward pass; 0 where only its parts or the losses call it.
        inputs, outputs: shapes in letters, of the last call.
        parameters: learnable ones, of all.
        parts: what it has in it, one level down.
    """

    name: str
    kind: str
    times: int
    calls: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    parts: tuple[Block, ...] = ()

    @property
    def title(self) -> str:
        """Its class, and how many there are."""
        return self.kind + (f" × {self.times}" if self.times > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A model: its blocks in the order of their first call, and what goes in and comes out.

    Attributes:
        tensors: shapes of the learned tensors that no module of its own holds; given: of the batch's
            features; output: of what it returns; losses: names of its terms; sizes: number of each letter.
    """

    blocks: tuple[Block, ...]
    tensors: Mapping[str, str]
    given: Mapping[str, str]
    output: Mapping[str, str]
    losses: tuple[str, ...]
    parameters: int
    sizes: Mapping[str, int]

    def walk(self) -> Iterator[Block]:
        """Every block, each followed by its parts."""
        for block in self.blocks:
            yield from (block, *block.parts)


def compare(own: Structure, base: Structure) -> dict[str, str]:
    """Name -> "" where the other model has none, or what it has instead: of blocks, their parts, learned
    tensors (by name) and losses ("loss NAME").
    """
    known = {block.name: block for block in base.walk()}
    found = {}
    for block in own.walk():
        other = known.get(block.name)
        if other is None:
            found[block.name] = ""
        elif instead := _instead(block, other):
            found[block.name] = instead
    for name, shape in own.tensors.items():
        if base.tensors.get(name) != shape:
            found[name] = base.tensors.get(name, "")
    return found | {f"loss {name}": "" for name in own.losses if name not in base.losses}


def _instead(block: Block, other: Block) -> str:
    """What the other block is where the two are not alike."""
    if block.title != other.title:
        return other.title
    if block.parameters != other.parameters:
        return f"{other.parameters:,} parameters"
    if block.inputs != other.inputs:
        return f"reads {', '.join(other.inputs)}"
    return f"gives {', '.join(other.outputs)}" if block.outputs != other.outputs else ""


def lacking(own: Structure, base: Structure) -> list[str]:
    """What the other model has alone: outermost blocks, learned tensors and losses."""
    names = {block.name for block in own.walk()} | set(own.tensors)
    found: list[str] = []
    for name in [block.name for block in base.walk()] + list(base.tensors):
        if name not in names and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found + [f"loss {name}" for name in base.losses if name not in own.losses]


# --- the model


class _Watch:
    """Hooks on every module of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.order: dict[str, int] = {}  # by path, of the first call of it or of a part of it
        self.calls: Counter[str] = Counter()
        self.seen: dict[str, tuple[Any, Any]] = {}  # by path: what went in and came out last
        self.in_loss = False
        self.handles: list[Any] = []
        for path, module in model.named_modules():
            if path:
                self.handles.append(module.register_forward_pre_hook(self._before(path)))
                self.handles.append(module.register_forward_hook(self._after(path), with_kwargs=True))

    def _before(self, path: str) -> Any:
        names = path.split(".")
        outer = [".".join(names[:end]) for end in range(1, len(names) + 1)]

        def hook(module: nn.Module, inputs: Any) -> None:
            for name in outer:
                self.order.setdefault(name, len(self.order))

        return hook

    def _after(self, path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, keywords: dict[str, Any], output: Any) -> None:
            if not self.in_loss:
                self.calls[path] += 1
            if not self.in_loss or path not in self.seen:
                self.seen[path] = ([*_shapes([*inputs, *keywords.values()])], [*_shapes(output)])

        return hook


def _shapes(value: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of the tensors in a value, masks left out; of a whole batch none."""
    if isinstance(value, Tensor):
        if value.dtype != torch.bool:
            yield tuple(value.shape)
    elif isinstance(value, Mapping):
        yield from _shapes(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _shapes(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type | Batch):
        yield from _shapes([getattr(value, field.name) for field in dataclasses.fields(value)])


def structure(model: Any, config: Any, sizes: Mapping[str, int] | None = None) -> Structure:
    """Run a batch through a model as in training, and its losses; no random state is different afterwards.

    Args:
        config: the model's; sizes: of the batch, by letter; those that `choose_sizes` finds by default.
    """
    sizes = sizes or choose_sizes(config)
    named = Letters(config, sizes)
    batch = example(config, sizes)
    watch, mode = _Watch(model), model.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model.train()
        try:
            output = model(batch)
            watch.in_loss = True
            losses = tuple(model.loss(output, batch))
        finally:
            model.train(mode)
            for handle in watch.handles:
                handle.remove()
    outcome = {name: tuple(getattr(output, name).shape) for name in ("spans", "scores", "saliency")}
    if outcome["scores"][1] not in named.named:
        named.named[outcome["scores"][1]] = "P"
        named.sizes["P"] = outcome["scores"][1]
    own = dict(model.named_parameters(recurse=False))
    return Structure(
        blocks=tuple(_blocks("", model, watch, named, deeper=True)),
        tensors={name: named.tell(tuple(value.shape)) for name, value in own.items()},
        given={name: named.tell(tuple(getattr(batch, name).shape)) for name in ("video", "text")},
        output={name: named.tell(shape) for name, shape in outcome.items()},
        losses=losses,
        parameters=count_parameters(model),
        sizes={letter: number for letter, number in named.sizes.items() if letter in named.used},
    )


def _summed(shapes: Sequence[Sequence[int]], named: Letters) -> tuple[str, ...]:
    """Different shapes, each with how often it comes."""
    count = Counter(map(named.tell, shapes))
    told = [f"{n} × {shape}" if n > 1 else shape for shape, n in count.items()]
    return tuple(told if len(told) <= SHAPES else [*told[: SHAPES - 1], "…"])


def _blocks(outer: str, module: nn.Module, watch: _Watch, named: Letters, *, deeper: bool) -> Iterator[Block]:
    """The children of a module that were called, in the order of the calls, equal ones in a row as one."""
    found: list[tuple[int, Block]] = []
    for name, child in module.named_children():
        path = f"{outer}{name}"
        several = isinstance(child, nn.ModuleList | nn.ModuleDict)
        members = [(f"{path}.{key}", item) for key, item in child.named_children()] if several else []
        members = [(key, item) for key, item in members or [(path, child)] if key in watch.order]
        runs = [list(run) for _, run in itertools.groupby(members, lambda pair: type(pair[1]))]
        for run in runs:
            first, one = run[0]
            title = path if len(runs) == 1 and not isinstance(child, nn.ModuleDict) else first
            inputs, outputs = watch.seen.get(first, ([], []))
            parts = list(_blocks(f"{first}.", one, watch, named, deeper=False)) if deeper else []
            parts = [part for part in parts if part.parameters and not part.kind.endswith("Norm")]
            opened = any(
                _own(item) for item in one.modules() if type(item).__name__ in [p.kind for p in parts]
            )
            block = Block(
                name=title,
                kind=type(one).__name__,
                times=len(run),
                calls=watch.calls[first],
                inputs=_summed(inputs, named),
                outputs=_summed(outputs, named),
                parameters=sum(count_parameters(item) for _, item in run),
                parts=tuple(
                    dataclasses.replace(part, name=part.name.replace(f"{first}.", f"{title}.", 1))
                    for part in parts
                    if opened
                ),
            )
            if deeper and opened and not inputs and len(run) == 1:  # is not called, its parts are
                inner = _blocks(f"{first}.", one, watch, named, deeper=True)
                found += [(watch.order[part.name], part) for part in inner]
            else:
                found.append((watch.order[first], block))
    yield from (block for _, block in sorted(found, key=lambda pair: pair[0]))


def _own(module: nn.Module) -> bool:
    """Whether a module is of this library, not of torch."""
    return not type(module).__module__.startswith("torch.")
