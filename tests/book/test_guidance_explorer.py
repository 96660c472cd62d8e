"""The explorer of guidance: it changes what is read, not the model; every choice has a panel."""

import pytest
import torch

from vtg_lib.book import guidance
from vtg_lib.data import load_data
from vtg_lib.models import build

SIZES = {"video_dim": 8, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16, "queries": 3}


@pytest.fixture(scope="module")
def data():
    world = {
        "kind": "sim",
        "semantic_dim": 8,
        "layout": "levels",
        "levels": 1,
        "train": 8,
        "val": 6,
        "clips": 16,
    }
    return load_data(world)["val"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build("sg_detr", SIZES).eval()


def test_guidance_is_exchanged_and_put_back(data, model):
    trained = model.cross_encoder.factor
    own, none = (guidance.answers(model, data, 2, kind) for kind in ("saliency", "none"))
    assert model.cross_encoder.factor is trained and own["local"] == none["local"]
    assert sum(map(sum, own["words"])) < sum(map(sum, none["words"])) == pytest.approx(16, abs=1e-3)
    assert set(own["found"]) == {"fused", "detr", "atss"} and len(own["whole"]) == 16
    html = guidance.panel(data.annotations[2], own)
    for word in data.annotations[2]["query"].split():
        assert f"<span>{word}</span>" in html
    assert "both, fused: " in html and "ATSS: " in html and html.count("<rect") == 16 * len(own["words"])


def test_every_choice_has_a_panel(data, model):
    _, samples, stack = guidance.guidance_explorer(model, data, [1, 4]).children
    assert len(samples.options) == len(stack.children) == 2
    pages = [page.value for sample in stack.children for page in sample.children[1].children]
    assert len(set(pages)) == 2 * len(guidance.GUIDED)


def test_it_says_what_it_needs(data, model):
    with pytest.raises(ValueError, match="expected rows"):
        guidance.guidance_explorer(model, data, [])
    for name, change in (("qd_detr", {}), ("sg_detr", {"guidance": "dummy"})):
        with pytest.raises(ValueError, match="expected an SG-DETR trained with one of"):
            guidance.answers(build(name, SIZES | change), data, 0, "none")
