"""What chapters display is what was computed, and what is missing is said."""

import dataclasses
import re

import pandas as pd
import pytest

from vtg_lib.book import PROVENANCE
from vtg_lib.book.chapter import Chapter
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views import claims as claim_views
from vtg_lib.book.views import common as views
from vtg_lib.book.views import diagnostics as diagnostic_views
from vtg_lib.book.views import dose as dose_views
from vtg_lib.evaluation.statistics import paired_difference
from vtg_lib.experiments.machine import Machine
from vtg_lib.experiments.run import run
from vtg_lib.experiments.store import Store
from vtg_lib.experiments.sweep import SweepReport


@pytest.fixture()
def chapter(tmp_path, monkeypatch):
    monkeypatch.delenv("VTG_DATA_ROOT", raising=False)
    monkeypatch.setattr("vtg_lib.book.parameters.ROOT", tmp_path)
    return Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)


def test_an_empty_store_gives_every_table_and_says_not_run(chapter):
    for table in chapter.paper.tables:
        assert table.title in views.table(chapter, table.id).data
    assert "not run" in views.table(chapter, "tab5").data
    assert (
        "not run yet" in views.slope(chapter, "tab5").data
        and "--tables tab5" in views.slope(chapter, "tab5").data
    )
    assert "--dose moment_length" in dose_views.dose(chapter, "moment_length").data
    assert "<summary>supports: 0 rows</summary>" in views.summary(chapter).data


def test_what_is_missing_is_said_with_the_command_that_gets_it(chapter, tmp_path):
    assert "vtg data fetch" in views.overview(chapter).data
    rendered = Chapter("sdst", Parameters.parse(profile="rendered", device="cpu"), results=tmp_path)
    assert rendered.profile == "quick" and "needs the real annotations" in views.overview(rendered).data
    official = Chapter("sdst", Parameters.parse(profile="official", device="cpu"), results=tmp_path)
    assert official.profile == "quick"
    assert "Profile <code>official</code> is not set up for this paper" in views.overview(official).data


def test_paper_size_waits_for_a_gpu_and_leaves_out_data_sets_that_are_not_there(tmp_path, monkeypatch):
    for name in (
        "qvhighlights/highlight_train_release",
        "qvhighlights/highlight_val_release",
        "tacos/tacos_train_release",
    ):
        (tmp_path / f"{name}.jsonl").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl").touch()
    asked = Parameters.parse(profile="rendered", device="cpu", seeds=[0], data_root=tmp_path)
    on_cpu = Chapter("sdst", asked, results=tmp_path)
    assert on_cpu.profile == "quick" and "`vtg sweep --paper sdst --profile rendered`" in " ".join(
        on_cpu.missing
    )
    on_gpu = Chapter("sdst", dataclasses.replace(asked, device="cuda"), results=tmp_path)
    assert on_gpu.profile == "rendered"
    assert "vtg data fetch charades_sta tacos" in " ".join(on_gpu.missing)  # of TACoS, validation is missing
    trained = []

    def failing(specs, store, machine, **options):
        trained.extend(specs)
        return SweepReport(failed={trained[0].hash: "CUDA out of memory"})

    monkeypatch.setattr("vtg_lib.experiments.sweep.sweep", failing)
    text = on_gpu.fill().data
    assert {spec.data["dataset"] for spec in trained} == {"qvhighlights"}
    assert text.startswith("0 of ") and "1 of " in text and "CUDA out of memory" in text
    smoke = Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):  # smoke proves that the code runs
        smoke.fill()


def test_a_gain_of_one_seed_has_no_interval():
    assert dose_views._gain(paired_difference({0: 3.0}, {0: 1.0})) == "+2.00 (no interval, n = 1)"
    assert "95 % +2.00 to +2.00" in dose_views._gain(paired_difference({0: 3.0, 1: 4.0}, {0: 1.0, 1: 2.0}))


def test_live_runs_stay_out_of_the_store(chapter):
    ((model, result),) = chapter.train({"RDSA": chapter.spec("tab5", "Ours")}).values()
    ((again, same),) = chapter.train({"RDSA": chapter.spec("tab5", "Ours")}).values()
    assert again is model and same is result
    assert len(chapter.store) == 0 and not chapter.store.path.exists()
    assert "RDSA" in views.headline({"RDSA": result}).data
    splits = chapter.data(chapter.spec("tab5", "Ours"))
    other = chapter.untrained(chapter.spec("tab5", "Stand. CA"))
    records = diagnostic_views.measured({"RDSA": model, "CA": other}, splits["val"], "offsets")
    assert list(records) == ["RDSA"]  # standard attention has no offsets
    shown = diagnostic_views.figure(chapter, "offsets", records).data
    assert re.search(r'alt="Weighted offsets by level and head. RDSA \(n = 1\): mean distance', shown)
    levels = chapter.spec("tab5", "Ours").resolved["config"]["levels"]
    table = diagnostic_views.table(chapter, "offsets", records).data
    assert table.count('<th scope="row">RDSA</th>') == levels
    record = chapter.provenance()
    assert record["live_specs"] == [result.hash] and record["store_specs"] == []
    assert set(record["data"].values()) == {split.fingerprint for split in splits.values()}


def test_footer_leaves_a_record_for_the_status_page(chapter, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **keywords: shown.append((data, keywords)))
    views.footer(chapter)
    ((data, keywords),) = shown
    record = keywords["metadata"][PROVENANCE]
    assert {"profile", "device", "code_version", "versions", "seeds", "started", "duration_s"} <= set(record)
    assert record["code_version"] in data["text/html"]


def test_deviations_are_numbered_and_whole(chapter):
    text = views.deviations(chapter).data
    assert "\n\n1. **" in text and "*Reason:*" in text and text.startswith("<details")
    assert "27 choices" in text
    assert text.count("*We do:*") == len(chapter.paper.deviations) == 27


def test_frames_and_records_are_escaped():
    assert "&lt;b&gt;" in views.frame_html(pd.DataFrame({"x": ["<b>"]})).data
    assert "–" in views.frame_html(pd.DataFrame({"x": [float("nan")]})).data
    assert views.record_html({"<a>": "run `vtg` & go"}).data.count("<code>vtg</code> &amp; go") == 1


def test_source_shows_the_code_that_runs():
    from vtg_lib.losses.adaptive_assignment import assign_points

    assert "def headline(" in views.source(views.headline).data
    decorated = views.source(assign_points).data
    assert "@torch.no_grad()" in decorated and "losses/adaptive_assignment.py" in decorated


def test_quick_takes_runs_from_the_store_and_trains_a_part_of_one_again(tmp_path, monkeypatch):
    smoke = Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    spec = dataclasses.replace(smoke.spec("tab5", "Ours"), diagnostics=(), keep=True)
    machine = Machine(checkpoint_root=tmp_path / "cache")
    stored = run(spec, Store(tmp_path / f"{smoke.paper.chapter}.jsonl"), machine)
    chapter = Chapter("sdst", Parameters.parse(profile="quick", device="cpu"), results=tmp_path)
    monkeypatch.setattr("vtg_lib.book.chapter._train", None)  # training would fail
    ((model, result),) = chapter.train({"RDSA": spec}).values()
    assert result.metrics == stored.metrics and not model.training
    told = views.again(chapter, {"RDSA": result}, spec).data
    assert "RDSA, trained here up to epoch 1: the same numbers in all digits" in told
    assert chapter.provenance()["replayed_specs"] == [spec.hash] and not chapter.provenance()["live_specs"]
    changed = {**stored.to_dict(), "curves": {**stored.curves, "loss": [0.5]}}
    Store(tmp_path / f"{smoke.paper.chapter}.jsonl").append(changed)
    later = Chapter("sdst", Parameters.parse(profile="quick", device="cpu"), results=tmp_path)
    told = views.again(later, {"RDSA": later.train({"RDSA": spec})["RDSA"][1]}, spec).data
    assert "loss: stored 0.5, now" in told and "The stored run was made on" in told
    assert views.again(smoke, {"RDSA": result}, spec).data == ""


def test_claims_are_shown_with_what_they_rest_on(chapter):
    shown = claim_views.claims(chapter).data
    assert shown.count("not run") == len(chapter.judged) and "RDSA is better than deformable" in shown
    assert f"0 of {len(chapter.judged)} claims are decided" in claim_views.claims_told(chapter).data
    ended = claim_views.conclusions(chapter).data
    assert ended.count("<li>") == len(chapter.judged) and "<b>Not run:</b>" in ended and "none yet" in ended
    told = claim_views.sentence(chapter.judged[0])
    assert told.startswith("RDSA is better") and "<strong>not run</strong>" in told


def test_highlight_views(tmp_path, monkeypatch):
    from vtg_lib.book.views import highlights

    monkeypatch.delenv("VTG_DATA_ROOT", raising=False)
    monkeypatch.setattr("vtg_lib.book.parameters.ROOT", tmp_path)
    empty = Chapter("sgdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    assert (
        "vtg sweep --paper sgdetr --profile sim --tables protocols,folds" in highlights.protocols(empty).data
    )
    assert "vtg data fetch tvsum" in highlights.labels(empty).data
    shown = highlights.domain_ranks(empty, "tab6", "Ours", ["Ours ZS", "Ours w/ PT"]).data
    assert "printed" in shown and "UMT†, " in shown and ">ours<" not in shown
    store = Store(tmp_path / "04_sgdetr.jsonl")
    paper = empty.paper
    for label in ("UniVTG", "QD-DETR", "Ours"):
        record = spec_record(paper, label)
        store.append(record)
    full = Chapter("sgdetr", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    assert "ours" in highlights.domain_ranks(full, "tab6", "Ours", ["Ours ZS", "Ours w/ PT"]).data
    assert "last epoch" in highlights.protocols(full).data


def spec_record(paper, label):
    """A line of a store for a row of SG-DETR's table 6, with numbers that only have the right names."""
    from vtg_lib.papers import row_spec

    spec = row_spec(paper.table("tab6").row(label), paper.profile("sim"), "tvsum", 0)
    columns = [*paper.table("tab6").columns, *paper.table("protocols").columns]
    numbers = {c.metric: 50.0 + len(label) for c in columns if c.dataset == "tvsum"}
    return {
        "hash": spec.hash,
        "spec": spec.resolved,
        "metrics": dict.fromkeys(("val", "last", "test"), numbers),
        "provenance": {"device": "x, 1 thread(s)"},
    }
