"""Checkpoints of Pilhyeon/BAM-DETR, ranked by quality or, where they hold no quality head, by class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vtg_lib.layers.boundary_decoder import POINTS
from vtg_lib.models.imported.common import (
    INPUTS,
    UNUSED,
    anchor_decoder,
    detr_config,
    encoder_layers,
    feed_forward,
)
from vtg_lib.models.imported.rules import Rules, State, count

OPTIONS = {
    "span_loss_coef": "weight_l1",
    "giou_loss_coef": "weight_giou",
    "boundary_loss_coef": "weight_border",
}
WEIGHT = {"quality": "quality_loss_coef", "class": "label_loss_coef"}
IDLE = "idle."  # put before class heads that no loss has trained
SIDES = ("start", "end")
DECODER = r"transformer\.decoder"


def _ranking(tensors: Mapping[str, Tensor]) -> str:
    return "quality" if any(name.startswith("quality_pred.") for name in tensors) else "class"


def _config(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    ranking = _ranking(tensors)
    names = OPTIONS | {WEIGHT[ranking]: "weight_ranking"}
    found: dict[str, Any] = {ours: options[theirs] for theirs, ours in names.items() if theirs in options}
    if "nms_thd" in options:
        found["nms_threshold"] = options["nms_thd"] if options["nms_thd"] >= 0 else 1.0
    found["ranking"], found["cross_layers"] = (
        ranking,
        count(tensors, r"transformer\.t2v_encoder\.layers\.(\d+)\."),
    )
    return detr_config(tensors, options) | found


def _transform(state: State) -> State:
    """Convolutions as matrices over the taps; channels that heads interleave in the order of the heads."""
    quality = _ranking(state) == "quality"
    heads: dict[str, int] = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"(.*)\.point_offsets\.bias", name):
            heads[match[1]] = len(tensor) // POINTS
    found: State = {}
    for name, tensor in state.items():
        if re.fullmatch(rf"{DECODER}\.boundary_conv_(left|right)\.\d+\.weight", name) and tensor.dim() == 3:
            tensor = tensor.transpose(1, 2).flatten(1)
        elif (match := re.fullmatch(r"(.*)\.output_proj\.weight", name)) and match[1] in heads:
            tensor = tensor.unflatten(1, (-1, heads[match[1]])).transpose(1, 2).flatten(1)
        elif name.startswith("class_embed.") and quality:
            name = IDLE + name
        found[name] = tensor
    return found


def _border_layer(side: int) -> tuple[tuple[str, str], ...]:
    layer, own = rf"{DECODER}\.boundary_layers\.(\d+)\.{side}", rf"decoder.{SIDES[side]}_layers.\1"
    parts = {
        "point_offsets": "offsets",
        "point_weights": "weights",
        "value_proj": "value",
        "output_proj": "out",
    }
    return (
        *(
            (rf"{layer}\.boundary_deformation\.{theirs}\.(weight|bias)", rf"{own}.attention.{ours}.\2")
            for theirs, ours in parts.items()
        ),
        *feed_forward(layer, f"{own}.feed_forward"),
        (rf"{layer}\.norm2\.(weight|bias)", rf"{own}.norms.0.\2"),
        (rf"{layer}\.norm3\.(weight|bias)", rf"{own}.norms.1.\2"),
    )


RULES = Rules(
    source="Pilhyeon/BAM-DETR @ 914b3e7",
    rename=(
        *INPUTS,
        *encoder_layers(r"transformer\.t2v_encoder", "cross_encoder"),
        *encoder_layers(r"transformer\.encoder", "encoder"),
        (rf"{DECODER}\.query_scale\.0\.(.+)", r"decoder.position_scale.\1"),
        *anchor_decoder(),
        *_border_layer(0),
        *_border_layer(1),
        *(
            (
                rf"{DECODER}\.boundary_conv_{side}\.{2 * i}\.(weight|bias)",
                rf"decoder.{ours}_features.convs.{i}.taps.\1",
            )
            for side, ours in zip(("left", "right"), SIDES, strict=True)
            for i in range(3)
        ),
        *(
            (rf"span_embed\.(\d+)\.{part}\.(.+)", rf"decoder.refine_{name}.\1.\2")
            for part, name in enumerate(("anchor", *SIDES))
        ),
        (r"transformer\.tgt_embed\.weight", "decoder.states"),
        (r"quality_pred\.(.+)", r"ranking.head.\1"),
        (r"class_embed\.(.+)", r"ranking.heads.\1"),
        (r"saliency_proj1\.(weight|bias)", r"saliency_clip.\1"),
        (r"saliency_proj2\.(weight|bias)", r"saliency_global.\1"),
        (r"global_rep_token", "global_token"),
        (r"global_rep_pos", "global_position"),
    ),
    unused=(
        *UNUSED,
        (rf"{DECODER}\.bbox_embed\..+", "the same tensors as span_embed"),
        (r"transformer\.saliency_proj\d\..+", "the same tensors as saliency_proj1 and saliency_proj2"),
        (
            r"transformer\.txt_encoder\..+",
            "an encoder of the text whose output the public code does not read",
        ),
        (r"global_rep_(token|pos)_txt", "read by that encoder alone"),
        (
            rf"{DECODER}\.query_scale\.[12]\..+",
            "positions of the borders, which the public code computes and does not read",
        ),
        (
            rf"{DECODER}\.ref_point_head_boundary\..+",
            "positions of the borders, which the public code does not compute",
        ),
        (rf"{DECODER}\.boundary_layers\.\d+\.\d+\.norm1\..+", "a norm that the public code never calls"),
        (
            re.escape(IDLE) + r"class_embed\..+",
            "class heads beside a quality head: no loss trains them, nothing reads them",
        ),
    ),
    config=_config,
    transform=_transform,
)
