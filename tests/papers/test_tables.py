"""Evidence, verdicts and outputs on a made-up store, where every expected number is known."""

import base64
import dataclasses
import json
import math
import re

import numpy as np
import pytest
from typer.main import get_command

from vtg_lib.book.compared import render
from vtg_lib.cli import main as cli
from vtg_lib.evaluation import protocol
from vtg_lib.papers import evidence, load_paper, row_spec, tables
from vtg_lib.papers.columns import METRICS, column
from vtg_lib.papers.comparison import compare
from vtg_lib.papers.evidence import COUNTED, Evidence, RowResults, index_runs, released_scores
from vtg_lib.papers.verdict import (
    CONTRADICTS,
    NO_DIFFERENCE,
    NOT_PRINTED,
    NOT_RUN,
    SMALLER,
    SUPPORTS,
    UNDECIDED,
    verdict,
)

SDST = load_paper("sdst")
SIM = SDST.profile("sim")
MAP, HD = "MR-full-mAP", "HL-min-VeryGood-mAP"


def record(table, label, seed, profile=SIM, provenance=None, **metrics):
    spec = row_spec(SDST.table(table).row(label), profile, "qvhighlights", seed)
    brief = {key.replace("_", "-"): value for key, value in metrics.items()}
    return {
        "hash": spec.hash,
        "spec": spec.resolved,
        "metrics": {"val": {"MR-full-mAP": brief.pop("mAP", math.nan), **brief}},
        "provenance": provenance or {},
    }


def store(**rows):
    """`{label with _ for space: [mAP of seed 0, 1, …]}` of Tab. 5."""
    names = {"ours": "Ours", "cross": "Stand. CA", "deformable": "Def. CA", "pure": "Def. CA + PureInit"}
    return [
        record("tab5", names[k], seed, mAP=v) for k, values in rows.items() for seed, v in enumerate(values)
    ]


def words(records, table="tab5", column="mAP"):
    return {r.row.label: r.verdicts[column].word for r in compare(SDST, records, [table])[table].rows}


def test_columns_are_the_evaluators():
    assert column("val HD mAP").metric == HD and column("val HD mAP").split == "val"
    assert (column("TACoS mIoU").dataset, column("TACoS mIoU").split) == ("tacos", "test")
    assert column("mAP long").metric == "MR-long-mAP"
    assert column("#Params (M)").metric == "parameters" and column("p-value").metric is None
    assert column("test mAP", computed=True).metric is None


def test_metrics_are_keys_of_the_evaluator():
    truth = [
        {
            "qid": q,
            "query": "q",
            "vid": "v",
            "duration": 150,
            "relevant_windows": [w],
            "relevant_clip_ids": [0, 1],
            "saliency_scores": [[4, 4, 4], [1, 1, 1]],
        }
        for q, w in enumerate(([0, 4], [10, 30], [20, 80]))
    ]
    predictions = [
        {
            "qid": q,
            "query": "q",
            "vid": "v",
            "pred_relevant_windows": [[0, 30, 1.0]],
            "pred_saliency_scores": [0.0] * 75,
        }
        for q in range(3)
    ]
    brief = protocol.evaluate(predictions, truth)["brief"]
    others = {"MR-full-R1@0.3", "MR-full-mIoU"}  # of the protocol for Charades-STA and TACoS
    assert set(METRICS.values()) - others <= set(brief)


def test_verdicts():
    # the paper has Stand. CA 12.88, Def. CA 1.33 and PureInit 2.68 below ours
    got = words(
        store(ours=[50, 51, 52], cross=[40, 42, 41], deformable=[55, 56.5, 57], pure=[50.5, 50.5, 52.5])
    )
    assert got == {
        "Stand. CA": SUPPORTS,
        "Def. CA": CONTRADICTS,
        "Def. CA + PureInit": SMALLER,
        "Def. CA + MixedInit": NOT_RUN,
        "Ours": "reference",
    }


def test_one_seed_cannot_tell():
    assert words(store(ours=[50, 51], cross=[40]))["Stand. CA"] == UNDECIDED
    assert words(store(cross=[40, 41, 42]))["Stand. CA"] == NOT_RUN  # nothing to compare with


def test_pairs_need_common_seeds():
    records = [record("tab5", "Ours", s, mAP=50.0 + s) for s in (0, 1)]
    records += [record("tab5", "Stand. CA", s, mAP=40.0) for s in (5, 6)]
    assert words(records)["Stand. CA"] == NOT_RUN


def test_pairs_need_one_type_of_device():
    cpu, gpu = ({"device": name} for name in ("EPYC, 1 thread(s)", "H200"))
    records = [record("tab5", "Ours", s, mAP=50.0 + s, provenance=cpu) for s in (0, 1, 2)]
    records += [
        record("tab5", "Stand. CA", s, mAP=40.0 + s, provenance=device)
        for s, device in enumerate((cpu, cpu, gpu))
    ]
    records += [record("tab5", "Def. CA", s, mAP=40.0 + s, provenance=gpu) for s in (0, 1, 2)]
    results = compare(SDST, records, ["tab5"])["tab5"]
    assert results.row("Stand. CA").verdicts["mAP"].difference.n == 2
    assert results.row("Def. CA").verdicts["mAP"].word == NOT_RUN and results.row("Def. CA").best.n == 3


def test_mixed_code_versions_are_noted():
    def made(label, digests):
        return [
            record("tab5", label, s, mAP=40.0 + s, provenance={"source_digest": d})
            for s, d in enumerate(digests)
        ]

    def note(records):
        page = render(compare(SDST, records, ["tab5"])["tab5"])
        return (
            page[page.index("Mixed code versions") :].split("</li>")[0]
            if "Mixed code versions" in page
            else None
        )

    assert note(made("Ours", "aaa") + made("Stand. CA", "aaa")) is None
    whole = note(made("Ours", "abb") + made("Stand. CA", "abb"))
    assert "sdst 2" in whole and "every pair are of one version" in whole
    assert note(made("Ours", "abb") + made("Stand. CA", "abb") + made("Def. CA", "aab")).endswith(
        "differ in: Def. CA."
    )
    one, other = evidence.Origin(model="sdst", digest="a"), evidence.Origin(model="qd_detr", digest="b")
    assert not one.other_code(other)  # a digest covers the model's own file, so two models always differ


def test_profiles_of_one_kind_do_not_mix():
    longer = dataclasses.replace(
        SIM,
        name="long",
        train={**SIM.train, "epochs": 9},
    )
    both = dataclasses.replace(SDST, profiles={**SDST.profiles, "long": longer})
    records = [record("tab5", "Ours", s, mAP=50.0 + s) for s in (0, 1)]
    records += [
        record("tab5", label, s, longer, mAP=90.0 + s) for s in (0, 1, 2) for label in ("Ours", "Def. CA")
    ]
    results = compare(both, records, ["tab5"])["tab5"]
    assert (results.row("Ours").best.profile, results.row("Ours").best.n) == ("sim", 2)
    assert (
        results.row("Def. CA").best.profile == "long"
        and results.row("Def. CA").verdicts["mAP"].word == NOT_RUN
    )


def test_what_is_not_run_comes_with_its_command():
    compared = compare(SDST, store(ours=[50], cross=[40], deformable=[50], pure=[50]))
    page = render(compared["tab5"])
    assert (
        "Not run yet: Def. CA + MixedInit. <code>vtg sweep --paper sdst --profile sim --tables tab5</code>"
        in page
    )
    large = dataclasses.replace(SDST, profiles={"rendered": SDST.profile("rendered")})
    page = render(compare(large, [], ["tab2"])["tab2"])
    assert "--profile rendered --tables tab2</code>, on a GPU" in page
    for table in ("tabA", "tabD", "tabK", "tabO"):  # nothing to train, a count only, or all there is
        lacking = compared[table].lacking if table == "tabK" else ()
        assert ("vtg sweep" in render(compared[table])) == bool(lacking), table
    words = compared["tab5"].command.split()
    options = get_command(cli.app).commands[words[1]].make_context("sweep", words[2:]).params
    assert (options["paper"], options["profile"], options["tables"]) == ("sdst", "sim", "tab5")


def test_equal_printed_numbers_decide_nothing():
    results = compare(SDST, [], ["tabK"])["tabK"]
    one, other = results.row("K=1, intermediate"), results.row("K=1, last level")
    both = RowResults(row=one.row, runs={"sim": Evidence(kind="sim", values={"mAP": {0: 1.0, 1: 2.0}})})
    assert verdict(both, RowResults(row=other.row, runs=both.runs), "mAP").word == NO_DIFFERENCE
    added = compare(SDST, [], ["tabL"])["tabL"].row("EaTR")
    assert added.verdicts["mAP"].word == NOT_PRINTED


def test_shared_runs_fill_every_table():
    compared = compare(SDST, store(ours=[50, 52]))
    for table, label in (
        ("tab1", "Ours†"),
        ("tab3", "Adapt. pool"),
        ("tab7", "Ours"),
        ("tabK", "K=4, intermediate"),
    ):
        name = "val mAP" if table == "tab1" else "mAP"
        assert compared[table].row(label).best.summary(name).mean == 51
    assert compared["tab2"].row("Ours†").best is None  # another data set
    assert "test mAP" not in compared["tab1"].row("Ours†").best.values


def test_best_kind_comes_first_and_kinds_do_not_mix():
    rendered = SDST.profile("rendered")
    records = store(ours=[50, 51, 52], cross=[40, 42, 41]) + [record("tab5", "Ours", 0, rendered, mAP=60.0)]
    results = compare(SDST, records, ["tab5"])["tab5"]
    ours = results.row("Ours")
    assert (ours.best.kind, ours.best.n, ours.best.summary("mAP").mean) == ("rendered", 1, 60)
    assert results.row("Stand. CA").verdicts["mAP"].evidence == "sim"
    assert results.row("Stand. CA").verdicts["mAP"].difference.mean == -10


def test_code_only_profiles_are_no_evidence():
    records = [record("tab5", "Ours", 0, SDST.profile("smoke"), mAP=60.0)]
    assert compare(SDST, records, ["tab5"])["tab5"].row("Ours").best is None


def test_foreign_records_are_left_out():
    broken = [{"hash": "x", "spec": {"model": "gone"}, "metrics": {}}, {"hash": "y"}]
    assert index_runs(broken) == {}


def test_released_predictions():
    released = {
        "moment_detr_val": {
            MAP: 32.20,
            "MR-full-R1@0.5": 53.94,
            "MR-long-mAP": 40.0,
            "HL-min-VeryGood-Hit1": 55.55,
        }
    }
    compared = compare(SDST, [record("tab1", "Moment-DETR", 0, mAP=20.0)], ["tab1", "tabL"], released)
    row = compared["tab1"].row("Moment-DETR")
    assert (
        row.best.kind == "released"
        and row.best_run.kind == "sim"
        and [e.kind for e in row.lines] == ["released", "sim"]
    )
    assert compared["tabL"].row("Moment-DETR").best.summary("mAP long").mean == 40
    check = tables.released_check(compared).set_index("column")
    assert check.loc["val mAP", "equal"] and not check.loc["val HIT@1", "equal"]  # the suspected misprint


def test_released_scores_are_the_published_ones(data_root):
    scores = released_scores(SDST, data_root)
    assert len(scores) == 7
    compared = compare(SDST, [], ["tab1"], scores)
    check = tables.released_check(compared)
    equal = check.groupby("row")["equal"].agg(["sum", "count"])
    assert tuple(equal.loc["TR-DETR"]) == (12, 12)
    assert tuple(equal.loc["Moment-DETR"]) == (4, 5)
    assert not equal.loc["EaTR", "sum"]


def test_agreement():
    compared = compare(
        SDST, store(ours=[50, 51, 52], cross=[40, 42, 41], deformable=[55, 56.5, 57], pure=[49, 51, 51])
    )
    got = tables.agreement(compared["tab5"])
    assert (got["decided"], got[SUPPORTS], got[CONTRADICTS], got[SMALLER], got["ranked"]) == (3, 1, 1, 1, 4)
    # paper: cross < pure < deformable < ours; ours: cross < pure < ours < deformable
    assert got["spearman"] == pytest.approx(0.8) and got["kendall"] == pytest.approx(4 / 6)
    assert set(tables.agreement_table(compared)["table"]) >= {"tab1", "tab5", "tabN"}


def test_spread_over_rows():
    compared = compare(SDST, store(ours=[50, 52], cross=[40, 42], deformable=[48, 56]))
    spread = tables.spread_over_rows(compared["tab5"]).set_index("column").loc["mAP"]
    assert spread["rows"] == 3 and spread["ours"] == pytest.approx((51 + 41 + 52) / 3)
    assert spread["our sd"] == pytest.approx(np.std([51, 41, 52], ddof=1))
    assert spread["paper sd"] == pytest.approx(np.std([55.60, 42.72, 54.27], ddof=1))
    assert spread["seed sd"] == pytest.approx(np.sqrt((2 + 2 + 32) / 3))
    assert tables.spread_over_rows(compare(SDST, [])["tab5"]).empty


def test_json_contract():
    listed = json.loads(json.dumps(tables.to_json(SDST, store(ours=[50, 52])), allow_nan=False))
    assert [t["table"] for t in listed] == [t.id for t in SDST.tables]
    for table in listed:
        assert set(table) == {"paper", "table", "caption", "columns", "rows"} and table["paper"] == "sdst"
        for row in table["rows"]:
            assert {"label", "paper", "source", "best"} <= set(row)
            assert set(row["best"]) == {"evidence", "mean", "sd", "n"}
            assert set(row["paper"]) <= set(table["columns"])
    tab5 = next(t for t in listed if t["table"] == "tab5")
    best = {r["label"]: r["best"] for r in tab5["rows"]}
    assert best["Ours"] == {
        "evidence": "sim",
        "mean": {"mAP": 51.0},
        "sd": {"mAP": pytest.approx(2**0.5)},
        "n": 2,
    }
    assert best["Stand. CA"] == {"evidence": None, "mean": {}, "sd": {}, "n": 0}


def test_counted_parameters():
    results = compare(SDST, [], ["tabD"])["tabD"].row("Moment-DETR")
    assert results.counted.kind == COUNTED and results.best is None
    assert results.counted.summary("#Params (M)").mean == pytest.approx(4.8, rel=0.03)


def test_html():
    records = store(ours=[50, 51, 52], cross=[40, 42, 41])
    compared = compare(SDST, records)
    page = render(compared["tab5"])
    assert page == render(compare(SDST, records)["tab5"])  # the same bytes every time
    assert "supports" in page and "[sim]" not in page and ">sim<" in page and ">not run<" in page
    assert '51.00 <span class="sd">± 1.00</span>' in page and 'data-label="mAP, ours"' in page
    spec = row_spec(SDST.table("tab5").row("Ours"), SIM, "qvhighlights", 0)
    assert f"<code>{spec.hash}</code>" in page
    assert "vtg run --paper sdst --profile sim --table tab5 --row &#34;Ours&#34; --seed 0" in page
    lines = base64.b64decode(re.search('base64,([^"]+)', page).group(1)).decode().splitlines()
    assert lines[0].startswith("row,evidence,seeds,R1@0.5 paper,R1@0.5 ours,R1@0.5 sd")
    assert any(line.startswith("Ours,sim,3,73.68,,") and "51.0000,1.0000" in line for line in lines)
    assert page.index("All 7 columns") > page.index("</table>")  # in view: the column that verdicts are about
    for table, results in compared.items():
        page = render(results)
        assert page.count("<tr") == page.count("</tr") and page.count("<td") == page.count("</td"), table
    assert "<script" not in page
    only = render(compared["tab5"], columns=["mAP"])
    assert "HIT@1" not in only.split("</table>")[0]
    with pytest.raises(KeyError, match="mAQ"):
        render(compared["tab5"], columns=["mAQ"])


def test_html_escapes():
    results = compare(SDST, [], ["tab1"])["tab1"]
    first = dataclasses.replace(results.rows[0], row=dataclasses.replace(results.rows[0].row, label="<b>&"))
    page = render(dataclasses.replace(results, rows=(first, *results.rows[1:])))
    assert "&lt;b&gt;&amp;" in page and "<b>&<" not in page


def test_explorer_tables():
    records = [*store(ours=[50, 52]), record("tab1", "Moment-DETR", 0, mAP=20.0)]
    released = {"moment_detr_val": {MAP: 32.20}}
    listed = {
        t["table"]: t["rows"] for t in tables.explorer_tables(compare(SDST, records, released=released))
    }
    (ours,) = next(r for r in listed["Tab. 5"] if r["label"] == "Ours")["ours"]["mAP"]
    assert (ours["mean"], ours["n"], ours["evidence"]) == (51, 2, "sim")
    row = next(r for r in listed["Tab. 1"] if r["label"] == "Moment-DETR")["ours"]
    cells = [(cell["evidence"], cell["mean"], cell["n"]) for cell in row["val mAP"]]
    assert cells == [("released", 32.20, None), ("sim", 20.0, 1)]
    assert [cell["evidence"] for cell in row["#Params (M)"]] == [COUNTED]
