"""The knobs of a data specification: their defaults by kind, and the check that a value fits its knob."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vtg_lib.data.appearance import RenderConfig
from vtg_lib.data.generate import HIGHLIGHTS, STATISTICS, WorldConfig
from vtg_lib.data.pseudo.labels import LabelConfig
from vtg_lib.data.timeline import TimelineConfig

# By kind, what differs from the knobs' defaults.
WORLDS: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "worlds.yaml").read_text(encoding="utf-8")
)
PLAIN, LIKE = (
    "qvhighlights",
    "sim like ",
)  # what a generated world resembles by itself, and the names of the others
APART = ("train", "test")  # splits that may have a knob of the timeline to themselves: train_NAME, test_NAME
# Which videos train and test: neutral values are no part of a specification. See `folds.divide`.
DIVISION: dict[str, Any] = {"domain": "", "fold": 0}
_KNOBS = {
    config: dataclasses.asdict(config())
    for config in (WorldConfig, TimelineConfig, RenderConfig, LabelConfig)
}
# Knobs that came after the worlds of stored runs. At their defaults they change nothing, and are no part of
# what identifies a data set.
_LATER = {
    "distractor_similarity": TimelineConfig().distractor_similarity,
    "draw": WorldConfig().draw,
    "unseen_words": WorldConfig().unseen_words,
    **_KNOBS[LabelConfig],
}


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with every default spelled out, which is what identifies a data set; None stands for the
    default.

    Raises:
        ValueError: unknown kind, a knob that this kind does not have, or a value of another type.
    """
    spec = {key: value for key, value in spec.items() if value is not None}
    spec = {key: value for key, value in spec.items() if key not in DIVISION or value != DIVISION[key]}
    kind = spec.pop("kind", "sim")
    if kind == "official":
        division = {
            name: cast_like(f"data.{name}", neutral, spec[name])
            for name, neutral in DIVISION.items()
            if name in spec
        }
        return {"kind": kind, "dataset": "qvhighlights", **spec, **division}
    if kind == "own":
        if others := sorted(set(spec) - {"name", "allow_missing"}):
            raise ValueError(f"data: kind 'own' has name and allow_missing, and no knobs {others}")
        return {"kind": kind, **spec}
    if kind not in ("sim", "rendered"):
        raise ValueError(f"data: expected kind 'sim', 'rendered', 'official' or 'own', got {kind!r}")
    configs = [config for config in _KNOBS if kind == "sim" or config is not WorldConfig]
    knobs = {
        "seed": 0,
        **{
            name: value
            for config in configs
            for name, value in _KNOBS[config].items()
            if name not in HIGHLIGHTS
        },
        **WORLDS[kind],
    }
    apart = (*_KNOBS[TimelineConfig], *(STATISTICS if kind == "sim" else ()))
    optional: dict[str, Any] = {f"{split}_{name}": knobs[name] for split in APART for name in apart}
    optional |= DIVISION
    if kind == "sim":
        optional |= {name: _KNOBS[WorldConfig][name] for name in HIGHLIGHTS}
    if kind == "rendered":
        knobs["dataset"], optional["limit"] = "qvhighlights", 0
    elif spec.get("dataset", PLAIN) == PLAIN:
        spec.pop("dataset", None)
    else:
        optional["dataset"] = PLAIN
        knobs |= {
            name: cast_like(name, {**optional, **knobs}[name], value)
            for name, value in _world_like(spec["dataset"]).items()
        }
    if unknown := sorted(set(spec) - set(knobs) - set(optional)):
        raise ValueError(
            f"data: kind {kind!r} has no knobs {unknown}; it has {sorted(knobs)}, and train_ or test_ "
            f"before {sorted(apart)}"
        )
    cast = {
        name: cast_like(f"data.{name}", {**knobs, **optional}[name], value) for name, value in spec.items()
    }
    return {"kind": kind, **knobs, **cast}


def _world_like(dataset: str) -> dict[str, Any]:
    """Knobs of the generated world that resembles another data set than QVHighlights."""
    known = {name.removeprefix(LIKE): knobs for name, knobs in WORLDS.items() if name.startswith(LIKE)}
    if dataset not in known:
        raise ValueError(f"data: expected a world like {', '.join([PLAIN, *known])}; got {dataset!r}")
    return known[dataset]


def cast_like(name: str, default: Any, value: Any) -> Any:
    """`value` in the type of `default`, where that loses nothing: 1 for 1.0, a list for a tuple.

    Raises:
        ValueError: a value of another type.
    """
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, float) and number:
        return float(value)
    if isinstance(default, int) and not isinstance(default, bool) and number and value == int(value):
        return int(value)
    if default is None or (type(value) is type(default) and not isinstance(value, float)):
        return value
    raise ValueError(f"{name}: expected {type(default).__name__}, got {value!r}")


def identity(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies the data of a resolved spec: its knobs, without later ones at their defaults."""
    return {name: value for name, value in spec.items() if name not in _LATER or value != _LATER[name]}


def configs(spec: Mapping[str, Any], split: str = "val") -> list[Any]:
    """`WorldConfig`, `TimelineConfig`, `RenderConfig` and `LabelConfig` of a resolved spec, for one split."""
    return [
        config(
            **{name: spec.get(f"{split}_{name}", spec.get(name, default)) for name, default in knobs.items()}
        )
        for config, knobs in _KNOBS.items()
    ]
