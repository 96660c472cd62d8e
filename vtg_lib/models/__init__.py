"""The methods, by name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from vtg_lib.data.knobs import cast_like


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """What the registry knows of a method without importing it.

    Attributes:
        module: where `Config` and the module class live.
        class_name: the module class.
        published_parameters: learnable parameters in millions as published, with the features the paper used.
        variants: further published counts, as (name, config overrides, millions).
    """

    module: str
    class_name: str
    published_parameters: float | None
    variants: tuple[tuple[str, Mapping[str, Any], float], ...] = ()

    @property
    def config_class(self) -> type:
        return importlib.import_module(self.module).Config

    @property
    def model_class(self) -> type[nn.Module]:
        return getattr(importlib.import_module(self.module), self.class_name)


MODELS: dict[str, ModelEntry] = {
    "moment_detr": ModelEntry(
        module="vtg_lib.models.moment_detr", class_name="MomentDETR", published_parameters=4.8
    ),
    "qd_detr": ModelEntry(module="vtg_lib.models.qd_detr", class_name="QDDETR", published_parameters=7.6),
    "univtg": ModelEntry(module="vtg_lib.models.univtg", class_name="UniVTG", published_parameters=41.3),
    "snag": ModelEntry(module="vtg_lib.models.snag", class_name="SnAG", published_parameters=None),
    "cg_detr": ModelEntry(module="vtg_lib.models.cg_detr", class_name="CGDETR", published_parameters=12.0),
    "bam_detr": ModelEntry(module="vtg_lib.models.bam_detr", class_name="BAMDETR", published_parameters=None),
    "flash_vtg": ModelEntry(
        module="vtg_lib.models.flash_vtg",
        class_name="FlashVTG",
        published_parameters=None,
        variants=(
            (
                "InternVideo2",
                {"video_dim": 768, "text_dim": 4096, "strides": (1, 2, 4, 8, 16), "weight_label": 0.0},
                10.9,
            ),
        ),
    ),
    "r2_tuning": ModelEntry(
        module="vtg_lib.models.r2_tuning", class_name="R2Tuning", published_parameters=2.7
    ),
    "tr_detr": ModelEntry(module="vtg_lib.models.tr_detr", class_name="TRDETR", published_parameters=7.9),
    "sim_detr": ModelEntry(module="vtg_lib.models.sim_detr", class_name="SimDETR", published_parameters=None),
    "sdst": ModelEntry(
        module="vtg_lib.models.sdst",
        class_name="SDST",
        published_parameters=4.1,
        variants=(("not shared", {"shared": False}, 12.43),),
    ),
    "untuned": ModelEntry(module="vtg_lib.models.untuned", class_name="Untuned", published_parameters=2.7),
    "e3va": ModelEntry(module="vtg_lib.models.e3va", class_name="E3VA", published_parameters=2.57),
    "losa": ModelEntry(module="vtg_lib.models.losa", class_name="LoSA", published_parameters=6.4),
    "lst": ModelEntry(module="vtg_lib.models.lst", class_name="LST", published_parameters=2.04),
}


def entry(name: str) -> ModelEntry:
    """The registered method `name`.

    Raises:
        ValueError: no such method.
    """
    if name not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(sorted(MODELS))}; got {name!r}")
    return MODELS[name]


def resolve(name: str, overrides: Mapping[str, Any] | None = None) -> Any:
    """The full config of a method: its defaults with `overrides`.

    Raises:
        ValueError: unknown method, a field that its config does not have, or a value of another type.
    """
    config_class = entry(name).config_class
    known = {f.name for f in dataclasses.fields(config_class)}
    overrides = dict(overrides or {})
    if unknown := sorted(set(overrides) - known):
        raise ValueError(f"config of {name}: unknown fields {unknown}; it has {sorted(known)}")
    defaults = dataclasses.asdict(config_class())
    return config_class(
        **{key: cast_like(f"{name}.{key}", defaults[key], value) for key, value in overrides.items()}
    )


def build(name: str, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    """A freshly initialised model. Seed the global generator before the call."""
    return entry(name).model_class(resolve(name, overrides))


def count_parameters(model: nn.Module) -> int:
    """Learnable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
