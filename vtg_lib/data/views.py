"""Views of a split for evaluation: the same annotations, other features. Nothing trains on them.

What a model still finds in them it did not find by reading the sentence (`swapped_text`), by seeing the
video (`swapped_video`) or by seeing the moment (`masked`); `decoy` hides as many clips elsewhere, so that
the hiding itself is told from what was hidden.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from vtg_lib.data.batches import GroundingData

Fill = Literal["zeros", "mean", "other", "noise"]
FILLS: tuple[Fill, ...] = get_args(Fill)


def swapped_text(data: GroundingData) -> GroundingData:
    """Every video with the sentence of another one.

    Raises:
        ValueError: there is one video only.
    """
    other = _others(data)
    return dataclasses.replace(
        data,
        text=data.text[other],
        text_length=data.text_length[other],
        fingerprint=f"{data.fingerprint} swapped text",
    )


def swapped_video(data: GroundingData) -> GroundingData:
    """Every sentence with another video; where that one is shorter, windows past its end stay unfound."""
    other = _others(data)
    return dataclasses.replace(
        data, video_index=data.video_index[other], fingerprint=f"{data.fingerprint} swapped video"
    )


def masked(data: GroundingData, fill: Fill = "noise", margin: float = 0.0, seed: int = 0) -> GroundingData:
    """Videos without their moments, one video a row.

    Args:
        fill: what stands in their place: `zeros`; the video's `mean` clip; clips of an `other` video;
            `noise`, uniform between the lowest and the highest value of that video's level, then as long as
            the clip that was there (the authors' code makes it before it normalises features).
        margin: seconds hidden on both sides of a moment.
        seed: of the noise.

    Raises:
        ValueError: unknown fill, or rows without moments.
    """
    return _hidden(data, moment_clips(data, margin), fill, seed, "masked")


def decoy(data: GroundingData, fill: Fill = "noise", margin: float = 0.0, seed: int = 0) -> GroundingData:
    """As `masked`, but as many clips that belong to no moment, if the video has so many: one block, drawn."""
    shown = moment_clips(data, margin)
    length = data.video_length[data.video_index]
    free = (torch.arange(shown.shape[1]) < length[:, None]) & ~shown
    wanted = torch.minimum(shown.sum(1), free.sum(1))
    place = free.cumsum(1) - 1  # of each clip among the free ones
    draw = torch.rand(len(data), generator=torch.Generator().manual_seed(seed))
    first = (draw * (free.sum(1) - wanted + 1)).long()
    hidden = free & (place >= first[:, None]) & (place < (first + wanted)[:, None])
    return _hidden(data, hidden, fill, seed, "decoy")


def painted(
    data: GroundingData, row: int, masks: Sequence[tuple[float, float]], fill: Fill = "mean", seed: int = 0
) -> GroundingData:
    """One row as often as there are masks, the clips that a mask touches hidden.

    Args:
        row: of the split. masks: (start, end) in seconds each; an empty one hides nothing.
        fill, seed: as in `masked`; `other` has no video to take clips from.

    Raises:
        ValueError: no such row, a mask that ends before it starts, or the fill `other`.
    """
    if not 0 <= row < len(data):
        raise ValueError(f"row: expected 0 to {len(data) - 1}, got {row}")
    if wrong := [mask for mask in masks if mask[1] < mask[0]]:
        raise ValueError(f"masks: expected (start, end) with start <= end in seconds, got {wrong[0]}")
    if fill == "other":
        raise ValueError("fill: expected zeros, mean or noise for one row alone, got 'other'")
    again = data.rows([row] * len(masks))
    seconds = torch.arange(data.saliency.shape[1]) * data.clip_length
    edges = torch.tensor(masks, dtype=torch.float32)
    shown = (seconds + data.clip_length > edges[:, :1]) & (seconds < edges[:, 1:])
    shown &= edges[:, 1:] > edges[:, :1]
    return _hidden(again, shown, fill, seed, "painted")


def dynamic_context(data: GroundingData) -> GroundingData:
    """Videos whose clips before the first and after the last moment are those of another video, at their
    places: what a moment stands in changes, the moment does not (TD-DETR, Sec. S4.2). Where that video is
    shorter, it begins again.

    Raises:
        ValueError: rows without moments, or about one video only.
    """
    shown = moment_clips(data, 0.0)
    context = (shown.cumsum(1) == 0) | (shown.flip(1).cumsum(1).flip(1) == 0)
    return _hidden(data, context, "other", 0, "dynamic context")


def _others(data: GroundingData) -> Tensor:
    """`[N]`, for each row the next one, cyclically, that is about another video."""
    videos = data.video_index.tolist()
    number = len(videos)
    if len(set(videos)) < 2:
        raise ValueError("swapped view: expected rows about at least two videos, got one video")
    found = []
    for row, video in enumerate(videos):
        step = next(step for step in range(1, number) if videos[(row + step) % number] != video)
        found.append((row + step) % number)
    return torch.tensor(found)


def moment_clips(data: GroundingData, margin: float) -> Tensor:
    """`[N, T]`, clips that touch a moment of the row, or lie less than `margin` seconds away from one."""
    if not bool((data.span_count > 0).all()):
        raise ValueError("masked view: expected moments in every row; the split has rows without")
    shown = torch.zeros(len(data), data.saliency.shape[1], dtype=torch.bool)
    start = torch.arange(shown.shape[1]) * data.clip_length
    for row, annotation in enumerate(data.annotations):
        for first, last in annotation["relevant_windows"]:
            shown[row] |= (start + data.clip_length > first - margin) & (start < last + margin)
    return shown & (torch.arange(shown.shape[1]) < data.video_length[data.video_index][:, None])


def _hidden(data: GroundingData, hidden: Tensor, fill: Fill, seed: int, name: str) -> GroundingData:
    if fill not in FILLS:
        raise ValueError(f"{name} view: expected a fill of {', '.join(FILLS)}; got {fill!r}")
    video = data.video[data.video_index].float()  # [N, (K,) T, D]
    mask = hidden if video.dim() == 3 else hidden[:, None]
    real = torch.arange(video.shape[-2]) < data.video_length[data.video_index][:, None]
    real = (real if video.dim() == 3 else real[:, None])[..., None]
    if fill == "zeros":
        new = torch.zeros(())
    elif fill == "mean":
        new = (video * real).sum(-2, keepdim=True) / real.sum(-2, keepdim=True)
    elif fill == "other":
        other, length = _others(data), data.video_length[data.video_index]
        place = torch.arange(video.shape[-2]) % length[other][:, None]  # [N, T]
        place = (place if video.dim() == 3 else place[:, None].expand(-1, video.shape[1], -1))[..., None]
        new = video[other].gather(-2, place.expand_as(video))
    else:
        low = video.masked_fill(~real, torch.inf).amin((-1, -2), keepdim=True)
        high = video.masked_fill(~real, -torch.inf).amax((-1, -2), keepdim=True)
        noise = torch.rand(video.shape, generator=torch.Generator().manual_seed(seed))
        new = low + (high - low) * noise
        new = new * (video.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True).clamp(min=1e-6))
    return dataclasses.replace(
        data,
        video=torch.where(mask[..., None], new, video).to(data.video.dtype),
        video_length=data.video_length[data.video_index],
        video_index=torch.arange(len(data)),
        fingerprint=f"{data.fingerprint} {name} {fill} {seed}",
    )
