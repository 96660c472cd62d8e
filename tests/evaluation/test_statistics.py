"""Intervals and rank tests against scipy, hand-worked numbers, printed tables and another implementation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from vtg_lib.evaluation import statistics as stats


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


def test_nemenyi_is_that_of_another_implementation():
    # posthoc_nemenyi_friedman of scikit-posthocs 0.17.1 (scipy 1.17.1), over the columns of the same numbers
    theirs = [
        [1.0, 0.536287, 0.183287, 0.019130],
        [0.536287, 1.0, 0.908132, 0.398631],
        [0.183287, 0.908132, 1.0, 0.807757],
        [0.019130, 0.398631, 0.807757, 1.0],
    ]
    numbers = [[9, 7, 8, 6, 9, 8], [8, 8, 6, 5, 7, 6], [5, 6, 7, 4, 8, 5], [3, 4, 5, 7, 2, 4]]
    scores = pd.DataFrame(numbers, index=list("abcd"), dtype=float).assign(blank=math.nan)
    got = stats.nemenyi(scores)
    assert got.to_numpy() == pytest.approx(np.array(theirs), abs=1e-6)
    assert list(got.index) == list(got.columns) == list("abcd")
    assert stats.nemenyi(-scores, higher_is_better=False).equals(got)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_nemenyi_is_05_at_the_critical_values_of_demsars_table(methods, q):
    # the best of k methods is ahead of the worst by k - 1 ranks in every block; over N blocks that is q
    # standard errors (Demsar 2006, Table 5) for N = q^2 k (k + 1) / 6 / (k - 1)^2, between two whole numbers
    exact = q**2 * methods * (methods + 1) / 6 / (methods - 1) ** 2
    few, more = math.floor(exact), math.ceil(exact)
    p = [
        stats.nemenyi(pd.DataFrame([[float(m)] * n for m in range(methods)])).iloc[0, -1] for n in (few, more)
    ]
    assert p[0] > 0.05 > p[1]


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
