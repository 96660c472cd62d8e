"""Moment-DETR and QD-DETR: published sizes, padding, gradients, learning."""

import pytest
import torch
from ragged import moved

from vtg_lib.data import load_data
from vtg_lib.layers.transformer import Related
from vtg_lib.models import MODELS, build, count_parameters, resolve

SMALL = {"video_dim": 24, "text_dim": 16, "width": 16, "heads": 2, "hidden": 32, "queries": 5}
DATA = {"kind": "sim", "semantic_dim": 16, "motion_dim": 8, "train": 24, "val": 8, "clips": 12}
NAMES = ("moment_detr", "qd_detr")


@pytest.fixture(scope="module")
def data() -> dict:
    return load_data(DATA)


@pytest.mark.parametrize(("name", "published"), [("moment_detr", 4.8), ("qd_detr", 7.6)])
def test_parameter_count_is_the_published_one(name: str, published: float) -> None:
    assert MODELS[name].published_parameters == published
    assert count_parameters(build(name)) / 1e6 == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str, data: dict) -> None:
    torch.manual_seed(0)
    model = build(name, SMALL)
    batch = data["train"].batch(torch.arange(8))
    sum(model.loss(model(batch), batch).values()).backward()
    # DAB-style key positions of later layers act through split attention; nothing may be left out.
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str, data: dict) -> None:
    torch.manual_seed(0)
    model = build(name, SMALL).eval()
    batch = data["val"].batch(torch.arange(3))
    before = model(batch)
    batch.video = torch.nn.functional.pad(batch.video, (0, 0, 0, 4), value=7.0)
    batch.video_mask = torch.nn.functional.pad(batch.video_mask, (0, 4))
    batch.text = torch.nn.functional.pad(batch.text, (0, 0, 0, 2), value=-3.0)
    batch.text_mask = torch.nn.functional.pad(batch.text_mask, (0, 2))
    after = model(batch)
    assert torch.allclose(before.spans, after.spans, atol=1e-5)
    assert torch.allclose(before.scores, after.scores, atol=1e-5)
    assert torch.allclose(before.saliency, after.saliency[:, :-4], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_samples_can_be_learned(name: str, data: dict) -> None:
    torch.manual_seed(0)
    model = build(name, {**SMALL, "input_dropout": 0.0, "dropout": 0.0})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = data["train"].batch(torch.arange(4))
    history = []
    for _ in range(60):
        loss = sum(model.loss(model(batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]


def test_compiled_training_steps_have_gradients(data: dict) -> None:
    """Dropout and PReLU of our own give way to PyTorch's, whose kernels a compiler can fuse."""
    torch.manual_seed(0)
    model = build("qd_detr", {**SMALL, "encoder_layers": 1}).train()
    batch = data["train"].batch(torch.arange(4))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    sum(model.loss(compiled(batch), batch).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_unknown_names_and_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="moment_detr, qd_detr"):
        build("no_such_model")
    with pytest.raises(ValueError, match=r"unknown fields \['widht'\]"):
        resolve("qd_detr", {"widht": 3})
    with pytest.raises(ValueError, match="got 'tacos'"):
        resolve("qd_detr").paper("tacos")


DETR_STYLE = ("moment_detr", "qd_detr", "tr_detr", "cg_detr", "bam_detr")


@pytest.mark.parametrize("name", DETR_STYLE)
def test_a_detr_shows_what_its_decoder_does(name: str, data: dict) -> None:
    torch.manual_seed(0)
    model = build(name, {**SMALL, "decoder_layers": 3}).eval()
    batch = data["val"].batch(torch.arange(4))
    batch.video_mask[0, 9:] = False
    plain, traced = model(batch), model(batch, trace=True)
    torch.testing.assert_close(traced.spans, plain.spans)
    assert plain.trace == {}
    attention = traced.trace["clip_attention"]
    assert attention.shape == (3, 4, 5, batch.video_mask.shape[1]) and (attention[:, 0, :, 9:] == 0).all()
    total = attention.sum(-1)
    assert (total <= 1 + 1e-5).all()  # Moment-DETR's queries read the words, too
    assert name == "moment_detr" or torch.allclose(total, torch.ones(()))
    states, memory = plain.extras["states"], plain.extras["memory"]
    assert states.shape[:3] == (3, 4, 5) and memory.shape == (*batch.video_mask.shape, SMALL["width"])


@pytest.mark.parametrize("name", DETR_STYLE)
def test_queries_can_be_related_between_decoder_layers(name: str, data: dict) -> None:
    torch.manual_seed(0)
    model = moved(build(name, {**SMALL, "decoder_layers": 3})).eval()
    batch = data["val"].batch(torch.arange(4))
    plain = model(batch)
    read = []

    def relate(layer: int, state: torch.Tensor, reference: torch.Tensor | None) -> Related:
        read.append((layer, model.read(state, reference)))
        return Related(torch.zeros(4, 5, 5))

    model.decoder.relate = relate
    same = model(batch)
    torch.testing.assert_close(same.spans, plain.spans)
    assert [layer for layer, _ in read] == [0, 1]  # no layer follows the third
    for _, found in read:
        for key, value in found.items():
            assert value.shape == same.layers[key][0].shape

    # A query that reads one other only, in the layers after the first.
    far = torch.full((5, 5), -1e9).scatter(1, (torch.arange(5)[:, None] + 1) % 5, 0.0)
    model.decoder.relate = lambda layer, state, reference: Related(far.expand(4, -1, -1))
    other = model(batch)
    torch.testing.assert_close(other.layers["spans"][0], plain.layers["spans"][0])
    assert not torch.allclose(other.layers["spans"][2], plain.layers["spans"][2], atol=1e-4)
