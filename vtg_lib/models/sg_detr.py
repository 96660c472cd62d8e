"""SG-DETR: clips read the words as far as they are salient, and two kinds of heads find the moments.

Most formulas are lost in the paper's text. Facts are from chinagalaxy2002/SG_CGP @ 931cad1, a public copy of
its code, whose released config is the default here; what the text says otherwise is a switch. The public
code adds the embedding of the modality to the clips before it scores them against another sample's sentence,
and after it scores them against their own; here it is added after both.

Parameters: 13,446,182, of which 1,580,546 encode moments and sentences in training only; the public module
counts 26,112 more, positions of words that it does not use. The text's preset: see `TEXT`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output, last_level
from vtg_lib.layers.adaptive_attention import PathLayer
from vtg_lib.layers.attention import FeedForward, MultiHeadAttention
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.projections import InputProjection, append_endpoints
from vtg_lib.layers.saliency_guidance import (
    AMPLIFIED,
    GUIDANCE,
    Amplifier,
    GuidedEncoder,
    LocalSaliency,
    Read,
    SentencePool,
)
from vtg_lib.losses.correlation import guided_saliency, membership, orthogonality, relevance, same_video
from vtg_lib.losses.queries import paired_alignment, saliency_loss
from vtg_lib.losses.saliency import extreme_pair, relevant_clips, saliency_pairs
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.detr import Projected, with_mismatched
from vtg_lib.models.parts.hybrid_detector import DetectorConfig, HybridDetector
from vtg_lib.models.parts.moment_sentence import MomentSentence, Tokens

SLOPE = 0.25  # of the PReLU, for the gain of the first weights
# The text's projections and denoising. They alone count 14.10 M; 14.92 M come out with the transformer layer
# of the amplifier, which the public constructor has by default and the released config switches off.
TEXT = {"projections": True, "pool_projections": True, "amplifier_layer": True, "denoise": 300}


@dataclass(frozen=True, kw_only=True)
class Config(DetectorConfig):
    """`DetectorConfig` and the switches of the encoder.

    Attributes:
        cross_layers, pool_layers, token_layers: of the guided encoder, of the sentence token, and of each
            encoder of moments and sentences.
        guidance: one of `GUIDANCE`; projections: of its queries, keys and values; pool_projections: of the
            keys and values of the sentence token.
        dummies: tokens of the guidance "dummy", which read the words through the sentence encoder's layers,
            so that they add no layer.
        amplifier: a key of `AMPLIFIED`; amplifier_layer: a transformer layer after it.
        global_head: refine local saliency (Eq. 8); else it is the highlights' score.
        clip_multiple: videos are filled up with clips of zeros to a multiple, as the public loader does; 1
            leaves them as they are.
        weight_align, weight_membership: of Eq. 14; weight_orthogonal: of dummies.
        highlights_only: the data set has no moments; saliency, alignment and membership are learned, the
            detector is there (so that weights fit) but neither asked nor taught. Saliency does not depend on
            it, so that the selector makes no difference then.
    """

    presets = {
        "qvhighlights": {},
        "qvhighlights+text": TEXT,
        "charades_sta": {
            "prior": 0.25,
            "candidates": 18,
            "alone_least": 0.1,
            "fused_least": 0.1,
            "fused_nms": 0.5,
            "kept": 50,
            "fusion_weights": (1.0, 1.0),
            "fusion_iou": 0.5,
            "fusion_least": 0.4,
            "grid": 0.1,
        },
        "tacos": {
            "prior": 0.2,
            "pool_layers": 1,
            "alone_nms": 0.6,
            "fused_least": 0.05,
            "fused_nms": 0.6,
            "kept": 20,
            "fusion_weights": (1.0, 1.0),
            "fusion_iou": 0.6,
            "grid": 0.2,
        },
        # The public configs of both highlight sets have no selector, but random anchors, and weigh every
        # loss of the detector with 0 (that was read of YouTube's; TVSum's file of losses is not stored).
        "tvsum": {"selector": False, "highlights_only": True},
        "youtube_highlights": {"selector": False, "highlights_only": True},
    }

    video_dim: int = 512
    encoder_layers: int = 3
    decoder_layers: int = 3
    cross_layers: int = 2
    pool_layers: int = 2
    token_layers: int = 1
    saliency_margin: float = 0.15
    guidance: str = "saliency"
    projections: bool = False
    pool_projections: bool = False
    dummies: int = 45
    amplifier: str = "on"
    amplifier_layer: bool = False
    global_head: bool = True
    clip_multiple: int = 4
    weight_align: float = 1.0
    weight_membership: float = 3.0
    weight_orthogonal: float = 1.0
    highlights_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_choice(guidance=GUIDANCE, amplifier=AMPLIFIED)
        self.expect_positive("cross_layers", "pool_layers", "token_layers", "dummies", "clip_multiple")


class SGDETR(Projected):
    """Local saliency, guided encoder, encoder, global saliency, detector."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        sizes = (c.width, c.heads, c.hidden, c.dropout)
        self.modality = nn.Parameter(torch.empty(2, c.width))  # of words, of clips
        nn.init.normal_(self.modality, std=0.02)
        self.cross_encoder = GuidedEncoder(c.cross_layers, *sizes, c.droppath, c.guidance, c.projections)
        self.encoder = nn.ModuleList(PathLayer(*sizes, c.droppath) for _ in range(c.encoder_layers))
        self.tokens = MomentSentence(c.token_layers, *sizes, c.droppath)
        self.amplifier = Amplifier(*sizes, c.amplifier_layer)
        self.detector = HybridDetector(c)
        _initialise(self)
        self.sentence_pool = SentencePool(*sizes, c.pool_layers, c.pool_projections)
        self.local_saliency = LocalSaliency()
        self.offset = nn.Linear(c.width, 1) if c.global_head else None
        if self.offset is not None:
            nn.init.zeros_(self.offset.weight)
            nn.init.zeros_(self.offset.bias)
        if c.guidance == "dummy":
            self.dummies = nn.Parameter(torch.randn(c.dummies, c.width))
            self.dummy_position = nn.Parameter(torch.randn(c.dummies, c.width))

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`, and `HybridDetector.forward` for layers, extras and trace.

        extras also: `local [B, T]`. trace also: `local_saliency [B, T]`, `text_attention [B, T, N + L]`, to
        dummies and words, and `text_update [cross layers, B, T]`, the norm of what a layer adds to a clip.

        While training it reads the batch's moments and saliency; then extras have also `other`: local and
        global saliency `[B, T]` with another sample's sentence, `real_negative [B]`, and `tokens`.
        """
        c, count, clips = self.config, len(batch), batch.video_mask.shape[1]
        video, text, inner, ratio = self.filled(batch)
        mask = inner.video_mask
        position = clip_positions(mask, c.width).to(video.dtype)
        given = [video, position, mask], [text, batch.text_mask, self.sentence_pool(text, batch.text_mask)]
        pairs = with_mismatched(*given) if self.training else [*given[0], *given[1]]
        memory, local, refined, read = self.encode(pairs, trace)
        if c.highlights_only:
            none = memory.new_zeros(count, 0, 2)
            output = Output(none, none[..., 0], refined, extras={"ratio": ratio})
        else:
            output = self.detector(memory[:count], position, inner, ratio, trace)
        output.saliency = refined[:count, :clips]
        output.extras |= {"local": local[:count, :clips], "memory": memory[:count]}
        if self.training:
            output.extras |= {
                "other": (local[count:, :clips], refined[count:, :clips]),
                "real_negative": ~same_video(last_level(batch.video), batch.video_mask),
                "tokens": self.tokens(
                    video + self.modality[1],
                    position,
                    mask,
                    self._inside(inner.saliency, mask),
                    text + self.modality[0],
                    batch.text_mask,
                ),
            }
        if read.dummies is not None and read.attention is not None:
            share = read.attention[:, :clips, c.dummies :].float().sum(-1).clamp(0, 1)
            output.extras |= {"share": share[:count], "other_share": share[count:], "dummies": read.dummies}
        if trace:
            assert read.attention is not None and read.update is not None
            output.trace |= {
                "local_saliency": local[:count, :clips],
                "text_attention": read.attention[:count, :clips],
                "text_update": read.update[:, :count, :clips],
            }
            if "clip_attention" in output.trace:
                output.trace["clip_attention"] = output.trace["clip_attention"][..., :clips]
        return output

    def filled(self, batch: Batch) -> tuple[Tensor, Tensor, Batch, Tensor]:
        """Videos filled up with clips of zeros, see `Config.clip_multiple`.

        Returns:
            Projected clips and words `[B, T', D]`, `[B, L, D]`; the batch with the mask, moments and saliency
            of the filled videos; `[B]`, the share of a filled video that is video.
        """
        video, mask, unit = last_level(batch.video), batch.video_mask, self.config.clip_multiple
        video = append_endpoints(video, mask) if self.tef else video
        lacking, length = -mask.shape[1] % unit, mask.sum(1)
        video = F.pad(video.masked_fill(~mask[..., None], 0.0), (0, 0, 0, lacking))
        whole = (length + unit - 1) // unit * unit
        ratio = length / whole.clamp(min=1)
        inner = dataclasses.replace(
            batch,
            video_mask=torch.arange(video.shape[1], device=mask.device) < whole[:, None],
            spans=batch.spans * ratio[:, None, None],
            saliency=F.pad(batch.saliency, (0, lacking)),
        )
        return self.project_video(video), self.project_text(last_level(batch.text)), inner, ratio

    def encode(self, inputs: Sequence[Tensor], trace: bool) -> tuple[Tensor, Tensor, Tensor, Read]:
        """Clips and words meet.

        Args:
            inputs: clips, their position `[B, T, D]` and mask; words `[B, L, D]`, their mask, and the
                sentence token `[B, D]`.

        Returns:
            Clips for the heads `[B, T, D]` (Eqs. 5, 6, 9); local and global saliency `[B, T]` (Eqs. 2, 8);
            how the words were read.
        """
        c = self.config
        video, position, mask, text, text_mask, sentence = inputs
        local = self.local_saliency(video, sentence)
        words, clips = text + self.modality[0], video + self.modality[1]
        places, dummies = torch.zeros_like(words), None
        if c.guidance == "dummy":
            dummies = self.read_words(words, text_mask)
            places = F.pad(self.dummy_position, (0, 0, 0, words.shape[1])).to(words.dtype)
            places = places.expand(len(words), -1, -1)
            words, text_mask = torch.cat((dummies, words), 1), F.pad(text_mask, (c.dummies, 0), value=True)
        number = 0 if dummies is None else c.dummies
        read = self.cross_encoder(clips, position, mask, local, words, places, text_mask, number, trace)
        x = read.clips
        for layer in self.encoder:
            x = layer(x, position, mask)
        first, second = AMPLIFIED[c.amplifier]
        refined = local
        if self.offset is not None:
            seen = self.amplifier(x, local, position, mask) if first else x
            refined = local + self.offset(seen).squeeze(-1).float()
        x = self.amplifier(x, refined, position, mask) if second else x
        return x, local, refined, read._replace(dummies=dummies)

    def _inside(self, saliency: Tensor, mask: Tensor) -> Tensor:
        """`[B, T]`, the clips of the moments, or the relevant ones where every clip has a label."""
        return relevant_clips(saliency, mask) if self.config.highlights_only else (saliency > 0) & mask

    def read_words(self, words: Tensor, mask: Tensor) -> Tensor:
        """Dummy tokens `[B, N, D]` that have read the words `[B, L, D]`, mask `[B, L]`."""
        number = self.config.dummies
        x = torch.cat((self.dummies.to(words.dtype).expand(len(words), -1, -1), words), 1)
        place = F.pad(self.dummy_position, (0, 0, 0, words.shape[1])).to(words.dtype)
        for layer in self.tokens.sentence_encoder:
            x = layer(x, place, F.pad(mask, (number, 0), value=True))
        return x[:, :number]

    @property
    def readings(self) -> dict[str, Reading]:
        """The model as it answers by each of its heads, and by both fused; see `Config.readings`. None where
        there are no moments to answer with.
        """
        names = () if self.config.highlights_only else self.config.readings
        return {name: Reading(self, name) for name in names}

    def post_process(self, output: Output, reading: str = "") -> Output:
        """The moments of a reading, by default the first of the config; see `HybridDetector.finish`."""
        if self.config.highlights_only:
            return output
        return self.detector.finish(output, reading or self.config.readings[0])

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The detector's losses, of local and global saliency, and while training of alignment. Weighted."""
        c, extras, mask = self.config, output.extras, batch.video_mask
        ratio = extras["ratio"][:, None, None]
        inner = dataclasses.replace(batch, spans=batch.spans * ratio)
        losses = {} if c.highlights_only else self.detector.losses(output, inner)
        others = extras.get("other", (None, None))
        real = extras.get("real_negative", mask.new_ones(len(mask)))
        pairs = (extreme_pair if c.highlights_only else saliency_pairs)(batch.saliency, mask)
        given = (batch.saliency, mask, pairs, real, c.saliency_margin)
        losses["local_saliency"] = c.weight_saliency * saliency_loss(extras["local"], others[0], *given)
        if self.offset is not None:
            losses["saliency"] = c.weight_saliency * saliency_loss(output.saliency, others[1], *given)
        if "tokens" in extras:
            losses |= self._token_losses(extras["tokens"], batch)
        if "share" in extras and self.training:
            own, other = extras["share"], extras["other_share"]
            silent = -torch.log1p(-other.clamp(max=1 - 1e-6))
            attended = guided_saliency((own, other, silent), *given[:-1], c.saliency_margin, 1.0)
            losses["attention"] = c.weight_saliency * (attended + relevance(own, batch.saliency, mask))
            losses["orthogonal"] = c.weight_orthogonal * orthogonality(extras["dummies"])
        return losses

    def _token_losses(self, tokens: Tokens, batch: Batch) -> dict[str, Tensor]:
        c, clips, mask = self.config, tokens.clips[:, : batch.video_mask.shape[1]], batch.video_mask
        inside = self._inside(batch.saliency, mask)
        belongs = membership(tokens.moment * c.width**-0.5, clips, inside, mask)
        return {
            "align": c.weight_align * paired_alignment(tokens.moment, tokens.sentence),
            "membership": c.weight_membership * belongs,
        }


class Reading(nn.Module):
    """A model that answers by one of its readings; it shares the model's weights."""

    def __init__(self, model: SGDETR, reading: str) -> None:
        super().__init__()
        self.model, self.reading = model, reading

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """As the model."""
        found: Output = self.model(batch, trace)
        return found

    def post_process(self, output: Output) -> Output:
        """The moments of the reading."""
        return self.model.post_process(output, self.reading)


def _initialise(module: nn.Module) -> None:
    """Xavier-uniform matrices of attention outputs, feed-forward networks and projections, zero biases of the
    latter two, as the public constructors choose them.
    """
    gain = nn.init.calculate_gain("leaky_relu", SLOPE)
    for child in module.modules():
        if isinstance(child, MultiHeadAttention):
            nn.init.xavier_uniform_(child.out.weight)
        elif isinstance(child, FeedForward):
            pairs: list[Any] = [(child.up, gain), (child.down, 1.0)]
        elif isinstance(child, InputProjection):
            relu = nn.init.calculate_gain("relu")
            pairs = [(linear, relu) for linear in child.linears[:-1]] + [(child.linears[-1], 1.0)]
        if isinstance(child, FeedForward | InputProjection):
            for linear, factor in pairs:
                nn.init.xavier_uniform_(linear.weight, gain=factor)
                nn.init.zeros_(linear.bias)


ENTRY = ModelEntry(SGDETR, Config, published_parameters=13.47, variants=(("text", TEXT, 14.92),))
