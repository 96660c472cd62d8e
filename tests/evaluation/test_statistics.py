"""Intervals and rank tests against scipy, hand-worked numbers and the second implementation; the paper's
claims.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from vtg_lib.evaluation import statistics as stats
from vtg_lib.papers import sdst_checks
from vtg_lib.papers.sdst_claims import CLAIMS


def test_summarise():
    assert stats.summarise([1.0, 2.0, 3.0, math.nan]) == stats.Summary(mean=2.0, sd=1.0, n=3)
    one, none = stats.summarise([4.0]), stats.summarise([])
    assert (one.mean, one.n) == (4.0, 1) and math.isnan(one.sd)
    assert none.n == 0 and math.isnan(none.mean)


def test_t_interval_is_scipys():
    x = np.array([1.0, 2.5, 2.0, 4.0])
    expected = scipy_stats.ttest_1samp(x, 0).confidence_interval(0.9)
    got = stats.t_interval(x, level=0.9)
    assert (got.low, got.high) == pytest.approx(tuple(expected))
    assert math.isnan(stats.t_interval([1.0]).low)


def test_t_interval_covers():
    rng = np.random.default_rng(0)
    hits = sum(stats.t_interval(rng.normal(size=3)).contains_zero for _ in range(1000))
    assert 930 <= hits <= 970


def test_bootstrap_interval():
    x = np.random.default_rng(1).normal(5, 1, 40)
    got = stats.bootstrap_interval(x)
    assert got == stats.bootstrap_interval(x)  # seeded
    assert got.low < x.mean() < got.high and got.high - got.low == pytest.approx(
        2 * 1.96 * x.std() / 40**0.5, rel=0.25
    )
    flat = stats.bootstrap_interval([2.0] * 12)
    assert (flat.low, flat.high) == (2.0, 2.0)


def test_paired_difference_uses_common_seeds():
    got = stats.paired_difference({0: 11.0, 1: 22.0, 2: 33.0, 9: 0.0}, {0: 10.0, 1: 20.0, 2: 30.0, 7: 5.0})
    assert (got.mean, got.n, got.method) == (2.0, 3, "t")
    assert (
        stats.paired_difference(
            {s: s + 1.0 + s % 2 for s in range(12)}, {s: float(s) for s in range(12)}
        ).method
        == "bootstrap"
    )
    assert stats.paired_difference({0: 1.0}, {1: 1.0}).n == 0


def test_pairing_removes_shared_noise():
    seeds = {0: 10.0, 1: 50.0, 2: 30.0}
    better = {s: v + 1 + 0.1 * s for s, v in seeds.items()}
    assert not stats.paired_difference(better, seeds).contains_zero


def test_nemenyi_agrees_with_scikit_posthocs(monkeypatch):
    posthocs = pytest.importorskip("scikit_posthocs")
    scores = pd.DataFrame(np.random.default_rng(2).normal(size=(5, 8)).cumsum(axis=0), index=list("abcde"))
    theirs = posthocs.posthoc_nemenyi_friedman(scores.to_numpy().T).to_numpy()
    monkeypatch.setattr(stats.importlib.util, "find_spec", lambda name: None)
    assert stats.nemenyi(scores).to_numpy() == pytest.approx(theirs, abs=1e-9)


def test_critical_difference_is_demsars_table():
    # q_0.05 for 4 and 10 methods is 2.569 and 3.164 (Demsar 2006, Table 5)
    assert stats.critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert stats.critical_difference(10, 6) == pytest.approx(3.164 * math.sqrt(10 * 11 / 36), abs=2e-3)
    with pytest.raises(ValueError, match="2 methods"):
        stats.critical_difference(1, 3)


def test_friedman_leaves_out_incomplete_blocks():
    scores = pd.DataFrame(
        {"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0], "z": [math.nan, 9.0, 1.0]}, index=list("abc")
    )
    got = stats.friedman(scores)
    assert (got.blocks, got.methods, got.mean_ranks) == (2, 3, {"a": 3.0, "b": 2.0, "c": 1.0})
    assert got.statistic == pytest.approx(4.0)  # N (k - 1) for perfect agreement
    with pytest.raises(ValueError, match="2 complete blocks"):
        stats.friedman(scores[["x", "z"]])


def test_rank_correlation():
    assert stats.rank_correlation([1, 2, 3, math.nan], [2, 4, 9, 1]) == (1.0, 1.0, 3)
    assert math.isnan(stats.rank_correlation([1, 2], [1, 2])[0])
    assert math.isnan(stats.rank_correlation([1, 1, 1], [1, 2, 3])[0])


# --- the paper's statistics


def test_table_o_cell_by_cell():
    wrong = sdst_checks.rank_check().set_index(["method", "metric"])
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
    test = sdst_checks.friedman_check()
    assert (test.blocks, test.methods) == (10, 9) and test.p < sdst_checks.ALPHA
    scores = sdst_checks.ranked_scores().dropna(axis=1)
    r = scores.rank(ascending=False).sum(axis=1)  # Eq. 29, no ties in the complete blocks
    assert test.statistic == pytest.approx(12 / (10 * 9 * 10) * (r**2).sum() - 3 * 10 * 10)


def test_table_p_disagrees_where_ranks_are_close():
    table = sdst_checks.nemenyi_check().set_index("method")
    far = table["rank difference"].abs() > table["critical difference"]
    assert (far == table["recomputed different"]).all()
    assert set(table.index[~table["agrees"]]) == {"BAM-DETR", "R2-Tuning", "Flash-VTG†"}


def test_claims():
    table = sdst_checks.claims().set_index("claim")
    assert len(table) == len(CLAIMS) and table["recomputed"].str.len().gt(0).all()
    assert table["agrees"].map(type).eq(bool).all()
    assert table.loc["gain over deformable CA by length", "agrees"]
    assert not table.loc["Friedman's p is greater than 0.05", "agrees"]
    assert not table.loc["the final FFN is beneficial", "agrees"]
    blocks = table.loc["Friedman's test is over all metrics of the three data sets"]
    assert blocks["recomputed"].startswith("10 of 13 columns") and not blocks["agrees"]
    assert (
        "4 of 6 with LST's"
        in table.loc["Tab. C and Tab. I print R2-Tuning on the same features and data", "recomputed"]
    )
