"""The explorer of anchors: every choice has a panel, which tells where a query stands by layer."""

import pytest
import torch

from vtg_lib.book import anchors
from vtg_lib.data import load_data
from vtg_lib.models import build

SIZES = {"video_dim": 12, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16, "queries": 3}


@pytest.fixture(scope="module")
def data():
    return load_data({"kind": "sim", "semantic_dim": 8, "motion_dim": 4, "train": 8, "val": 6, "clips": 16})[
        "val"
    ]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    names = {"SA-DETR": "sa_detr", "QD-DETR": "qd_detr"}
    return {name: build(key, SIZES).eval() for name, key in names.items()}


def test_a_query_is_told_from_its_start_on(data, models):
    found = {name: anchors.decoded(model, data, [2, 4], 0.0) for name, model in models.items()}
    html = anchors.panel(found, 1)
    assert data.annotations[4]["query"] in html
    for name in models:  # without noise every query starts from a moment
        assert f"{name}: IoU 1.00 → " in html
    assert html.count('title="start"') == html.count('title="after layer 2"') == 2
    assert html.count("stroke-dasharray") == 2  # SA-DETR alone has a mask, before either layer


def test_every_choice_has_a_panel_and_any_scale_can_be_chosen(data, models):
    explorer = anchors.anchor_explorer(models, data, [2, 4])
    _, samples, stack, live = explorer.children
    assert len(samples.options) == len(stack.children) == 2
    pages = [page.value for sample in stack.children for page in sample.children[1].children]
    assert len(set(pages)) == 2 * len(anchors.SCALES)
    before = live.children[-1].value
    live.children[2].value = 0.5
    assert live.children[-1].value != before


def test_it_says_what_it_needs(data, models):
    with pytest.raises(ValueError, match="expected rows and models"):
        anchors.anchor_explorer({}, data, [0])
    univtg = build("univtg", {k: v for k, v in SIZES.items() if k != "queries"})
    for scale in (None, 0.2):
        with pytest.raises(ValueError, match="expected .*anchors, got UniVTG"):
            anchors.decoded(univtg, data, [0], scale)
