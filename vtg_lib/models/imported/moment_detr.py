"""Checkpoints of jayleicn/moment_detr."""

from __future__ import annotations

from vtg_lib.models.imported.common import (
    HEADS,
    INPUTS,
    UNUSED,
    attention,
    detr_config,
    encoder_layers,
    feed_forward,
)
from vtg_lib.models.imported.rules import Rules

_LAYER, _OURS = r"transformer\.decoder\.layers\.(\d+)", r"decoder.layers.\1"

RULES = Rules(
    source="jayleicn/moment_detr @ b7e553a",
    rename=(
        *INPUTS,
        *encoder_layers(r"transformer\.encoder", "encoder"),
        *attention(rf"{_LAYER}\.self_attn", f"{_OURS}.self_attention"),
        *attention(rf"{_LAYER}\.multihead_attn", f"{_OURS}.cross.attention"),
        *feed_forward(_LAYER, f"{_OURS}.cross.feed_forward"),
        (rf"{_LAYER}\.norm1\.(weight|bias)", rf"{_OURS}.norm.\2"),
        (rf"{_LAYER}\.norm2\.(weight|bias)", rf"{_OURS}.cross.norm_attention.\2"),
        (rf"{_LAYER}\.norm3\.(weight|bias)", rf"{_OURS}.cross.norm_feed_forward.\2"),
        (r"transformer\.decoder\.norm\.(weight|bias)", r"decoder.norm.\1"),
        (r"query_embed\.weight", "queries"),
        *HEADS,
        (r"saliency_proj\.(weight|bias)", r"saliency_head.\1"),
    ),
    unused=UNUSED,
    config=detr_config,
)
