"""How the parameter names of a public implementation become ours."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from vtg_lib import models
from vtg_lib.models.imported.reading import STATE_KEYS, CheckpointImportError

SHOWN = 4  # names that one error lists
State = dict[str, Tensor]
UNSHOWN = object()  # a config field that neither the tensors nor the options of a file tell


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one method's import needs.

    Attributes:
        source: repository @ commit that the names were read from.
        rename: (pattern, replacement) on whole names, tried in this order; the first that matches counts.
            Public packed projections (`…in_proj_weight`, `…in_proj_bias`) are split before into
            `…in_query.weight`, `…in_key.weight`, `…in_value.weight` and the same with `.bias`; patterns see
            these names.
        unused: (pattern, reason) of public tensors that have no part in our model.
        config: overrides of our `Config`, read off the public tensors (packed ones still packed) and options;
            `UNSHOWN` for what neither tells.
        transform: applied to the public tensors after the split, for what renaming cannot do (transposed,
            merged).
        state_keys: where in the file the state dict may be, see `read_source`.
    """

    source: str
    rename: Sequence[tuple[str, str]]
    unused: Sequence[tuple[str, str]] = ()
    config: Callable[[Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]]
    transform: Callable[[State], State] | None = None
    state_keys: Sequence[str] = STATE_KEYS

    def target(self, name: str) -> str | None:
        """Our name of the public `name`, or None where no pattern matches."""
        for pattern, replacement in self.rename:
            if match := re.fullmatch(pattern, name):
                return match.expand(replacement)
        return None

    def reason(self, name: str) -> str | None:
        """Why the public `name` is knowingly not used, or None."""
        return next((why for pattern, why in self.unused if re.fullmatch(pattern, name)), None)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model with public weights.

    Attributes:
        model: in evaluation mode; config: all of its fields.
        used: public name -> our name, packed projections in three; unused: public name -> reason.
    """

    model: nn.Module
    config: Any
    used: Mapping[str, str]
    unused: Mapping[str, str] = field(default_factory=dict)


def importable() -> list[str]:
    """The methods that have rules."""
    return [name for name in models.MODELS if importlib.util.find_spec(f"{__package__}.{name}") is not None]


def rules_of(model: str) -> Rules:
    """The rules of a method.

    Raises:
        ValueError: no such method, or it has none.
    """
    models.entry(model)
    if model not in importable():
        raise ValueError(
            f"--model {model}: no public checkpoint of it can be imported; those of"
            f" {', '.join(importable())} can"
        )
    found: Rules = importlib.import_module(f"{__package__}.{model}").RULES
    return found


def split_packed(tensors: Mapping[str, Tensor]) -> State:
    """`tensors` with the rows of every packed projection `[3D, …]` as three tensors `[D, …]`."""
    state: State = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"(.*)in_proj_(weight|bias)", name):
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[f"{match[1]}in_{part}.{match[2]}"] = rows
        else:
            state[name] = tensor
    return state


def convert(
    name: str,
    rules: Rules,
    tensors: Mapping[str, Tensor],
    options: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> Converted:
    """Our model `name` with the public weights.

    Raises:
        CheckpointImportError: a public tensor that no rule knows, one of ours that nothing fills, or a shape
            that differs.
        ValueError: overrides that the model's config refuses.
    """
    given = {**rules.config(tensors, options), **overrides}
    if unshown := [field for field, value in given.items() if value is UNSHOWN]:
        wanted = " and ".join(unshown)
        raise CheckpointImportError(
            f"{name}: expected stored options that tell {wanted}, which the weights do not show; got "
            f"{_some(sorted(options)) or 'none'}. Fix: --config {unshown[0]}=… with what it was trained with"
        )
    config = models.resolve(name, given)
    model = models.entry(name).model_class(config)
    state = split_packed(tensors)
    state = state if rules.transform is None else rules.transform(state)
    unused = {public: why for public in state if (why := rules.reason(public)) is not None}
    targets = {public: rules.target(public) for public in state if public not in unused}
    used = {public: target for public, target in targets.items() if target is not None}
    ours, unknown = model.state_dict(), [public for public in targets if public not in used]
    if problems := _problems(name, state, ours, used, unknown):
        raise CheckpointImportError(f"{name} (rules of {rules.source}):\n" + "\n".join(problems))
    model.load_state_dict({target: state[public].to(ours[target].dtype) for public, target in used.items()})
    return Converted(model=model.eval(), config=config, used=used, unused=unused)


def _problems(
    name: str,
    state: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    used: Mapping[str, str],
    unknown: list[str],
) -> list[str]:
    """Everything that keeps `state` from filling `ours`, one line a kind, each with the fix."""
    targets = list(used.values())
    absent = [f"{public} -> {target}" for public, target in used.items() if target not in ours]
    empty = [target for target in ours if target not in set(targets)]
    double = sorted({target for target in targets if targets.count(target) > 1})
    shapes = [
        f"{target}: expected {list(ours[target].shape)}, got {list(state[public].shape)}"
        for public, target in used.items()
        if target in ours and ours[target].shape != state[public].shape
    ]
    other = _other_model(name, state) if unknown or absent or empty else ""
    found = []
    if unknown:
        found.append(f"expected only tensors of {name}, got also {_some(unknown)}. Fix: {other}")
    if absent:
        found.append(f"expected a place for each public tensor, got none for {_some(absent)}. Fix: {other}")
    if empty:
        found.append(f"expected a public tensor for each of ours, got none for {_some(empty)}. Fix: {other}")
    if double:
        found.append(f"expected one public tensor for each of ours, got several for {_some(double)}")
    if shapes:
        found.append(
            f"shapes differ: {_some(shapes)}. Fix: leave out the --config fields that contradict the file"
        )
    return found


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _other_model(name: str, state: Mapping[str, Tensor]) -> str:
    """Another importable model that knows every tensor, as advice: the one that misses the fewest."""
    missed: dict[str, int] = {}
    for other in importable():
        rules = rules_of(other)
        if other != name and all(rules.reason(public) or rules.target(public) for public in state):
            missed[other] = sum(not any(map(re.compile(p).fullmatch, state)) for p, _ in rules.rename)
    if missed:
        return f"--model {min(missed, key=missed.__getitem__)}, whose rules know all of its tensors"
    return f"check that the file is a {name} checkpoint of the public code that the rules name"


def shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Shape of a public tensor that every checkpoint of a method has.

    Raises:
        CheckpointImportError: the file has none of that name.
    """
    if name not in tensors:
        raise CheckpointImportError(
            f"expected a tensor {name!r}, got {_some(sorted(tensors))}. Fix:"
            f" {_other_model('', split_packed(tensors))}"
        )
    return tuple(tensors[name].shape)


def count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many layers a file has: distinct first groups of `pattern` among its names."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def refuse(options: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Stored options that change the forward pass in a way that our model does not have.

    Raises:
        CheckpointImportError: names the option, its value here and the one that can be imported.
    """
    for name, value in expected.items():
        if options.get(name, value) != value:
            raise CheckpointImportError(
                f"stored option {name}: expected {value!r}, got {options[name]!r}. Fix: this library has no"
                " such variant; only checkpoints trained with the former can be imported"
            )
