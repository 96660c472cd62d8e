"""What a method declares: its entry in the registry and its hyper-parameters, whose base classes are here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from vtg_lib.data.batches import Output
from vtg_lib.layers.suppression import DECAYS, best_spans, lower_scores, snap


@dataclass(frozen=True)
class ModelEntry:
    """What the registry says of a method.

    Attributes:
        model_class: built from a config; config_class: its dataclass, a `Published`.
        published_parameters: learnable parameters in millions as published, with the features the paper used.
        variants: further published counts, as (name, config overrides, millions).
    """

    model_class: type[nn.Module]
    config_class: type[Any]
    published_parameters: float | None = None
    variants: tuple[tuple[str, Mapping[str, Any], float], ...] = ()

    @property
    def module(self) -> str:
        """Where the method lives."""
        return self.model_class.__module__


def learns_moments(config: Any) -> bool:
    """Whether a method learns moments under its config, or only what highlights there are."""
    return not getattr(config, "highlights_only", False) and getattr(config, "task", "") != "highlights"


class Published:
    """Mixin of a method's `Config`.

    Attributes:
        presets: data set (and "+features" where the authors have several) -> fields that differ from the
            defaults.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"qvhighlights": {}}
    width: int
    heads: int

    @classmethod
    def paper(cls, dataset: str = "qvhighlights") -> Self:
        """The hyper-parameters that the authors published, in the paper or in their scripts.

        Raises:
            ValueError: none were published for `dataset`.
        """
        if dataset not in cls.presets:
            known = ", ".join(cls.presets)
            raise ValueError(
                f"{cls.__module__}: expected data set {known}; got {dataset!r}; pass a Config of your own"
            )
        return cls(**cls.presets[dataset])

    def refuse(self, field: str, expected: str) -> None:
        """Raise a ValueError: `field` has another value than what is `expected`."""
        method = type(self).__module__.rpartition(".")[2]
        raise ValueError(f"{method}.{field}: expected {expected}; got {getattr(self, field)!r}")

    def expect_choice(self, **known: Iterable[str]) -> None:
        """Check that each of the fields has one of its known values."""
        for field, values in known.items():
            if getattr(self, field) not in values:
                self.refuse(field, f"one of {', '.join(values)}")

    def expect_positive(self, *fields: str) -> None:
        """Check that the fields are at least 1."""
        for field in fields:
            if getattr(self, field) < 1:
                self.refuse(field, "at least 1")

    def expect_width(self, *factors: int) -> None:
        """Check that `width` is a multiple of the number of heads and of the factors."""
        heads, width = self.heads, self.width
        if any(width % factor for factor in (*factors, heads)):
            self.refuse("width", f"a multiple of {' and of '.join(map(str, (*factors, f'{heads} heads')))}")

    def expect_probability(self, *fields: str) -> None:
        """Check that the fields are probabilities below 1."""
        for field in fields:
            if not 0 <= getattr(self, field) < 1:
                self.refuse(field, "a probability in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(Published):
    """Sizes of methods that read one level of features; the defaults are published for QVHighlights (SlowFast
    + CLIP).

    Attributes:
        video_dim, text_dim: channels of the features, without the two that `tef` appends to the video.
        width, heads, hidden: of the transformer and its feed-forward networks.
        input_dropout: of the input projections; dropout: everywhere else.
    """

    video_dim: int = 2816
    text_dim: int = 512
    width: int = 256
    heads: int = 8
    hidden: int = 1024
    input_dropout: float = 0.5
    dropout: float = 0.1
    tef: bool = True


@dataclass(frozen=True, kw_only=True)
class DetrConfig(FeatureConfig):
    """`FeatureConfig`, and what Moment-DETR's descendants share.

    Attributes:
        queries: Q of the decoder; weight_saliency, saliency_margin: of the saliency losses.
    """

    encoder_layers: int = 2
    decoder_layers: int = 2
    queries: int = 10
    weight_saliency: float = 1.0
    saliency_margin: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Suppression(Published):
    """What is done to the spans of all points, as yeliudev/R2-Tuning @ 03fbcf6 and Zhuo-Cao/FlashVTG @
    25b9591 do.

    Attributes:
        candidates: spans kept before suppression; nms: a key of `DECAYS`, with `nms_threshold`.
        grid: in clips; borders are rounded to its multiples; 0 does not round; open_ended: see `snap`.
    """

    open_ended: ClassVar[bool] = False

    candidates: int = 50
    nms: str = "hard"
    nms_threshold: float = 0.7
    grid: float = 1.0

    def __post_init__(self) -> None:
        self.expect_choice(nms=DECAYS)

    def suppress(self, output: Output) -> Output:
        """The best candidates, cut to the video and rounded, with lowered scores; extras need `length [B]` in
        clips.
        """
        spans, scores = best_spans(output.spans, output.scores, self.candidates)
        spans = snap(spans, output.extras["length"], self.grid, self.open_ended)
        lowered = lower_scores(spans, scores, DECAYS[self.nms](self.nms_threshold))
        return dataclasses.replace(output, spans=spans, scores=lowered)
