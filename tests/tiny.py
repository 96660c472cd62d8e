"""A model and a data set small enough to train in a fraction of a second: the tests' stand-in for a real
method.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments.machine import Machine
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.experiments.sweep import SweepReport, sweep

CLIPS, WORDS, DIM, CLIP_LENGTH = 12, 4, 8, 2.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters of `TinyModel`."""

    width: int = 16
    dropout: float = 0.3
    queries: int = 3


class TinyModel(nn.Module):
    """Scores clips against the mean word, and reads the window off the pooled clips; has dropout."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.clip = nn.Linear(DIM, config.width)
        self.word = nn.Linear(DIM, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(CLIPS, config.queries * 3)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        clip = self.dropout(self.clip(batch.video).relu())  # [B, T, D]
        word = self.word(batch.text).mean(1)
        saliency = torch.einsum("btd,bd->bt", clip, word)
        padded = nn.functional.pad(saliency, (0, CLIPS - saliency.shape[1]))
        head = self.head(padded).view(len(batch), -1, 3).sigmoid()
        return Output(spans=head[..., :2], scores=head[..., 2], saliency=saliency)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        span = (output.spans - batch.spans[:, :1]).abs().mean()
        positive = (batch.saliency > 0).float()
        return {
            "span": span,
            "saliency": nn.functional.binary_cross_entropy_with_logits(output.saliency, positive),
        }


def tiny_data(rows: int = 24, seed: int = 0) -> GroundingData:
    """`rows` videos of 10 to 12 clips; the clips inside the one moment resemble the words."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(CLIPS - 2, CLIPS + 1, (rows,), generator=generator)
    first = torch.randint(0, 6, (rows,), generator=generator)
    count = torch.randint(2, 5, (rows,), generator=generator)
    text = torch.randn(rows, WORDS, DIM, generator=generator)
    position = torch.arange(CLIPS)
    inside = (position >= first[:, None]) & (position < (first + count)[:, None])  # [N, T]
    video = torch.randn(rows, CLIPS, DIM, generator=generator) + 2 * inside[..., None] * text.mean(
        1, keepdim=True
    )
    spans = torch.stack([(first + count / 2) / lengths, count / lengths], dim=-1)[:, None].float()
    annotations = [
        {
            "qid": i,
            "query": f"query {i}",
            "vid": f"video_{i}",
            "duration": CLIP_LENGTH * lengths[i].item(),
            "relevant_windows": [[CLIP_LENGTH * first[i].item(), CLIP_LENGTH * (first[i] + count[i]).item()]],
            "relevant_clip_ids": list(range(first[i].item(), (first[i] + count[i]).item())),
            "saliency_scores": [[4, 3, 2]] * count[i].item(),
        }
        for i in range(rows)
    ]
    return GroundingData(
        annotations=annotations,
        video=video,
        video_length=lengths,
        video_index=torch.arange(rows),
        text=text,
        text_length=torch.full((rows,), WORDS),
        spans=spans,
        span_count=torch.ones(rows, dtype=torch.int64),
        saliency=9.0 * inside,
        clip_length=CLIP_LENGTH,
        fingerprint=f"tiny-{rows}-{seed}",
        facts={"kind": "sim", "dataset": "qvhighlights", "render": "v1"},
    )


def without_labels(data: GroundingData, name: str) -> GroundingData:
    """`data` with the annotation field `name` removed from every row."""
    rows = [{key: value for key, value in row.items() if key != name} for row in data.annotations]
    return dataclasses.replace(data, annotations=rows)


def at(folder: Path, **options: Any) -> Machine:
    """A machine that keeps its checkpoints in `folder` and shows no progress."""
    return Machine(checkpoint_root=folder, progress=False, **options)


# a real model, because worker processes know no others, as small as it can be
SMALL = RunSpec(
    model="moment_detr",
    config={
        **{"video_dim": 12, "text_dim": 8, "width": 8, "heads": 1, "hidden": 8, "queries": 2},
        **{"encoder_layers": 1, "decoder_layers": 1},
    },
    data={"kind": "sim", "train": 16, "val": 8, "clips": 8, "semantic_dim": 8, "motion_dim": 4},
    train=TrainConfig(epochs=1, batch_size=8),
)
BAD = dataclasses.replace(SMALL, train=dataclasses.replace(SMALL.train, select="nonsense"))


def seeds(number: int) -> list[RunSpec]:
    return [dataclasses.replace(SMALL, seed=seed) for seed in range(number)]


def go(specs, store, tmp_path: Path, *, rerun: bool = False, **options) -> SweepReport:
    return sweep(specs, store, at(tmp_path / "cache", rerun=rerun), **options)
