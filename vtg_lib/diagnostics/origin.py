"""What a run knows of its model that neither the model nor a split tells: where its weights come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from vtg_lib.data.batches import GroundingData

_FACT = "origin"  # of `GroundingData.facts`, which views of a split keep


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a model came to be what it is.

    Attributes:
        initial: its parameters before training, by name, those of a run that it starts from, too.
        part: of a model, by the name of a parameter.
        trained_on: the annotation rows of all that its weights were trained on, including the runs that they
            start from; None where that is not known, as for a file of weights.
    """

    initial: Callable[[], Mapping[str, Tensor]]
    part: Callable[[str], str]
    trained_on: Callable[[], Iterable[Mapping[str, Any]] | None]


def with_origin(data: GroundingData, origin: Origin) -> GroundingData:
    """A split for `measure` of a model of this origin."""
    return dataclasses.replace(data, facts={**data.facts, _FACT: origin})


def origin_of(data: GroundingData) -> Origin | None:
    """What `with_origin` gave, if it did."""
    return cast(Origin | None, data.facts.get(_FACT))
