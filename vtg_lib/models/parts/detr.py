"""What Moment-DETR and its descendants share: projected features, and a decoder whose states are read.

Axes: B, T, L as in `vtg_lib.data.batches`; S decoder layers, Q queries, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output, last_level
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.boundary_decoder import BoundaryDecoder
from vtg_lib.layers.projections import InputProjection, append_endpoints
from vtg_lib.layers.query_relation import class_score
from vtg_lib.layers.transformer import Decoded, Decoder
from vtg_lib.models.config import FeatureConfig
from vtg_lib.spans import inverse_sigmoid


class Projected(nn.Module):
    """Base of methods that read one level of features: clips and words are projected to one width."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        c = config
        self.tef = c.tef
        self.project_video = InputProjection(c.video_dim + 2 * c.tef, c.width, c.input_dropout)
        self.project_text = InputProjection(c.text_dim, c.width, c.input_dropout)

    def project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Clips `[B, T, D]` and words `[B, L, D]`."""
        video = last_level(batch.video)
        video = append_endpoints(video, batch.video_mask) if self.tef else video
        clips: Tensor = self.project_video(video)
        words: Tensor = self.project_text(last_level(batch.text))
        return clips, words


class Detr(Projected):
    """Base of methods whose moments are decoder queries.

    Attributes:
        decoder: gives `Decoded`, and relates its queries if asked to (`Relate`).
        span_head, class_head: read the decoder's states.
    """

    decoder: Decoder | AnchorDecoder | BoundaryDecoder
    span_head: nn.Module
    class_head: nn.Module

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`; extras: at least the decoder's `states [S, B, Q, D]` and
        `memory [B, T, D]`.
        """
        raise NotImplementedError

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The method's losses, weighted."""
        raise NotImplementedError

    def decode(
        self, memory: Tensor, position: Tensor, batch: Batch, trace: bool, content: Tensor | None = None
    ) -> Decoded:
        """What an `AnchorDecoder` finds in the clips memory, position `[B, T, D]`; a part that has anchors or
        queries of its own overrides this.
        """
        decoded: Decoded = self.decoder(memory, position, batch.video_mask, trace, content)
        return decoded

    def read(self, states: Tensor, references: Tensor | None) -> dict[str, Tensor]:
        """What the decoder's states `[..., Q, D]` say: `spans [..., Q, 2]`, from the references if there are
        any; `logits [..., Q, 2]`, class 0 = foreground.
        """
        spans = self.span_head(states).float()
        if references is not None:
            spans = spans + inverse_sigmoid(references.float())
        return {"spans": spans.sigmoid(), "logits": self.class_head(states).float()}

    def output(self, decoded: Decoded, memory: Tensor, saliency: Tensor, **extras: Any) -> Output:
        """What the decoder found, with the clips `[B, T, D]` that it read and their saliency `[B, T]`."""
        layers = self.read(decoded.states, decoded.references)
        return Output(
            spans=layers["spans"][-1],
            scores=class_score(layers)[-1],
            saliency=saliency,
            layers=layers,
            extras={"states": decoded.states, "memory": memory} | decoded.extras | extras,
            trace=decoded.trace,
        )


def with_mismatched(video: Sequence[Tensor], text: Sequence[Tensor]) -> list[Tensor]:
    """Tensors `[2 B, ...]` of the videos and of their texts: first each with its own, then with the next
    one's.
    """
    return [torch.cat((x, x)) for x in video] + [torch.cat((x, x.roll(-1, 0))) for x in text]
