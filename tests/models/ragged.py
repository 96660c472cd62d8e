"""What the tests of methods share: a batch of different lengths, models off their initial values, losses that
repeat.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch

VIDEO_DIM, TEXT_DIM = 12, 10


def ragged_batch(samples: int = 5, clips: int = 23, words: int = 6, seed: int = 0) -> Batch:
    """Random features; one or two moments a sample, the second one ending between clips; none in the first
    sample.
    """
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(clips // 2, clips + 1, (samples,), generator=generator)
    length[-1] = clips
    video_mask = torch.arange(clips) < length[:, None]
    text_mask = torch.arange(words) < torch.randint(2, words + 1, (samples,), generator=generator)[:, None]
    span_mask = torch.arange(2) < torch.tensor([0] + [1 + i % 2 for i in range(samples - 1)])[:, None]
    start = torch.stack([torch.randint(0, int(n) // 2, (2,), generator=generator) for n in length])
    width = torch.stack([torch.randint(2, int(n) // 2, (2,), generator=generator) for n in length])
    width = width + torch.tensor([0.0, 0.6])  # not as long as the other
    spans = torch.stack((start + width / 2, width), -1) / length[:, None, None] * span_mask[..., None]
    middle = (torch.arange(clips) + 0.5) / length[:, None]
    inside = (middle[:, None] - spans[..., :1]).abs() < spans[..., 1:] / 2  # [B, M, T]
    scores = torch.randint(1, 13, (samples, clips), generator=generator)
    return Batch(
        video=torch.randn(samples, clips, VIDEO_DIM, generator=generator) * video_mask[..., None],
        video_mask=video_mask,
        text=torch.randn(samples, words, TEXT_DIM, generator=generator) * text_mask[..., None],
        text_mask=text_mask,
        spans=spans,
        span_mask=span_mask,
        saliency=(scores * (inside & span_mask[..., None]).any(1) * video_mask).float(),
        duration=length * 2.0,
        index=torch.arange(samples),
    )


def alone(batch: Batch, row: int) -> Batch:
    """One sample without any padding."""
    clips, words = int(batch.video_mask[row].sum()), int(batch.text_mask[row].sum())
    one = {field.name: getattr(batch, field.name)[row : row + 1] for field in dataclasses.fields(batch)}
    for name, size in (
        ("video", clips),
        ("video_mask", clips),
        ("saliency", clips),
        ("text", words),
        ("text_mask", words),
    ):
        one[name] = one[name][:, :size]
    return Batch(**one)


def with_noise_in_padding(batch: Batch) -> Batch:
    """The same batch with large numbers where nothing is."""
    return dataclasses.replace(
        batch,
        video=torch.where(batch.video_mask[..., None], batch.video, torch.full_like(batch.video, 9.0)),
        text=torch.where(batch.text_mask[..., None], batch.text, torch.full_like(batch.text, -7.0)),
    )


def without_moments(batch: Batch) -> Batch:
    """The same batch with nothing to find."""
    return dataclasses.replace(
        batch, spans=batch.spans * 0, span_mask=batch.span_mask & False, saliency=batch.saliency * 0
    )


def moved(model: nn.Module, by: float = 0.1) -> Any:
    """The model with every parameter off its initial value (some start at zero), so that every branch
    counts.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model


def losses_of(model: nn.Module, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    """Losses with the same random pairs of clips whatever was drawn before."""
    output = model(batch)
    torch.manual_seed(seed)
    return model.loss(output, batch)
