"""Timelines show what the model really did."""

import pytest
import torch
from torch import nn

from vtg_lib.data.batches import GroundingData, Output
from vtg_lib.diagnostics import timelines as samples

CLIPS, LENGTH = 10, 2.0


def data(rows: int = 5) -> GroundingData:
    """Videos of 20 s; row i has one moment of 2 (i + 1) seconds from 0 on, with full marks from three
    annotators.
    """
    annotations = [
        {
            "qid": i,
            "vid": f"v{i}",
            "query": f"query {i}",
            "duration": 20,
            "relevant_windows": [[0, 2 * (i + 1)]],
            "relevant_clip_ids": list(range(i + 1)),
            "saliency_scores": [[4, 4, 4]] * (i + 1),
        }
        for i in range(rows)
    ]
    saliency = torch.tensor([[12.0 * (t <= i) for t in range(CLIPS)] for i in range(rows)])
    spans = torch.tensor([[[(i + 1) / 20, (i + 1) / 10]] for i in range(rows)])
    return GroundingData(
        annotations=annotations,
        video=torch.zeros(rows, CLIPS, 4),
        video_length=torch.full((rows,), CLIPS),
        video_index=torch.arange(rows),
        text=torch.zeros(rows, 3, 4),
        text_length=torch.full((rows,), 3),
        spans=spans,
        span_count=torch.ones(rows, dtype=torch.long),
        saliency=saliency,
        clip_length=LENGTH,
        fingerprint="x",
    )


class Fixed(nn.Module):
    """Two queries; the second scores best and is at 10 s, 4 s wide; two levels whose references are 8 s and 4
    s wide.
    """

    def __init__(self, offsets: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.offsets = offsets

    def forward(self, batch, trace=False):
        b = len(batch)
        spans = torch.tensor([[0.1, 0.1], [0.5, 0.2]]).expand(b, -1, -1)
        references = torch.tensor(
            [[[0.1, 0.1], [0.5, 0.4]], [[0.1, 0.1], [0.5, 0.2]], [[0.1, 0.1], [0.5, 0.2]]]
        )
        traced = {"references": references[:, None].expand(-1, b, -1, -1)} if trace else {}
        if trace and self.offsets:
            traced["offsets"] = torch.tensor([[-1.0, 1.5]]).expand(2, b, 2, 1, 2)
            traced["attention"] = torch.tensor([[0.25, 0.75]]).expand(2, b, 2, 1, 2)
        return Output(
            spans=spans,
            scores=torch.tensor([[0.2, 0.9]]).expand(b, -1),
            saliency=batch.saliency,
            trace=traced,
        )


def test_rows_are_spread_over_lengths_of_moments():
    assert samples.choose_rows(data(), 3) == [0, 2, 4]
    assert samples.choose_rows(data(), 99) == [0, 1, 2, 3, 4]


def test_references_and_looks_are_those_of_the_best_query_in_seconds():
    line = samples.timelines({"m": Fixed()}, data(), [2])[0]
    assert line.windows == [[0, 6]] and line.duration == 20
    assert line.predictions["m"][0] == pytest.approx([8.0, 12.0, 0.9])
    assert line.references["m"] == [pytest.approx([6.0, 14.0]), pytest.approx([8.0, 12.0])]
    assert line.offsets["m"][0] == [pytest.approx([6.0, 0.25]), pytest.approx([16.0, 0.75])]
    assert line.offsets["m"][1] == [pytest.approx([8.0, 0.25]), pytest.approx([13.0, 0.75])]
    assert line.saliency_truth == [1.0] * 3 + [0.0] * 7


def test_models_without_a_trace_show_predictions_alone():
    line = samples.timelines({"m": Fixed(offsets=False)}, data(), [0, 1])[1]
    assert line.references["m"] and not line.offsets
    assert samples.timelines({}, data(), [0])[0].predictions == {}
