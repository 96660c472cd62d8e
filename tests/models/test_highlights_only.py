"""Methods on data without moments: what they learn from, what nothing teaches, and what they are refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ragged import TEXT_DIM, VIDEO_DIM, losses_of, moved, ragged_batch
from tiny import at

from vtg_lib.data import load_data
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments.run import run
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.losses.saliency import relevant_clips
from vtg_lib.models import build, resolve
from vtg_lib.models.config import learns_moments
from vtg_lib.models.inference import predict, score

SIZES = {"video_dim": VIDEO_DIM, "text_dim": TEXT_DIM, "width": 16, "heads": 2, "hidden": 24}
ALONE = {"highlights_only": True}
# What is learned, and the parts that nothing teaches then.
METHODS: dict[str, tuple[dict, set[str], set[str]]] = {
    "univtg": ({}, {"foreground", "intra", "inter"}, {"border_head"}),
    "qd_detr": ({}, {"saliency"}, {"decoder", "span_head", "class_head"}),
    "cg_detr": (
        {"dummies": 3, "prompts": 2},
        {"saliency", "attention"},
        {"decoder", "span_head", "class_head", "sentence", "sentence_encoder", "moment", "moment_encoder"},
    ),
    "tr_detr": ({}, {"saliency", "local", "global"}, {"decoder", "span_head", "class_head"}),
    "sg_detr": ({"dummies": 3}, {"saliency", "local_saliency", "align", "membership"}, {"detector"}),
}


def labelled_batch():
    """`ragged_batch` with votes on every clip and no moments."""
    batch = ragged_batch()
    votes = torch.rand(batch.saliency.shape, generator=torch.Generator().manual_seed(1)) * 12
    return dataclasses.replace(
        batch, spans=batch.spans * 0, span_mask=batch.span_mask & False, saliency=votes * batch.video_mask
    )


def small(name: str):
    torch.manual_seed(0)
    return moved(build(name, {**SIZES, **METHODS[name][0], **ALONE}), 0.1)


@pytest.mark.parametrize("name", METHODS)
def test_moments_are_neither_learned_nor_needed(name):
    model, batch = small(name), labelled_batch()
    losses = losses_of(model, batch)
    _, terms, untaught = METHODS[name]
    assert set(losses) == terms and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    silent = {
        path.split(".")[0]
        for path, p in model.named_parameters()
        if p.grad is None or not p.grad.any() and not path.endswith("key.bias")
    }
    taught = {
        path.split(".")[0] for path, p in model.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert untaught <= silent and not untaught & taught
    assert all(loss.isfinite() for loss in losses_of(model.eval(), batch).values())


def test_windows_that_are_there_all_the_same_are_not_read():
    for name in METHODS:
        model, batch = small(name), labelled_batch()
        other = dataclasses.replace(batch, spans=ragged_batch().spans, span_mask=ragged_batch().span_mask)
        drawn = [losses_of(seeded(model), each) for each in (batch, other)]
        assert drawn[0] == drawn[1], name


def seeded(model):
    torch.manual_seed(3)
    return model


def test_foreground_of_univtg_is_above_the_mean():
    model, batch = small("univtg").eval(), labelled_batch()
    output = model(batch)
    found = model.loss(output, batch)["foreground"]
    logits, mask = output.layers["logits"][0], batch.video_mask
    total = 0.0
    for row in range(len(batch)):
        votes = batch.saliency[row][mask[row]]
        for vote, logit in zip(votes, logits[row][mask[row]], strict=True):
            inside = vote > votes.mean()
            weight = 1.0 if inside else model.config.background_weight
            total -= weight * torch.log(torch.sigmoid(logit if inside else -logit)).item()
    assert found.item() == pytest.approx(10 * total / int(mask.sum()), rel=1e-4)


def test_relevant_clips():
    mask = torch.tensor([[True] * 5 + [False]] * 4)
    votes = torch.tensor(
        [
            [0.0, 1.0, 2.0, 3.0, 4.0, 9.0],  # above the median
            [0.0, 1.0, 1.0, 1.0, 1.0, 0.0],  # the median is the best label: above the lowest
            [0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
            [3.0, 3.0, 3.0, 3.0, 3.0, 0.0],  # nothing is
        ]
    )
    assert relevant_clips(votes, mask).long().tolist() == [
        [0, 0, 0, 1, 1, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 0],
        [0] * 6,
    ]


DATA = {"kind": "sim", "dataset": "tvsum", "layout": "levels", "levels": 1, "semantic_dim": 8, "test": 20}
KEY = "HL-top5-mAP, mean of domains"


def spec(model: str, **config) -> RunSpec:
    return RunSpec(
        model=model,
        config={**SIZES, "video_dim": 8, "text_dim": 8, **config},
        data=DATA,
        train=TrainConfig(epochs=2, batch_size=8, select=KEY),
    )


def test_a_run_has_its_metrics_by_domain(tmp_path):
    result = run(spec("sg_detr", **ALONE), None, at(tmp_path))
    domains = [f"HL-top5-mAP {name}" for name in ("VT", "VU", "GA", "MS", "PK", "PR", "FM", "BK", "BT", "DS")]
    assert set(result.metrics) == {"val", "last", "swapped", "test"}  # no heads to read
    for metrics in result.metrics.values():
        assert {*domains, KEY, "HL-top5-mAP, mean of videos"} <= set(metrics)
        assert metrics[KEY] == pytest.approx(sum(metrics[name] for name in domains) / 10, abs=0.006)
        assert not any(name.startswith("MR") for name in metrics)
    assert result.metrics["val"][KEY] == max(result.curves[KEY])
    assert result.metrics["last"][KEY] == result.curves[KEY][-1]


def test_predictions_have_no_windows():
    data = load_data(DATA)["val"]
    model = build("tr_detr", {**SIZES, "video_dim": 8, "text_dim": 8, **ALONE})
    rows = predict(model, data)
    assert all("pred_relevant_windows" not in row for row in rows)
    with pytest.raises(ValueError, match="expected 48 scores, one a labelled clip, got 20"):
        score([{**row, "pred_saliency_scores": row["pred_saliency_scores"][:20]} for row in rows], data)


def test_what_learns_moments_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"labelled clips .* Fix: --config highlights_only=true"):
        run(spec("qd_detr"), None, at(tmp_path))
    with pytest.raises(ValueError, match=r"Fix: --config task=highlights"):
        run(spec("flash_vtg"), None, at(tmp_path))
    with pytest.raises(ValueError, match="moment_detr: expected data with moments; .* choose a method"):
        run(spec("moment_detr"), None, at(tmp_path))
    with pytest.raises(ValueError, match="train.select must be one of HL-top5-mAP VT, .*got 'MR-full-mAP'"):
        run(dataclasses.replace(spec("qd_detr", **ALONE), train=TrainConfig(epochs=1)), None, at(tmp_path))
    assert learns_moments(resolve("snag")) and not learns_moments(
        resolve("r2_tuning", {"task": "highlights"})
    )
