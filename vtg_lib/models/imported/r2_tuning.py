"""R2-Tuning's public checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vtg_lib.models.imported.rules import Rules, State, count, shape

_ATTENTION = (("cross_att", "cross"), ("self_att", "self_attention"))
_LINEARS = (("q", "query"), ("k", "key"), ("v", "value"), ("m", "out"))
_NORMS = ("cross_att", "self_att", "ffn")


_DISTANCES = "coord_head.module.1.weight"


def _config(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Our config; suppression and rounding of borders are those for QVHighlights, for others see
    `Config.paper`.

    Highlights without moments were trained without endpoint features and with one level of the pyramid.
    """
    width, video_dim = shape(tensors, "adapter.video_map.2.weight")
    moments = _DISTANCES in tensors
    return {
        "video_dim": video_dim - 2 * moments,
        "text_dim": shape(tensors, "adapter.query_map.2.weight")[1],
        "width": width,
        "levels": shape(tensors, "adapter.scale")[0],
        "task": "moments" if moments else "highlights",
        "strides": tuple(2**power for power in range(count(tensors, r"pyramid\.blocks\.(\d+)\.") + 1)),
        "kernel": shape(tensors, "class_head.module.1.weight")[2],
        "tef": moments,
    }


def _transform(state: State) -> State:
    """Convolution kernels `[out, in, taps]` as the matrices of neighbouring clips `[out, taps * in]`; marks
    idle scales.
    """
    state = {name: x.transpose(1, 2).flatten(1) if x.dim() == 3 else x for name, x in state.items()}
    if _DISTANCES not in state and "coef" in state:
        state["coef of no distances"] = state.pop("coef")
    return state


def _halvings() -> tuple[tuple[str, str], ...]:
    """Block b of the public pyramid has b convolutions, with four entries without weights between two of
    them.
    """
    rules = []
    for number in range(8):
        own = rf"pyramid.levels.\1.{number}"
        rules.append((rf"pyramid\.blocks\.(\d+)\.{5 * number + 1}\.(weight|bias)", rf"{own}.pair.\2"))
        rules.append((rf"pyramid\.blocks\.(\d+)\.{5 * number + 3}\.(weight|bias)", rf"{own}.norm.\2"))
    return tuple(rules)


def _projection(public: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Norm, dropout, linear, ReLU, norm, dropout, linear, as our `InputProjection`."""
    places = ((0, "norms.0"), (2, "linears.0"), (4, "norms.1"), (6, "linears.1"))
    return tuple(
        (rf"adapter\.{public}\.{place}\.(weight|bias)", rf"align.{ours}.{name}.\1") for place, name in places
    )


RULES = Rules(
    source="yeliudev/R2-Tuning @ 03fbcf6",
    rename=(
        *_projection("video_map", "video"),
        *_projection("query_map", "text"),
        (r"adapter\.v_map\.(weight|bias)", r"pool_tokens.key.\1"),
        (r"adapter\.q_map\.(weight|bias)", r"pool_tokens.query.\1"),
        (r"adapter\.scale", "pooled_scale"),
        (r"adapter\.gate", "level_gate"),
        *(
            (rf"adapter\.tem\.{public}\.{letter}\.(weight|bias)", rf"refine.{ours}.{name}.\1")
            for public, ours in _ATTENTION
            for letter, name in _LINEARS
        ),
        *(
            (rf"adapter\.tem\.{name}_norm\.(weight|bias)", rf"refine.norms.{i}.norm.\1")
            for i, name in enumerate(_NORMS)
        ),
        (r"adapter\.tem\.ffn\.mapping\.0\.(weight|bias)", r"refine.feed_forward.up.\1"),
        (r"adapter\.tem\.ffn\.mapping\.[23]\.(weight|bias)", r"refine.feed_forward.down.\1"),
        *_halvings(),
        (r"pooling\.att\.weight", "pool_words.weight.weight"),
        (r"class_head\.module\.1\.(weight|bias)", r"task.class_head.convs.0.taps.\1"),
        (r"class_head\.module\.3\.(weight|bias)", r"task.class_head.convs.1.taps.\1"),
        (r"coord_head\.module\.1\.(weight|bias)", r"task.distance_head.head.convs.0.taps.\1"),
        (r"coord_head\.module\.3\.(weight|bias)", r"task.distance_head.head.convs.1.taps.\1"),
        (r"coef", "task.distance_head.scale"),
    ),
    unused=(
        (r"loss\..*", "the temperature of a loss, which is not learned"),
        ("coef of no distances", "scales distances, and the model predicts none"),
        (r"clip\..*", "the frozen CLIP, whose features are the input here"),
    ),
    config=_config,
    transform=_transform,
)
