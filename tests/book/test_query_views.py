"""What pages show of decoder queries: from stored diagnostics, and layer by layer on a sample."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from vtg_lib.book.figures.queries import decoder_layer, matching_flow, similarity_histograms
from vtg_lib.book.views import queries as query_views
from vtg_lib.data import load_data
from vtg_lib.diagnostics import DIAGNOSTICS
from vtg_lib.experiments.run import RunResult
from vtg_lib.experiments.store import Store
from vtg_lib.models import build
from vtg_lib.papers import load_paper, row_spec

PAPER = load_paper("simdetr")
ROWS = ("Baseline (TR-DETR)", "+ QGR + GLB")


@pytest.fixture(scope="module")
def data():
    return load_data(
        {
            "kind": "sim",
            "semantic_dim": 8,
            "motion_dim": 4,
            "train": 8,
            "val": 40,
            "clips": 16,
            "moments": [0.5, 0.5],
        }
    )["val"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build(
        "sim_detr",
        {
            "video_dim": 12,
            "text_dim": 8,
            "width": 16,
            "heads": 2,
            "hidden": 16,
            "queries": 5,
            "decoder_layers": 3,
        },
    )


@dataclasses.dataclass
class Chapter:
    store: Store
    paper: object = PAPER


@pytest.fixture
def chapter(tmp_path, model, data):
    made = Chapter(Store(tmp_path / "store.jsonl"))
    names = ("matching", "similarity", "global_local", "attention")
    after = {name: {"after": DIAGNOSTICS[name](model, data)} for name in names}
    after["matching"]["by_epoch"] = {"4": after["matching"]["after"], "8": after["matching"]["after"]}
    for label in ROWS:
        for seed in (0, 1):
            spec = row_spec(PAPER.table("tab3").row(label), PAPER.profile("sim"), "qvhighlights", seed)
            curves = {"epoch": [4, 8, 12], "MR-full-mAP": [20.0, 39.0 - seed * 10, 40.0]}
            curves["HL-min-VeryGood-mAP"] = [30.0, 30.0, 41.0 + seed]
            made.store.append(
                RunResult(
                    hash=spec.hash, spec=spec.resolved, metrics={}, curves=curves, diagnostics=after
                ).to_dict()
            )
    return made


def test_stored_diagnostics_by_row(chapter):
    runs = query_views.stored_runs(chapter, "tab3")
    assert {label: len(kept) for label, kept in runs.items()} == dict.fromkeys(ROWS, 2)
    assert query_views.records(chapter, "tab3", "offsets") == {}
    found = query_views.records(chapter, "tab3", "matching")
    assert list(found) == list(ROWS)
    flow = query_views.consistency(chapter, found).data
    assert "+ QGR + GLB (n = 2)" in flow and "data:image/png" in flow
    found[ROWS[0]][0]["kept"]["all"] = [
        None,
        *found[ROWS[0]][1]["kept"]["all"][1:],
    ]  # a seed without matches in the first layers
    share = found[ROWS[0]][1]["kept"]["all"][0]
    assert f"{ROWS[0]} (n = 2): {share:.0%}, " in query_views.consistency(chapter, found).data
    table = query_views.consistency_table(chapter, found).data
    assert "1 → 2" in table and "2 → 3" in table and "3+" not in table  # no query has three moments
    over = query_views.records(chapter, "tab3", "matching", "by_epoch")
    assert "ends at" in query_views.consistency_by_epoch(chapter, over).data
    assert "AUC" in query_views.similarity(chapter, query_views.records(chapter, "tab3", "similarity")).data
    scores = query_views.global_local_table(
        chapter, query_views.records(chapter, "tab3", "global_local")
    ).data
    assert "class × IoU head" in scores
    assert (
        "layer 3"
        in query_views.attention_table(chapter, query_views.records(chapter, "tab3", "attention")).data
    )
    convergence = query_views.convergence_table(chapter, "tab3").data
    assert "10.0" in convergence  # epochs 8 and 12
    assert (
        "41.5" in convergence and "41.0" in convergence
    )  # highlights at the end: the mean and the lower of 41 and 42


def test_what_is_not_run_says_so(tmp_path):
    empty = Chapter(Store(tmp_path / "none.jsonl"))
    for view in (
        "consistency",
        "consistency_table",
        "consistency_by_epoch",
        "similarity",
        "global_local_table",
        "attention_table",
    ):
        page = getattr(query_views, view)(empty, query_views.records(empty, "tab3", "matching")).data
        assert "not run yet" in page and "--paper simdetr --profile sim --tables tab3" in page
    assert "not run yet" in query_views.convergence_table(empty, "tab3").data


def test_the_layers_of_a_sample(model, data):
    rows = torch.nonzero(data.span_count == 2)[:2, 0].tolist()
    walks = query_views.layer_pictures(model, data, rows)
    assert len(walks) == 2 and all(len(walk) == 3 for walk in walks.values())
    for walk in walks.values():
        for picture in walk:
            assert sorted(picture.served[picture.served >= 0]) == [0, 1]  # each moment has one query
            assert picture.spans.min() >= 0 and picture.spans.max() <= picture.seconds
            np.testing.assert_allclose(picture.attention.sum(1), 1, atol=1e-4)
        assert [picture.factor is None for picture in walk] == [False, False, True]
        assert decoder_layer(walk[0]).get_axes()
    explorer = query_views.layer_explorer({"Sim-DETR": model}, data, rows)
    pages = [child.value for child in explorer.children[-1].children]
    assert len(pages) == 6 and all(re.search("moments are matched to queries", page) for page in pages)


def test_pictures_of_nothing():
    assert matching_flow({}).get_axes()
    assert similarity_histograms({}, [0, 1]).get_axes()
