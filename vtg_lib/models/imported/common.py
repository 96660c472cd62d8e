"""Rules that Moment-DETR and its descendants share: their public code comes from one repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vtg_lib.models.imported.rules import UNSHOWN, count, refuse, shape

Renames = tuple[tuple[str, str], ...]

# Our `InputProjection` and `MLP` heads.
INPUTS: Renames = (
    (r"input_vid_proj\.(\d+)\.LayerNorm\.(weight|bias)", r"project_video.norms.\1.\2"),
    (r"input_vid_proj\.(\d+)\.net\.1\.(weight|bias)", r"project_video.linears.\1.\2"),
    (r"input_txt_proj\.(\d+)\.LayerNorm\.(weight|bias)", r"project_text.norms.\1.\2"),
    (r"input_txt_proj\.(\d+)\.net\.1\.(weight|bias)", r"project_text.linears.\1.\2"),
)
HEADS: Renames = ((r"span_embed\.(.+)", r"span_head.\1"), (r"class_embed\.(.+)", r"class_head.\1"))
UNUSED: Renames = (
    (
        r"txt_position_embed\..+",
        "learned positions of words, which use_txt_pos=False (the authors' default) leaves out",
    ),
    (r"contrastive_align_projection_.+", "of a contrastive loss that no published run trains with"),
)


def attention(public: str, ours: str) -> Renames:
    r"""One `nn.MultiheadAttention` as our `MultiHeadAttention`. `public` is a pattern with at most one group,
    `ours` may name it as `\1`."""
    last = 2 if "(" in public else 1
    return (
        (rf"{public}\.in_(query|key|value)\.(weight|bias)", rf"{ours}.\{last}.\{last + 1}"),
        (rf"{public}\.out_proj\.(weight|bias)", rf"{ours}.out.\{last}"),
    )


def feed_forward(public: str, ours: str) -> Renames:
    r"""`linear1`, `linear2` and, where there is one, the PReLU of a layer; `public` has one group, its
    number.
    """
    return (
        (rf"{public}\.linear1\.(weight|bias)", rf"{ours}.up.\2"),
        (rf"{public}\.linear2\.(weight|bias)", rf"{ours}.down.\2"),
        (rf"{public}\.activation\.weight", rf"{ours}.activation.weight"),
    )


def encoder_layers(public: str, ours: str) -> Renames:
    """A stack of public encoder layers as a list of our `AttentionLayer`s (or `CrossLayer`s), `public`
    without a group.
    """
    layer, own = rf"{public}\.layers\.(\d+)", rf"{ours}.\1"
    return (
        *attention(rf"{layer}\.self_attn", f"{own}.attention"),
        *feed_forward(layer, f"{own}.feed_forward"),
        (rf"{layer}\.norm1\.(weight|bias)", rf"{own}.norm_attention.\2"),
        (rf"{layer}\.norm2\.(weight|bias)", rf"{own}.norm_feed_forward.\2"),
    )


def anchor_decoder(
    public: str = r"transformer\.decoder", ours: str = "decoder", anchors: str = r"query_embed\.weight"
) -> Renames:
    """QD-DETR's decoder, which its descendants copy, as our `AnchorDecoder`."""
    layer, own = rf"{public}\.layers\.(\d+)", rf"{ours}.layers.\1"
    side = {"sa": "self_attention", "ca": "cross_attention"}
    part = {"qcontent": "query", "kcontent": "key", "kpos": "key_position", "v": "value"}
    return (
        (rf"{layer}\.ca_qpos_proj\.(weight|bias)", rf"{own}.start.\2"),
        (rf"{layer}\.sa_qpos_proj\.(weight|bias)", rf"{own}.self_attention.query_position.\2"),
        (rf"{layer}\.ca_qpos_sine_proj\.(weight|bias)", rf"{own}.cross_attention.query_position.\2"),
        *(
            (rf"{layer}\.{short}_{name}_proj\.(weight|bias)", rf"{own}.{attention_name}.{our}.\2")
            for short, attention_name in side.items()
            for name, our in part.items()
        ),
        (rf"{layer}\.self_attn\.out_proj\.(weight|bias)", rf"{own}.self_attention.out.\2"),
        (rf"{layer}\.cross_attn\.out_proj\.(weight|bias)", rf"{own}.cross_attention.out.\2"),
        *feed_forward(layer, f"{own}.feed_forward"),
        *((rf"{layer}\.norm{number + 1}\.(weight|bias)", rf"{own}.norms.{number}.\2") for number in range(3)),
        (rf"{public}\.norm\.(weight|bias)", rf"{ours}.norm.\1"),
        (rf"{public}\.query_scale\.(.+)", rf"{ours}.position_scale.\1"),
        (rf"{public}\.ref_point_head\.(.+)", rf"{ours}.position_head.\1"),
        (rf"{public}\.ref_anchor_head\.(.+)", rf"{ours}.width_head.\1"),
        (rf"{public}\.bbox_embed\.(.+)", rf"{ours}.refine.\1"),
        (anchors, f"{ours}.anchors"),
    )


def detr_config(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `DetrConfig` that a public checkpoint shows; heads and what only training uses come from
    the options.

    Raises:
        CheckpointImportError: an input projection or the encoder is missing, or an option that we have no
            variant for.
    """
    refuse(
        options,
        {"pre_norm": False, "use_txt_pos": False, "span_loss_type": "l1", "position_embedding": "sine"},
    )
    width, channels = shape(tensors, "input_vid_proj.0.net.1.weight")
    tef = "tef" in options.get("ctx_mode", "video_tef")
    names = {"nheads": "heads", "lw_saliency": "weight_saliency"}
    names |= {name: name for name in ("dropout", "input_dropout", "saliency_margin")}
    return {
        "video_dim": channels - 2 * tef,
        "text_dim": shape(tensors, "input_txt_proj.0.net.1.weight")[1],
        "width": width,
        "hidden": shape(tensors, "transformer.encoder.layers.0.linear1.weight")[0],
        "queries": shape(tensors, "query_embed.weight")[0],
        "encoder_layers": count(tensors, r"transformer\.encoder\.layers\.(\d+)\."),
        "decoder_layers": count(tensors, r"transformer\.decoder\.layers\.(\d+)\."),
        "tef": tef,
        "heads": UNSHOWN,
    } | {ours: options[theirs] for theirs, ours in names.items() if theirs in options}
