"""Runs that start from others: their curves beside those from random weights, and their labels."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from vtg_lib.book import figures as plots
from vtg_lib.book.views import pretraining as views
from vtg_lib.data.pseudo.quality import of_spec
from vtg_lib.experiments.run import RunResult
from vtg_lib.experiments.store import Store
from vtg_lib.papers import load_paper, row_spec
from vtg_lib.papers.schema import Overrides

PAPER = load_paper("sgdetr")
BASE = dataclasses.replace(PAPER.table("tuned").row("Ours"), diagnostics=())
STEPS, SEEDS = [256, 512, 768], (0, 1)


def captioned(labels):
    data = {"labels": labels, "draw": 1, "train": 256}
    return dataclasses.replace(
        BASE, label=f"on {labels}", overrides=BASE.overrides.then(Overrides(data=data))
    )


ROWS = [
    BASE,
    captioned("pseudo"),
    captioned("interval"),
    captioned("permuted"),
    dataclasses.replace(BASE, label="tuned", init=("tuned", "on pseudo"), parent=captioned("pseudo")),
]
TABLE = dataclasses.replace(PAPER.table("tuned"), rows=tuple(ROWS), reference=None)
SIM = PAPER.profile("sim")


@dataclasses.dataclass
class Chapter:
    store: Store
    paper: object = dataclasses.replace(
        PAPER, tables=(TABLE,), claims=(), doses=(), yardstick=None, statements=()
    )


def spec(label, seed, **changes):
    return dataclasses.replace(row_spec(TABLE.row(label), SIM, "qvhighlights", seed), keep=False, **changes)


def store_run(chapter, made, curve, test=None):
    curves = {"epoch": [2, 4, 6], "step": STEPS, "MR-full-mAP": curve} if curve else {}
    metrics = {"val": {"MR-full-mAP": (curve or [7.5])[-1]}}
    if test is not None:
        metrics["test"] = {"MR-full-mAP": test}
    chapter.store.append(
        RunResult(hash=made.hash, spec=made.resolved, metrics=metrics, curves=curves).to_dict()
    )


@pytest.fixture
def chapter(tmp_path):
    made = Chapter(Store(tmp_path / "store.jsonl"))
    for seed in SEEDS:
        store_run(made, spec(BASE.label, seed), [10.0, 20.0, 30.0 + seed], test=31.0)
        store_run(made, spec("tuned", seed), [25.0, 32.0 + seed, 40.0], test=41.0)
        store_run(made, spec("on pseudo", seed), [5.0, 6.0, 7.0], test=28.0 + seed)
        store_run(made, spec("on interval", seed), [5.0, 6.0, 7.0], test=20.0)
        store_run(made, spec("on permuted", seed), [5.0, 6.0, 7.0], test=2.0)
    return made


def test_fine_tuning_stands_beside_training_from_random_weights(chapter):
    page = views.fine_tuning(chapter, "tuned").data
    told = "tuned: from random weights 30.5 after 768 steps; from on pseudo 40.0, there after 512 steps"
    assert told in page and "on interval" not in page  # it starts from nothing
    for seed in SEEDS:
        scored = dataclasses.replace(spec("tuned", seed).train, epochs=0)
        store_run(chapter, spec("tuned", seed, train=scored), None)
    curves = views._curves(chapter, "tuned")["tuned"]
    x, values = curves["from on pseudo"]
    assert x == [0.0, *map(float, STEPS)] and values.tolist() == [[7.5, 25, 32, 40], [7.5, 25, 33, 40]]
    assert curves[views.SCRATCH][0] == list(map(float, STEPS))


def test_a_run_that_never_gets_there_says_so(tmp_path):
    chapter = Chapter(Store(tmp_path / "s.jsonl"))
    store_run(chapter, spec(BASE.label, 0), [10.0, 20.0, 30.0])
    store_run(chapter, spec("tuned", 0), [10.0, 20.0, 29.0])
    assert "from on pseudo 29.0, there not within as many steps" in views.fine_tuning(chapter, "tuned").data


def test_what_is_not_run_says_so(tmp_path):
    empty = Chapter(Store(tmp_path / "none.jsonl"))
    store_run(empty, spec("tuned", 0), [10.0, 20.0, 29.0])  # nothing beside it
    assert "not run yet" in views.fine_tuning(empty, "tuned").data
    none = Chapter(Store(tmp_path / "other.jsonl"))
    assert "--paper sgdetr --profile sim --tables tuned" in views.label_noise(none, "tuned").data


def test_runs_by_the_precision_of_their_labels(chapter):
    page = views.label_noise(chapter, "tuned").data
    made = [100 * of_spec(spec("on pseudo", seed).resolved["data"])["clips"]["precision"] for seed in SEEDS]
    assert 50 < np.mean(made) < 100
    told = re.search('alt="([^"]*)"', page)[1]
    for label, precision, score in (
        ("on pseudo", np.mean(made), 28.5),
        ("tuned", np.mean(made), 41.0),  # the labels of the run that it starts from
        ("on interval", 100.0, 20.0),
        (BASE.label, 100.0, 31.0),
    ):
        assert f"{label}: {precision:.0f} % of clips right, mAP {score:.1f}" in told
    assert "permuted" not in page  # nothing is right or wrong there
    assert f"{np.mean(made):.2f} ± {np.std(made, ddof=1):.2f}" in page


def test_panels_share_a_scale_and_a_legend():
    x, y = [1.0, 2.0], np.array([[1.0, 2.0], [3.0, 4.0]])
    lines = {"a": (x, y), "b": ([2.0], y[:, :1])}
    figure = plots.panels({"one": lines, "two": {"a": (x, y + 90)}}, xlabel="x", ylabel="y", columns=2)
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim() and [a.get_title("left") for a in figure.axes] == [
        "one",
        "two",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert first.lines[0].get_ydata().tolist() == [2.0, 3.0] and first.lines[1].get_xdata().tolist() == [2.0]
