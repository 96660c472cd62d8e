"""Checkpoints of SG-DETR (QVHighlights, Charades-STA, TACoS, each with and without pretraining).

The names are those of a public copy of the code. What tensors do not show (suppression and fusion, which
differ by data set; the number of queries; heads) is `Config`'s default for QVHighlights; for others give the
fields of `Config.paper(dataset)` as overrides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vtg_lib.models.imported.common import attention
from vtg_lib.models.imported.rules import Rules, State, count, shape

# Google Drive files of the weights, as a third party's script names them; neither fetched nor checked here.
CHECKPOINTS = {
    "qvhighlights": "1BbPEV13fnyzFJqNdP3GtgJ3TsbGDLuVT",
    "qvhighlights, pretrained": "1KFuLQHPvoCExCDG-P7VByd5fOtFQ3x8S",
    "charades_sta": "1KShUx5GmYncHLvhUw4Hc6XAencm-OSZ7",
    "charades_sta, pretrained": "1-fUDhgj408m0INlZS4ILEh1bb27T2v5y",
    "tacos": "1YZA-CG2tJLRSki5KUfuuikJ7nXsJ-ByY",
    "tacos, pretrained": "1HdZ-4mP28qfAiBFporLXY7JLpkneQkZp",
}
PREFIX = "model."  # of the trainer that holds the module
DETR, ATSS = r"detector.heads.detr", r"detector.heads.atss"
DECODER = r"main_det_head\.decoder"
LEVELS = {
    "upscale": ("finer", 1),
    "level0": ("clips", 0),
    "level1": ("coarser", 0),
    "level2": ("coarsest", 1),
}


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _config(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    state = _bare(tensors)
    width, channels = shape(state, "input_vid_proj.linear_mapper.0.mapper.2.weight")
    found: dict[str, Any] = {
        "video_dim": channels - 2,
        "text_dim": shape(state, "input_txt_proj.linear_mapper.0.mapper.2.weight")[1],
        "width": width,
        "hidden": shape(state, "det_encoder.encoder.layers.0.ffn.mapping.0.weight")[0],
        "pool_projections": any(".k_proj." in name for name in state),
        "amplifier_layer": any(name.startswith("saliency_amplifier.") for name in state),
        "global_head": "global_saliency_head.weight" in state,
        "selector": "query_selector.enc_output.weight" in state,
        "iou_head": any(".quality_score_embed." in name for name in state),
        "collab": "positive" if "main_det_head.co_mapper.0.weight" in state else "off",
        "denoise": 300 if "main_det_head.dn_label_enc.weight" in state else 0,
    }
    layers = {
        "encoder_layers": r"det_encoder\.encoder",
        "decoder_layers": DECODER,
        "cross_layers": r"txt2vis_sal_encoder\.t2v_encoder",
        "pool_layers": r"local_saliency_head\.sentence_pooling",
        "token_layers": r"sent_encoder\.sent_cls_encoder",
    }
    found |= {ours: count(state, rf"{theirs}\.layers\.(\d+)\.") for ours, theirs in layers.items()}
    if "main_det_head.label_enc.weight" in state:
        found["queries"] = len(state["main_det_head.label_enc.weight"])
    return found


def _transform(state: State) -> State:
    """Tokens with their positions, convolutions as matrices over the taps, outputs of one stem as one; layers
    counted without those that hold no weights.
    """
    state = _bare(state)
    found: State = {}
    for name, tensor in state.items():
        name, tensor = _numbered(name), tensor
        if name.endswith(".depthwise.weight"):  # [D, 1, 3]
            tensor = tensor.permute(2, 1, 0)
        elif name.endswith(".pointwise.weight"):
            tensor = tensor.squeeze(-1)
        elif tensor.dim() == 3:
            tensor = tensor.transpose(1, 2).flatten(1)
        found[name] = tensor
    join: list[tuple[str, tuple[str, ...], Callable[[list[Tensor]], Tensor]]] = [
        ("sentence", ("sent_encoder.sent_rep_token", "sent_encoder.sent_rep_pos"), torch.cat),
        ("moment", ("moment_encoder.moment_rep_token", "moment_encoder.moment_rep_pos"), torch.cat),
        (
            "anchors",
            ("main_det_head.refpoint_embed.center.weight", "main_det_head.refpoint_embed.width.weight"),
            _side,
        ),
    ]
    head = "aux_det_head.regression_head"
    join += [
        (f"box.{kind}", (f"{head}.bbox_reg.{kind}", f"{head}.bbox_ctrness.{kind}"), torch.cat)
        for kind in ("weight", "bias")
    ]
    join.append(("box_scale", tuple(f"{head}.scales.{number}.scale" for number in range(4)), torch.cat))
    for ours, parts, how in join:
        if all(part in found for part in parts):
            found[ours] = how([found.pop(part) for part in parts])
    if "main_det_head.dn_label_enc.weight" in found:
        found["main_det_head.dn_label_enc.weight"] = found["main_det_head.dn_label_enc.weight"].squeeze(0)
    return found


def _side(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, -1)


def _numbered(name: str) -> str:
    """The name with layers counted as ours."""
    if match := re.fullmatch(r"(.+)\.linear_mapper\.(\d+)\.(weight|bias)", name):
        return f"{match[1]}.layers.{int(match[2]) // 2}.{match[3]}"
    if match := re.fullmatch(r"(aux_det_head\..+\.stem)\.layers\.(\d+)\.(norm\.)?(weight|bias)", name):
        return f"{match[1]}.{int(match[2]) // 4}.{match[3] or ''}{match[4]}"
    if match := re.fullmatch(r"(aux_det_head\..+)\.layers\.1\.(weight|bias)", name):
        return f"{match[1]}.{match[2]}"
    if match := re.fullmatch(r"fpn\.(\w+)\.(\d+)\.(.+)", name):
        level, skipped = LEVELS.get(match[1], (match[1], 0))
        part = ("first", "second")[min(1, (int(match[2]) - skipped) // 3)]
        return f"fpn.{level}.{part}.{match[3]}"
    return name


def _feed_forward(public: str, ours: str) -> tuple[tuple[str, str], ...]:
    """`public` is a pattern with one group."""
    parts = {r"0\.(weight|bias)": r"up.\2", r"1\.(weight)": r"activation.\2", r"3\.(weight|bias)": r"down.\2"}
    return tuple((rf"{public}\.ffn\.mapping\.{a}", rf"{ours}.feed_forward.{b}") for a, b in parts.items())


def _encoder(public: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Layers of an encoder; `public` is a pattern with one group, the number."""
    return (
        *attention(rf"{public}\.self_attn", f"{ours}.attention"),
        *_feed_forward(public, ours),
        (rf"{public}\.norm1\.(weight|bias)", rf"{ours}.norm_attention.\2"),
        (rf"{public}\.norm2\.(weight|bias)", rf"{ours}.norm_feed_forward.\2"),
    )


def _decoder() -> tuple[tuple[str, str], ...]:
    layer, own = rf"{DECODER}\.layers\.(\d+)", rf"{DETR}.decoder.layers.\1"
    own_parts = {
        "query_content": "query",
        "query_pos": "query_position",
        "key_content": "key",
        "key_pos": "key_position",
        "value": "value",
    }
    cross = {
        "qcontent": "query",
        "qpos_sine": "query_position",
        "kcontent": "key",
        "kpos": "key_position",
        "value": "value",
    }
    heads = {
        "query_scale": "position_scale",
        "ref_point_head": "position_head",
        "ref_anchor_head": "width_head",
        "span_embed": "refine",
        "quality_score_embed": "iou_head",
        "norm": "norm",
    }
    return (
        *(
            (rf"{layer}\.self_attention\.{a}_proj\.(weight|bias)", rf"{own}.self_attention.{b}.\2")
            for a, b in own_parts.items()
        ),
        (rf"{layer}\.self_attention\.self_attn\.out_proj\.(weight|bias)", rf"{own}.self_attention.out.\2"),
        (rf"{layer}\.self_attention\.norm1\.(weight|bias)", rf"{own}.norms.0.\2"),
        *(
            (rf"{layer}\.ca_{a}_proj\.(weight|bias)", rf"{own}.cross_attention.{b}.\2")
            for a, b in cross.items()
        ),
        (rf"{layer}\.cross_attn\.out_proj\.(weight|bias)", rf"{own}.cross_attention.out.\2"),
        *_feed_forward(layer, own),
        (rf"{layer}\.norm2\.(weight|bias)", rf"{own}.norms.1.\2"),
        (rf"{layer}\.norm3\.(weight|bias)", rf"{own}.norms.2.\2"),
        *((rf"{DECODER}\.{a}\.(.+)", rf"{DETR}.decoder.{b}.\1") for a, b in heads.items()),
    )


_T2V = r"txt2vis_sal_encoder\.t2v_encoder\.layers\.(\d+)"
_POOL = r"local_saliency_head\.sentence_pooling"

RULES = Rules(
    source="chinagalaxy2002/SG_CGP @ 931cad1",
    rename=(
        *(
            (
                rf"input_{theirs}_proj\.linear_mapper\.(\d+)\.mapper\.{number}\.(weight|bias)",
                rf"project_{ours}.{part}.\1.\2",
            )
            for theirs, ours in (("vid", "video"), ("txt", "text"))
            for number, part in ((0, "norms"), (2, "linears"))
        ),
        (r"modality_embeddings\.weight", "modality"),
        (rf"{_T2V}\.self_attn\.out_proj\.(weight|bias)", r"cross_encoder.layers.\1.out.\2"),
        *_feed_forward(_T2V, r"cross_encoder.layers.\1"),
        (rf"{_T2V}\.norm1\.(weight|bias)", r"cross_encoder.layers.\1.norm_branch.\2"),
        (rf"{_T2V}\.norm2\.(weight|bias)", r"cross_encoder.layers.\1.norm.\2"),
        (r"txt2vis_sal_encoder\.t2v_encoder\.norm\.(weight|bias)", r"cross_encoder.norm.\1"),
        *_encoder(r"det_encoder\.encoder\.layers\.(\d+)", r"encoder.\1"),
        *_encoder(r"sent_encoder\.sent_cls_encoder\.layers\.(\d+)", r"tokens.sentence_encoder.\1"),
        *_encoder(r"moment_encoder\.mcls_encoder\.layers\.(\d+)", r"tokens.moment_encoder.\1"),
        *_encoder(r"saliency_amplifier\.(mha)", "amplifier.layer"),
        (r"(sentence|moment)", r"tokens.\1"),
        (rf"{_POOL}\.layers\.(\d+)\.attn\.out_proj\.(weight|bias)", r"sentence_pool.layers.\1.out.\2"),
        (rf"{_POOL}\.layers\.(\d+)\.k_proj\.(weight|bias)", r"sentence_pool.layers.\1.key.\2"),
        (rf"{_POOL}\.layers\.(\d+)\.v_proj\.(weight|bias)", r"sentence_pool.layers.\1.value.\2"),
        (rf"{_POOL}\.layers\.(\d+)\.attn_norm\.(weight|bias)", r"sentence_pool.layers.\1.norm_words.\2"),
        (
            rf"{_POOL}\.layers\.(\d+)\.ffn_norm\.(weight|bias)",
            r"sentence_pool.layers.\1.norm_feed_forward.\2",
        ),
        *_feed_forward(rf"{_POOL}\.layers\.(\d+)", r"sentence_pool.layers.\1"),
        (rf"{_POOL}\.cls_q", "sentence_pool.token"),
        (rf"{_POOL}\.norm\.(weight|bias)", r"sentence_pool.norm.\1"),
        (r"local_saliency_head\.temp", "local_saliency.scale"),
        (r"local_saliency_head\.a_param", "local_saliency.shift"),
        (r"global_saliency_head\.(weight|bias)", r"offset.\1"),
        (r"fpn\.(\w+)\.(first|second)\.depthwise\.weight", r"detector.pyramid.\1.\2.depthwise.taps"),
        (r"fpn\.(\w+)\.(first|second)\.(pointwise\.weight|norm\.\w+)", r"detector.pyramid.\1.\2.\3"),
        (r"query_selector\.enc_output\.(weight|bias)", rf"{DETR}.selector.project.\1"),
        (r"query_selector\.enc_output_norm\.(weight|bias)", rf"{DETR}.selector.norm.\1"),
        (r"query_selector\.enc_out_(span|class|iou)_embed\.(.+)", rf"{DETR}.selector.\1_head.\2"),
        *_decoder(),
        (r"main_det_head\.(span|class)_embed\.(.+)", rf"{DETR}.\1_head.\2"),
        (r"main_det_head\.co_mapper\.(.+)", rf"{DETR}.anchor_content.\1"),
        (r"main_det_head\.dn_label_enc\.weight", f"{DETR}.noise_content"),
        (r"main_det_head\.label_enc\.weight", f"{DETR}.learned.content"),
        (r"anchors", f"{DETR}.learned.anchors"),
        (
            r"aux_det_head\.classification_head\.stem\.(\d+)\.weight",
            rf"{ATSS}.class_head.convs.\1.taps.weight",
        ),
        (r"aux_det_head\.classification_head\.stem\.(\d+)\.norm\.(.+)", rf"{ATSS}.class_head.norms.\1.\2"),
        (
            r"aux_det_head\.classification_head\.cls_logits\.(weight|bias)",
            rf"{ATSS}.class_head.convs.3.taps.\1",
        ),
        (r"aux_det_head\.regression_head\.stem\.(\d+)\.weight", rf"{ATSS}.box_head.convs.\1.taps.weight"),
        (r"aux_det_head\.regression_head\.stem\.(\d+)\.norm\.(.+)", rf"{ATSS}.box_head.norms.\1.\2"),
        (r"box\.(weight|bias)", rf"{ATSS}.box_head.convs.3.taps.\1"),
        (r"box_scale", f"{ATSS}.scale"),
    ),
    unused=(
        (r"txt_position_embed\..+", "learned positions of words, which use_txt_pos=False leaves out"),
        (
            r"aux_det_head\.anchor_generator\..+",
            "the anchors, which follow from strides and sizes that no config changes",
        ),
    ),
    config=_config,
    transform=_transform,
)
