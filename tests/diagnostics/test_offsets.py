"""Offset statistics: untouched offsets before training, and numbers that a planted offset must give."""

import pytest
import torch

from vtg_lib.data import load_data
from vtg_lib.diagnostics import DIAGNOSTICS
from vtg_lib.diagnostics.offsets import OFFSET_BINS
from vtg_lib.models import build

CONFIG = {"video_dim": 16, "text_dim": 16, "width": 16, "heads": 4, "queries": 3, "levels": 2}
DATA = {
    "kind": "sim",
    "layout": "levels",
    "semantic_dim": 16,
    "levels": 2,
    "train": 4,
    "val": 12,
    "clips": 10,
}


@pytest.fixture(scope="module")
def data():
    return load_data(DATA)["val"]


@pytest.mark.parametrize("attention", ["rdsa", "deformable"])
def test_offsets_start_where_they_are_initialised(data, attention: str) -> None:
    found = DIAGNOSTICS["offsets"](build("sdst", {**CONFIG, "attention": attention}), data)
    assert found["initial"] == pytest.approx([0.625, 0, -0.625, 0])  # mean of 1/4 .. 4/4 by direction
    assert found["mean"] == [pytest.approx(found["initial"])] * 2
    assert max(max(row) for row in found["moved"] + found["beyond"]) == pytest.approx(0, abs=1e-4)
    counts = torch.tensor(found["histogram"])
    assert counts.shape == (2, 4, len(OFFSET_BINS) - 1) and (counts.sum(-1) == 12 * 3).all()


def test_a_planted_offset_is_seen(data) -> None:
    model = build("sdst", {**CONFIG, "attention": "deformable"})
    bias = model.tuners[0].sparse.branches["video"].offset.bias
    with torch.no_grad():
        bias.view(4, 4)[0] = 4 * 1.5  # head 0: every point 1.5 half widths to the right
    found = DIAGNOSTICS["offsets"](model, data)
    assert [row[0] for row in found["mean"]] == pytest.approx([1.5, 1.5])
    assert [row[0] for row in found["beyond"]] == [1, 1] == [row[0] for row in found["beyond_points"]]
    assert [row[1] for row in found["beyond"]] == [0, 0]


def test_models_without_offsets_give_nothing(data) -> None:
    assert DIAGNOSTICS["offsets"](build("sdst", {**CONFIG, "attention": "cross"}), data) == {}
