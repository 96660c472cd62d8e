"""Checkpoints of wjun0830/CGDETR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vtg_lib.models.imported.common import HEADS, INPUTS, UNUSED, anchor_decoder, detr_config, encoder_layers
from vtg_lib.models.imported.rules import Rules, State, count, shape

PAIRS = {
    "sentence": "sent_rep",
    "moment": "moment_rep",
}  # our token with its position -> the two tensors that hold them
OPTIONS = {
    "num_prompts": "chosen_prompts",
    "lw_wattn": "weight_attention",
    "lw_ms_align": "weight_align",
    "lw_distill": "weight_distill",
}


def _config(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    stacks = {
        "cross": "transformer.t2v_encoder",
        "moment": "transformer.mcls_encoder",
        "dummy": "txtproj_encoder",
        "sentence": "scls_encoder",
    }
    found: dict[str, Any] = {
        f"{name}_layers": count(tensors, rf"{public}\.layers\.(\d+)\.") for name, public in stacks.items()
    }
    found |= {ours: options[theirs] for theirs, ours in OPTIONS.items() if theirs in options}
    if "lw_distill" in options:  # one option weighs both
        found["weight_orthogonal"] = options["lw_distill"]
    dataset = options.get("dset_name")
    found |= {
        "dummies": shape(tensors, "dummy_rep_token")[0],
        "prompts": shape(tensors, "global_rep_token")[0],
        "highlights_only": dataset in ("tvsum", "youtube_uni"),
        "weight_negative": 0.0 if dataset == "youtube_uni" else 1.0,
    }
    return detr_config(tensors, options) | found


def _transform(state: State) -> State:
    """Tokens together with their positions; the modality embedding as it is (row 0: words)."""
    state = dict(state)
    for ours, public in PAIRS.items():
        if f"{public}_token" in state and f"{public}_pos" in state:
            state[f"{ours}_pair"] = torch.stack((state.pop(f"{public}_token"), state.pop(f"{public}_pos")))
    if "global_rep_pos" in state:
        state["global_rep_pos"] = state["global_rep_pos"].reshape(-1)
    return state


RULES = Rules(
    source="wjun0830/CGDETR @ 212b2e4",
    rename=(
        *INPUTS,
        # Adaptive cross-attention projects its output only; the other stacks are ordinary.
        (
            r"transformer\.t2v_encoder\.layers\.(\d+)\.self_attn\.out_proj\.(weight|bias)",
            r"cross_encoder.\1.out.\2",
        ),
        *encoder_layers(r"transformer\.t2v_encoder", "cross_encoder"),
        *encoder_layers(r"transformer\.encoder", "encoder"),
        *encoder_layers(r"transformer\.mcls_encoder", "moment_encoder"),
        *encoder_layers("txtproj_encoder", "dummy_encoder"),
        *encoder_layers("scls_encoder", "sentence_encoder"),
        *anchor_decoder(),
        *HEADS,
        (r"saliency_proj1\.(weight|bias)", r"saliency_clip.\1"),
        (r"saliency_proj2\.(weight|bias)", r"saliency_global.\1"),
        (r"token_type_embeddings\.weight", "modality"),
        (r"global_rep_token", "prompts"),
        (r"global_rep_pos", "global_position"),
        (r"dummy_rep_token", "dummies"),
        (r"dummy_rep_pos", "dummy_position"),
        (r"(sentence|moment)_pair", r"\1"),
    ),
    unused=(
        *UNUSED,
        (r"txt_proj_linear\..+", "a second projection of the text that the public code never calls"),
    ),
    config=_config,
    transform=_transform,
)
