"""Moderated variances against an independent implementation, Holm by hand, power against a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from vtg_lib.evaluation.moderation import Prior, fit_prior, holm, moderated, needed_pairs, same_rate

VARIANCES = [2.3, 0.3, 25.1, 1.7, 19.2, 0.1, 3.3, 1.1, 42.0, 6.5]
FREEDOM = [7, 7, 2, 2, 7, 2, 1, 7, 2, 7]
# squeezeVar of InMoose 0.7 (a port of limma) on these: prior variance and degrees of freedom, posterior
# variances
PRIOR = (2.010273, 1.452669)
POSTERIOR = [
    2.250208,
    0.593926,
    15.385276,
    1.830544,
    16.245788,
    0.903724,
    2.53612,
    1.256439,
    25.174805,
    5.728399,
]


def row(variance: float, freedom: int, mean: float = 0.0) -> np.ndarray:
    """Numbers with this sample variance and mean."""
    values = np.linspace(-1, 1, freedom + 1)
    return mean + values * math.sqrt(variance / values.var(ddof=1))


def test_variances_are_those_of_an_independent_implementation():
    rows = [row(*pair) for pair in zip(VARIANCES, FREEDOM, strict=True)]
    prior = fit_prior(rows)
    assert (prior.variance, prior.freedom) == pytest.approx(PRIOR, rel=1e-5)
    assert [moderated(r, prior).sd ** 2 for r in rows] == pytest.approx(POSTERIOR, rel=1e-5)


def test_alike_variances_are_pooled():
    prior = fit_prior([row(v, 5) for v in (1.0, 1.1, 0.95, 1.05)])
    assert (prior.variance, prior.freedom) == (pytest.approx(1.025), math.inf)  # as InMoose has it
    found = moderated(row(9.0, 3, mean=2.0), prior)
    half = stats.norm.ppf(0.975) * math.sqrt(1.025 / 4)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_without_a_prior_it_is_students_t():
    values = np.array([1.0, 2.5, 0.5, 1.5])
    found, expected = moderated(values, Prior()), stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_one_difference_borrows_its_spread_and_none_has_no_interval():
    one = moderated([3.0], Prior(variance=1.0, freedom=4.0))
    assert one.n == 1 and one.p == pytest.approx(2 * stats.t.sf(3.0, 4))
    assert math.isnan(moderated([3.0], Prior()).low) and math.isnan(moderated([], Prior()).mean)
    assert moderated([1.0, math.nan, 2.0], Prior()).n == 2
    assert fit_prior([[1.0], [2.0, 2.0]]) == Prior()  # neither tells a spread


def test_holm():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan}) == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),  # never below what comes before it
        "c": pytest.approx(0.06),
        "d": pytest.approx(math.nan, nan_ok=True),
    }


def test_needed_pairs_find_the_effect_four_times_in_five():
    number = needed_pairs(2.0, 1.5, Prior())
    rng = np.random.default_rng(0)
    found = stats.ttest_1samp(rng.normal(1.5, 2.0, (20_000, number)), 0, axis=1).pvalue < 0.05
    fewer = stats.ttest_1samp(rng.normal(1.5, 2.0, (20_000, number - 2)), 0, axis=1).pvalue < 0.05
    assert fewer.mean() < 0.8 < found.mean() + 0.02
    assert needed_pairs(2.0, 1.5, Prior(), level=0.005) > number
    assert needed_pairs(2.0, 0.0, Prior()) is None and needed_pairs(math.nan, 1.0, Prior()) is None
    assert needed_pairs(100.0, 0.1, Prior()) is None


def test_rates():
    assert same_rate((2, 8), (8, 8)) == pytest.approx(stats.fisher_exact([[2, 6], [8, 0]]).pvalue)
    assert same_rate((8, 8), (8, 8)) == 1
