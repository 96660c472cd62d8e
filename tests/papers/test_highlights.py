"""Tables 5 and 6 of SG-DETR: columns, statements, ranks over domains, and what protocols move."""

import pandas as pd
import pytest

from vtg_lib.papers import load_paper, plan, statements
from vtg_lib.papers.columns import column
from vtg_lib.papers.comparison import compare
from vtg_lib.papers.evidence import Evidence, RowResults, TableResults
from vtg_lib.papers.highlights import domain_ranks, label_bounds, moves
from vtg_lib.papers.ranks import apart, ranked

PAPER = load_paper("sgdetr")
TOLD = statements.told(PAPER).set_index("claim")


def test_columns_name_a_domain_a_split_and_what_an_average_is_of():
    known = {name: column(name) for name in ("TVSum VT", "YouTube-best Gym.", "TVSum-unseen Avg.")}
    found = {name: (c.dataset, c.split, c.metric) for name, c in known.items()}
    assert found == {
        "TVSum VT": ("tvsum", "last", "HL-top5-mAP VT"),
        "YouTube-best Gym.": ("youtube_highlights", "val", "HL-mAP gymnastics"),
        "TVSum-unseen Avg.": ("tvsum", "test", "HL-top5-mAP, mean of domains"),
    }
    assert column("YouTube videos").metric == "HL-mAP, mean of videos"
    for name in ("TVSum mAP", "TVSum Dog", "VT"):  # of another data set, or of none
        assert column(name).metric is None
    for table in ("tab5", "tab6", "protocols", "folds"):
        assert all(c.metric is not None for c in PAPER.table(table).columns)


@pytest.mark.parametrize("profile", ["smoke", "sim"])
def test_rows_that_are_run(profile):
    planned = plan(PAPER, profile, [0], ["tab5", "tab6", "protocols", "folds"])
    # five methods on two sets, one on other features, four further folds, two that start from pretraining
    assert len(planned) == 20
    for each in planned:
        data, config = each.spec.resolved["data"], each.spec.resolved["config"]
        assert config["highlights_only"] and "domains" in data
        assert each.spec.train.select == f"HL-{'top5-' * (data['dataset'] == 'tvsum')}mAP, mean of domains"
    assert sum(each.spec.resolved["data"].get("fold", 0) > 0 for each in planned) == 4


def test_printed_averages():
    shifted = TOLD.loc["the average is the mean of the domains (YouTube Highlights)"]
    assert not shifted["agrees"] and shifted["recomputed"].startswith("CG-DETR: mean 76.88, printed 75.9;")
    assert TOLD.loc["the average is the mean of the domains (TVSum)", "agrees"]
    table = PAPER.table("tab5")
    printed, restored = table.row("CG-DETR").paper, table.row("CG-DETR, restored").paper
    cells, whole = list(printed.values()), list(restored.values())
    assert whole[:2] + whole[3:] + whole[-1:] == cells  # the same numbers, one further left
    assert round(6 * restored["YouTube Avg."] - sum(whole[:2] + whole[3:6]), 1) == restored["YouTube Par."]
    assert "CG-DETR, restored" not in table.printed().index and "CG-DETR, restored" in table.numbers().index


def test_best_in_three_domains_but_not_with_pretraining():
    assert TOLD.loc["best in VT, PK and BT, among the methods before it", "agrees"]
    assert TOLD.loc["best in these three alone, among the methods before it", "agrees"]
    all_rows = TOLD.loc["best in VT, PK and BT, among all rows"]
    assert not all_rows["agrees"] and all_rows["recomputed"] == "TVSum PK: Ours w/ PT 90.60 > Ours 90.00"


def test_averages_see_what_is_off():
    check = {"table": "tab6", "column": "TVSum Avg.", "of": ["TVSum VT", "TVSum VU"]}
    text, holds = statements.averages(PAPER, **check)
    assert not holds and "UMT†: mean 84.50, printed 83.1" in text
    of = [c.name for c in PAPER.table("tab6").columns][:-1]
    assert not statements.averages(PAPER, **{**check, "of": of}, but=["Ours"])[1]  # nothing is off


def test_ranks_over_domains():
    import scipy.stats

    of = [c.name for c in PAPER.table("tab6").columns][:-1]
    others = ["UMT†", "UniVTG", "QD-DETR", "CG-DETR", "TR-DETR"]
    text, holds = apart(PAPER, table="tab6", row="Ours", others=others, columns=of)
    expected = scipy.stats.friedmanchisquare(
        *PAPER.table("tab6").printed().loc[["Ours", *others], of].to_numpy()
    )
    assert f"chi² {expected.statistic:.1f}" in text and "apart: UMT†, UniVTG" in text and not holds
    apart_from = {"z": 3.0, "y": 2.0, "x": 1.0}  # in all of twenty blocks
    clear = ranked(pd.DataFrame(dict.fromkeys(range(20), apart_from)), "z")
    assert clear.apart == ["y", "x"] and clear.test.mean_ranks == {"z": 1, "y": 2, "x": 3}
    results = compare(PAPER, [])["tab6"]
    printed, ours = domain_ranks(results, "Ours", ["Ours ZS", "Ours w/ PT"])
    assert printed.apart == ["UMT†", "UniVTG"] and ours is None


def evidence(columns: dict[str, dict[int, float]]) -> dict[str, Evidence]:
    return {"sim": Evidence(kind="sim", values=columns, profile="sim")}


def filled(table_id: str, numbers) -> TableResults:
    """A table whose rows have runs of two seeds: `numbers(row, column)` and one more."""
    table = PAPER.table(table_id)
    rows = [
        RowResults(
            row=row,
            runs=evidence({c.name: {s: numbers(place, c.name) + s for s in (0, 1)} for c in table.columns}),
        )
        for place, row in enumerate(table.rows)
    ]
    return TableResults(paper="sgdetr", table=table, rows=tuple(rows))


def test_what_protocols_move():
    worth = {"TVSum-best Avg.": 9.0, "TVSum Avg.": 5.0, "TVSum-unseen Avg.": 2.0, "YouTube ties won": 0.5}
    protocols = filled(
        "protocols", lambda row, name: worth.get(name, 0.0) + (row == 4) * (name == "TVSum Avg.")
    )
    folds = filled("folds", lambda row, name: 10.0 * row)
    found = moves(protocols, folds).set_index(["data set", "difference"])
    best = found.loc[("TVSum", "epoch best on the scored videos − last epoch")]
    assert (best["mean"], best["largest"], best["n"]) == (pytest.approx(3.8), 4.0, 10)
    assert found.loc[("TVSum", "that epoch: scored videos − further videos"), "mean"] == 7
    assert found.loc[("YouTube", "ties: all won − all lost"), "mean"] == 0.5
    assert (
        found.loc[("TVSum", "released split − leave one out"), "mean"] == 20
    )  # 40 against the mean of 0 … 40
    assert found["sd of the average over seeds"].tolist() == pytest.approx([0.5**0.5] * len(found))
    empty = moves(compare(PAPER, [])["protocols"], compare(PAPER, [])["folds"])
    assert not empty["n"].any()


def test_our_ranks():
    results = filled("tab6", lambda row, name: float(row))
    ours = domain_ranks(results, "Ours")[1]
    assert ours.test.mean_ranks["Ours"] == 4 and ours.test.blocks == 10


def test_bounds_of_the_released_labels(data_root):
    found = label_bounds(data_root).set_index(["data set", "clips ranked by"])
    assert (found["ties lost"] <= found["ties won"]).all()
    votes, others, chance = (
        found.loc[("TVSum", name)]
        for name in ("mean of all votes", "mean of the other votes", "random order")
    )
    assert chance["ties won"] < others["ties lost"] and others["ties won"] < votes["ties lost"]
    by_time, by_number = (found.loc[("YouTube", f"labels on 2 s, by {how}")] for how in ("time", "number"))
    assert by_time["ties lost"] > by_number["ties won"]
