"""The README's claims are those of the run store, and secondary tables open on demand."""

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest

from vtg_lib.book import compared, contents, front
from vtg_lib.book.tables import frame_html
from vtg_lib.experiments.store import Store
from vtg_lib.files import RESULTS
from vtg_lib.papers import load_paper
from vtg_lib.papers.claims import judge_claims, runs_behind
from vtg_lib.papers.comparison import compare
from vtg_lib.papers.verdict import DECIDED

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


@pytest.fixture(scope="module")
def claims():
    return front.judged(contents.papers())


@pytest.mark.parametrize("name", [front.LIGHT, front.DARK])
def test_the_picture_of_the_readme_is_of_these_runs(claims, name):
    """By its text alternative: another version of matplotlib may draw the same in other words."""
    drawn = ROOT / name
    (told,) = ElementTree.parse(drawn).iter(DESCRIPTION)
    assert told.text == front.alt(claims), f"{name} is not what the run store says: run `make contents`"
    assert drawn.stat().st_size < 150_000


def test_the_same_claims_make_the_same_picture(claims):
    first, again = front.pictures(claims), front.pictures(claims)
    assert first == again and first[front.LIGHT] != first[front.DARK]
    assert not any(colour in first[front.DARK] for colour in front.ON_DARK)
    assert all(
        one.claim.claim.rstrip(".") in front.alt(claims).replace("\n", " ")
        for one in claims[0][1]
        if one.verdict.difference and not one.claim.measure
    )


def test_without_runs_nothing_is_decided(tmp_path):
    claims = front.judged(contents.papers(), tmp_path)
    number = sum(len(verdicts) for _, verdicts, _ in claims)
    told = f"0 of {number} causal claims of {len(claims)} papers are decided by 0 runs: {number} not run."
    assert front.sentence(claims) == told
    assert "0 claims" in front.markdown(claims) and "<svg" in front.pictures(claims)[front.LIGHT]


def test_runs_are_counted_that_verdicts_rest_on():
    paper = load_paper("simdetr")
    records = list(Store(RESULTS / f"{paper.chapter}.jsonl"))
    count = runs_behind(paper, records, judge_claims(paper, records))
    assert 0 < count <= len({record["hash"] for record in records})
    others = [{**r, "spec": {**r["spec"], "seed": r["spec"]["seed"] + 1000}} for r in records]
    assert runs_behind(paper, [*records, *others], judge_claims(paper, records)) == count  # tuning worlds
    assert runs_behind(paper, records, []) == 0


def test_a_secondary_table_opens_on_demand():
    paper = load_paper("sdst")
    results = compare(paper, [])["tabL"]
    folded = compared.render(results)
    assert results.table.secondary and folded.startswith("<details") and folded.endswith("</details>")
    assert (
        f"<summary>{results.table.title}: {len(results.rows)} rows, none with runs of ours</summary>"
        in folded
    )
    open_table = dataclasses.replace(results, table=dataclasses.replace(results.table, secondary=False))
    assert compared.render(open_table) in folded and not compared.render(open_table).startswith("<details")


def test_a_folded_frame_says_what_is_in_it():
    shown = frame_html(pd.DataFrame({"x": [1, 2]}), fold="a <b>").data
    assert shown.startswith('<details class="vtg-more"><summary>a &lt;b&gt;: 2 rows</summary>')


def test_the_first_page_tells_the_clearest_verdict_of_each_paper(claims, tmp_path):
    lines = front.clearest(claims)
    assert [line.split("](")[1].split(")")[0] for line in lines] == [
        f"chapters/{paper.chapter}.ipynb" for paper, *_ in claims
    ]
    for line, (_, verdicts, _) in zip(lines, claims, strict=True):
        told = [one for one in verdicts if f"“{one.claim.claim.rstrip('.')}”" in line]
        assert [one.verdict.word in DECIDED for one in told] == [True]
    assert not any("Clearest" in line for line in front.clearest(front.judged(contents.papers(), tmp_path)))
    page = front.page(claims, ["X-DETR"])
    assert "Not judged yet: X-DETR." in page and page.count("```{image} static/claims-") == 2
    assert "Not judged yet" not in front.page(claims, [])


def test_the_rendered_first_page_has_the_claims_as_a_chart(claims):
    page = contents.first_page(claims, live=True)
    assert page.count('class="vtg-spec"') == page.count("<img") == 1 and "```" not in page
    spec = json.loads(page.split('class="vtg-spec">')[1].split("</script>")[0])
    (lines,) = spec["datasets"].values()
    assert [line["word"] for line in lines] == [row.word for row in front.rows(claims)]
