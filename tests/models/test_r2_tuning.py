"""R2-Tuning: sizes, presets, the block and the losses against slow versions, padding, import, learning.

`python tests/models/test_r2_tuning.py` writes the golden predictions anew after a deliberate change.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from imported import public_state
from ragged import alone, moved, ragged_batch, without_moments
from test_imported import GOLDEN, TOLERANCE, golden, noise, save

from vtg_lib.data import load_data
from vtg_lib.data.batches import Batch
from vtg_lib.losses.points import at_least_one_clip, clip_borders, point_targets
from vtg_lib.models import MODELS, build, count_parameters
from vtg_lib.models.imported import import_checkpoint, load_imported
from vtg_lib.models.inference import autocast
from vtg_lib.models.r2_tuning import PRESETS, Config, R2Tuning

DIM, TEXT_DIM = 7, 5
SMALL = Config(video_dim=DIM, text_dim=TEXT_DIM, width=16, heads=2, levels=3)
STILL = {"dropout": 0.0, "droppath": 0.0}
HIGHLIGHTS = {
    "task": "highlights",
    "strides": (1,),
    "tef": False,
    "positive": "above median",
    "saliency_scale": 1 / 12,
}


def level_batch(levels: int = 3, tokens: int = 4, video_dim: int = DIM, text_dim: int = TEXT_DIM) -> Batch:
    """`ragged_batch` with features in levels; sample 0 has no moment."""
    batch, generator = ragged_batch(), torch.Generator().manual_seed(1)
    video = torch.randn(5, levels, 23, tokens * video_dim, generator=generator)
    text = torch.randn(5, levels, batch.text.shape[1], text_dim, generator=generator)
    return dataclasses.replace(
        batch, video=video * batch.video_mask[:, None, :, None], text=text * batch.text_mask[:, None, :, None]
    )


def lonely(batch: Batch, row: int) -> Batch:
    """One sample without any padding."""
    one, clips, words = alone(batch, row), int(batch.video_mask[row].sum()), int(batch.text_mask[row].sum())
    return dataclasses.replace(
        one, video=batch.video[row : row + 1, :, :clips], text=batch.text[row : row + 1, :, :words]
    )


def build_small(**changes) -> R2Tuning:
    """A small R2-Tuning with every parameter off its initial value: some start at zero."""
    torch.manual_seed(0)
    model = R2Tuning(dataclasses.replace(SMALL, **changes))
    return moved(model, 0.2)


def test_sizes_are_those_of_the_public_code():
    moments, highlights = R2Tuning(Config.paper()), R2Tuning(Config.paper("tvsum"))
    assert count_parameters(moments) == 2_836_242
    assert count_parameters(moments) / 2**20 == pytest.approx(
        MODELS["r2_tuning"].published_parameters, abs=0.05
    )
    assert count_parameters(highlights) == 1_846_281 - 1  # the scale of absent distances
    assert count_parameters(R2Tuning(Config(pooling="clip"))) == 2_836_242 - 2 * (256 * 256 + 256)


def test_presets_and_refusals():
    for dataset in PRESETS:
        config = Config.paper(dataset)
        assert (config.levels, config.width, config.pooling) == (4, 256, "tokens")
    assert Config.paper("charades_sta").grid == 0.1 and Config.paper("tacos").nms == "linear"
    with pytest.raises(ValueError, match="expected data set qvhighlights, .*got 'activitynet'"):
        Config.paper("activitynet")
    for name in ("pooling", "task", "positive", "nms"):
        with pytest.raises(ValueError, match=f"r2_tuning.{name}: expected one of .*got 'other'"):
            Config(**{name: "other"})
    with pytest.raises(ValueError, match="levels: expected at least 1; got 0"):
        Config(levels=0)


def test_features_that_do_not_fit_are_refused():
    batch = level_batch()
    with pytest.raises(ValueError, match="at least 4 levels, got 3 of the video and 3 of the text"):
        build_small(levels=4)(batch)
    with pytest.raises(ValueError, match="a multiple of 5 video channels .*got 28"):
        build_small(video_dim=5)(batch)
    with pytest.raises(ValueError, match=r"expected 7 video channels \(pooling clip\), got 28"):
        build_small(pooling="clip")(batch)


@pytest.mark.parametrize("changes", [{}, {"strides": (1, 2)}, {"levels": 2, "tef": False}, HIGHLIGHTS])
def test_shapes_and_gradients(changes):
    model, batch = build_small(**changes), level_batch()
    output = model(batch)
    number = 0 if changes == HIGHLIGHTS else sum(23 // s for s in model.config.strides)
    assert (
        output.spans.shape == (5, number, 2)
        and output.scores.shape == (5, number)
        and output.saliency.shape == (5, 23)
    )
    assert ((output.scores >= 0) & (output.scores <= 1)).all() and not output.saliency[
        ~batch.video_mask
    ].isnan().any()
    losses = model.loss(output, batch)
    names = {"class", "saliency", "video_align", "layer_align"} | ({"distance"} if number else set())
    assert set(losses) == names and all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith("key.bias"):  # the same for every key, so softmax does not see it
            assert parameter.grad.abs().max() > 0, name
    processed = model.post_process(output)
    assert (
        processed.spans.shape[1] == min(number, 50)
        and (processed.scores.sum(1) <= output.scores.sum(1)).all()
    )


def test_one_token_and_one_level_of_text():
    batch = level_batch(tokens=1)
    batch.text = batch.text[:, -1]
    clip = build_small(pooling="clip")
    losses = clip.loss(clip(batch), batch)
    sum(losses.values()).backward()
    assert all(p.grad.abs().max() > 0 for n, p in clip.named_parameters() if not n.endswith("key.bias"))
    tokens = build_small()
    tokens.load_state_dict(clip.state_dict(), strict=False)  # what is left has one token to choose from
    torch.testing.assert_close(tokens.eval()(batch).spans, clip.eval()(batch).spans)


@pytest.mark.parametrize("changes", [{}, HIGHLIGHTS])
def test_padding_changes_nothing(changes):
    model, batch = build_small(**changes).eval(), level_batch()
    noisy = dataclasses.replace(
        batch,
        video=F.pad(
            torch.where(batch.video_mask[:, None, :, None], batch.video, 9.0), (0, 0, 0, 3), value=-5.0
        ),
        text=F.pad(torch.where(batch.text_mask[:, None, :, None], batch.text, -7.0), (0, 0, 0, 2), value=4.0),
        **{name: F.pad(getattr(batch, name), (0, 3)) for name in ("video_mask", "saliency")},
        text_mask=F.pad(batch.text_mask, (0, 2)),
    )
    output, other = model(batch), model(noisy)
    torch.testing.assert_close(model.loss(other, noisy), model.loss(output, batch), atol=1e-5, rtol=1e-4)
    for row in range(5):
        single, clips = model(lonely(batch, row)), int(batch.video_mask[row].sum())
        torch.testing.assert_close(single.saliency[0], other.saliency[row, :clips], atol=1e-5, rtol=1e-4)
        if changes:
            continue
        valid = other.extras["points"].valid[row]
        assert int(valid.sum()) == sum(clips // s for s in (1, 2, 4, 8))
        torch.testing.assert_close(single.scores[0], other.scores[row, valid], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(single.spans[0], other.spans[row, valid], atol=1e-5, rtol=1e-4)
        assert not other.scores[row, ~valid].any() and not other.spans[row, ~valid].any()


def test_the_block_against_a_loop_over_levels():
    model, batch = build_small().eval(), level_batch(levels=4)
    one = lonely(batch, 1)
    clips, words = one.video.shape[2], one.text.shape[2]
    start = torch.arange(clips) / clips
    ends = torch.stack((start, start + 1 / clips), -1)[:, None].expand(-1, 4, -1)
    angle = (
        torch.arange(1, clips + 1)[:, None] / clips * 2 * torch.pi / 10_000 ** (torch.arange(0, 16, 2) / 16)
    )
    position = torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[None]
    block, every, state = model.refine, torch.ones(1, words, dtype=torch.bool), None
    for level in (2, 1, 0):  # the first of four levels is not used
        tokens = model.align.video(torch.cat((one.video[0, level + 1].unflatten(-1, (4, DIM)), ends), -1))
        text = model.align.text(one.text[0, level + 1])[None]
        pooled = model.pool_tokens(tokens[None], text, every)[0]
        x = tokens[:, 0] + pooled * model.pooled_scale[level].tanh()
        if state is not None:
            gate = model.level_gate[level].sigmoid()
            x = gate * x + (1 - gate) * state[0]
        x = x[None]
        x = F.layer_norm(x + block.cross(x + position, text, text), (16,), *affine(block.norms[0]))
        x = F.layer_norm(
            x + block.self_attention(x + position, x + position, x), (16,), *affine(block.norms[1])
        )
        state = F.layer_norm(x + block.feed_forward(x), (16,), *affine(block.norms[2]))
    output = model(one)
    similarity = F.cosine_similarity(state.relu(), model.pool_words(text, every)[:, None], dim=-1)
    torch.testing.assert_close(output.extras["similarity"], similarity, atol=1e-5, rtol=1e-4)


def affine(norm: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    return norm.norm.weight, norm.norm.bias


def test_losses_against_slow_versions():
    model, batch = build_small(**STILL).eval(), level_batch()
    output = model(batch)
    losses = model.loss(output, batch)
    length, similarity = batch.video_mask.sum(1), output.extras["similarity"]
    borders = at_least_one_clip(clip_borders(batch.spans, length), length)
    targets = point_targets(output.extras["points"], borders, batch.span_mask, 1.5)
    p, valid = output.extras["logits"].sigmoid(), output.extras["points"].valid
    focal = torch.where(targets.positive, (1 - p) ** 2 * -p.log(), p**2 * -(1 - p).log())
    assert losses["class"].item() == pytest.approx(focal[valid].mean().item(), rel=1e-4)
    error = F.l1_loss(output.extras["distances"][targets.positive], targets.distances[targets.positive])
    assert losses["distance"].item() == pytest.approx(0.2 * error.item(), rel=1e-4)
    chosen = batch.saliency.argmax(1)
    row, column = [], []
    for b in range(1, 5):  # the first video has no relevant clip
        allowed = (batch.saliency <= batch.saliency.gather(1, chosen[:, None])) & batch.video_mask
        own = similarity[b, chosen[b]] / 0.07
        row.append((similarity[b][allowed[b]] / 0.07).logsumexp(0) - own)
        column.append((similarity[:, chosen[b]][allowed[:, chosen[b]]] / 0.07).logsumexp(0) - own)
    expected = 0.1 * (torch.stack(row).mean() + torch.stack(column).mean())
    assert losses["saliency"].item() == pytest.approx(expected.item(), rel=1e-4)
    clips = F.normalize(output.extras["clips"][:, torch.arange(5), chosen][:, 1:], dim=-1)  # [K, B, D]
    text = F.normalize(output.extras["text"][:, 1:], dim=-1)
    over_videos = [(clips[k] @ text[k].T) / 0.07 for k in range(3)]
    over_levels = [(clips[:, b] @ text[:, b].T) / 0.07 for b in range(4)]
    for name, matrices in (("video_align", over_videos), ("layer_align", over_levels)):
        each = [
            F.cross_entropy(m, torch.arange(len(m))) + F.cross_entropy(m.T, torch.arange(len(m)))
            for m in matrices
        ]
        assert losses[name].item() == pytest.approx(0.1 * sum(each).item() / 2 / len(each), rel=1e-4)


def test_a_batch_without_any_moment():
    model, batch = build_small(), level_batch()
    batch = without_moments(batch)
    losses = model.loss(model(batch), batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values()) and losses["distance"] == losses["saliency"] == 0


def test_bfloat16_autocast():
    model, batch = build_small(**STILL).eval(), level_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        half = model(batch)
    assert half.spans.dtype == half.scores.dtype == half.extras["similarity"].dtype == torch.float32
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in model.loss(half, batch).values())
    torch.testing.assert_close(half.scores, model(batch).scores, atol=0.05, rtol=0)


def test_a_few_steps_in_a_small_world_lower_the_loss():
    data = load_data(
        {"kind": "sim", "semantic_dim": 16, "train": 24, "val": 8, "clips": 16, "layout": "levels"}
    )
    torch.manual_seed(0)
    config = {
        "video_dim": 16,
        "text_dim": 16,
        "width": 16,
        "heads": 2,
        "pooling": "clip",
        "strides": [1, 2, 4, 8],
        **STILL,
    }
    model, batch = build("r2_tuning", config), data["train"].batch(torch.arange(8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        loss = sum(model.loss(model(batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]


# --- public checkpoints


def golden_batch() -> Batch:
    """Three videos of 17, 9 and 3 clips with 2 levels of 3 tokens."""
    video_mask = torch.arange(17) < torch.tensor([17, 9, 3])[:, None]
    text_mask = torch.arange(6) < torch.tensor([4, 6, 1])[:, None]
    none = torch.zeros(3)
    return Batch(
        video=noise("video", (3, 2, 17, 3 * 10)) * video_mask[:, None, :, None],
        video_mask=video_mask,
        text=noise("text", (3, 2, 6, 6)) * text_mask[:, None, :, None],
        text_mask=text_mask,
        spans=torch.zeros(3, 1, 2),
        span_mask=torch.zeros(3, 1, dtype=torch.bool),
        saliency=torch.zeros(3, 17),
        duration=none,
        index=none,
    )


@torch.no_grad()
def predictions(model: torch.nn.Module) -> dict[str, list[float]]:
    batch = golden_batch()
    output = model(batch)
    valid = output.extras["points"].valid
    found = {"spans": output.spans[valid], "logits": output.extras["logits"][valid]}
    found["saliency"] = output.saliency[batch.video_mask]
    return {key: [round(x, 6) for x in value.flatten().tolist()] for key, value in found.items()}


def test_an_imported_checkpoint_predicts_as_recorded(tmp_path: Path):
    source = save(tmp_path / "theirs.pth", public_state("r2_tuning"))
    done, _ = import_checkpoint("r2_tuning", source, tmp_path / "ours", {"nms": "linear", "grid": 0.1})
    c = done.config
    assert (c.video_dim, c.text_dim, c.width, c.levels, c.strides, c.kernel) == (10, 6, 16, 2, (1, 2, 4), 3)
    assert c.tef and c.nms == "linear" and list(done.unused) == ["loss._loss_sal.scale"]
    found, expected = predictions(load_imported(tmp_path / "ours")), golden("r2_tuning")["predictions"]
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=TOLERANCE), key


def test_a_checkpoint_for_highlights_has_no_distances(tmp_path: Path):
    state = {
        k: v for k, v in public_state("r2_tuning").items() if not k.startswith(("coord_head", "pyramid"))
    }
    state["coef"] = state["coef"][:1]
    done, _ = import_checkpoint("r2_tuning", save(tmp_path / "theirs.pth", state), tmp_path / "ours")
    c = done.config
    assert (c.task, c.strides, c.tef, c.video_dim) == ("highlights", (1,), False, 12)
    assert set(done.unused) == {"loss._loss_sal.scale", "coef of no distances"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "ours"
        import_checkpoint("r2_tuning", save(Path(folder) / "theirs.pth", public_state("r2_tuning")), ours)
        case = {**golden("r2_tuning"), "predictions": predictions(load_imported(ours))}
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in case.items()
    )
    (GOLDEN / "r2_tuning.json").write_text(f"{{\n{lines}\n}}\n")
