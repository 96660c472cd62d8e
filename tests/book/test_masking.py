"""The explorer of hidden clips: which masks, and what a panel tells."""

import ipywidgets
import pytest
from tiny import Config, TinyModel, tiny_data

from vtg_lib.book import masking


def test_grid_covers_the_video_with_masks_of_each_share():
    for share, masks in zip(masking.SHARES, masking.grid(150.0), strict=True):
        assert masks[0][0] == 0 and masks[-1][1] == pytest.approx(150.0 if share else 0.0)
        assert all(end - start == pytest.approx(150 * share) for start, end in masks)


def test_a_panel_tells_truth_mask_and_answers():
    annotation = {"query": "a <b>", "duration": 20.0, "relevant_windows": [[4, 10]]}
    answer = {
        "pred_relevant_windows": [[5.0, 25.0, 0.5], [0.0, 1.0, 0.25]],
        "pred_saliency_scores": [1.0, 3.0],
    }
    html = masking.panel(annotation, (0.0, 5.0), {"QD-DETR": answer})
    assert "a &lt;b&gt;" in html and "hidden 0 to 5 s; QD-DETR: 5 to 25 s, score 0.50" in html
    packed = "".join(html.split())  # the answer is cut at the video's end
    assert "left:25.0%;width:75.0%" in packed and "left:20.0%;width:30.0%" in packed
    assert 'points="25.0,32.0 75.0,2.0"' in html
    assert "nothing hidden" in masking.panel(annotation, (3.0, 3.0), {"QD-DETR": answer})


def test_every_choice_has_a_panel_and_any_mask_can_be_painted():
    data = tiny_data(6)
    explorer = masking.mask_explorer({"tiny": TinyModel(Config())}, data, [0, 3])
    _, samples, stack, live = explorer.children
    assert list(samples.options) == ["0: query 0", "3: query 3"] and len(stack.children) == 2
    pages = [
        page
        for sample in stack.children
        for size in sample.children[1].children
        for page in size.children[1].children
    ]
    assert len(pages) == 2 * (1 + 3 * masking.PLACES) and len({page.value for page in pages}) > 20
    assert "vtg-live" in live._dom_classes
    before = live.children[-1].value
    live.children[2].value = (4.0, 12.0)
    assert isinstance(live.children[-1], ipywidgets.HTML) and live.children[-1].value != before
    assert "hidden 4 to 12 s" in live.children[-1].value
    with pytest.raises(ValueError, match="expected rows and models"):
        masking.mask_explorer({}, data, [0])
