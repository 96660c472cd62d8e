"""Printed rows against our numbers and against each other: words follow from the numbers."""

import dataclasses
import textwrap

import pytest

from vtg_lib.evaluation import released as recorded
from vtg_lib.papers import load_paper
from vtg_lib.papers import quotes as printed
from vtg_lib.papers.loader import read_paper
from vtg_lib.papers.quotes import Quote

QUOTE = Quote(
    paper="P",
    place="Tab. 1",
    label="A",
    method="A",
    split="val",
    file="a_val",
    numbers={"mAP": 40.12, "R1": 50.0, "HIT": 60.5},
)


def word(brief: dict[str, float], **changes) -> printed.Check:
    found = printed.check(dataclasses.replace(QUOTE, **changes), brief)
    assert found is not None
    return found


def test_words() -> None:
    assert word({"mAP": 40.12, "R1": 50.0, "HIT": 60.5}).word == printed.EQUAL
    assert word({"mAP": 40.12}).word == printed.EQUAL and word({"mAP": 40.12}).cells == 1
    assert word({"mAP": 40.13, "R1": 49.99, "HIT": 60.5}).word == printed.LAST_DIGIT
    one = word({"mAP": 40.12, "R1": 50.0, "HIT": 80.5})
    assert (one.word, one.equal, one.furthest, one.gap) == (printed.ONE_CELL, 2, "HIT", 20.0)
    assert word({"mAP": 40.22, "R1": 50.0, "HIT": 80.5}).word == printed.DIFFERS
    assert printed.check(QUOTE, {"other": 1.0}) is None


def test_rows_printed_to_one_decimal_are_judged_at_one() -> None:
    coarse = {"numbers": {"mAP": 40.1, "R1": 50.0}, "decimals": 1}
    assert word({"mAP": 40.12, "R1": 50.04}, **coarse).word == printed.EQUAL
    assert word({"mAP": 40.16, "R1": 50.0}, **coarse).word == printed.LAST_DIGIT
    assert word({"mAP": 40.3, "R1": 50.0}, **coarse).word == printed.ONE_CELL


def test_a_spread_is_a_scale() -> None:
    spread = {"sd": {"mAP": 0.5, "R1": 2.0}, "numbers": {"mAP": 40.12, "R1": 50.0}}
    assert word({"mAP": 40.5, "R1": 51.9}, **spread).word == printed.WITHIN_SD
    far = word({"mAP": 41.0, "R1": 51.9}, **spread)
    assert far.word == printed.BEYOND_SD and far.furthest == "mAP"


def test_disagreements_allow_rounding() -> None:
    def by(paper: str, value: float, split: str = "val") -> Quote:
        return dataclasses.replace(QUOTE, paper=paper, numbers={"mAP": value}, split=split)

    assert printed.disagreements([by("P", 40.12), by("Q", 40.1), by("R", 40.12)]) == []
    assert printed.disagreements([by("P", 40.12), by("Q", 40.13, "test")]) == []
    assert printed.disagreements([by("P", 40.16), by("Q", 40.1)]) == [
        ("A", "val", "mAP", {"P": 40.16, "Q": 40.1})
    ]


def test_exchanged_splits_need_three_numbers() -> None:
    other = dataclasses.replace(QUOTE, split="test", paper="Q")
    assert printed.exchanged_splits([QUOTE, other]) == [(QUOTE, other)]
    assert printed.exchanged_splits([QUOTE, dataclasses.replace(other, numbers={"mAP": 40.12})]) == []
    assert printed.exchanged_splits([QUOTE, dataclasses.replace(other, method="B")]) == []


def test_methods_have_one_name() -> None:
    assert printed.method_name("M-DETR", "SDST") == "Moment-DETR"
    assert (
        printed.method_name("Ours†", "SDST") == "SDST"
        and printed.method_name("SG-DETR†", "SDST") == "SG-DETR"
    )


def test_the_papers_rows_of_released_predictions() -> None:
    scores = recorded.load()["released"]
    found = {
        (quote.paper, quote.place, quote.label, quote.split): printed.check(
            quote, scores[quote.file]["brief"]
        )
        for quote in printed.quotes([load_paper("foundations"), load_paper("sdst")])
        if quote.file
    }
    exact = [key for key, check in found.items() if check is not None and check.word == printed.EQUAL]
    assert {("SDST", "Tab. 1", "TR-DETR", "val"), ("SA-DETR", "Tab. 1", "CG-DETR", "test")} <= set(exact)
    assert found["SDST", "Tab. 1", "QD-DETR", "val"].word == printed.DIFFERS
    assert found["SDST", "Tab. 1", "Moment-DETR", "val"].furthest == "HL-min-VeryGood-Hit1"  # a misprint
    assert all(quote.file in scores for quote in printed.quotes() if quote.file)


def test_a_paper_with_a_yaml_of_its_own_is_read_from_there(tmp_path) -> None:
    path = tmp_path / "sa_detr.yaml"
    path.write_text(
        textwrap.dedent("""
        key: sa_detr
        chapter: 02_sadetr
        title: T
        short: S
        method: SA-DETR
        question: Q?
        venue: V
        profiles: {}
        tables:
          tab1:
            caption: C
            place: Sec. 4
            primary: test mAP
            columns: [test mAP]
            rows: [{label: TR-DETR, paper: [42.62], source: released, released: {test: tr_detr_test}}]
        """)
    )
    quotes = printed.quotes([load_paper("foundations"), read_paper(path)])
    ours = [quote for quote in quotes if quote.paper == "SA-DETR"]
    assert [(quote.place, quote.label) for quote in ours] == [("Tab. 1", "TR-DETR")]
    assert {quote.paper for quote in quotes} == {"SA-DETR", "SG-DETR", "Sim-DETR", "TD-DETR"}


@pytest.mark.parametrize("table", load_paper("foundations").tables, ids=lambda table: table.id)
def test_tables_name_their_paper_and_hold_percentages(table) -> None:
    assert " of " in table.title
    assert all(0 < value < 100 for row in table.rows for value in row.paper.values() if value is not None)
