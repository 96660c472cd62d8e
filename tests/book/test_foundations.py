"""The chapter on the foundations: measured where the files are, recorded elsewhere, said where there is
neither.
"""

import json
import re

import ipywidgets
import pytest

from tests.evaluation.test_per_query import world
from vtg_lib.book import figures as plots
from vtg_lib.book import ordering, tables
from vtg_lib.book.foundations import authors, data, figures, predictions
from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.foundations.record import EXAMPLES, PARTS, gather, make, worked_query
from vtg_lib.book.parameters import PROFILES, Parameters
from vtg_lib.evaluation import released as recorded
from vtg_lib.evaluation.per_query import METHODS
from vtg_lib.experiments.store import Store
from vtg_lib.papers import load_paper, row_spec

WITHOUT_PART = [
    authors.printed_table,
    authors.printed_told,
    authors.split_gap,
    predictions.summary,
]
VIEWS = [
    *(data.one_query, data.data_table, data.label_table, data.data_oddities, data.data_figure),
    *(data.generated_gap, data.worked_figure, data.worked_steps, data.bounds_list, data.habits_table),
    *(data.habits_told, authors.convergence_figure, authors.log_table),
    *(predictions.calibration_figure, predictions.calibration_table, predictions.recall_figure),
    *(predictions.repeats_table, predictions.agreement_figure, predictions.pair_table),
    *(predictions.solved_figure, *WITHOUT_PART),
]


@pytest.fixture()
def chapter(tmp_path, monkeypatch) -> Foundations:
    """The chapter of a reader without files."""
    monkeypatch.delenv("VTG_DATA_ROOT", raising=False)
    monkeypatch.setattr("vtg_lib.book.parameters.ROOT", tmp_path)
    return Foundations("foundations", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)


@pytest.fixture()
def empty(tmp_path, monkeypatch) -> Foundations:
    """The chapter with neither files nor a record."""
    monkeypatch.delenv("VTG_DATA_ROOT", raising=False)
    monkeypatch.setattr("vtg_lib.book.parameters.ROOT", tmp_path)
    nothing = {"released": {}, "annotations": {}, "logs": {}}
    monkeypatch.setattr(recorded, "load", lambda: nothing)
    monkeypatch.setattr("vtg_lib.book.foundations.record.released_score", lambda *_: None)
    monkeypatch.setattr("vtg_lib.book.foundations.chapter.released_score", lambda *_: None)
    return Foundations("foundations", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)


def text_of(element) -> str:
    return element.data if hasattr(element, "data") else str(element)


def test_the_record_is_small_and_whole() -> None:
    record = recorded.load()
    assert set(record["foundations"]) == set(PARTS) and recorded.RECORD.stat().st_size < 300_000
    assert len(record["foundations"]["examples"]["queries"]) == EXAMPLES
    assert {m for pair in record["foundations"]["predictions"]["pairs"] for m in pair["of"]} == set(METHODS)


def test_readers_without_files_see_the_record(chapter) -> None:
    assert not any(chapter.now.values()) and chapter.found == recorded.load()["foundations"]
    assert chapter.scores["tr_detr_test"]["MR-full-mAP"] == 42.62
    shown = data.overview(chapter).data
    assert "taken from the record" in shown and "vtg data fetch" in shown and "released_logs" in shown


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_every_view_shows_the_record(chapter, view) -> None:
    shown = view(chapter).data
    assert "neither the files" not in shown and "nan" not in re.sub(r"base64,[^\"]+", "", shown)
    for picture in re.findall(r"<img [^>]*>", shown):
        assert re.search(r'alt="[^"]{40,}"', picture)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_no_view_breaks_without_files_and_record(empty, view) -> None:
    assert isinstance(view(empty).data, str)
    if view not in WITHOUT_PART:
        assert "vtg data fetch" in view(empty).data


def test_explorer_needs_no_kernel_and_says_when_it_is_empty(chapter, empty) -> None:
    box = predictions.explorer(chapter)
    assert isinstance(box, ipywidgets.VBox) and len(box.children[-1].children) == EXAMPLES
    for child in box.children[-1].children:
        assert "CG-DETR predicts" in child.value and len(child.value) < 1.5 * plots.MAX_BYTES
    assert "No queries" in predictions.explorer(empty).data


def test_words_are_computed(chapter) -> None:
    pairs = chapter.found["predictions"]["pairs"]
    for pair in pairs:
        assert (predictions.pair_word(pair) == predictions.NOISE) == (pair["low"] <= 0 <= pair["high"])
    shown = predictions.pair_table(chapter).data
    assert shown.count(f">{predictions.NOISE}<") == sum(
        predictions.pair_word(pair) == predictions.NOISE for pair in pairs
    )
    told = authors.printed_told(chapter).data
    counts = [int(n) for n in re.findall(r"</strong>: (\d+) of \d+ quoted", told)]
    assert len(counts) == 4 and sum(counts) == int(re.search(r"of (\d+) quoted", told)[1])
    chapter.scores["tr_detr_test"] = {**chapter.scores["tr_detr_test"], "MR-full-mAP": 40.0}
    assert (
        "TR-DETR test in SDST Tab. 1 (mAP, ours -2.62; 6 of 7 cells equal)"
        in authors.printed_told(chapter).data
    )


def test_released_predictions_are_found_in_their_logs(chapter) -> None:
    epochs = authors.released_epochs(chapter)
    assert epochs["qd_detr"] == 180 and epochs["moment_detr"] is None  # its log is of another run
    assert "another run" in authors.log_table(chapter).data


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_runs(tmp_path, profile) -> None:
    chapter = Foundations("foundations", Parameters.parse(profile=profile, device="cpu"), results=tmp_path)
    assert chapter.profile == profile and chapter.provenance()["chapter"] == "00_foundations"


def test_parts_are_measured_one_by_one(tmp_path) -> None:
    """A root with annotations alone: that part is measured, the others are as recorded."""
    from vtg_lib.data.datasets import DATASETS
    from vtg_lib.data.statistics import SETS

    _, truth = world(6)
    for dataset, files in SETS.values():
        kept = {"qid", "query", "vid", "duration", *DATASETS[dataset].labels}
        label = [1.0, 2.0] if DATASETS[dataset].several else [1.0]
        extra = {"label": [label] * 75, "duration": 75} if "label" in kept else {}
        lines = [
            {k: v for k, v in row.items() if k in kept} | extra | {"vid": f"{row['vid']}_0_150"}
            for row in truth
        ]
        for file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            moved = [{**line, "qid": f"{file}{line['qid']}"} for line in lines]
            (tmp_path / file).write_text("\n".join(map(json.dumps, moved)))
    found, now = gather(tmp_path)
    assert now == {name: name == "annotations" for name in PARTS}
    assert found["annotations"]["QVHighlights val"]["statistics"]["queries"] == 6
    assert found["logs"] == recorded.load()["foundations"]["logs"]
    with pytest.raises(FileNotFoundError):
        make(tmp_path)


def test_the_worked_query_fits_its_rule() -> None:
    submission, truth = world(80)
    found = worked_query(submission, truth)
    assert len(found["relevant_windows"]) == 2 and 0 < found["ap"]["0.5"] < 1
    assert found["steps"][0]["0.5"] is not None and len(found["votes"]) == 3
    with pytest.raises(ValueError, match="no query"):
        worked_query([], [])


def test_tables_are_escaped_turned_and_headed() -> None:
    lines = [{tables.GROUP: "<g>"}, {"a": "<b>", "x": 1.234, "n": 5}, {"a": "c", "x": None}]
    shown = tables.table(lines).data
    assert "&lt;b&gt;" in shown and "&lt;g&gt;" in shown and 'colspan="3"' in shown
    assert "<td>1.23</td><td>5</td>" in shown and "<td>–</td><td>–</td>" in shown
    turned = tables.table([{"a": "p", "x": 1.0}, {"a": "q", "x": 2.0}], across=True, digits=1).data
    assert '<th scope="col">p</th><th scope="col">q</th>' in turned and "<td>1.0</td><td>2.0</td>" in turned


def test_figures_are_small(chapter) -> None:
    found = chapter.found["predictions"]["methods"]
    drawn = [
        figures.reliability({name: one["calibration"] for name, one in found.items()}),
        figures.recall(found),
        figures.ranking(chapter.found["evaluator"]["worked"]),
        figures.distributions({name: chapter.found["annotations"][name] for name in data.COMPARED}),
    ]
    assert all(len(plots.png(figure)) <= plots.MAX_BYTES for figure in drawn)


def test_methods_keep_their_colours() -> None:
    styles = [figures.method_styles(METHODS)[name] for name in METHODS]
    assert (
        len({style["color"] for style in styles})
        == len({style["marker"] for style in styles})
        == len(METHODS)
    )


def test_the_order_of_trained_methods_is_shown(chapter) -> None:
    assert "Not run yet. <code>vtg sweep" in ordering.order_table(chapter).data
    assert "nothing yet" in ordering.order_figure(chapter).data
    paper = load_paper("sdst")
    store = Store(chapter.store.path.parent / "03_sdst.jsonl")
    for label, level in (("QD-DETR", 30.0), ("Moment-DETR", 20.0), ("SnAG", 25.0), ("Ours†", 40.0)):
        for seed in (0, 1, 2):
            spec = row_spec(paper.table("tab1").row(label), paper.profile("sim"), "qvhighlights", seed)
            value = {"val": {"MR-full-mAP": level + seed}}
            store.append({"hash": spec.hash, "spec": spec.resolved, "metrics": value})
    shown = ordering.order_table(chapter).data
    assert "QD-DETR" in shown and "41.22" in shown and "31.00" in shown and "SnAG" not in shown
    assert "SDST</a>†" in shown and "Ours" not in shown and shown.count("<td>8</td>") == 3  # epochs
    told = ordering.order_told(chapter).data
    assert "3 of 3 pairs of methods stand as printed" in told
    assert "No number is printed for SnAG; ours: 26.00 (sd 1.00, 3 seeds)" in told and "Not run yet: " in told
    assert "QD-DETR: paper 41.22, ours 31.00" in ordering.order_figure(chapter).data
