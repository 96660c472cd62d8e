"""The printed order of methods against made-up runs whose order is known."""

import math

import pytest

from vtg_lib.book import ordering
from vtg_lib.papers import load_paper, row_spec
from vtg_lib.papers.comparison import compare
from vtg_lib.papers.verdict import CONTRADICTS, SMALLER, SUPPORTS, UNDECIDED

PAPER = load_paper("sdst")
COLUMN = "val mAP"
PRINTED = {
    label: PAPER.table("tab1").row(label).paper[COLUMN] for label in ("Moment-DETR", "QD-DETR", "Ours†")
}


def runs(scores: dict[str, list[float]]) -> list[dict]:
    """`{label: [mAP of seed 0, 1, ...]}` as records of a store."""
    found = []
    for label, values in scores.items():
        for seed, value in enumerate(values):
            spec = row_spec(PAPER.table("tab1").row(label), PAPER.profile("sim"), "qvhighlights", seed)
            found.append(
                {"hash": spec.hash, "spec": spec.resolved, "metrics": {"val": {"MR-full-mAP": value}}}
            )
    return found


def made(scores: dict[str, list[float]]) -> ordering.Order:
    return ordering.order(compare(PAPER, runs(scores), ["tab1"])["tab1"], COLUMN, "sim")


def test_a_kept_order_a_pair_the_other_way_round_and_noise():
    result = made(
        {"Moment-DETR": [20.0, 20.1, 20.2], "QD-DETR": [10.0, 10.2, 10.1], "Ours†": [20.1, 20.0, 20.3]}
    )
    assert [place.label for place in result.places] == sorted(PRINTED, key=PRINTED.get, reverse=True)
    verdicts = {(better, worse): judged.word for better, worse, judged in result.pairs}
    assert verdicts[("Ours†", "QD-DETR")] == SUPPORTS
    assert verdicts[("QD-DETR", "Moment-DETR")] == CONTRADICTS
    assert verdicts[("Ours†", "Moment-DETR")] == SMALLER
    assert [place.rank for place in result.places] == [1, 3, 2]
    assert result.tau == pytest.approx(1 / 3)
    text = ordering.summary(result)
    assert (
        text.startswith("1 of 3 pairs")
        and "1 smaller than printed" in text
        and "Moment-DETR above QD-DETR" in text
    )
    assert [place.ours.n for place in result.places] == [3, 3, 3]


def test_one_seed_is_said_and_nothing_to_compare_too():
    result = made({"Moment-DETR": [20.0], "QD-DETR": [30.0]})
    assert [judged.word for *_, judged in result.pairs] == [UNDECIDED] and result.tau == 1
    assert "1 cannot tell" in ordering.summary(result)
    alone = made({"QD-DETR": [30.0, 31.0]})
    assert math.isnan(alone.tau) and ordering.summary(alone).startswith("Not run yet")
