"""What SDST says about its own tables, recomputed; and every check on a small paper, holding and not."""

import dataclasses

import numpy as np
import pytest
import yaml

from vtg_lib.papers import load_paper, paper_keys, ranks, statements
from vtg_lib.papers.columns import column
from vtg_lib.papers.schema import Row, Table
from vtg_lib.papers.statements import Statement

SDST = load_paper("sdst")


def paper(cells, also=None):
    """A paper with the tables `cells`: id -> {label: numbers}, all with the columns mAP and HIT@1."""
    columns = tuple(map(column, ("mAP", "HIT@1")))
    tables = []
    for name, rows in cells.items():
        made = [
            Row(
                label=label,
                paper=dict(zip(("mAP", "HIT@1"), numbers, strict=True)),
                source="quoted",
                also={"sd": also} if also and label == "mean" else {},
            )
            for label, numbers in rows.items()
        ]
        tables.append(Table(id=name, caption="C", place="P", columns=columns, rows=tuple(made)))
    return dataclasses.replace(load_paper("foundations"), tables=tuple(tables))


A_B = "a − b: mAP +1.00, HIT@1 -0.50"
AB = {"a": (3.0, 5.0), "b": (2.0, 5.5), "c": (1.0, None)}


@pytest.mark.parametrize(
    ("check", "text", "holds"),
    [
        ("best: {table: t, rows: [a]}", "HIT@1: b 5.50 > a 5.00", False),
        ("best: {table: t, rows: [a], but: [HIT@1]}", "HIT@1: b 5.50 > a 5.00", True),
        ("best: {table: t, rows: [a], but: [mAP]}", "HIT@1: b 5.50 > a 5.00", False),
        ("best: {table: t, rows: [a], others: [c]}", "better or equal in every column", True),
        ("best: {table: t, rows: [a], columns: [mAP]}", "better or equal in every column", True),
        ("gains: {table: t, pairs: [[a, b]], expect: [up]}", A_B, False),
        ("gains: {table: t, pairs: [[a, b]], expect: [up, down]}", A_B, True),
        ("gains: {table: t, pairs: [[a, b]], expect: ['+1.0', '-0.50']}", A_B, True),
        ("gains: {table: t, pairs: [[a, b]], expect: ['+1.0', '-0.51']}", A_B, False),
        ("gains: {table: t, pairs: [[a, b]], expect: [up, down, down]}", A_B, False),
        (
            "gains: {table: t, pairs: [[a, a], [c, b]], expect: [not up]}",
            "a − a: mAP +0.00, HIT@1 +0.00; c − b: mAP -1.00",
            True,
        ),
        (
            "gains: {table: t, pairs: [[a, b]], percent: true, expect: ['+50', '-9']}",
            "a − b: mAP +50.0 %, HIT@1 -9.1 %",
            True,
        ),
        ("ahead: {table: t, row: a, other: b, columns: 1}", "val: ahead in 1, equal in 0 of 2", True),
        ("ahead: {table: t, row: a, other: b, columns: 2}", "val: ahead in 1, equal in 0 of 2", False),
        ("same: {row: [t, a], rows: [[u, a]]}", "U, a: 1 of 2 equal, not HIT@1 5.20", False),
        ("same: {row: [t, a], rows: [[t, a]], beside: [[u, b]]}", "U, b: 0 of 2 equal", True),
        ("same: {row: [t, a], rows: [[t, a]]}", "equal everywhere", True),
        (
            "chance: {spread: [u, mean, mAP], pairs: [[[t, a], [t, b]], [[u, b], [t, c]]]}",
            "limit 1.97; above: b − c +3.00; not above: a − b +1.00",
            False,
        ),
        (
            "chance: {spread: [u, mean, mAP], pairs: [[[u, b], [t, c]]]}",
            "limit 1.97; above: b − c +3.00; not above: none",
            True,
        ),
        ("within: {table: u, row: mean, of: [u, b], column: mAP}", "+0.7 deviations", True),
        ("within: {table: u, row: mean, of: [t, c], column: mAP}", "-3.5 deviations", False),
        ("spread: {table: u, row: mean, ddof: 1}", "equal in every column", True),
        (
            "spread: {table: u, row: mean, ddof: 0}",
            "mAP: 3.50 ± 0.50 for 3.50 ± 0.71; HIT@1: 5.60 ± 0.40 for 5.60 ± 0.57",
            False,
        ),
        (
            "spread: {table: u, row: mean, ddof: 1, cut: true}",
            "mAP: 3.50 ± 0.70 for 3.50 ± 0.71; HIT@1: 5.60 ± 0.56 for 5.60 ± 0.57",
            False,
        ),
        ("places: {row: [u, a], instead_of: [t, a]}", "every place stays", True),
        ("places: {row: [u, b], instead_of: [t, a]}", "HIT@1: place 2 becomes 1", False),
        ("falls: {table: t, column: mAP, groups: {x: [a, b], y: [c]}}", "mean mAP, x: 2.50, y: 1.00", True),
        (
            "falls: {table: t, column: mAP, groups: {x: [b], y: [a, c], z: [a]}}",
            "mean mAP, x: 2.00, y: 2.00, z: 3.00",
            False,
        ),
    ],
)
def test_checks(check, text, holds):
    rows = {"a": (3.0, 5.2), "b": (4.0, 6.0), "mean": (3.5, 5.6)}
    small = paper({"t": AB, "u": rows}, {"mAP": 0.71, "HIT@1": 0.57})
    statement = Statement(place="p", claim="c", check=yaml.safe_load(check))
    assert statement.told(small) == (text, holds)


def test_welch_of_printed_means_and_deviations():
    from scipy.stats import ttest_ind

    one, other = (3.1, 2.9, 3.4, 3.0, 3.2), (2.7, 2.9, 2.8, 3.0, 2.6)
    made = paper({"t": {"mean": (np.mean(one), 9.0), "b": (np.mean(other), 3.0)}})
    sds = [{"mAP": np.std(x, ddof=1), "HIT@1": sd} for x, sd in ((one, 1.0), (other, 8.0))]
    rows = [
        dataclasses.replace(row, also={"sd": sd}) for row, sd in zip(made.tables[0].rows, sds, strict=True)
    ]
    small = dataclasses.replace(made, tables=(dataclasses.replace(made.tables[0], rows=tuple(rows)),))
    text, holds = statements.welch(small, table="t", row="mean", other="b", runs=5)
    expected = ttest_ind(one, other, equal_var=False)
    assert text.startswith(f"mAP: t {expected.statistic:.1f}, p {expected.pvalue:.2g}; HIT@1")
    assert expected.pvalue < 0.05 and not holds  # the other column cannot tell


def test_a_statement_has_one_check_and_says_what_it_cannot_find():
    for check, message in {
        "{}": "expected one of best, gains, .* got 0 of them",
        "{ranks: {}, blocks: {}}": "got 2 of them",
        "{beast: {}}": "'beast'; did you mean 'best'?",
        "{best: {table: t}}": "field 'check', best: missing a required .*argument: 'rows'",
        "{best: {table: t, rows: [a], row: a}}": "best: got an unexpected keyword argument 'row'",
    }.items():
        with pytest.raises(ValueError, match=message):
            Statement(place="p", claim="c", check=yaml.safe_load(check))
    for check, message in {
        "{best: {table: x, rows: [a]}}": "foundations, statement 'c': foundations has no table 'x'",
        "{best: {table: t, rows: [z]}}": "statement 'c': t has no row 'z'; it has",
        "{best: {table: t, rows: [a], columns: [mIoU]}}": "statement 'c': t has no column 'mIoU'; it has",
        "{ranks: {}}": "statement 'c': foundations: expected field 'rank_tests'",
    }.items():
        with pytest.raises(ValueError, match=message):
            Statement(place="p", claim="c", check=yaml.safe_load(check)).told(paper({"t": AB}))


@pytest.mark.parametrize("key", paper_keys())
def test_every_statement_is_told(key):
    known = load_paper(key)
    table = statements.told(known)
    assert list(table.columns) == ["place", "claim", "printed", "recomputed", "agrees"]
    assert len(table) == len(known.statements) == table["claim"].nunique()
    assert all(table["recomputed"].str.len() > 0) and all(type(value) is bool for value in table["agrees"])


# --- SDST


def test_table_o_cell_by_cell():
    wrong = ranks.rank_check(SDST).set_index(["method", "metric"])
    # 60.0 is ahead of 59.8, and the paper prints ranks 5 and 4
    assert tuple(wrong.loc[("BAM-DETR", "Charades R1@0.5"), ["printed rank", "recomputed rank"]]) == (
        5.0,
        4.0,
    )
    assert tuple(wrong.loc[("R2-Tuning", "Charades R1@0.5"), ["printed rank", "recomputed rank"]]) == (
        4.0,
        5.0,
    )
    assert ("Ours†", "test HIT@1") not in wrong.index  # a tie, printed 1 and 1
    ties = wrong[wrong["printed rank"] == wrong["dense rank"]]
    assert {metric for _, metric in ties.index} == {"test HIT@1"}


def test_friedman_rejects_where_the_paper_says_it_does_not():
    test = ranks.friedman_check(SDST)
    assert (test.blocks, test.methods) == (10, 9) and test.p < ranks.ALPHA
    scores = ranks.ranked_scores(SDST).dropna(axis=1)
    r = scores.rank(ascending=False).sum(axis=1)  # Eq. 29, no ties in the complete blocks
    assert test.statistic == pytest.approx(12 / (10 * 9 * 10) * (r**2).sum() - 3 * 10 * 10)


def test_table_p_disagrees_where_ranks_are_close():
    table = ranks.nemenyi_check(SDST).set_index("method")
    far = table["rank difference"].abs() > table["critical difference"]
    assert (far == table["recomputed different"]).all()
    assert set(table.index[~table["agrees"]]) == {"BAM-DETR", "R2-Tuning", "Flash-VTG†"}


def test_claims():
    table = statements.told(SDST).set_index("claim")
    assert (len(table), table["agrees"].sum()) == (27, 11)
    assert table.loc["gain over deformable CA by length", "agrees"]
    assert not table.loc["Friedman's p is greater than 0.05", "agrees"]
    assert not table.loc["the final FFN is beneficial", "agrees"]
    blocks = table.loc["Friedman's test is over all metrics of the three data sets"]
    assert blocks["recomputed"].startswith("10 of 13 columns") and not blocks["agrees"]
    assert (
        "Tab. I, LST: 4 of 6 equal"
        in table.loc["Tab. C and Tab. I print R2-Tuning on the same features and data", "recomputed"]
    )
