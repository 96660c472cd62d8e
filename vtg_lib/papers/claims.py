"""What our runs say of a paper's causal claims: `vtg claims`.

A claim is a pair of rows that differ in its cause alone; or the difference of two such pairs; or the
difference between a pair at two settings of a knob of the generated world, which is what the dose-response
studies claim. Every seed gives one number. Verdicts are those of `vtg_lib.papers.verdict`, with Holm's
correction over the claims of the paper, and their variances are moderated over these claims, those of four
runs counting as twice those of two. The same is asked of a quarter and of half of the training, from the
curves on validation: a verdict that depends on how long one trains shows there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation.moderation import Prior, fit_prior, holm, moderated, same_rate
from vtg_lib.papers.evidence import TUNING, Origin, RunIndex, index_runs, origin_of
from vtg_lib.papers.plan import merged, plan, row_spec, turned
from vtg_lib.papers.questions import Claim, Contrast, by_key
from vtg_lib.papers.readings import Read, Record, curve_reader, reader
from vtg_lib.papers.schema import Paper, Profile
from vtg_lib.papers.verdict import Rate, Verdict, judge

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store

SHARES = (0.25, 0.5)  # of the training, at which claims are judged, too


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim and what runs say of it.

    Attributes:
        verdict: from the whole training; by_share: words at a share of it, where curves have the column.
        differences: seed -> treated - control, of runs that have learned; of the others too in `unlearned`.
        rate_p: Fisher's p of treated and control learning equally often.
    """

    claim: Claim
    verdict: Verdict
    by_share: Mapping[str, str]
    differences: Mapping[int, float]
    unlearned: Mapping[int, float]
    rate_p: float


def all_claims(paper: Paper) -> list[Claim]:
    """The paper's claims, and those of its dose-response studies: that the gain differs between the ends of a
    knob's range.
    """
    doses = [
        Claim(
            key=dose.key,
            claim=dose.question,
            place=dose.place,
            treated=dose.treated,
            control=dose.control,
            column=paper.table(dose.treated[0]).primary,
            expect="more" if dose.claim == "grows" else "less",
            knob=dose.knob,
            high=dose.points[-1][1],
            low=dose.points[0][1],
            data=dose.data,
        )
        for dose in paper.doses
    ]
    return [*paper.claims, *doses]


def claim_specs(
    paper: Paper, profile: Profile, seeds: Iterable[int], keys: Iterable[str] | None = None
) -> list[RunSpec]:
    """The runs that the claims (`keys`, default all) are judged by, first seed first, each once, with what
    they and the rows of the paper's tables want of them.

    Raises:
        ValueError: an unknown claim.
    """
    seeds = list(seeds)
    chosen = by_key("claims", all_claims(paper), keys)
    tables = {planned.spec.hash: planned.spec for planned in plan(paper, profile.name, seeds)}
    found: dict[str, RunSpec] = {}
    for seed in seeds:
        for claim in chosen:
            for _, side in _terms(claim):
                spec = _spec(paper, profile, claim, side, seed)
                if spec is not None:
                    before = found.get(spec.hash, tables.get(spec.hash, spec))
                    found[spec.hash] = merged(before, spec)
    return list(found.values())


@dataclass(frozen=True)
class _Side:
    """A row, with the claim's knob set to something or left alone."""

    table: str
    label: str
    setting: Any = None


def _terms(claim: Claim) -> Iterator[tuple[int, _Side]]:
    """The rows that a claim adds up, with their signs; those of the treated pair come first."""
    for sign, pair in claim.pairs:
        yield from _pair_terms(sign, pair, claim.high)
    if claim.knob is not None:
        yield from _pair_terms(-1, claim, claim.low)


def _pair_terms(sign: int, pair: Contrast, setting: Any) -> Iterator[tuple[int, _Side]]:
    yield sign, _Side(*pair.treated, setting)
    yield -sign, _Side(*pair.control, setting)


def _spec(paper: Paper, profile: Profile, claim: Claim, side: _Side, seed: int) -> RunSpec | None:
    """The run of one side, or None where the profile does not produce the claim's data set."""
    table = paper.table(side.table)
    dataset = "qvhighlights" if claim.column is None else table_dataset(paper, claim)
    if dataset not in profile.datasets:
        return None
    spec = row_spec(table.row(side.label), profile, dataset, seed)
    if claim.knob is not None:
        if spec.data.get("kind", "sim") != "sim":  # only generated worlds have knobs
            return None
        spec = dataclasses.replace(
            turned(spec, {**claim.data, claim.knob: side.setting}), diagnostics=(), keep=False
        )
    names = () if claim.measure is None else (claim.measure,)
    return dataclasses.replace(spec, diagnostics=tuple(dict.fromkeys((*spec.diagnostics, *names))))


def table_dataset(paper: Paper, claim: Claim) -> str:
    """The data set that the claim's column speaks of."""
    assert claim.column is not None
    dataset = paper.table(claim.treated[0]).column(claim.column).dataset
    assert dataset is not None
    return dataset


def judge_claims(paper: Paper, store: Store | Iterable[Record]) -> list[Judged]:
    """Every claim of the paper, judged at the first of its profiles with evidence that has pairs of it."""
    runs = index_runs(store)
    found = [(claim, *_collect(paper, runs, claim, reader(paper, claim))) for claim in all_claims(paper)]
    prior = _fit((claim, good) for claim, _, good, *_ in found)
    p_values = {
        claim.key: moderated(list(good.values()), _prior(claim, prior)).p for claim, _, good, *_ in found
    }
    adjusted = holm(p_values)
    early = {share: _early(paper, runs, [claim for claim, *_ in found], share) for share in SHARES}
    return [
        _judged(paper, early, claim, kind, good, bad, rates, mixed, prior, adjusted[claim.key])
        for claim, kind, good, bad, rates, mixed in found
    ]


def _fit(found: Iterable[tuple[Claim, Mapping[int, float]]]) -> Prior:
    """The prior of a difference of two runs, from claims of two runs and of four."""
    return fit_prior(
        [gap / math.sqrt(_scale(claim)) for gap in good.values()] for claim, good in found if claim.is_score
    )


def _scale(claim: Claim) -> float:
    """How many times the variance of a difference of two runs a claim has."""
    return len(list(_terms(claim))) / 2


def _prior(claim: Claim, prior: Prior) -> Prior:
    """Diagnostics and epochs have other units than metrics, so they go by their own spread."""
    if not claim.is_score:
        return Prior()
    return dataclasses.replace(prior, variance=prior.variance * _scale(claim))


def _early(
    paper: Paper, runs: RunIndex, every: Sequence[Claim], share: float
) -> tuple[Prior, dict[str, dict[int, float]]]:
    """The claims' differences at a share of the training, and their prior: spreads are others than at the
    end.
    """
    gaps = {
        claim.key: _collect(paper, runs, claim, curve_reader(paper, claim, share))[1]
        for claim in every
        if claim.is_score
    }
    return _fit((claim, gaps[claim.key]) for claim in every if claim.key in gaps), gaps


def _judged(
    paper: Paper,
    early: Mapping[float, tuple[Prior, Mapping[str, Mapping[int, float]]]],
    claim: Claim,
    kind: str | None,
    good: dict[int, float],
    bad: dict[int, float],
    rates: tuple[Rate, Rate],
    mixed: int,
    prior: Prior,
    adjusted: float,
) -> Judged:
    effect = printed_effect(paper, claim)
    expect = claim.expect or ("less" if effect is not None and effect < 0 else "more")
    facts: dict[str, Any] = {"printed": effect, "sign": 1 if expect == "more" else -1, "learned": rates}
    by_share = {
        f"{share:g}": judge(list(part.values()), _prior(claim, then), **facts).word
        for share, (then, gaps) in early.items()
        if (part := gaps.get(claim.key))
    }
    return Judged(
        claim=claim,
        verdict=judge(
            list(good.values()),
            _prior(claim, prior),
            adjusted=None if math.isnan(adjusted) else adjusted,
            evidence=kind,
            mixed=mixed,
            **facts,
        ),
        by_share=by_share,
        differences=good,
        unlearned=bad,
        rate_p=same_rate(*rates),
    )


def printed_effect(paper: Paper, claim: Claim) -> float | None:
    """What the paper prints as the claim's difference, if it does."""
    if claim.effect is not None or not claim.is_score or claim.column is None or claim.knob is not None:
        return claim.effect
    total = 0.0
    for sign, side in _terms(claim):
        number = paper.table(side.table).row(side.label).paper.get(claim.column)
        if number is None:
            return None
        total += sign * number
    return round(total, 6)


def _collect(
    paper: Paper, runs: RunIndex, claim: Claim, read: Read
) -> tuple[str | None, dict[int, float], dict[int, float], tuple[Rate, Rate], int]:
    """The claim's numbers at the first profile with evidence that has a seed of all its rows.

    Returns:
        The kind of evidence; seed -> difference where all runs have learned, and where one has not; how many
        runs of the treated and of the control row have learned, of how many; how many seeds mix versions of
        a model.
    """
    terms = list(_terms(claim))
    for profile in paper.profiles.values():
        if profile.evidence is None:
            continue
        sides = []
        for sign, side in terms:
            spec = _spec(paper, profile, claim, side, 0)
            sides.append((sign, runs.get(spec.cost_key, {}) if spec is not None else {}))
        common = sorted(seed for seed in set.intersection(*(set(r) for _, r in sides)) if seed < TUNING)
        good: dict[int, float] = {}
        bad: dict[int, float] = {}
        mixed = 0
        for seed in common:
            origins = [origin_of(records[seed]) for _, records in sides]
            numbers = [(sign, read(records[seed])) for sign, records in sides]
            if any(n is None for _, n in numbers) or len({o.device for o in origins}) > 1:
                continue
            gap = sum(sign * n for sign, n in numbers if n is not None)
            (good if all(o.learned for o in origins) else bad)[seed] = gap
            mixed += _mixed(origins)
        if good or bad:
            seeds = set(good) | set(bad)
            return profile.evidence, good, bad, (_rate(sides, 0, seeds), _rate(sides, 1, seeds)), mixed
    return None, {}, {}, ((0, 0), (0, 0)), 0


def runs_behind(paper: Paper, store: Store | Iterable[Record], judged: Iterable[Judged]) -> int:
    """How many stored runs the verdicts rest on, each counted once."""
    runs = index_runs(store)
    found: set[str] = set()
    sizes: dict[str, Profile] = {
        size.evidence: size for size in reversed([*paper.profiles.values()]) if size.evidence is not None
    }
    for one in judged:
        if one.verdict.evidence is None:
            continue
        for _, side in _terms(one.claim):
            spec = _spec(paper, sizes[one.verdict.evidence], one.claim, side, 0)
            records = {} if spec is None else runs.get(spec.cost_key, {})
            found |= {records[s]["hash"] for s in (*one.differences, *one.unlearned) if s in records}
    return len(found)


def _mixed(origins: Sequence[Origin]) -> bool:
    return any(first.other_code(second) for first in origins for second in origins)


def _rate(sides: Sequence[tuple[int, Mapping[int, Record]]], first: int, seeds: set[int]) -> Rate:
    """How many runs have learned, of the treated rows (first = 0) or of the control rows (1)."""
    hits = [origin_of(records[seed]).learned for _, records in sides[first::2] for seed in seeds]
    return sum(hits), len(hits)


def to_json(paper: Paper, store: Store | Iterable[Record]) -> list[dict[str, Any]]:
    """What `vtg claims --json` prints: plain JSON values, no NaN."""
    return [_claim_json(paper, judged) for judged in judge_claims(paper, store)]


def _claim_json(paper: Paper, judged: Judged) -> dict[str, Any]:
    claim, verdict = judged.claim, judged.verdict
    found = verdict.difference
    return {
        "paper": paper.key,
        "claim": claim.claim,
        "key": claim.key,
        "table": claim.treated[0],
        "treated": claim.treated[1],
        "control": claim.control[1],
        "column": claim.number,
        "paper_difference": verdict.paper_difference,
        "difference": None if found is None else _number(found.mean),
        "low": None if found is None else _number(found.low),
        "high": None if found is None else _number(found.high),
        "p": _number(verdict.p),
        "seeds": len(judged.differences),
        "learned": [list(rate) for rate in verdict.learned],
        "verdict": verdict.word,
        "needed_seeds": verdict.needed,
        "by_share": dict(judged.by_share),
        "evidence": verdict.evidence,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
