"""Claims on made-up stores, where every expected word is known."""

import dataclasses
import json
import math
import statistics

import pytest

from vtg_lib.evaluation.moderation import Prior
from vtg_lib.papers import claims, load_paper, paper_keys, row_spec
from vtg_lib.papers.claims import all_claims, judge_claims, to_json
from vtg_lib.papers.readings import epochs_to_share
from vtg_lib.papers.verdict import NOT_RUN, SMALLER, SUPPORTS, UNDECIDED, UNLEARNED, has_learned, judge

PAPER = load_paper("sdst")
SIM = PAPER.profile("sim")
MAP = "MR-full-mAP"
NOISE = [0.3, -0.2, 0.1, -0.3, 0.25, -0.15, 0.05, -0.05]


def claim_of(key: str) -> claims.Claim:
    return next(claim for claim in all_claims(PAPER) if claim.key == key)


def record(claim, side, seed, score, swapped=5.0, early=None, diagnostics=None):
    spec = claims._spec(PAPER, SIM, claim, side, seed)
    epochs = spec.train.epochs
    return {
        "hash": spec.hash,
        "spec": spec.resolved,
        "metrics": {"val": {MAP: score}, "swapped": {MAP: swapped}, "test": {MAP: score}},
        "curves": {"epoch": [epochs // 4, epochs // 2, epochs], MAP: early or [score / 3, score / 2, score]},
        "diagnostics": diagnostics or {},
        "provenance": {"device": "EPYC, 1 thread(s)"},
    }


def store(key, treated, control, **facts):
    """Runs of the claim's first pair, a number a seed each."""
    claim = claim_of(key)
    sides = [side for _, side in claims._terms(claim)]
    scores = (treated, control)
    return [
        record(claim, side, seed, score, **facts)
        for side, numbers in zip(sides, scores, strict=False)
        for seed, score in enumerate(numbers)
    ]


def judged(records, key):
    return next(one for one in judge_claims(PAPER, records) if one.claim.key == key)


def around(level, scale=1.0, shift=0):
    return [level + scale * noise for noise in NOISE[shift:] + NOISE[:shift]]


def test_a_clear_difference_supports_and_its_reverse_contradicts():
    good = judged(store("rdsa_deformable", around(60), around(57, shift=3)), "rdsa_deformable")
    assert good.verdict.word == SUPPORTS and good.verdict.difference.mean == pytest.approx(3)
    assert good.verdict.paper_difference == 1.33 and len(good.differences) == 8
    bad = judged(store("rdsa_deformable", around(57), around(60, shift=3)), "rdsa_deformable")
    assert bad.verdict.word == "contradicts"


def test_no_difference_is_smaller_than_printed_if_the_interval_is_narrow():
    narrow = judged(store("rdsa_deformable", around(60), around(60, shift=3)), "rdsa_deformable")
    assert narrow.verdict.word == SMALLER and narrow.verdict.needed is None
    wide = judged(store("rdsa_deformable", around(60, 20), around(60, 20, shift=3)), "rdsa_deformable")
    assert wide.verdict.word == UNDECIDED and wide.verdict.needed > 8


@pytest.mark.parametrize(
    ("shift", "printed", "word"),
    [(-1.0, 2.0, SMALLER), (1.0, 5.0, SMALLER), (1.0, 1.2, UNDECIDED), (-1.0, -1.2, UNDECIDED)],
)
def test_an_undecided_sign_may_still_be_short_of_what_is_printed(shift, printed, word):
    differences = [shift + 3 * noise for noise in NOISE]
    facts = {"printed": printed, "sign": 1 if printed > 0 else -1, "learned": ((8, 8), (8, 8))}
    free = judge(differences, Prior(), **facts)
    assert free.difference.low * free.difference.high > 0 and free.p < 0.05
    assert judge(differences, Prior(), adjusted=0.08, **facts).word == word


def test_runs_that_have_not_learned_are_counted_and_left_out():
    records = store("rdsa_deformable", around(60), around(57, shift=3))
    lost = [{**r, "metrics": {**r["metrics"], "swapped": {MAP: 50.0}}} for r in records]
    assert has_learned(records[0]) and not has_learned(lost[0])
    some = judged(lost[:2] + records[2:], "rdsa_deformable")
    assert some.verdict.learned == ((6, 8), (8, 8)) and len(some.differences) == 6
    assert set(some.unlearned) == {0, 1} and some.verdict.word == SUPPORTS
    most = judged(lost[:6] + records[6:], "rdsa_deformable")
    assert most.verdict.word == UNLEARNED and most.rate_p < 0.01


def test_few_or_no_pairs():
    assert judged([], "rdsa_deformable").verdict.word == NOT_RUN
    one = judged(store("rdsa_deformable", [60.0], [50.0]), "rdsa_deformable")
    assert one.verdict.word == UNDECIDED
    sure = Prior(variance=0.1, freedom=20)  # which would find 5 points in a single world
    facts = {"printed": None, "sign": 1, "learned": ((2, 2), (2, 2))}
    assert [judge([5.0] * n, sure, **facts).word for n in (1, 2)] == [UNDECIDED, SUPPORTS]
    tuning = store("rdsa_deformable", around(60), around(57))
    for line in tuning:
        line["spec"] = {**line["spec"], "seed": line["spec"]["seed"] + 1000}
        line["spec"]["data"] = {**line["spec"]["data"], "seed": line["spec"]["seed"]}
    assert judged(tuning, "rdsa_deformable").verdict.word == NOT_RUN  # no table reads these worlds


def test_the_same_question_earlier_in_training():
    early = [20.0, 20.0, 60.0]
    records = store("rdsa_deformable", around(60), around(57, shift=3))
    half = len(records) // 2
    for number, line in enumerate(records):
        gap = 5.0 if number < half else 0.0
        line["curves"][MAP] = [early[0] + gap + NOISE[number % 8], early[1] + NOISE[number % 8], 60.0]
    found = judged(records, "rdsa_deformable")
    assert found.by_share["0.25"] == SUPPORTS and found.by_share["0.5"] == SMALLER


def test_a_measure_is_compared_like_a_column():
    records = []
    for side, moved in zip((s for _, s in claims._terms(claim_of("collapse"))), (0.5, 0.1), strict=True):
        records += [
            record(
                claim_of("collapse"),
                side,
                seed,
                60.0,
                diagnostics={"offsets": {"after": {"moved": [[moved + noise / 100]]}}},
            )
            for seed, noise in enumerate(NOISE)
        ]
    found = judged(records, "collapse")
    assert found.verdict.word == SUPPORTS and found.verdict.difference.mean == pytest.approx(0.4)
    assert found.by_share == {}


def test_a_dose_is_the_gain_at_one_end_less_that_at_the_other():
    claim = claim_of("moment_length")
    assert (claim.high, claim.low, claim.expect) == (20, 5, "more")
    levels = {(20, "Ours"): 62, (20, "Def. CA"): 57, (5, "Ours"): 50, (5, "Def. CA"): 49}
    records = [
        record(claim, side, seed, levels[side.setting, side.label] + NOISE[(seed + place) % 8])
        for place, (_, side) in enumerate(claims._terms(claim))
        for seed in range(8)
    ]
    found = judged(records, "moment_length")
    assert found.verdict.word == SUPPORTS and found.verdict.difference.mean == pytest.approx(4, abs=0.1)


def test_holm_is_over_the_claims_of_the_paper():
    alone = judged(store("shared", around(60.5, 4), around(60, 4, shift=3)), "shared")
    others = store("rdsa_deformable", around(60), around(57, shift=3))
    both = judged(store("shared", around(60.5, 4), around(60, 4, shift=3)) + others, "shared")
    assert both.verdict.p >= alone.verdict.difference.p


def test_a_difference_of_differences():
    claim = next(c for c in all_claims(load_paper("simdetr")) if c.key == "layers_ours")
    signs = [(sign, side.label) for sign, side in claims._terms(claim)]
    assert signs == [(1, "Sim-DETR, 6"), (-1, "Sim-DETR, 2"), (-1, "TR-DETR, 6"), (1, "TR-DETR, 2")]


def test_json_contract():
    listed = json.loads(json.dumps(to_json(PAPER, []), allow_nan=False))
    for one in listed:
        assert set(one) >= {
            "paper",
            "claim",
            "table",
            "treated",
            "control",
            "column",
            "paper_difference",
            "difference",
            "low",
            "high",
            "seeds",
            "learned",
            "verdict",
            "needed_seeds",
            "by_share",
            "evidence",
        }
    assert len(listed) == len(PAPER.claims) + len(PAPER.doses)


@pytest.mark.parametrize("key", paper_keys())
def test_every_claim_has_runs_at_sim_and_a_control_that_differs(key):
    def plain(train):  # what is done to batches may be the claimed cause
        return dataclasses.replace(train, hook="", hook_options={})

    def variant(name):
        return paper.table(name[0]).row(name[1]).variant

    paper = load_paper(key)
    for claim in all_claims(paper):
        for _, side in claims._terms(claim):
            assert claims._spec(paper, paper.profile("sim"), claim, side, 0) is not None
        first, second, *_ = [
            claims._spec(paper, paper.profile("sim"), claim, s, 0) for _, s in claims._terms(claim)
        ]
        assert first.hash != second.hash
        assert first.data == second.data
        if first.model == second.model and variant(claim.treated) == variant(claim.control):
            # methods and their variants have learning rates of their own
            assert plain(first.train) == plain(second.train)


def test_pretraining_is_compared_with_as_many_updates_on_the_target():
    def updates(spec):
        own = spec.train.epochs * math.ceil(spec.data["train"] / spec.train.batch_size)
        return own + (updates(spec.init) if spec.init else 0)

    paper = load_paper("sgdetr")
    sim, tuned = paper.profile("sim"), paper.table("tuned")
    treated = row_spec(tuned.row("Ours w/ PT"), sim, "qvhighlights", 0)
    control = row_spec(tuned.row("Ours, as many updates on the target"), sim, "qvhighlights", 0)
    assert updates(treated) == updates(control) and treated.init and not control.init
    first = [row_spec(row, sim, "qvhighlights", 0) for row in paper.table("captioned").rows]
    assert len({updates(spec) for spec in first}) == 1
    assert {spec.data["draw"] for spec in first} == {1} and "draw" not in treated.data


def test_claims_of_four_runs_have_twice_the_variance_of_those_of_two():
    pair, dose = claim_of("rdsa_deformable"), claim_of("moment_length")
    wide = {seed: noise * 2**0.5 for seed, noise in enumerate(NOISE)}
    plain = dict(enumerate(NOISE))
    prior = claims._fit([(pair, plain), (dose, wide)])
    assert prior.variance == pytest.approx(statistics.variance(NOISE))
    assert claims._prior(dose, prior).variance == pytest.approx(2 * claims._prior(pair, prior).variance)
    assert claims._prior(claim_of("collapse"), prior).freedom == 0


def test_a_claim_may_be_about_how_soon_a_curve_gets_near_its_end():
    claim = dataclasses.replace(claim_of("rdsa_deformable"), effect=-2.0, expect="less", reach=0.5)
    paper = dataclasses.replace(PAPER, claims=(claim,), doses=())
    records = store("rdsa_deformable", around(60), around(60))
    for number, made in enumerate(records):  # those of the treated row come first
        later = 0.1 * made["spec"]["seed"]
        made["curves"][MAP] = [value + later for value in ((40, 60, 60) if number < 8 else (20, 40, 60))]
    (found,) = judge_claims(paper, records)
    epochs = records[0]["curves"]["epoch"]
    assert found.verdict.word == SUPPORTS and found.by_share == {}
    assert claim.number == "epochs to 50% of mAP" and not claim.is_score
    assert found.differences[0] == pytest.approx(0.75 * epochs[0] - 1.5 * epochs[0])


def test_epochs_to_a_share_lie_between_evaluations():
    assert epochs_to_share([2, 4, 6], [0.0, 8.0, 10.0]) == pytest.approx(5)
    assert epochs_to_share([2, 4], [12.0, 10.0]) == pytest.approx(1.5)
    assert epochs_to_share([2, 4], [1.0, 0.0]) is None and epochs_to_share([], []) is None
