"""TD-DETR: QD-DETR at beta 1, what asks the second time, published settings."""

import pytest
import torch

from vtg_lib.data import load_data
from vtg_lib.models import build, count_parameters, resolve
from vtg_lib.models.td_detr import Config

SMALL = {"video_dim": 24, "text_dim": 16, "width": 16, "heads": 2, "hidden": 32, "queries": 5}
SMALL |= {"cross_layers": 2, "encoder_layers": 1, "decoder_layers": 2}
DATA = {"kind": "sim", "semantic_dim": 16, "motion_dim": 8, "train": 24, "val": 8, "clips": 12}
VARIANTS = [{}, {"beta_on": "sum"}, {"asks": "clips"}]


@pytest.fixture(scope="module")
def data():
    return load_data(DATA)


@pytest.mark.parametrize("variant", VARIANTS)
def test_at_beta_one_it_is_qd_detr(data, variant):
    theirs, ours = build("qd_detr", SMALL).eval(), build("td_detr", SMALL | variant | {"beta": 1.0}).eval()
    left = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not left.unexpected_keys and {key.split(".")[0] for key in left.missing_keys} == {
        "cross_encoder",
        "start_token",
    }
    batch = data["val"].batch(torch.arange(8))
    one, other = theirs(batch), ours(batch)
    for name in ("spans", "scores", "saliency"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-6, rtol=0)
    changed = build("td_detr", SMALL | variant | {"beta": 0.7}).eval()
    changed.load_state_dict(ours.state_dict())
    assert (changed(batch).saliency - other.saliency).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing_and_every_parameter_learns(data, variant):
    torch.manual_seed(0)
    model = build("td_detr", SMALL | variant)
    batch = data["train"].batch(torch.arange(8))
    losses = model.loss(model(batch), batch)
    assert set(losses) == {"l1", "giou", "label", "saliency"}
    sum(losses.values()).backward()
    missing = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert missing == ({"start_token"} if variant.get("asks") == "clips" else set())
    model.eval()
    before = model(batch)
    batch.video = torch.nn.functional.pad(batch.video, (0, 0, 0, 4), value=7.0)
    batch.video_mask = torch.nn.functional.pad(batch.video_mask, (0, 4))
    after = model(batch)
    torch.testing.assert_close(before.spans, after.spans, atol=1e-5, rtol=0)


def test_changes_are_what_asks(data):
    """Of a video that stands still nothing is asked but by its first clip and its positions."""
    torch.manual_seed(0)
    model = build("td_detr", SMALL | {"cross_layers": 1}).eval()
    asked = []
    model.cross_encoder[0].tokenizer.register_forward_hook(lambda _, inputs, __: asked.append(inputs[0]))
    clips, still = torch.randn(2, 6, 16), torch.zeros(2, 6, 16)
    words, mask = torch.randn(2, 3, 16), torch.ones(2, 3, dtype=torch.bool)
    model.read_words(clips, still, torch.ones(2, 6, dtype=torch.bool), words, mask)
    torch.testing.assert_close(asked[0][:, 0], clips[:, 0] - model.start_token)
    torch.testing.assert_close(asked[0][:, 1:], clips[:, 1:] - clips[:, :-1])


def test_published_settings():
    ours, theirs = Config.paper("qvhighlights"), resolve("qd_detr")
    assert (ours.cross_layers, ours.encoder_layers, ours.decoder_layers, ours.beta) == (4, 4, 4, 0.7)
    assert (ours.weight_l1, ours.weight_giou, ours.cost_l1, ours.cost_giou) == (1, 10, 1, 10)
    assert (theirs.weight_l1, theirs.weight_giou, theirs.decoder_layers) == (10, 1, 2)
    for name in ("charades_sta", "tacos"):
        other = Config.paper(name)
        assert (other.cross_layers, other.weight_l1, other.cost_giou, other.weight_saliency) == (3, 10, 1, 4)
    same = {"cross_layers": 2, "encoder_layers": 2, "decoder_layers": 2}
    more = count_parameters(build("td_detr", same)) - count_parameters(build("qd_detr"))
    width = 256
    attention, tokenizer = 4 * (width**2 + width), 2 * (2 * width + width**2 + width)
    assert more == 2 * (attention + tokenizer) + width  # two layers and the token
    with pytest.raises(ValueError, match=r"td_detr.beta: expected a share in \[0, 1\]; got 2"):
        Config(beta=2.0)
    with pytest.raises(ValueError, match="td_detr.asks: expected one of changes, clips"):
        Config(asks="words")
