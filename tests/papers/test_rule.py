"""The rule of how long runs train and the one budget of the search, on made-up stores; and the choices."""

import math

import pytest

from vtg_lib.book.chapter import Chapter
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views import training as views
from vtg_lib.experiments.store import Store
from vtg_lib.papers import load_paper, paper_keys, search
from vtg_lib.papers.rule import check_rule, yardstick
from vtg_lib.papers.schema import Overrides

PAPER = load_paper("simdetr")
MAP = "MR-full-mAP"


def line(spec, score, swapped=5.0):
    metrics = {"val": {MAP: score}, "test": {MAP: score}, "swapped": {MAP: swapped}}
    record = {"hash": spec.hash, "spec": spec.resolved, "metrics": metrics, "provenance": {"wall_s": 100.0}}
    return {**record, "curves": {"epoch": [1], MAP: [score]}}


def test_the_rule_is_kept_or_broken_part_by_part():
    once = [line(yardstick(PAPER, seed), 60 + seed % 2) for seed in range(8)]
    unknown = check_rule(PAPER, once[:7])
    assert set(unknown.parts.values()) == {None} and (unknown.learned, unknown.seeds) == (7, 7)
    twice = [line(yardstick(PAPER, seed, 2), 61.5 + seed % 2) for seed in range(2)]
    kept = check_rule(PAPER, once + twice)
    assert list(kept.parts.values()) == [True, True, True]
    assert (kept.moved, kept.doubled) == (pytest.approx(1.5), 2) and kept.seconds == 100
    wide = check_rule(PAPER, [line(yardstick(PAPER, seed), 60 + 3 * (seed % 2)) for seed in range(8)])
    assert list(wide.parts.values()) == [True, False, None]
    lost = check_rule(PAPER, [*once[:7], line(yardstick(PAPER, 7), 12.0, swapped=11.0)])
    assert list(lost.parts.values()) == [False, True, None] and lost.learned == 7
    assert math.isnan(check_rule(PAPER, []).mean)
    with pytest.raises(ValueError, match="foundations: expected field 'yardstick'"):
        yardstick(load_paper("foundations"), 0)


def test_every_paper_with_runs_of_evidence_has_a_yardstick():
    for paper in map(load_paper, paper_keys()):
        assert ("sim" in paper.profiles) == (paper.yardstick is not None)


def test_search_gives_every_method_the_same_trials_and_chooses_who_learns():
    rates, worlds = (1e-3, 2e-3), (1000, 1001)
    specs = search.search_specs(PAPER, "sim", ["tr_detr", "sim_detr"], rates, worlds)
    assert len({spec.hash for spec in specs}) == 8
    assert {spec.seed for spec in specs} == set(worlds) == {spec.resolved["data"]["seed"] for spec in specs}
    scores = {("tr_detr", 1e-3): 60, ("tr_detr", 2e-3): 65, ("sim_detr", 1e-3): 50, ("sim_detr", 2e-3): 64}
    records = []
    for spec in specs:
        rate = spec.train.learning_rate
        stuck = spec.model == "sim_detr" and rate == 2e-3 and spec.seed == 1001
        records.append(line(spec, scores[spec.model, rate], swapped=60.0 if stuck else 5.0))
    found = search.trials(PAPER, "sim", records)
    assert [(one.model, one.rate, len(one.scores)) for one in found] == [
        (model, rate, 2) for model in ("sim_detr", "tr_detr") for rate in rates
    ]
    assert search.chosen(found) == {"tr_detr": 2e-3, "sim_detr": 1e-3}
    with pytest.raises(ValueError, match="simdetr has no row of sdst"):
        search.search_specs(PAPER, "sim", ["sdst"], rates, worlds)


def test_a_variant_has_trials_of_its_own():
    paper = load_paper("tddetr")
    plain, deep = search.search_specs(paper, "sim", ["qd_detr", "qd_detr:deep"], [1e-3], [1000])
    assert plain.config["cross_layers"] == 1 and deep.config["cross_layers"] == 2
    base = yardstick(paper, 1000)
    assert deep.config == base.config and deep.hash != plain.hash
    found = search.trials(paper, "sim", [line(plain, 60), line(deep, 65)])
    assert [(one.model, one.mean) for one in found] == [("qd_detr", 60), ("qd_detr:deep", 65)]


@pytest.mark.parametrize("key", paper_keys())
def test_profiles_name_what_the_search_chose(key):
    paper = load_paper(key)
    if "sim" not in paper.profiles:
        return
    found = search.trials(paper, "sim", Store(search.SEARCH))
    tried = {
        model: {one.rate for one in found if one.model == model} for model in {one.model for one in found}
    }
    assert len(set(map(frozenset, tried.values()))) <= 1  # the same rates for all
    sizes = paper.profile("sim")
    for name, rate in search.chosen(found).items():
        model, _, variant = name.partition(":")
        usual = sizes.overrides(model, "qvhighlights")
        assert usual.then(sizes.variants.get(variant, Overrides())).train["learning_rate"] == rate, name


def test_pages_say_what_was_tried_and_whether_runs_learned(tmp_path):
    chapter = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    assert "0 of 0 runs" in views.learned(chapter).data and "not run yet" in views.trials(chapter).data
    for seed in range(8):
        Store(chapter.store.path).append(line(yardstick(PAPER, seed), 60 + seed % 2))
    for spec in search.search_specs(PAPER, "sim", ["tr_detr"], (1e-3, 2e-3), (1000,)):
        Store(tmp_path / "search.jsonl").append(line(spec, 60 + 1e3 * spec.train.learning_rate))
    filled = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    shown = views.learned(filled).data
    assert "rowgroup" not in shown and ">state<" in shown  # a part of the rule a row, with its state
    assert "8 of 8 runs learned to read; mAP on test 60.5 ± 0.5; 100 s a run" in shown and "kept" in shown
    assert "0.002" in views.trials(filled).data and "✓" in views.trials(filled).data
