"""Dose-response: pairs of runs that differ in one row and one knob, and gains paired by seed."""

import pytest

from vtg_lib import dose
from vtg_lib.papers import load_paper, row_spec
from vtg_lib.store import Store

STUDY = dose.DOSES["sdst"][0]


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
    assert different <= {STUDY.knob} and base["config"] == treated["config"] and base["train"] == treated["train"]


def test_every_study_names_rows_and_a_knob_that_exist():
    for key, studies in dose.DOSES.items():
        for study in studies:
            specs = dose.dose_specs(key, "smoke", [0], [study.key])
            assert all(spec.resolved["data"][study.knob] in study.values for _, spec in specs)


def test_unknown_study_is_refused():
    with pytest.raises(ValueError, match="unknown study nothing; sdst has moment_length"):
        dose.dose_specs("sdst", "smoke", [0], ["nothing"])


def test_gain_is_paired_by_seed_and_missing_doses_stay_missing(tmp_path):
    store = Store(tmp_path / "runs.jsonl")
    wanted = {(0, "Ours"): 10.0, (0, "Def. CA"): 7.0, (1, "Ours"): 12.0, (1, "Def. CA"): 11.0, (2, "Ours"): 99.0}
    for ref, spec in dose.dose_specs("sdst", "smoke", [0, 1, 2], [STUDY.key]):
        value = wanted.get((spec.seed, ref.label.split(",")[0]))
        if spec.data[STUDY.knob] == STUDY.values[1] and value is not None:
            store.append({"hash": spec.hash, "spec": spec.resolved, "metrics": {"val": {dose.METRIC: value}}})
    gains = dose.response(STUDY, "sdst", "smoke", [0, 1, 2], store)
    assert [gain is None for gain in gains] == [value != STUDY.values[1] for value in STUDY.values]
    assert gains[1].mean == pytest.approx(2.0) and gains[1].n == 2
