"""SA-DETR's parts for every method with an `AnchorDecoder` (Xiong et al., Sec. 3.3 to 3.5): anchors of the
instance, noise groups, Gaussian mask. Axes: B, T, M, Q, D as in `vtg_lib.data.batches`; E queries of noise
groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.anchors import AnchorDecoder, Update
from vtg_lib.layers.query_relation import class_score
from vtg_lib.layers.span_aware import MASKS
from vtg_lib.layers.span_queries import ANCHORS, NoiseGroups
from vtg_lib.layers.transformer import Decoded
from vtg_lib.losses import masked_mean
from vtg_lib.losses.span_aware import by_moment, initial_loss, moment_loss, quality_margin
from vtg_lib.models.config import DetrConfig
from vtg_lib.models.parts.detr import Detr

NOISES = ("pairs", "positive", "repeated", "off")


@dataclass(frozen=True, kw_only=True)
class SpanAwareConfig(DetrConfig):
    """`DetrConfig`, and which parts there are; the defaults are SA-DETR's for QVHighlights (Table 9).

    Attributes:
        anchors: a key of `ANCHORS`: what the decoder starts from. "shuffled" and "mean" are controls.
        init_loss: L_init supervises the anchors, learned ones too.
        noise: "pairs" of positive and negative queries around every moment, "positive" ones alone, or "off";
            "repeated" is the control: as many queries as pairs have, which start at the moment itself.
        groups: N_n noise groups; 0 is off, too. A sample has at most 256 queries in them.
        sigma_p, sigma_n: noise of positive and negative queries, in widths of the moment; sigma_n is the
            larger one (the text has them exchanged; reading 1).
        margin: "fixed", or "decaying": sigma_n falls to sigma_p over `margin_steps` training steps.
        mask: a key of `MASKS`: the form of Eq. 6, or a control. alpha: of Eq. 5.
        margin_quality: delta_q of Eq. 9.
        weight_l1, weight_giou: of moments, Eq. 7; weight_moment, weight_quality: lambda_M and lambda_Q of
            Eq. 10.
    """

    anchors: str = "instance"
    init_loss: bool = True
    noise: str = "pairs"
    groups: int = 5
    sigma_p: float = 0.2
    sigma_n: float = 0.6
    margin: str = "fixed"
    margin_steps: int = 0
    mask: str = "logits"
    alpha: float = 2.0
    margin_quality: float = 0.4
    weight_l1: float = 10.0
    weight_giou: float = 1.0
    weight_moment: float = 1.0
    weight_quality: float = 1.0

    def __post_init__(self) -> None:
        self.expect_choice(anchors=ANCHORS, noise=NOISES, margin=("fixed", "decaying"), mask=MASKS)
        self.expect_positive("queries", "decoder_layers")
        self.expect_width(4)
        if self.anchors == "mean" and not self.init_loss:
            self.refuse("init_loss", "True with mean anchors, which nothing else teaches")
        if self.groups < 0:
            self.refuse("groups", "0 (off) or more")
        for field in ("sigma_p", "sigma_n"):
            if not 0 < getattr(self, field) <= 1:
                self.refuse(field, "a noise scale in (0, 1]")
        if self.noise == "pairs" and self.sigma_p >= self.sigma_n:
            self.refuse("sigma_p", f"less than sigma_n, which is {self.sigma_n}, with noise 'pairs'")
        if self.margin == "decaying" and (self.noise != "pairs" or self.margin_steps < 1):
            self.refuse("margin", "'fixed', or noise 'pairs' and in margin_steps the training steps it takes")
        if self.alpha <= 0:
            self.refuse("alpha", "a positive number")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise of the kinds of queries in a group; none without groups."""
        kinds = {"pairs": (self.sigma_p, self.sigma_n), "positive": (self.sigma_p,), "repeated": (0.0, 0.0)}
        return kinds.get(self.noise, ()) if self.groups else ()


class SpanAware(Detr):
    """Adds the parts to a method: `class SaQDDETR(SpanAware, QDDETR)`, then `add_parts(config)`."""

    parts: SpanAwareConfig
    decoder: AnchorDecoder

    def add_parts(self, config: SpanAwareConfig) -> None:
        """Make the parts."""
        self.parts = c = config
        self.initial = ANCHORS[c.anchors](c.width, c.queries)
        if self.initial is not None:
            self.decoder.anchors = None
        decay = c.margin_steps if c.margin == "decaying" else 0
        self.noise = NoiseGroups(c.width, c.groups, c.sigmas, decay) if c.sigmas else None
        self.span_mask = MASKS[c.mask](c.alpha)

    def decode(
        self,
        memory: Tensor,
        position: Tensor,
        batch: Batch,
        trace: bool,
        content: Tensor | None = None,
        token: Tensor | None = None,
        update: Update | None = None,
    ) -> Decoded:
        """As in `Detr`, from the anchors of the token `[B, D]`, the mean of the memory if None.

        extras: `initial [B, Q, 2]`, which L_init supervises; in training those of `Groups`. The trace has the
        `clip_mask [S, B, Q, T]`, too.
        """
        mask = batch.video_mask
        token = masked_mean(memory, mask[..., None], (1,)) if token is None else token
        start = None if self.initial is None else self.initial(token)
        if self.training and self.span_mask is not None:
            self.span_mask.show(batch.spans, batch.span_mask)
        decoded = self.decoder(
            *(memory, position, mask, trace, content),
            anchors=None if start is None else start.anchors,
            groups=self.noise(batch, self.parts.queries)
            if self.training and self.noise is not None
            else None,
            modulate=None if self.span_mask is None else partial(self.span_mask, mask=mask),
            update=update,
        )
        initial = decoded.references[0] if start is None else start.supervised
        return decoded._replace(extras=decoded.extras | {"initial": initial})

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The method's losses and those of the parts. Weighted."""
        return super().loss(output, batch) | self.part_losses(output, batch)

    def part_losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """`init`: L_init; `noise`: Eq. 7 of positive noise queries, each with the moment that it was made
        of, of all layers; `margin`: Eq. 9. Each where there is such a part; zero without moments. Weighted.
        """
        c, extras, found = self.parts, output.extras, dict[str, Tensor]()
        weights = (c.weight_l1, c.weight_giou)
        if c.init_loss:
            initial = initial_loss(extras["initial"], batch.spans, batch.span_mask, *weights)
            found["init"] = c.weight_moment * initial
        if "group_states" not in extras:
            return found
        layers = self.read(extras["group_states"], extras["group_references"])
        spans = by_moment(layers["spans"], c.groups, len(c.sigmas))  # [K, S, G, B, M, 2]
        target, valid = (x[:, : spans.shape[-2]] for x in (batch.spans, batch.span_mask))
        chosen = (
            spans if c.noise == "repeated" else spans[:1]
        )  # negative ones have no moment loss (reading 7)
        loss = moment_loss(chosen, target, valid.expand(chosen.shape[:-1]), *weights)
        found["noise"] = c.weight_moment * loss.mean((0, 2)).sum()
        if c.noise == "pairs":
            quality = by_moment(class_score(layers), c.groups, 2)
            gap = quality_margin(quality[0], quality[1], valid, c.margin_quality)
            found["margin"] = c.weight_quality * gap.sum()
        return found
