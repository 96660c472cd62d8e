"""Padded tensors between the data sets and the models: `Batch`, `Output`, `GroundingData`.

Axes: B samples, K feature levels, T clips, L words, M moments, Q queries of the decoder, D channels, N rows,
V videos. Everything is padded, so forward pass, matching and losses are batched tensor code without a loop
over samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_MOMENTS = 5  # windows kept per query, as the public QVHighlights loaders do
VOTES = (1.0, 5.0)  # the scale of TVSum's annotators
VOTE_TARGET = 12.0  # what the best vote of everybody becomes: QVHighlights' largest sum of three scores


def last_level(features: Tensor) -> Tensor:
    """The last level of `[B, K, N, D]` features, for methods that know one level; `[B, N, D]` as it is."""
    return features[:, -1] if features.dim() == 4 else features


@dataclass
class Batch:
    """One padded batch.

    Attributes:
        video: `[B, T, D]`, or `[B, K, T, D]` with level 0 the shallowest and level K-1 the last of the
            backbone.
        video_mask: `[B, T]`, True on real clips.
        text: `[B, L, D]`, or `[B, K, L, D]` with the levels of the text encoder.
        text_mask: `[B, L]`, True on real words.
        spans: `[B, M, 2]` (center, width) as fractions of the video's length in clips; zero where padded.
        span_mask: `[B, M]`, True on real moments.
        saliency: `[B, T]`, sum of the annotators' scores (0..12 in QVHighlights), 0 outside the moments; what
            labelled clips become, see `label_target`.
        duration: `[B]`, seconds covered by the clips (number of clips times clip length).
        index: `[B]`, rows of the data set.
    """

    video: Tensor
    video_mask: Tensor
    text: Tensor
    text_mask: Tensor
    spans: Tensor
    span_mask: Tensor
    saliency: Tensor
    duration: Tensor
    index: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in dataclasses.fields(self)}
        )

    def __len__(self) -> int:
        return self.video_mask.shape[0]


@dataclass
class Output:
    """What every model returns.

    Attributes:
        spans: `[B, Q, 2]` (center, width), normalised.
        scores: `[B, Q]` confidence used for ranking, in 0..1.
        saliency: `[B, T]`, any real number; only the order within a video has a meaning.
        layers: per decoder layer or level, stacked on a leading axis: `spans [S, B, Q, 2]`,
            `logits [S, B, Q, …]` and what else the method supervises per layer.
        extras: tensors that only the method's own loss reads.
        trace: what diagnostics read (offsets, attention, references); filled by `forward(batch, trace=True)`
            only.
    """

    spans: Tensor
    scores: Tensor
    saliency: Tensor
    layers: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)


@dataclass
class GroundingData:
    """A whole split as padded tensors, so that an epoch is index arithmetic on whatever device holds them.

    Attributes:
        annotations: one dict per row in the QVHighlights layout, as the evaluator reads it.
        video: `[V, T, D]` or `[V, K, T, D]`; video_length: `[V]` clips; video_index: `[N]` row -> video.
        text: `[N, L, D]` or `[N, K, L, D]`; text_length: `[N]` words.
        spans: `[N, M, 2]`; span_count: `[N]`; saliency: `[N, T]` (see `Batch`).
        clip_length: seconds per clip.
        fingerprint: identifies annotations and features together.
        facts: what provenance and pages report (kind, data set, renderer version, knobs).
    """

    annotations: list[dict[str, Any]]
    video: Tensor
    video_length: Tensor
    video_index: Tensor
    text: Tensor
    text_length: Tensor
    spans: Tensor
    span_count: Tensor
    saliency: Tensor
    clip_length: float
    fingerprint: str
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lengths = self.video_length[self.video_index].cpu(), self.text_length.cpu()

    def __len__(self) -> int:
        return len(self.annotations)

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(t.numel() * t.element_size() for t in self._tensors().values())

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: v for f in dataclasses.fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    def to(self, device: torch.device | str) -> GroundingData:
        """The same split with every tensor on `device`."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return dataclasses.replace(self, **moved)

    def first(self, number: int) -> GroundingData:
        """The first rows of the split, as a split; the videos stay."""
        return self if number >= len(self) else self.rows(range(number))

    def rows(self, index: Sequence[int]) -> GroundingData:
        """Some rows of the split, in this order, as a split; the videos stay."""
        names = ("video_index", "text", "text_length", "spans", "span_count", "saliency")
        chosen = torch.as_tensor(list(index))
        kept: dict[str, Any] = {name: getattr(self, name)[chosen] for name in names}
        return dataclasses.replace(
            self,
            annotations=[self.annotations[row] for row in index],
            fingerprint=fingerprint(self.fingerprint, "rows", list(index)),
            **kept,
        )

    def batch(self, index: Tensor) -> Batch:
        """Rows `index` `[B]` (int64, on the CPU) as one batch, trimmed to the longest video and text among
        them.
        """
        clips, words = int(self._lengths[0][index].max()), int(self._lengths[1][index].max())
        index = index.to(self.video_index.device)
        rows = self.video_index[index]
        length, text_length = self.video_length[rows], self.text_length[index]
        position = torch.arange(max(clips, words), device=index.device)
        moments = torch.arange(self.spans.shape[1], device=index.device)
        return Batch(
            video=_take(self.video, rows, clips),
            video_mask=position[:clips] < length[:, None],
            text=_take(self.text, index, words),
            text_mask=position[:words] < text_length[:, None],
            spans=self.spans[index],
            span_mask=moments < self.span_count[index, None],
            saliency=self.saliency[index, :clips],
            duration=length * self.clip_length,
            index=index,
        )


def _take(source: Tensor, rows: Tensor, length: int) -> Tensor:
    """Rows `[B]` of `[N, ..., L, D]`, the first `length` of L, as float32."""
    part = source[..., :length, :]
    if source.device.type != "cpu" or part[0].numel() < 1 << 14:
        return part.index_select(0, rows).float()
    # Large rows: one pass that copies and converts beats a gather and a conversion (by half, 75 clips of
    # 2,816).
    out = torch.empty(len(rows), *part.shape[1:])
    for place, row in zip(out, rows.tolist(), strict=True):
        place.copy_(part[row])
    return out


def targets(
    annotations: Sequence[Mapping[str, Any]], video_length: np.ndarray, clip_length: float, max_clips: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training targets of annotated queries.

    Args:
        annotations: QVHighlights layout; windows in seconds. Rows without labels give empty targets.
        video_length: `[N]` clips of each row's video.
        clip_length: seconds per clip.
        max_clips: T of the returned saliency.

    Returns:
        spans `[N, MAX_MOMENTS, 2]` (center, width, normalised by the clips' total length, clipped to the
        video),
        span_count `[N]`, saliency `[N, max_clips]`: the sum over annotators; `label_target` of TVSum and
            YouTube Highlights; 1 on clips whose center is inside a moment where a data set has neither.
    """
    number = len(annotations)
    spans = np.zeros((number, MAX_MOMENTS, 2), np.float32)
    count = np.zeros(number, np.int64)
    saliency = np.zeros((number, max_clips), np.float32)
    centers = (np.arange(max_clips) + 0.5) * clip_length
    for row, annotation in enumerate(annotations):
        windows = np.asarray(annotation.get("relevant_windows") or [], float).reshape(-1, 2)
        length = video_length[row] * clip_length
        kept = np.clip(windows[:MAX_MOMENTS], 0, length) / length
        kept = kept[kept[:, 1] > kept[:, 0]]
        count[row] = len(kept)
        spans[row, : len(kept)] = np.stack([kept.mean(1), kept[:, 1] - kept[:, 0]], 1)
        scores = annotation.get("saliency_scores")
        if labels := annotation.get("label"):
            votes = label_target(np.asarray(labels, float).reshape(len(labels), -1))[: video_length[row]]
            saliency[row, : len(votes)] = votes
        elif scores:
            clips = np.asarray(annotation["relevant_clip_ids"], int)
            inside = clips < video_length[row]
            saliency[row, clips[inside]] = np.asarray(scores, float)[inside].sum(1)
        else:
            hit = (centers >= windows[:, :1]) & (centers < windows[:, 1:])
            saliency[row] = hit.any(0) & (np.arange(max_clips) < video_length[row])
    return spans, count, saliency


def label_target(votes: np.ndarray) -> np.ndarray:
    """Training target of labelled clips: votes `[T, annotators]` -> `[T]`.

    One annotator's labels stay as they are (YouTube Highlights: 0 or 1). Votes of several on TVSum's scale of
    1 to 5 become (sum - n) / 4n * 12, for 20 annotators (sum - 20) / 80 * 12: 0 to 12, as in QVHighlights
    (wjun0830/QD-DETR @ 56c63b2; TencentARC/UMT @ 7a9a71c stops at 0 to 1). On another scale, which nothing
    tells, it is the mean vote above the video's lowest.
    """
    low, high = VOTES
    if votes.shape[1] == 1:
        return votes[:, 0]
    if votes.min() < low or votes.max() > high:
        return (votes - votes.min()).mean(1)
    return (votes.mean(1) - low) / (high - low) * VOTE_TARGET


def fingerprint(*parts: Any) -> str:
    """First 16 hex digits of the SHA-256 over arrays and the `repr` of everything else."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
        )
    return digest.hexdigest()[:16]
