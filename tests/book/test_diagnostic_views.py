"""What pages show of diagnostics: stored runs, as each topic declares, and decoder layers of a sample."""

from __future__ import annotations

import base64
import copy
import dataclasses
import re

import numpy as np
import pytest
import torch

from vtg_lib.book import figures as plots
from vtg_lib.book import widgets
from vtg_lib.book.views import diagnostics as views
from vtg_lib.book.views.training import convergence_table, mean_curves, stored_runs
from vtg_lib.data import load_data
from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS
from vtg_lib.diagnostics.decoder import decode
from vtg_lib.experiments.run import RunResult
from vtg_lib.experiments.store import Store
from vtg_lib.models import build
from vtg_lib.papers import load_paper, row_spec

PAPER = load_paper("simdetr")
ROWS = ("Baseline (TR-DETR)", "+ QGR + GLB")
TOPICS = ("matching", "similarity", "global_local", "attention")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def data():
    sizes = {"semantic_dim": 8, "motion_dim": 4, "train": 8, "val": 40, "clips": 16}
    return load_data({"kind": "sim", **sizes, "moments": [0.5, 0.5]})["val"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"video_dim": 12, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16}
    return build("sim_detr", {**sizes, "queries": 5, "decoder_layers": 3})


@pytest.fixture(scope="module")
def records(model, data):
    return {name: DIAGNOSTICS[name](model, data) for name in TOPICS}


@dataclasses.dataclass
class Chapter:
    store: Store
    paper: object = PAPER


@pytest.fixture
def chapter(tmp_path, records):
    made = Chapter(Store(tmp_path / "store.jsonl"))
    after = {name: {"after": record} for name, record in records.items()}
    after["matching"]["by_epoch"] = {"4": records["matching"], "8": records["matching"]}
    for label in ROWS:
        for seed in (0, 1):
            spec = row_spec(PAPER.table("tab3").row(label), PAPER.profile("sim"), "qvhighlights", seed)
            curves = {"epoch": [4, 8, 12], "MR-full-mAP": [20.0, 39.0 - seed * 10, 40.0]}
            curves["HL-min-VeryGood-mAP"] = [30.0, 30.0, 41.0 + seed]
            run = RunResult(hash=spec.hash, spec=spec.resolved, metrics={}, curves=curves, diagnostics=after)
            made.store.append(run.to_dict())
    return made


def test_stored_diagnostics_by_row(chapter, records):
    assert {label: len(runs) for label, runs in stored_runs(chapter, "tab3").items()} == dict.fromkeys(
        ROWS, 2
    )
    found = views.stored(chapter, "matching")  # the paper's rows say of which table
    assert found == {label: [records["matching"]] * 2 for label in ROWS}
    assert views.stored(chapter, "matching", table="queries", when="before") == {}
    with pytest.raises(ValueError, match="no row asks for the diagnostic 'offsets'"):
        views.stored(chapter, "offsets")


@pytest.mark.parametrize(
    ("topic", "words"),
    [("matching", "% kept"), ("similarity", "AUC "), ("attention", "% layer by layer")],
)
def test_every_figure_tells_what_it_shows(chapter, topic, words):
    page = views.figure(chapter, topic).data
    assert page.count(words) >= 2 and "data:image/png" in page
    assert re.search(rf'alt="{VIEWS[topic].title}. {re.escape(ROWS[0])} \(n = 2\): ', page)
    assert VIEWS[topic].figure.caption.replace("'", "&#x27;") in page
    assert "<figcaption>Ours</figcaption>" in views.figure(chapter, topic, caption="Ours").data


def test_seeds_without_a_number_are_left_out_of_the_mean(chapter, records):
    lacking = copy.deepcopy(records["matching"])
    lacking["kept"]["all"][0] = None  # no matches in the first layers
    share = records["matching"]["kept"]["all"][0]
    page = views.figure(chapter, "matching", {"A": [lacking, records["matching"]]}).data
    assert f"A (n = 2): {share:.0%}, " in page
    assert "A (n = 1): –, " in views.figure(chapter, "matching", {"A": [lacking]}).data
    assert views.average([{"a": [1, None]}, {"a": [3, None]}]) == {"a": [2, None]}


def test_tables_have_mean_and_spread(chapter, records):
    table = views.table(chapter, "matching").data
    assert "1 → 2" in table and "2 → 3" in table and "3+" not in table  # no query has three moments
    better, worse = (copy.deepcopy(records["global_local"]) for _ in range(2))
    better["class"]["rank_correlation"], worse["class"]["rank_correlation"] = 0.5, 0.7
    shown = views.table(chapter, "global_local", {"A": [better, worse]}).data
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", shown)
    place = cells.index("class")
    assert cells[:4] == ["row", "score", "Spearman&#39;s ρ", "sd of ρ"]
    assert cells[place + 1 : place + 3] == ["0.60", "0.14"] and "class × IoU head" in cells
    assert "layer 3" in views.table(chapter, "attention").data


def test_over_training(chapter, records):
    kept = records["matching"]["kept"]["all"]
    page = views.figure(chapter, "matching", by_epoch=True).data
    assert f"share kept by epoch. {ROWS[0]} (n = 2): ends at {np.mean(kept):.0%}; " in page


def test_what_a_topic_does_not_declare_is_an_error(chapter):
    with pytest.raises(ValueError, match="global_local: .* declares no figure"):
        views.figure(chapter, "global_local")
    with pytest.raises(ValueError, match="similarity: .* declares no by_epoch"):
        views.figure(chapter, "similarity", by_epoch=True)
    with pytest.raises(ValueError, match="similarity: .* declares no table"):
        views.table(chapter, "similarity")


def test_methods_of_different_depth_share_a_figure(chapter, records):
    shallow = copy.deepcopy(records["attention"])
    shallow["own"] = shallow["own"][:2]
    page = views.figure(chapter, "attention", {"A": [shallow], "B": [records["attention"]]}).data
    assert "data:image/png" in page


def test_convergence(chapter):
    convergence = convergence_table(chapter, "tab3").data
    assert f"{ROWS[0]} ends at 40.0" in mean_curves(chapter, "tab3").data
    assert "9.0" in convergence  # epochs 7.37 and 10.55
    assert (
        "41.5" in convergence and "41.0" in convergence
    )  # highlights at the end: mean and lower of 41 and 42


def test_what_is_not_run_says_so(tmp_path):
    empty = Chapter(Store(tmp_path / "none.jsonl"))
    pages = [views.figure(empty, "matching"), views.table(empty, "attention")]
    pages.append(views.figure(empty, "matching", by_epoch=True))
    for page in [*pages, convergence_table(empty, "tab3"), mean_curves(empty, "tab3")]:
        assert "not run yet" in page.data and "--paper simdetr --profile sim --tables tab3" in page.data
    assert "--tables queries" in views.figure(empty, "matching", table="queries").data


def test_decoder_layers_can_be_stepped_through(model, data):
    rows = torch.nonzero(data.span_count == 2)[:2, 0].tolist()
    same = [{**annotation, "query": "the same"} for annotation in data.annotations]
    decoded = decode(model, dataclasses.replace(data, annotations=same), rows)
    explorer = widgets.layer_explorer({"Sim-DETR": decoded})
    pages = [child.value for child in explorer.children[-1].children]
    assert len(pages) == 6  # also where two rows ask the same
    assert all(re.search(r"moments are matched to queries \d, \d\.", page) for page in pages)
    with pytest.raises(ValueError, match="two or more decoder layers.*got UniVTG"):
        widgets.layer_explorer({"Sim-DETR": decoded, "UniVTG": None})


def test_a_large_figure_is_small_on_the_page(chapter):
    heads = RNG.integers(0, 9, (4, 8, 40)).tolist()
    record = {"histogram": heads, "initial": [0.5] * 8, "moved": [[0.1]] * 4, "beyond": [[0.0]] * 4}
    few = {**record, "histogram": [level[:2] for level in heads[:2]], "initial": [0.5] * 2}
    page = views.figure(chapter, "offsets", {"a": [record], "b": [few]}).data  # fewer levels and heads
    assert len(base64.b64decode(re.search('base64,([^"]+)', page)[1])) <= plots.MAX_BYTES
