"""Checkpoints of wjun0830/QD-DETR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vtg_lib.models.imported.common import HEADS, INPUTS, UNUSED, anchor_decoder, detr_config, encoder_layers
from vtg_lib.models.imported.rules import Rules, count


def _config(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    return detr_config(tensors, options) | {
        "cross_layers": count(tensors, r"transformer\.t2v_encoder\.layers\.(\d+)\.")
    }


RULES = Rules(
    source="wjun0830/QD-DETR @ 56c63b2",
    rename=(
        *INPUTS,
        *encoder_layers(r"transformer\.t2v_encoder", "cross_encoder"),
        *encoder_layers(r"transformer\.encoder", "encoder"),
        *anchor_decoder(),
        *HEADS,
        (r"saliency_proj1\.(weight|bias)", r"saliency_clip.\1"),
        (r"saliency_proj2\.(weight|bias)", r"saliency_global.\1"),
        (r"global_rep_token", "global_token"),
        (r"global_rep_pos", "global_position"),
    ),
    unused=UNUSED,
    config=_config,
)
