"""Dose-response: pairs of runs that differ in one row and one knob, and gains paired by seed."""

import dataclasses
import math

import pytest

from vtg_lib.book.chapter import Chapter
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views import dose as dose_views
from vtg_lib.experiments.store import Store
from vtg_lib.papers import dose, load_paper, paper_keys, row_spec
from vtg_lib.papers.evidence import Evidence, Origin

DOSES = load_paper("sdst").doses
STUDY = DOSES[0]


def filled(path, gains: dict[tuple[int, float], float], profile: str = "smoke") -> Store:
    """A store in which the study's two rows differ by `gains[seed, value of the knob]`."""
    store = Store(path)
    for ref, spec in dose.dose_specs("sdst", profile, [0, 1, 2], [STUDY.key]):
        gain = gains.get((spec.seed, spec.data[STUDY.knob]))
        if gain is not None:
            value = 30.0 + gain * ref.label.startswith("Ours")
            store.append(
                {
                    "hash": spec.hash,
                    "spec": spec.resolved,
                    "metrics": {"val": {dose.METRIC: value, dose.READING: 20 + value / 2}},
                }
            )
    return store


def trend(store: Store, study: dose.Dose = STUDY) -> dose.Trend:
    return dose.trend(study, "sdst", "smoke", [0, 1, 2], store)


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
            assert all(spec.resolved["data"][study.knob] in settings for _, spec in specs)


def test_unknown_study_is_refused():
    with pytest.raises(ValueError, match="unknown study nothing; sdst has moment_length"):
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
    assert dose.trend(STUDY, "sdst", "smoke", [0, 1], store).seeds == 1


@pytest.mark.parametrize(
    ("sign", "word", "judgement"), [(1, "grows", "as claimed"), (-1, "falls", "against the claim")]
)
def test_trend_is_the_slope_over_single_seed_gains(tmp_path, sign, word, judgement):
    noise = {0: -0.1, 1: 0.0, 2: 0.1}
    store = filled(
        tmp_path / "s.jsonl", {(s, v): sign * 0.2 * v + noise[s] for s in noise for v in STUDY.values}
    )
    found = trend(store)
    assert (found.word, found.judgement, found.n, found.seeds) == (word, judgement, 9, 3)
    assert found.slope == pytest.approx(sign * 0.2) and found.p < 0.001


def test_a_claim_of_falling_is_met_by_falling(tmp_path):
    assert {study.key: study.claim for study in DOSES} == {
        "moment_length": "grows",
        "level_misalignment": "falls",
    }
    falling = filled(tmp_path / "s.jsonl", {(s, v): -v + 0.1 * s for s in range(3) for v in STUDY.values})
    assert trend(falling, dataclasses.replace(STUDY, claim="falls")).judgement == "as claimed"


def test_noise_and_too_few_gains_are_no_trend(tmp_path):
    low, middle, high = STUDY.values
    noisy = {(0, low): 1.0, (0, high): 2.0, (1, low): 2.0, (1, high): 1.2, (2, middle): 1.5}
    found = trend(filled(tmp_path / "noisy.jsonl", noisy))
    assert (found.word, found.judgement, found.n) == (
        "no clear trend",
        "no clear trend",
        5,
    ) and found.p > 0.05
    two = trend(
        filled(tmp_path / "two.jsonl", {(0, low): 0.0, (0, high): 9.0})
    )  # any two points lie on a line
    assert two.word == "no clear trend" and two.slope > 0 and math.isnan(two.p)


def test_one_value_of_the_knob_is_no_study(tmp_path):
    found = trend(filled(tmp_path / "s.jsonl", {(s, STUDY.values[0]): 1.0 + s for s in range(3)}))
    assert (found.word, found.judgement, found.n) == ("not run", "not run", 3) and math.isnan(found.slope)
    assert trend(Store(tmp_path / "empty.jsonl")).n == 0


def test_the_trend_stands_under_the_figure(tmp_path):
    chapter = Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    low = STUDY.values[0]
    filled(chapter.store.path, {(0, low): 1.0}, "sim")
    shown = dose_views.dose(chapter, STUDY.key).data
    assert "was not run at two values or more (1 single-seed gain from 1 seed)" in shown
    assert "<strong>not run</strong>" in shown
    filled(chapter.store.path, {(s, v): 0.2 * v + 0.1 * s for s in range(3) for v in STUDY.values}, "sim")
    figure, shown, control = dose_views.dose(chapter, STUDY.key).data.split("<p>")
    assert "<img" in figure and "slope +0.2 points per unit of <code>window_median</code>, p = " in shown
    assert "By the paper (Sec. 6.2, App. K) it grows: <strong>as claimed</strong>" in shown
    assert (
        "gain (HD mAP) grows (slope +0.1 points" in control
        and f"at {low:g}: {0.1 * low + 0.05:+.2f} (95 % " in control
    )


def test_a_table_that_varies_a_setting_is_judged_by_its_scores(tmp_path):
    chapter = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    assert "--tables queries" in dose_views.varied(chapter, "queries").data  # not run
    table, profile = chapter.paper.table("queries"), chapter.paper.profile("sim")
    for seed in range(3):
        for row in table.rows:
            method, number = table.varied.point(row.label)
            if (method, number) != ("Sim-DETR", 40.0):
                score = 40.0 + (-0.3 if method == "TR-DETR" else 0.2) * number + 0.1 * seed
                spec = row_spec(row, profile, "qvhighlights", seed)
                line = {"hash": spec.hash, "spec": spec.resolved, "metrics": {"val": {dose.METRIC: score}}}
                Store(chapter.store.path).append(line)
    filled_chapter = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    kind, points = dose.table_points(filled_chapter.compared["queries"])
    assert kind == "sim" and len(points["TR-DETR"]) == 12 and len(points["Sim-DETR"]) == 9
    shown = dose_views.varied(filled_chapter, "queries").data
    assert "TR-DETR: 37.1 at 10, 34.1 at 20" in shown and "46.1 at 30." in shown and "Evidence: sim" in shown
    baseline, ours = shown.split("<li>")[1:]
    assert (
        "mAP falls (slope -0.3 points per unit of <code>queries</code>" in baseline
        and "as claimed" in baseline
    )
    assert (
        "mAP grows (slope +0.2" in ours
        and "9 single-seed numbers from 3 seeds" in ours
        and "as claimed" in ours
    )


def test_a_trend_is_over_runs_of_one_profile_and_device():
    results = Chapter("simdetr", Parameters.parse(profile="smoke", device="cpu")).compared["queries"]
    numbers = {
        "TR-DETR, 10": ("sim", {0: "cpu", 1: "cuda"}),
        "TR-DETR, 20": ("sim", {0: "cpu"}),
        "TR-DETR, 30": ("other", {0: "cpu"}),
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
