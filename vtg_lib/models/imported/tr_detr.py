"""Checkpoints of mingyao1120/TR-DETR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vtg_lib.models.imported.common import HEADS, INPUTS, UNUSED, anchor_decoder, detr_config, encoder_layers
from vtg_lib.models.imported.rules import Rules, State, count

_FUSER = r"fuser\.cq_attention"


def _config(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    names = {"CTC_loss_coef": "weight_local", "VTC_loss_coef": "weight_global"}
    stored = {ours: options[theirs] for theirs, ours in names.items() if theirs in options}
    stored["cross_layers"] = count(tensors, r"transformer\.t2v_encoder\.layers\.(\d+)\.")
    return detr_config(tensors, options) | stored | {"highlights_only": options.get("dset_name") == "tvsum"}


def _as_linear(state: State) -> State:
    """The fuser's columns and convolutions of kernel 1 as weights of linear layers."""
    column = {"fuser.cq_attention.w4C", "fuser.cq_attention.w4Q", "fuser.cq_concat.weighted_pool.weight"}
    return {
        name: tensor.T if name in column else tensor.squeeze(-1) if name.endswith("conv1d.weight") else tensor
        for name, tensor in state.items()
    }


RULES = Rules(
    source="mingyao1120/TR-DETR @ fca43a9",
    rename=(
        *INPUTS,
        (rf"{_FUSER}\.w4C", "refine.clip.weight"),
        (rf"{_FUSER}\.w4Q", "refine.word.weight"),
        (rf"{_FUSER}\.w4mlu", "refine.product"),
        (rf"{_FUSER}\.cqa_linear\.conv1d\.(weight|bias)", r"refine.mix.\1"),
        (r"fuser\.cq_concat\.weighted_pool\.weight", "refine.sentence.weight.weight"),
        (r"fuser\.cq_concat\.conv1d\.conv1d\.(weight|bias)", r"refine.out.\1"),
        *encoder_layers(r"transformer\.t2v_encoder", "cross_encoder"),
        *encoder_layers(r"transformer\.encoder", "encoder"),
        *anchor_decoder(),
        *HEADS,
        (r"saliency_proj1\.(weight|bias)", r"saliency_head.\1"),
        (r"gru_extractor\.gru\.(.+)", r"reader.gru.\1"),
    ),
    unused=UNUSED,
    config=_config,
    transform=_as_linear,
)
