"""What to train, as a value.

A spec is hashed over its *resolved* form without what equals its model's and its data's defaults, so that
neither the order of keys, nor defaults that somebody wrote down, nor fields that are added later make a
difference. Stores keep every value spelled out, and a run whose defaults have changed since is not found.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vtg_lib.data.forms import check
from vtg_lib.data.hooks import hook_options
from vtg_lib.experiments.config import Integer, TrainConfig

if TYPE_CHECKING:
    from vtg_lib.data.batches import GroundingData


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that decides the outcome of a run.

    model: a name of `vtg_lib.models.MODELS`. config: overrides of that model's `Config`. data: what
    `vtg_lib.data.load_data` takes; the seed of a generated world is the run's, unless it is given. init: what
    the weights start from, the run that makes them, the hash of one whose weights a store keeps, or a file of
    weights; "" for random numbers. init_scope: all of them, or those of the "encoder", see
    `vtg_lib.experiments.weights.start_from`.

    No part of the hash are diagnostics: names of `vtg_lib.diagnostics.DIAGNOSTICS`, computed before and after
    training; and keep: whether the store keeps the selected weights.
    """

    model: str
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: Integer = 0
    init: RunSpec | str = ""
    init_scope: Literal["all", "encoder"] = "all"
    diagnostics: tuple[str, ...] = ()
    keep: bool = False

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RunSpec:
        """The spec that `resolved` or a JSON file describes.

        Raises:
            ValueError: unknown or missing fields, or values of another type.
        """
        value = dict(value)
        renderer = value.pop("renderer", None)
        if isinstance(value.get("init"), Mapping):
            value["init"] = cls.from_dict(value["init"])
        spec = check(cls, value, "run spec")
        if renderer is not None and renderer != (now := spec.resolved["renderer"]):
            raise ValueError(f"run spec: made for {renderer!r}, but today's is {now!r}")
        return spec

    @functools.cached_property
    def resolved(self) -> dict[str, Any]:
        """The spec as plain JSON values with every default spelled out; what is hashed and stored."""
        from vtg_lib import models
        from vtg_lib.data.generate import WORLD_VERSION
        from vtg_lib.data.knobs import resolve
        from vtg_lib.data.render import RENDER_VERSION

        generated = self.data.get("kind", "sim") == "sim"
        data = resolve({"seed": self.seed, **self.data} if generated else self.data)
        versions = {"sim": WORLD_VERSION, "rendered": RENDER_VERSION}
        spec = {
            "model": self.model,
            "config": dataclasses.asdict(models.resolve(self.model, self.config)),
            "data": data,
            "renderer": versions.get(data["kind"]),
            "train": dataclasses.asdict(self.train) | {"hook_options": self._hook_options},
            "seed": self.seed,
            "init": self.init.resolved if isinstance(self.init, RunSpec) else self.init,
            "init_scope": self.init_scope,
        }
        return dict(json.loads(canonical(spec)))

    @property
    def _hook_options(self) -> dict[str, Any]:
        return (
            dataclasses.asdict(hook_options(self.train.hook, self.train.hook_options))
            if self.train.hook
            else {}
        )

    @functools.cached_property
    def _chosen(self) -> dict[str, Any]:
        """`resolved` without what equals the defaults; of a run that the weights start from the same."""
        kind = self.resolved["data"]["kind"]
        plain = RunSpec(model=self.model, data={"kind": kind}, seed=self.seed).resolved
        chosen = {"renderer": self.resolved["renderer"], "kind": kind, "model": self.model, "seed": self.seed}
        for part, value in self.resolved.items():
            if part == "train" and self.train.hook:
                usual = dataclasses.asdict(hook_options(self.train.hook, {}))
                options = {k: v for k, v in self._hook_options.items() if v != usual[k]}
                value = value | {"hook_options": options}
            if isinstance(self.init, RunSpec) and part == "init":
                chosen[part] = self.init._chosen
            elif isinstance(value, dict):
                default = plain[part]
                chosen[part] = {k: v for k, v in value.items() if k not in default or v != default[k]}
            elif value != plain[part]:
                chosen[part] = value
        return chosen

    @functools.cached_property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of what the spec chooses."""
        return hashlib.sha256(canonical(self._chosen).encode()).hexdigest()[:12]

    @functools.cached_property
    def cost_key(self) -> str:
        """Equal for runs that should take equally long: everything but the seed."""
        return canonical(_without_seeds(self._chosen))


def _without_seeds(chosen: dict[str, Any]) -> dict[str, Any]:
    init = chosen.get("init")
    return {**chosen, "seed": None, **({"init": _without_seeds(init)} if isinstance(init, dict) else {})}


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; refuses NaN and whatever JSON has no word for."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def check_features(spec: RunSpec, data: GroundingData) -> None:
    """Refuse features that the model was not configured for, and moments to learn where the data has none,
    before anything is computed.

    A config's `levels` are those of the features (a pyramid's go by another name).

    Raises:
        ValueError: says which knobs of the config or of the data to set.
    """
    from vtg_lib import models
    from vtg_lib.models.config import learns_moments

    config = models.resolve(spec.model, spec.config)
    if data.annotations and data.annotations[0].get("label") and learns_moments(config):
        able = [f"{name}=true" for name in ("highlights_only",) if hasattr(config, name)]
        able += ["task=highlights"] if hasattr(config, "task") else []
        fix = f"--config {able[0]}" if able else "choose a method that learns highlights alone (cg_detr, say)"
        raise ValueError(
            f"{spec.model}: expected data with moments; got labelled clips (of TVSum or YouTube Highlights), "
            f"which have none. Fix: {fix}."
        )
    if not hasattr(config, "video_dim"):
        return
    expected, got = (config.video_dim, config.text_dim), (data.video.shape[-1], data.text.shape[-1])
    needs_levels = getattr(config, "levels", 1) > 1 and not getattr(config, "last_level_only", False)
    lacks_levels = needs_levels and data.video.dim() == 3
    if expected == got and not lacks_levels:
        return
    if spec.resolved["data"]["kind"] in ("official", "own"):
        fix = "choose other features"
    elif needs_levels or config.video_dim <= config.text_dim:
        fix = f"--data layout=levels semantic_dim={config.text_dim}"
    else:
        motion = config.video_dim - config.text_dim
        fix = f"--data layout=clips semantic_dim={config.text_dim} motion_dim={motion}"
    if not lacks_levels:
        fix = f"--config video_dim={got[0]} text_dim={got[1]}, or {fix}"
    raise ValueError(
        f"{spec.model}: expected features with {expected[0]} channels of video and {expected[1]} of text"
        f"{f', in {config.levels} levels' if needs_levels else ''}; got {got[0]} and {got[1]}"
        f"{', in one level' if lacks_levels else ''}. Fix: {fix}."
    )
