"""Differences of few pairs, judged with the spread of many: moderated variances, Holm's correction, power.

With three or eight seeds a row's own variance is a poor guess. Rows of one paper are measured alike, so their
variances are taken as draws from one scaled inverse chi-square distribution, whose two parameters all rows
give, and every row's variance is pulled towards it (Smyth 2004, Linear models and empirical Bayes methods for
assessing differential expression in microarray experiments, Secs. 3 to 6).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special
from scipy import stats as scipy_stats

LEVEL, POWER, MOST_SEEDS = 0.05, 0.8, 999


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What variances of rows are drawn from: `variance` (the scale) and its degrees of freedom, infinite
    where the rows' variances differ by no more than chance. No row, no prior: 0 degrees of freedom.
    """

    variance: float = math.nan
    freedom: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Moderated:
    """The mean of n paired differences, its 95 % interval and the two-sided p value of 0, by the moderated t.

    Attributes:
        sd: of one difference, moderated; freedom: of the t distribution. NaN where nothing tells a spread.
    """

    mean: float
    low: float
    high: float
    p: float
    sd: float
    n: int
    freedom: float


def fit_prior(rows: Iterable[Sequence[float]]) -> Prior:
    """The prior from the differences of many rows, by the moments of their log variances (Smyth 2004,
    Sec. 6.2); the pooled variance where these spread no more than chance. Rows with fewer than two
    differences, or without any spread, tell nothing.
    """
    values = [np.asarray(row, float) for row in rows]
    values = [row for row in values if row.size > 1 and row.std() > 0]
    if not values:
        return Prior()
    half = np.array([(row.size - 1) / 2 for row in values])
    logs = np.log([row.var(ddof=1) for row in values])
    centred = logs - special.digamma(half) + np.log(half)
    excess = -float(special.polygamma(1, half).mean())
    excess += float(centred.var(ddof=1)) if len(values) > 1 else 0.0
    if excess <= 0:
        pooled = np.average(np.exp(logs), weights=half)
        return Prior(variance=float(pooled), freedom=math.inf)
    freedom = 2 * _inverse_trigamma(excess)
    scale = centred.mean() + special.digamma(freedom / 2) - math.log(freedom / 2)
    return Prior(variance=float(np.exp(scale)), freedom=freedom)


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value; trigamma falls from infinity to 0."""
    low, high = 1e-8, 1e8
    if special.polygamma(1, high) > value:
        return high
    return float(optimize.brentq(lambda x: math.log(special.polygamma(1, x) / value), low, high, xtol=1e-12))


def moderated(differences: ArrayLike, prior: Prior) -> Moderated:
    """The mean difference `[n]` judged by the moderated variance, (d0 s0^2 + d s^2) / (d0 + d); NaNs are left
    out. One difference alone takes the prior's variance; without a prior nothing is known of its spread.
    """
    x = np.asarray(differences, float)
    x = x[~np.isnan(x)]
    mean, own = float(x.mean()) if x.size else math.nan, max(0, x.size - 1)
    freedom = prior.freedom + own
    if x.size == 0 or freedom == 0:
        nan = math.nan
        return Moderated(mean=mean, low=nan, high=nan, p=nan, sd=nan, n=int(x.size), freedom=0.0)
    variance = float(x.var(ddof=1)) if own else 0.0
    if math.isinf(prior.freedom):
        variance = prior.variance
    elif prior.freedom:
        variance = (prior.freedom * prior.variance + own * variance) / freedom
    error = math.sqrt(variance / x.size)
    half = float(scipy_stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    p = float(2 * scipy_stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Moderated(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=p,
        sd=math.sqrt(variance),
        n=int(x.size),
        freedom=freedom,
    )


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for all of them being looked at (Holm 1979); those that are NaN count for nothing."""
    known = sorted((value, name) for name, value in p.items() if not math.isnan(value))
    adjusted, highest = dict(p), 0.0
    for rank, (value, name) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * value))
        adjusted[name] = highest
    return adjusted


def needed_pairs(sd: float, effect: float, prior: Prior, level: float = LEVEL) -> int | None:
    """Pairs with which a difference of `effect` would be found with probability 0.8 at p < `level`, where one
    pair spreads by `sd`; None if even 999 are too few or nothing is known.
    """
    if not (sd > 0 and effect):
        return None
    for n in range(2, MOST_SEEDS + 1):
        freedom = n - 1 + prior.freedom
        bound = scipy_stats.t.ppf(1 - level / 2, freedom) + scipy_stats.t.ppf(POWER, freedom)
        if bound * sd / math.sqrt(n) <= abs(effect):
            return n
    return None


def same_rate(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Fisher's exact two-sided p value of two shares (successes, of how many) being one."""
    table = [[hits, number - hits] for hits, number in (first, second)]
    return float(scipy_stats.fisher_exact(table).pvalue)
