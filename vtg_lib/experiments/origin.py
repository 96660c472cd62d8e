"""Where the weights of a run come from, for diagnostics that ask (`vtg_lib.diagnostics.origin`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.experiments.spec import RunSpec
from vtg_lib.experiments.weights import MOMENTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vtg_lib.data.batches import GroundingData
    from vtg_lib.experiments.store import Store

PROJECTIONS = {"project_video", "project_text", "align"}
ENCODERS = {"tuner", "tuners", "refine", "fusion", "text_net", "video_net"}  # that are not called so


def part_of(name: str) -> str:
    """The part of a model that a parameter belongs to: projections, encoder, moment finder or others."""
    first = name.split(".")[0]
    if first in MOMENTS:
        return "moment finder"
    if first in PROJECTIONS:
        return "projections"
    return "encoder" if first in ENCODERS or first.endswith("encoder") else "others"


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's parameters, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.named_parameters()}


def watched(
    spec: RunSpec,
    data: GroundingData,
    initial: Callable[[], Mapping[str, Tensor]],
    store: Store | None,
    data_root: Path | str | None,
) -> GroundingData:
    """A split for diagnostics of the spec's model: it knows where the weights come from.

    Args:
        initial: the parameters that the model's training begins with; store: with the runs that specs name.
    """
    from vtg_lib.diagnostics.origin import Origin, with_origin

    def rows() -> list[Mapping[str, Any]] | None:
        return trained_on(spec, store, data_root)

    return with_origin(data, Origin(initial=initial, part=part_of, trained_on=rows))


def lineage(spec: RunSpec, store: Store | None) -> list[RunSpec] | None:
    """A run, the one it starts from, and so on; None if the last starts from weights of which no run in
    `store` is known.
    """
    found = [spec]
    while parent := found[-1].init:
        if isinstance(parent, str):
            record = None if store is None else store.get(parent)
            if record is None:
                return None
            parent = RunSpec.from_dict(record["spec"])
        found.append(parent)
    return found


def trained_on(
    spec: RunSpec, store: Store | None, data_root: Path | str | None
) -> list[Mapping[str, Any]] | None:
    """The annotation rows of the training splits of a run's `lineage`, of those that train; None if that is
    not known.
    """
    runs = lineage(spec, store)
    if runs is None:
        return None
    return [row for one in runs if one.train.epochs for row in _rows(one, data_root)]


def _rows(spec: RunSpec, data_root: Path | str | None) -> Iterator[Mapping[str, Any]]:
    """Of a generated world without rendering it, as the pretraining's may be large, unless it is divided."""
    from vtg_lib import data
    from vtg_lib.data.generate import generate
    from vtg_lib.data.knobs import DIVISION, configs
    from vtg_lib.data.timeline import Vocabulary

    whole = spec.resolved["data"]
    if whole["kind"] != "sim" or set(DIVISION) & set(whole):
        yield from data.load_data(whole, root=data_root)["train"].annotations
        return
    world, timeline, *_ = configs(whole, "train")
    yield from generate(world, timeline, Vocabulary(), "train", whole["seed"])[0]
