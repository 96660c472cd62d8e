"""Spread over seeds, paired differences, and rank tests over several data sets.

Units are those of the numbers passed in (percent for the evaluator's metrics). NaN marks a missing number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

if TYPE_CHECKING:
    import pandas as pd

BOOTSTRAP_FROM = 10  # below this many pairs a bootstrap interval is too narrow, and the t interval is used


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean and sample standard deviation (n - 1) of n numbers; sd is NaN for one, the mean too for none."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval [low, high]; the bounds are NaN for fewer than two numbers."""

    mean: float
    low: float
    high: float
    n: int
    method: str

    @property
    def contains_zero(self) -> bool:
        return self.low <= 0 <= self.high


def summarise(values: ArrayLike) -> Summary:
    """Mean, sample standard deviation and number of `values` [n]; NaNs are left out."""
    x = np.asarray(values, dtype=float)
    x = x[~np.isnan(x)]
    mean = float(x.mean()) if x.size else math.nan
    return Summary(mean=mean, sd=float(x.std(ddof=1)) if x.size > 1 else math.nan, n=int(x.size))


def bootstrap_interval(
    values: ArrayLike, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of the mean of `values` [n]."""
    x = np.asarray(values, dtype=float)
    if x.size < 2 or np.all(x == x[0]):  # BCa is undefined without a spread to resample
        low = high = float(x[0]) if x.size > 1 else math.nan
    else:
        rng = np.random.default_rng(seed)
        result = scipy_stats.bootstrap((x,), np.mean, confidence_level=level, n_resamples=resamples, rng=rng)
        low, high = map(float, result.confidence_interval)
    return _interval(x, low, high, "bootstrap")


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of `values` [n]."""
    x = np.asarray(values, dtype=float)
    if x.size < 2:
        return _interval(x, math.nan, math.nan, "t")
    mean, half = float(x.mean()), float(x.std(ddof=1)) / math.sqrt(x.size)
    half *= float(scipy_stats.t.ppf(0.5 + level / 2, x.size - 1))
    return _interval(x, mean - half, mean + half, "t")


def _interval(x: np.ndarray, low: float, high: float, method: str) -> Interval:
    mean = float(x.mean()) if x.size else math.nan
    return Interval(mean=mean, low=low, high=high, n=int(x.size), method=method if x.size > 1 else "none")


def paired_difference(
    ours: Mapping[int, float], reference: Mapping[int, float], level: float = 0.95
) -> Interval:
    """Interval of the mean of ours - reference over the seeds that both have.

    Pairing by seed removes what the two share (order of the data, initialisation of common parts). The t
    interval is used below `BOOTSTRAP_FROM` pairs, the bootstrap from there on.
    """
    seeds = sorted(set(ours) & set(reference))
    differences = np.array([ours[s] - reference[s] for s in seeds], dtype=float)
    differences = differences[~np.isnan(differences)]
    return (t_interval if differences.size < BOOTSTRAP_FROM else bootstrap_interval)(differences, level)


@dataclass(frozen=True, kw_only=True)
class Friedman:
    """Friedman's test over complete blocks: statistic (chi square), p value, N blocks of k methods, mean
    ranks.
    """

    statistic: float
    p: float
    blocks: int
    methods: int
    mean_ranks: dict[str, float]


def ranks(scores: pd.DataFrame, higher_is_better: bool = True) -> pd.DataFrame:
    """Rank of each method (row) by each metric (column); 1 is best, ties share their mean rank, NaN stays
    NaN.
    """
    return scores.rank(axis=0, ascending=not higher_is_better, method="average")


def friedman(scores: pd.DataFrame, higher_is_better: bool = True) -> Friedman:
    """Do the methods (rows) differ over the blocks (columns)? Columns with a missing number are left out.

    Raises:
        ValueError: fewer than three methods, or fewer than two complete blocks.
    """
    complete = scores.dropna(axis=1)
    methods, blocks = complete.shape
    if methods < 3 or blocks < 2:
        raise ValueError(f"Friedman's test needs 3 methods and 2 complete blocks; got {methods} and {blocks}")
    result = scipy_stats.friedmanchisquare(*complete.to_numpy())
    mean_ranks = ranks(complete, higher_is_better).mean(axis=1)
    return Friedman(
        statistic=float(result.statistic),
        p=float(result.pvalue),
        blocks=blocks,
        methods=methods,
        mean_ranks={str(name): float(value) for name, value in mean_ranks.items()},
    )


def nemenyi(scores: pd.DataFrame, higher_is_better: bool = True) -> pd.DataFrame:
    """Nemenyi's two-sided p value of every pair of methods (rows), over the complete blocks (columns).

    The difference of two mean ranks, divided by its standard error sqrt(k (k + 1) / (6 N)) for k methods and
    N blocks and multiplied by sqrt 2, is compared with the studentized range of k groups and infinite degrees
    of freedom (Demsar, 2006).
    """
    complete = scores.dropna(axis=1)
    k, blocks = complete.shape
    mean_ranks = ranks(complete, higher_is_better).mean(axis=1).to_numpy()
    distance = np.abs(mean_ranks[:, None] - mean_ranks[None, :]) / math.sqrt(k * (k + 1) / (6 * blocks))
    p = scipy_stats.studentized_range.sf(distance * math.sqrt(2), k, np.inf)
    np.fill_diagonal(p, 1.0)
    return type(scores)(np.clip(p, 0.0, 1.0), index=complete.index, columns=complete.index)


def critical_difference(methods: int, blocks: int, alpha: float = 0.05) -> float:
    """Smallest difference of mean ranks that Nemenyi's test calls significant at `alpha`.

    Raises:
        ValueError: fewer than two methods, or no block.
    """
    if methods < 2 or blocks < 1:
        raise ValueError(f"the critical difference needs 2 methods and 1 block; got {methods} and {blocks}")
    q = scipy_stats.studentized_range.ppf(1 - alpha, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * blocks)))


def rank_correlation(a: ArrayLike, b: ArrayLike) -> tuple[float, float, int]:
    """Spearman's rho and Kendall's tau (b) of the pairs without NaN, and how many; NaN for fewer than three
    pairs.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[both], y[both]
    if x.size < 3 or np.all(x == x[0]) or np.all(y == y[0]):
        return math.nan, math.nan, int(x.size)
    rho, tau = scipy_stats.spearmanr(x, y).statistic, scipy_stats.kendalltau(x, y).statistic
    return float(rho), float(tau), int(x.size)
