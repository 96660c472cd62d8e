"""Dose-response: pairs of runs that differ in one row and one knob, and gains paired by seed."""

import dataclasses

import pytest

from vtg_lib.book.chapter import Chapter
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views import dose as dose_views
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.experiments.store import Store
from vtg_lib.papers import claims, dose, load_paper, paper_keys, row_spec
from vtg_lib.papers.evidence import Evidence, Origin
from vtg_lib.papers.plan import INIT, turned

DOSES = load_paper("sdst").doses
STUDY = DOSES[0]


def test_specs_turn_one_knob_and_are_made_once():
    specs = dose.dose_specs("sdst", "smoke", [0, 1], [STUDY.key])
    assert len(specs) == len({spec.hash for _, spec in specs}) == 2 * 2 * len(STUDY.values)
    assert [spec.seed for _, spec in specs] == sorted(spec.seed for _, spec in specs)  # first seed first
    seen = {spec.data[STUDY.knob] for _, spec in specs}
    assert seen == set(STUDY.values)
    paper = load_paper("sdst")
    base = row_spec(paper.table("tab5").row("Ours"), paper.profile("smoke"), "qvhighlights", 0).resolved
    treated = next(spec for ref, spec in specs if ref.label.startswith("Ours")).resolved
    different = {key for key in base["data"] if base["data"][key] != treated["data"][key]}
    assert (
        different <= {STUDY.knob}
        and base["config"] == treated["config"]
        and base["train"] == treated["train"]
    )


def test_every_study_names_rows_and_a_knob_that_exist():
    for key in paper_keys():
        for study in load_paper(key).doses:
            specs = dose.dose_specs(key, "smoke", [0], [study.key])
            settings = [setting for _, setting in study.points]
            of_init = study.knob.startswith(INIT)
            worlds = [
                spec.init.resolved if of_init else spec.resolved
                for _, spec in specs
                if spec.init or not of_init
            ]
            assert worlds and all(w["data"][study.knob.removeprefix(INIT)] in settings for w in worlds)


@pytest.mark.parametrize("key", paper_keys())
def test_a_study_and_the_claim_of_it_are_of_the_same_runs(key):
    paper = load_paper(key)
    judged = {claim.key: claim for claim in claims.all_claims(paper)}
    for study in paper.doses:
        named = {spec.hash for _, spec in dose.dose_specs(key, "sim", [0], [study.key])}
        claim = judged[study.key]
        sides = [side for _, side in claims._terms(claim)]
        found = {claims._spec(paper, paper.profile("sim"), claim, side, 0).hash for side in sides}
        assert len(found) >= 3 and found <= named


def test_a_knob_may_be_of_the_world_that_a_run_starts_from():
    parent = RunSpec(model="qd_detr", data={"draw": 1})
    child = RunSpec(model="qd_detr", init=parent, data={"train": 8})
    spec = turned(child, {"init.distractor_similarity": 0.2, "clips": 16})
    assert spec.data == {"train": 8, "clips": 16}
    assert spec.init.data == {"draw": 1, "distractor_similarity": 0.2}
    assert turned(parent, {"init.distractor_similarity": 0.2}) == parent


def test_unknown_study_is_refused():
    with pytest.raises(ValueError, match="dose: 'nothing'; expected one of moment_length"):
        dose.dose_specs("sdst", "smoke", [0], ["nothing"])


def test_gain_is_paired_by_seed_and_missing_doses_stay_missing(tmp_path):
    store = Store(tmp_path / "runs.jsonl")
    wanted = {
        (0, "Ours"): 10.0,
        (0, "Def. CA"): 7.0,
        (1, "Ours"): 12.0,
        (1, "Def. CA"): 11.0,
        (2, "Ours"): 99.0,
    }
    for ref, spec in dose.dose_specs("sdst", "smoke", [0, 1, 2], [STUDY.key]):
        value = wanted.get((spec.seed, ref.label.split(",")[0]))
        if spec.data[STUDY.knob] == STUDY.values[1] and value is not None:
            store.append({"hash": spec.hash, "spec": spec.resolved, "metrics": {"val": {dose.METRIC: value}}})
    gains = dose.response(STUDY, "sdst", "smoke", [0, 1, 2], store)
    assert [gain is None for gain in gains] == [value != STUDY.values[1] for value in STUDY.values]
    assert gains[1].mean == pytest.approx(2.0) and gains[1].n == 2


def test_a_gain_is_of_two_runs_on_one_type_of_device(tmp_path):
    store = Store(tmp_path / "runs.jsonl")
    for ref, spec in dose.dose_specs("sdst", "smoke", [0, 1], [STUDY.key]):
        device = "cpu, 1 thread(s)" if spec.seed == 0 or ref.label.startswith("Ours") else "NVIDIA H100"
        line = {"hash": spec.hash, "spec": spec.resolved, "metrics": {"val": {dose.METRIC: 30.0}}}
        store.append({**line, "provenance": {"device": device}})
    assert [gain.n for gain in dose.response(STUDY, "sdst", "smoke", [0, 1], store)] == [1] * len(
        STUDY.values
    )


def test_the_verdict_stands_under_the_figure(tmp_path):
    chapter = Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    assert "not run yet" in dose_views.dose(chapter, STUDY.key).data
    for ref, spec in dose.dose_specs("sdst", "sim", range(4), [STUDY.key]):
        gain = 0.2 * spec.data[STUDY.knob] * ref.label.startswith("Ours")
        score = {dose.METRIC: 30 + gain + 0.1 * spec.seed}
        metrics = {"val": score, "swapped": {dose.METRIC: 2.0}}
        curves = {"epoch": [1, spec.train.epochs], dose.METRIC: [9.0, 30.0]}
        line = {"hash": spec.hash, "spec": spec.resolved, "metrics": metrics, "curves": curves}
        Store(chapter.store.path).append(line)
    filled = Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    shown = dose_views.dose(filled, STUDY.key).data
    low, high = STUDY.values[0], STUDY.values[-1]
    assert "<img" in shown and f"at {low:g}: {0.2 * low:+.2f} (95 % " in shown and "n = 4" in shown
    judged = next(one for one in filled.judged if one.claim.key == STUDY.key)
    assert judged.verdict.difference.mean == pytest.approx(0.2 * (high - low))
    assert f"<strong>{judged.verdict.word}</strong>" in shown and "App. K" in shown


def test_a_table_that_varies_a_setting_is_drawn_with_its_claims(tmp_path):
    chapter = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    assert "--tables queries" in dose_views.varied(chapter, "queries").data  # not run
    table, profile = chapter.paper.table("queries"), chapter.paper.profile("sim")
    for seed in range(3):
        for row in table.rows:
            method, number = table.varied.point(row.label)
            if (method, number) != ("Sim-DETR", 40.0):
                score = 40.0 + (-0.3 if method == "TR-DETR" else 0.2) * number + 0.1 * (seed * number % 3)
                spec = row_spec(row, profile, "qvhighlights", seed)
                metrics = {"val": {dose.METRIC: score}}
                curves = {"epoch": [1], dose.METRIC: [9.0]}
                line = {"hash": spec.hash, "spec": spec.resolved, "metrics": metrics, "curves": curves}
                Store(chapter.store.path).append(line)
    filled_chapter = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    kind, points = dose.table_points(filled_chapter.compared["queries"])
    assert kind == "sim" and len(points["TR-DETR"]) == 9 and len(points["Sim-DETR"]) == 6
    shown = dose_views.varied(filled_chapter, "queries").data
    assert (
        "at 10, 34.1 (95 % " in shown
        and "TR-DETR: 37.1 (95 % 36.9 to 37.3, n = 3)" in shown
        and "Evidence: sim" in shown
    )
    baseline, ours = shown.split("<li>")[1:]
    assert "More queries hurt the baseline" in baseline and "<strong>supports</strong>" in baseline
    assert "More queries serve Sim-DETR better" in ours and "3 seeds" in ours


def test_a_trend_is_over_runs_of_one_profile_and_device():
    results = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu")).compared["queries"]
    numbers = {
        "TR-DETR, 10": ("sim", {0: "cpu", 1: "cuda"}),
        "TR-DETR, 20": ("sim", {0: "cpu"}),
        "TR-DETR, 40": ("other", {0: "cpu"}),
    }
    rows = []
    for row in results.rows:
        profile, devices = numbers.get(row.row.label, ("sim", {}))
        values = {"mAP": {seed: 30.0 + seed for seed in devices}}
        origins = {"mAP": {seed: Origin(device=device) for seed, device in devices.items()}}
        runs = {"sim": Evidence(kind="sim", profile=profile, values=values, origins=origins)}
        rows.append(dataclasses.replace(row, runs=runs if devices else {}))
    kind, points = dose.table_points(dataclasses.replace(results, rows=tuple(rows)))
    assert (kind, points["TR-DETR"]) == ("sim", [(10.0, 0, 30.0), (20.0, 0, 30.0)])
    assert dose.table_points(dataclasses.replace(results, rows=())) == (None, {})
