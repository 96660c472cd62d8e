"""SG-DETR: size, switches, gradients, padding, heads and their fusion, short and empty input, learning."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from ragged import (
    TEXT_DIM,
    VIDEO_DIM,
    alone,
    losses_of,
    moved,
    ragged_batch,
    with_noise_in_padding,
    without_moments,
)
from tiny import at

from vtg_lib.cli.main import main
from vtg_lib.data.batches import Batch
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments.run import run
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.layers.saliency_guidance import FACTORS, GUIDANCE
from vtg_lib.models import MODELS, count_parameters, sg_detr
from vtg_lib.models.inference import autocast
from vtg_lib.models.initialisation import build_paired
from vtg_lib.models.parts.hybrid_detector import DETECTORS
from vtg_lib.models.sg_detr import SGDETR, Config
from vtg_lib.papers.columns import column
from vtg_lib.spans import cw_to_se

SMALL = Config(
    video_dim=VIDEO_DIM,
    text_dim=TEXT_DIM,
    width=16,
    heads=2,
    hidden=24,
    queries=6,
    encoder_layers=2,
    decoder_layers=2,
    convolutions=2,
    dummies=3,
)
STILL = {"dropout": 0.0, "input_dropout": 0.0, "droppath": 0.0}
QUIET = STILL | {"collab": "off"}  # nothing random while training but pairs of clips
DETECTOR = {"span", "giou", "class", "iou", "proposals"}
POINTS = {"atss_class", "atss_span", "atss_giou", "atss_centerness"}
SALIENCY = {"saliency", "local_saliency", "align", "membership"}


def build_small(by: float = 0.1, **changes) -> SGDETR:
    torch.manual_seed(0)
    model = SGDETR(dataclasses.replace(SMALL, **changes))
    return moved(model, by) if by else model


def longer(batch: Batch, clips: int, words: int = 0) -> Batch:
    """The same batch with more padding."""
    return dataclasses.replace(
        batch,
        video=F.pad(batch.video, (0, 0, 0, clips)),
        text=F.pad(batch.text, (0, 0, 0, words)),
        **{name: F.pad(getattr(batch, name), (0, clips)) for name in ("video_mask", "saliency")},
        text_mask=F.pad(batch.text_mask, (0, words)),
    )


def test_sizes_are_the_published_ones():
    released, text = SGDETR(Config.paper()), SGDETR(Config.paper("qvhighlights+text"))
    unused = 100 * 256 + 2 * 256  # positions of words that the public module holds and does not use
    assert count_parameters(released) == 13_472_294 - unused
    assert count_parameters(text) == 14_920_231 - unused
    published = [MODELS["sg_detr"].published_parameters, *(count for *_, count in MODELS["sg_detr"].variants)]
    for model, millions in zip((released, text), published, strict=True):
        assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=0.01)
        assert count_parameters(model.tokens) == 1_580_546  # in training only


def test_presets_and_refusals():
    assert Config.paper("tacos").pool_layers == 1 and Config.paper("charades_sta").candidates == 18
    assert not Config.paper("youtube_highlights").selector
    for changes, told in (
        ({"guidance": "softmax"}, "guidance: expected one of saliency, .*got 'softmax'"),
        ({"detectors": "dino"}, "detectors: expected one of hybrid, .*got 'dino'"),
        ({"amplifier": "both"}, "amplifier: expected one of on, off, first, second; got 'both'"),
        ({"collab": "on"}, "collab: expected one of positive, random, off"),
        ({"fusion_weights": (1.0,)}, "fusion_weights: expected two positive numbers"),
        ({"prior": 1.0}, "prior: expected a probability between 0 and 1"),
        ({"clip_multiple": 0}, "clip_multiple: expected at least 1"),
    ):
        with pytest.raises(ValueError, match=told):
            Config(**changes)


VARIANTS: list[tuple[dict, set[str]]] = [
    ({}, DETECTOR | POINTS | {"groups"}),
    ({"denoise": 40, "projections": True, "pool_projections": True, "amplifier_layer": True}, {"groups"}),
    ({"detectors": "detr"}, DETECTOR),
    ({"detectors": "atss"}, POINTS),
    ({"detectors": "two_detr"}, DETECTOR),
    ({"detectors": "two_atss"}, POINTS),
    ({"collab": "random"}, DETECTOR | POINTS | {"groups"}),
    ({"collab": "off"}, DETECTOR | POINTS),
    ({"selector": False}, {"span", "giou", "class", "iou", "groups"} | POINTS),
    ({"selector": False, "detectors": "detr"}, {"span", "giou", "class", "iou"}),
    ({"iou_head": False}, {"span", "giou", "class", "proposals", "groups"} | POINTS),
    *(({"guidance": name}, DETECTOR) for name in GUIDANCE[1:]),
]


@pytest.mark.parametrize(("changes", "terms"), VARIANTS, ids=[str(changes) for changes, _ in VARIANTS])
def test_shapes_losses_and_gradients(changes: dict, terms: set[str]):
    model, batch = build_small(**changes), ragged_batch()
    output = model(batch, trace=True)
    losses = model.loss(output, batch)
    dummies = {"attention", "orthogonal"} if changes.get("guidance") == "dummy" else set()
    assert terms <= set(losses) and set(losses) - terms <= DETECTOR | POINTS | SALIENCY | {"groups"} | dummies
    assert SALIENCY | dummies <= set(losses)
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    layers, queries = output.layers, output.spans.shape[1]
    assert layers["spans"].shape == layers["logits"].shape == (len(layers["spans"]), 5, queries, 2)
    assert output.saliency.shape == output.trace["local_saliency"].shape == (5, 23)
    tokens = batch.text.shape[1] + (3 if dummies else 0)
    assert output.trace["text_attention"].shape == (5, 23, tokens)
    assert output.trace["text_update"].shape == (2, 5, 23)
    if "detr" in model.config.names:
        assert output.trace["clip_attention"].shape == (2, 5, 6, 23)
        assert output.trace["references"].shape == (2, 5, 6, 2)
    # with the same terms whatever is in the batch, and without those of training
    nothing = without_moments(batch)
    assert model.loss(model(nothing), nothing).keys() == losses.keys()
    kept = set(losses) - {"groups", "align", "membership", "attention", "orthogonal"}
    assert set(model.eval().loss(model(batch), batch)) == kept


@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize(
    "changes", [{}, {"guidance": "shuffled"}, {"guidance": "dummy"}, {"amplifier_layer": True}], ids=str
)
def test_padding_changes_nothing(changes: dict, multiple: int, monkeypatch: pytest.MonkeyPatch):
    model, batch = build_small(**QUIET, **changes, clip_multiple=multiple), ragged_batch()
    monkeypatch.setattr(sg_detr, "same_video", lambda video, mask: torch.zeros(len(mask), dtype=torch.bool))
    pairs = sg_detr.saliency_pairs(batch.saliency, batch.video_mask)
    monkeypatch.setattr(sg_detr, "saliency_pairs", lambda saliency, mask: pairs)
    expected = losses_of(model, batch)
    others = (with_noise_in_padding(batch), longer(batch, 6, 3), with_noise_in_padding(longer(batch, 6, 3)))
    for other in others:
        torch.testing.assert_close(losses_of(model, other), expected, atol=1e-4, rtol=1e-4)
    model.eval()
    output = model(with_noise_in_padding(longer(batch, 5, 2)))
    read = {name: model.post_process(output, name) for name in model.config.readings}
    for row in range(len(batch)):
        single, clips = model(alone(batch, row)), int(batch.video_mask[row].sum())
        torch.testing.assert_close(
            single.layers["spans"][:, 0], output.layers["spans"][:, row], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(single.saliency[0], output.saliency[row, :clips], atol=1e-5, rtol=1e-4)
        for name, whole in read.items():
            own = model.post_process(single, name)
            torch.testing.assert_close(own.scores[0], whole.scores[row], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(own.spans[0], whole.spans[row], atol=1e-5, rtol=1e-4)


def test_one_run_is_read_in_three_ways():
    model, batch = build_small().eval(), ragged_batch()
    output = model(batch)
    assert tuple(model.readings) == ("fused", "detr", "atss")
    found = {name: reading.post_process(reading(batch)) for name, reading in model.readings.items()}
    torch.testing.assert_close(model.post_process(output).spans, found["fused"].spans)
    assert found["detr"].spans.shape == (5, 6, 2) and found["atss"].spans.shape == (5, 10, 2)
    torch.testing.assert_close(found["detr"].scores, output.scores)
    length = batch.video_mask.sum(1)[:, None, None]
    for one in found.values():
        borders, real = cw_to_se(one.spans) * length, one.scores > 0
        assert real.any(1).all() and not one.spans[~real].any()
        twice = borders[real] * 2  # on the grid, or half a clip beside it where a span became one clip long
        torch.testing.assert_close(twice, twice.round(), atol=1e-3, rtol=0)
        assert (borders[..., 1] - borders[..., 0])[real].min() >= 1 - 1e-4
        assert (borders <= length + 0.5 + 1e-4).all()
    with pytest.raises(ValueError, match="reading: expected one of fused, detr, atss; got 'both'"):
        model.post_process(output, "both")
    assert build_small(detectors="atss").config.readings == ("atss",)
    assert tuple(DETECTORS) == ("hybrid", "detr", "atss", "two_detr", "two_atss")


SPEC = {
    "model": "sg_detr",
    "config": {
        **{"video_dim": 12, "text_dim": 8, "width": 8, "heads": 1, "hidden": 8, "queries": 3},
        **{"encoder_layers": 1, "decoder_layers": 1, "cross_layers": 1, "pool_layers": 1},
        **{"convolutions": 1},
    },
    "data": {"kind": "sim", "train": 16, "val": 8, "clips": 8, "semantic_dim": 8, "motion_dim": 4},
}


def test_a_run_scores_every_reading(tmp_path: Path):
    result = run(RunSpec(**SPEC, train=TrainConfig(epochs=1, batch_size=8)), None, at(tmp_path))
    assert {"val", "val:fused", "val:detr", "val:atss"} <= set(result.metrics)
    assert result.metrics["val:fused"] == result.metrics["val"]
    assert column("DETR mAP").split == "val:detr" and column("ATSS mAP@0.5").split == "val:atss"
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC | {"train": {"epochs": 1, "batch_size": 8}}))
    given = ["run", "--spec", str(spec), "--checkpoints", str(tmp_path), "--device", "cpu", "--predictions"]
    written = {}
    for name in ("fused", "detr", "atss"):
        path = tmp_path / f"{name}.jsonl"
        assert main([*given, str(path), "--reading", name]) == 0
        written[name] = path.read_text()
    assert len(set(written.values())) == 3
    assert main([*given, str(tmp_path / "x.jsonl"), "--reading", "dino"]) != 0


def test_scores_use_the_iou_where_they_are_told_to():
    model, batch = build_small().eval(), ragged_batch()
    output = model(batch)
    chance, quality = output.layers["logits"].softmax(-1)[-1, ..., 0], output.layers["iou"][-1]
    torch.testing.assert_close(output.scores, (chance * quality).sqrt())
    other = build_small(iou_score=False).eval()(batch)
    torch.testing.assert_close(other.scores, other.layers["logits"].softmax(-1)[-1, ..., 0])


def test_guidance_can_be_swapped_and_shares_its_weights():
    batch = ragged_batch()
    built = {
        name: build_paired(lambda name=name: SGDETR(dataclasses.replace(SMALL, guidance=name)), 0).eval()
        for name in ("saliency", "shuffled", "none")
    }
    model = moved(built["saliency"])
    for other in built.values():
        other.load_state_dict(model.state_dict())  # the same parameters, by name and shape
    saliency = model(batch).saliency
    for name in ("shuffled", "none"):
        expected = built[name](batch).saliency
        assert not torch.allclose(expected, saliency)
        model.cross_encoder.factor = FACTORS.get(name)
        torch.testing.assert_close(model(batch).saliency, expected)


def test_amplifier_and_global_head():
    batch = ragged_batch()
    found = {name: build_small(amplifier=name).eval()(batch) for name in ("on", "off", "first", "second")}
    torch.testing.assert_close(found["on"].saliency, found["first"].saliency)  # Eq. 8 reads Eq. 7 only
    torch.testing.assert_close(found["off"].saliency, found["second"].saliency)
    assert not torch.allclose(found["on"].saliency, found["off"].saliency)
    assert not torch.allclose(found["on"].spans, found["first"].spans)
    without = build_small(global_head=False).eval()
    output = without(batch)
    torch.testing.assert_close(output.saliency, output.extras["local"])
    start = build_small(by=0).eval()(batch)
    torch.testing.assert_close(start.saliency, start.extras["local"])  # Eq. 8 starts at zero


def test_extra_queries_of_training_are_not_seen_by_the_others():
    batch = ragged_batch()
    plain, collab = (build_small(0, **STILL, collab=kind) for kind in ("off", "positive"))
    missing = collab.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split(".")[3] for name in missing.missing_keys} == {"anchor_content"}
    moved(plain)
    collab.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(collab(batch).spans, plain(batch).spans, atol=1e-5, rtol=1e-4)
    groups = collab(batch).extras["heads"]["detr"].groups
    assert len(groups) == 1 and groups[0][0].positive.any(1).tolist()[1:] == [True] * 4
    noisy = build_small(**STILL, collab="random", denoise=40)
    kinds = [group.borders for group, _ in noisy(batch).extras["heads"]["detr"].groups]
    assert kinds == [False, True]


@pytest.mark.parametrize("clips", [1, 2, 3, 5])
@pytest.mark.parametrize("multiple", [1, 4])
def test_short_videos_and_features_of_zeros(clips: int, multiple: int):
    batch = ragged_batch(samples=3)
    mask = torch.arange(clips) < torch.tensor([clips, 1, clips])[:, None]
    batch = dataclasses.replace(
        batch,
        video=batch.video[:, :clips] * torch.tensor([1.0, 1.0, 0.0])[:, None, None],
        video_mask=mask,
        saliency=batch.saliency[:, :clips] * mask,
        spans=torch.tensor([0.5, 1.0]).expand(3, 2, 2).clone(),
    )
    model = build_small(clip_multiple=multiple, denoise=20)
    losses = model.loss(model(batch), batch)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    output = model(batch)
    assert output.saliency.shape == (3, clips) and output.saliency[mask].isfinite().all()
    for reading in model.config.readings:
        finished = model.post_process(output, reading)
        assert finished.spans.isfinite().all() and finished.scores.isfinite().all()


def test_half_precision():
    model, batch = build_small(), ragged_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        output = model(batch)
    assert output.spans.dtype == output.scores.dtype == output.saliency.dtype == torch.float32
    losses = model.loss(output, batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


def test_a_few_samples_can_be_learned():
    model, batch = build_small(0, **STILL), ragged_batch(samples=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        losses = losses_of(model, batch)
        history.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    for name in ("span", "giou", "class", "atss_class", "atss_span", "saliency", "local_saliency"):
        assert history[-1][name] < 0.8 * history[0][name], (name, history[0][name], history[-1][name])
