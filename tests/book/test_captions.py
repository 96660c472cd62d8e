"""The explorer of pseudo-labels and how right they are: every choice has a page, and words follow numbers."""

import dataclasses
import re

import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from ipywidgets.widgets.widget_link import Link

from vtg_lib.book import captions as explorer
from vtg_lib.book.views import captions as views
from vtg_lib.data import load_data
from vtg_lib.data.pseudo.labels import PseudoLabels
from vtg_lib.data.pseudo.quality import example, measure, of_spec
from vtg_lib.data.pseudo.world import intervals

WORLD = {
    "kind": "sim",
    "semantic_dim": 32,
    "layout": "levels",
    "levels": 1,
    "train": 64,
    "val": 24,
    "clips": 16,
}
RULES = explorer.RULES


@pytest.fixture(scope="module")
def data():
    return load_data({**WORLD, "moments": [0.3, 0.4, 0.3]})["val"]


@pytest.fixture(scope="module")
def caption(data):
    row = explorer.several(data, 3)[1]
    assert len(data.annotations[row]["relevant_windows"]) > 1
    return explorer.Caption(data, row, intervals(data, 0)[row])


@pytest.fixture(scope="module")
def found():
    return [measure({"train": 32}, seed=seed) for seed in range(3)]


def bold(page):
    return re.findall("<b>([^<]*)</b>", page)


def test_thresholds_go_from_all_clips_to_the_best_one(caption):
    grid, marks = caption.grid(), caption.readings()
    assert grid == sorted(grid) and set(marks.values()) <= set(grid) and len(grid) >= explorer.STEPS
    counts = [np.count_nonzero(caption.made(threshold)["grades"]) for threshold in grid]
    assert counts[0] == 16 and counts[-1] == 1 and counts == sorted(counts, reverse=True)
    for rule, threshold in marks.items():  # a mark gives what its reading gives
        settings = PseudoLabels(threshold=rule)
        assert caption.made(threshold) == example(caption.data, caption.row, caption.interval, settings)


def test_a_page_shows_what_was_made(caption):
    marks = caption.readings()
    made = caption.made(marks["mean"])
    page = explorer.panel(caption, made)
    assert made["query"] in page and f"mean {marks['mean']:.2f}" in bold(page)
    assert f"mean − sd {marks['mean_minus_sd']:.2f}" in page and bold(page)[0] == f"{marks['mean']:.2f}"
    blue = len(re.findall('<rect [^>]*fill="#', page))
    assert blue == 2 * np.count_nonzero(made["grades"])  # scores and grades
    told = re.search('aria-label="([^"]*)"', page)[1]
    spans = [f"{start:g} to {end:g} s" for start, end in made["relevant_windows"]]
    assert told == (
        f"{made['query']}: threshold {marks['mean']:.2f}, {len(spans)} moment{'s' * (len(spans) != 1)}: "
        + ", ".join(spans)
    )


def test_the_interval_alone_has_no_threshold(caption):
    made = caption.made(None)
    page = explorer.panel(caption, made)
    start, end = caption.interval
    assert made["relevant_windows"] == [[start, end]] and "no threshold" in page and "<line" not in page
    assert made["clips"]["precision"] == 1.0 and made["unnamed"] == 0.0
    assert "moments: precision 100%" in explorer.truth(caption, made) and bold(page) == []


def test_truth_tells_how_right_it_is(caption):
    made = caption.made(caption.grid()[0])  # all clips pass: one moment, the whole video
    page = explorer.truth(caption, made)
    share = made["clips"]["precision"]
    assert 0 < share < 1 and f"clips: precision {share:.0%}, recall 100%" in page
    assert page.count("<b style") == len(made["truth"]) > 1


def test_every_choice_has_a_page_without_a_kernel(data, caption):
    box = explorer.caption_explorer(data, [caption.row, 0])
    _, samples, shown, stack, live = box.children
    assert len(samples.options) == len(stack.children) == 2 and "vtg-live" in live._dom_classes
    assert shown.options == ("hidden", "shown")
    reading, choices = stack.children[0].children
    assert reading.options == tuple(explorer.NAMES.values()) and len(choices.children) == 4
    grid = caption.grid()
    for rule, choice in zip(RULES, choices.children, strict=False):
        slider, pages, truth = choice.children
        nothing, truths = truth.children
        here = grid.index(caption.readings()[rule])
        assert slider.value == pages.selected_index == truths.selected_index == here
        assert slider.max == len(pages.children) - 1 == len(truths.children) - 1 == len(grid) - 1
        assert f"{explorer.NAMES[rule]} {grid[here]:.2f}" in bold(pages.children[here].value)
        assert nothing.value == "" and truth.selected_index == 0
        assert pages.children == choices.children[0].children[1].children  # made once
    assert len({page.value for page in choices.children[0].children[1].children}) == len(grid)
    assert "no threshold" in choices.children[3].children[0].value


def test_links_go_where_they_should(data, caption):
    box = explorer.caption_explorer(data, [caption.row])
    links = [widget for widget in list(_instances.values()) if isinstance(widget, Link)]
    _, _, shown, stack, _ = box.children
    choices = stack.children[0].children[1].children
    targets = {(id(link.source[0]), id(link.target[0])) for link in links}
    for choice in choices[:3]:
        slider, pages, truth = choice.children
        assert {
            (id(slider), id(pages)),
            (id(slider), id(truth.children[1])),
            (id(shown), id(truth)),
        } <= targets
    assert (id(shown), id(choices[3].children[1])) in targets


def test_with_a_kernel_any_threshold_can_be_set(data, caption):
    live = explorer.caption_explorer(data, [caption.row, 0]).children[-1]
    _, sample, reading, threshold, known, page = live.children
    assert threshold.value == pytest.approx(caption.readings()["mean_minus_sd"])
    reading.value = "mean"
    assert threshold.value == pytest.approx(caption.readings()["mean"])
    threshold.value = 0.9
    assert "no moments" in page.value and "truth" not in page.value
    known.value = True
    assert "clips: precision –, recall 0%" in page.value
    reading.value = "interval"
    assert threshold.disabled and "no threshold" in page.value
    sample.index = 1
    assert data.annotations[0]["query"] in page.value
    reading.value = "min"
    assert not threshold.disabled
    assert threshold.value == pytest.approx(
        explorer.Caption(data, 0, intervals(data, 0)[0]).readings()["min"]
    )


def test_equal_scores_have_one_threshold(data):
    flat = dataclasses.replace(data, video=data.video * 0)
    box = explorer.caption_explorer(flat, [0])
    slider, pages, _ = box.children[3].children[0].children[1].children[0].children
    assert slider.disabled and len(pages.children) == 1
    assert "1 moment, and the grades" in pages.children[0].value


def test_it_says_what_it_needs(data):
    with pytest.raises(ValueError, match="expected rows, got none"):
        explorer.caption_explorer(data, [])
    empty = [{**row, "relevant_windows": []} for row in data.annotations]
    with pytest.raises(ValueError, match="expected moments in every row"):
        explorer.caption_explorer(dataclasses.replace(data, annotations=empty), [0])
    single = load_data({**WORLD, "moments": [1.0]})["val"]
    assert len(explorer.several(single, 4)) == 4


def test_quality_is_told_by_reading_and_by_distractors(found):
    page = views.quality_table(found).data
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page)
    assert [cells.count(name) for name in explorer.NAMES.values()] == [3] * 4
    assert sum("distractors that share" in cell for cell in cells) == 3
    rows = [
        row
        for rows in found
        for row in rows
        if (row["distractor_similarity"], row["threshold"]) == (0.8, "min")
    ]
    values = [100 * row["clips"]["precision"] for row in rows]
    assert f"{np.mean(values):.0f} ± {np.std(values, ddof=1):.0f}" in cells
    picture = views.quality_figure(found).data
    assert "unnamed moments: recall: " in picture and "the interval alone 0 to 0" in picture


def test_the_best_reading_is_computed(found):
    told = views.quality_told(found).data
    first = found[0]
    worse = [
        [
            {**row, "moments": {"precision": 0.1, "recall": 0.1}} if row["threshold"] == "min" else row
            for row in rows
        ]
        for rows in found
    ]
    scores = {}
    for rule in RULES:
        rows = [
            r for rows in found for r in rows if (r["distractor_similarity"], r["threshold"]) == (0.2, rule)
        ]
        pairs = [(r["moments"]["precision"], r["moments"]["recall"]) for r in rows]
        scores[rule] = np.mean([2 * p * r / (p + r) for p, r in pairs])
    best = max(scores, key=scores.get)
    assert f"{explorer.NAMES[best]} at 0.2 (F1 {100 * scores[best]:.0f}, best in " in told
    assert best == "min" and "minimum at" not in views.quality_told(worse).data
    assert first[0]["threshold"] == "interval" and "finds no moment that it does not name" in told


def test_labels_are_judged_on_the_first_captions_of_the_world():
    world = {**WORLD, "labels": "pseudo", "label_threshold": "mean", "seed": 3}
    whole, small = of_spec({**world, "train": 400}, 48), of_spec({**world, "train": 48}, 48)
    assert whole == small != of_spec({**world, "label_threshold": "min"}, 48)
    assert of_spec({**world, "labels": "true"})["clips"] == {"precision": 1.0, "recall": 1.0}
    assert of_spec({**world, "labels": "interval"})["clips"]["precision"] == 1.0
    assert of_spec({**world, "labels": "permuted"}) is None
    with pytest.raises(ValueError, match="expected a generated world, got kind 'rendered'"):
        of_spec({"kind": "rendered"})
