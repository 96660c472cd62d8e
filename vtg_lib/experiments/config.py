"""How a model is trained, as a value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter

from vtg_lib.data.forms import check
from vtg_lib.data.hooks import hook_options


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_whole)]  # 3.0 is 3: a number's spelling must not change a hash
Count = Annotated[Integer, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Every field can change the numbers, so every field is part of a run's hash.

    Selection rule: of the evaluated epochs, the one with the highest `select` on the *validation* split; of
    equals, the earliest. The last epoch is always evaluated.

    Raises:
        ValueError: names the field, what was expected and what it got.
    """

    epochs: Annotated[Integer, Field(ge=0)] = 200  # 0: the weights are scored as they are
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    weight_decay: NotNegative = 1e-4
    warmup_steps: Annotated[Integer, Field(ge=0)] = 0  # linear from 0; used when positive
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0  # the same, as a share of all steps
    warmup_epochs: NotNegative = 0.0  # the same, in epochs
    warmup_from: NotNegative = 0.0  # the rate that the warm-up starts from
    schedule: Literal["step", "cosine", "linear", "constant"] = "step"
    step_epochs: Annotated[Integer, Field(ge=0)] = 0  # "step": times step_gamma after every so many; 0 never
    milestones: tuple[Count, ...] = ()  # "step": times step_gamma after each of these epochs
    step_gamma: Annotated[float, Field(allow_inf_nan=False)] = 0.1
    decay_from: NotNegative = 0.0  # "linear": the epoch after which the rate falls to 0 at the end
    clip_norm: NotNegative = 0.1  # largest L2 norm of the whole gradient; 0 does not clip
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of forward; losses stay float32
    compile: bool = False
    eval_every: Count = 1  # epochs
    select: str = "MR-full-mAP"  # a key of the evaluator's "brief" result
    hook: str = ""  # what is done to every training batch, a key of `vtg_lib.data.hooks.HOOKS`
    hook_options: Mapping[str, Any] = field(
        default_factory=dict
    )  # those that differ from the hook's defaults

    def __post_init__(self) -> None:
        for name, kind in _types().items():  # 1 and 1.0 must not hash differently
            object.__setattr__(self, name, check(kind, getattr(self, name), f"train.{name}"))
        if sum(map(bool, (self.warmup_steps, self.warmup_ratio, self.warmup_epochs))) > 1:
            raise ValueError("give one of train.warmup_steps, train.warmup_ratio and train.warmup_epochs")
        if self.step_epochs and self.milestones:
            raise ValueError("give train.step_epochs or train.milestones, not both")
        if self.hook_options and not self.hook:
            raise ValueError(
                f"train.hook_options: expected a train.hook that they are of, got {dict(self.hook_options)}"
            )
        if self.hook:
            full = hook_options(self.hook, self.hook_options)
            object.__setattr__(
                self, "hook_options", {name: getattr(full, name) for name in self.hook_options}
            )

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of update `step` (from 0)."""
        total = self.epochs * steps_per_epoch
        warmup = self.warmup_steps or round(self.warmup_ratio * total + self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.warmup_from + (self.learning_rate - self.warmup_from) * (step + 1) / warmup
        if self.schedule == "step":
            epoch = step // steps_per_epoch
            drops = (
                epoch // self.step_epochs if self.step_epochs else sum(m <= epoch for m in self.milestones)
            )
            return self.learning_rate * self.step_gamma**drops
        if self.schedule == "cosine":
            angle = math.pi * (step - warmup) / max(1, total - warmup)
            return self.learning_rate * 0.5 * (1 + math.cos(angle))
        if self.schedule == "linear":
            start = self.decay_from * steps_per_epoch
            return self.learning_rate * (1 - max(0.0, step - start) / max(1.0, total - start))
        return self.learning_rate


@cache
def _types() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(TrainConfig, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in dataclasses.fields(TrainConfig)}
