"""TR-DETR: size, presets, padding, gradients, the moment reader and the losses against slow versions,
learning.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from ragged import TEXT_DIM, VIDEO_DIM, alone, ragged_batch, with_noise_in_padding
from ragged import moved as shift

from vtg_lib.layers.context_query import ContextQueryAttention
from vtg_lib.losses.contrastive import TEMPERATURE, clip_sentence_alignment
from vtg_lib.losses.matching import MatchCost, match
from vtg_lib.losses.saliency import hinge_saliency
from vtg_lib.models import MODELS, count_parameters
from vtg_lib.models.inference import autocast
from vtg_lib.models.tr_detr import TRDETR, Config, MomentReader
from vtg_lib.spans import cw_to_se, generalised_iou

SMALL = Config(video_dim=VIDEO_DIM, text_dim=TEXT_DIM, width=16, heads=2, hidden=24, queries=5)


def build_small(moved: bool = True, **changes) -> TRDETR:
    torch.manual_seed(0)
    model = TRDETR(dataclasses.replace(SMALL, **changes))
    return shift(model, 0.1) if moved else model


def test_size_is_that_of_the_public_code_and_without_the_gru_the_published_one():
    model = TRDETR(Config.paper())
    assert (
        count_parameters(model) == 8_308_773 - (32 + 2) * 256
    )  # positions and norm of the words, never used
    assert count_parameters(model.reader) == 394_752
    without = count_parameters(model) - count_parameters(model.reader)
    assert without / 1e6 == pytest.approx(MODELS["tr_detr"].published_parameters, abs=0.05)


def test_presets_are_those_of_the_public_scripts():
    assert Config.paper() == Config() and (Config().weight_global, Config().weight_local) == (0.3, 0.5)
    assert Config.paper("tvsum") == Config(
        video_dim=2048, weight_global=0.5, weight_local=2.0, highlights_only=True
    )
    assert Config.paper("qvhighlights+audio") == Config(video_dim=4866, weight_local=0.3)
    with pytest.raises(ValueError, match="expected data set qvhighlights.*got 'charades_sta'"):
        Config.paper("charades_sta")


@pytest.mark.parametrize("highlights_only", [False, True])
def test_every_parameter_that_is_trained_gets_a_gradient(highlights_only):
    model, batch = build_small(highlights_only=highlights_only), ragged_batch()
    sum(model.loss(model(batch), batch).values()).backward()
    without = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    # The retrieved moment reaches saliency as a choice of clips, which has no gradient.
    assert without == ({"decoder", "span_head", "class_head"} if highlights_only else set())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_neither_padding_nor_the_other_samples_matter():
    model, batch = build_small().eval(), ragged_batch()
    output, noisy = model(batch), model(with_noise_in_padding(batch))
    for row in range(len(batch)):
        one, clips = model(alone(batch, row)), int(batch.video_mask[row].sum())
        for other in (output, noisy):
            assert torch.allclose(one.layers["spans"][:, 0], other.layers["spans"][:, row], atol=1e-5)
            assert torch.allclose(one.layers["logits"][:, 0], other.layers["logits"][:, row], atol=1e-4)
            assert torch.allclose(one.saliency[0], other.saliency[row, :clips], atol=1e-4)
    torch.manual_seed(1)
    losses = model.loss(output, batch)
    torch.manual_seed(1)
    for name, value in model.loss(noisy, batch).items():
        assert torch.allclose(losses[name], value, atol=1e-4), name


def test_the_moment_reader_reads_the_clips_of_the_moment_then_zeros():
    torch.manual_seed(0)
    reader, batch = MomentReader(16), ragged_batch(samples=7)
    clips = torch.randn(7, 23, 16)
    span = torch.tensor(
        [[0.5, 0.4], [0.1, 0.3], [0.95, 0.2], [0.5, 0.98], [0.02, 0.01], [0.4, 0.79], [0.5, 1.04]]
    )
    found = reader(clips, batch.video_mask, span)
    counts = []
    for row in range(7):
        length = int(batch.video_mask[row].sum())
        start, end = (cw_to_se(span[row]) * length).floor().int().tolist()
        chosen = clips[row, :length][
            start : end + 1
        ]  # a start below 0 counts from the end, as in the public code
        counts.append(len(chosen))
        states, _ = reader.gru(torch.cat((chosen, torch.zeros(length - len(chosen), 16))))
        assert torch.allclose(found[row], states[-1], atol=1e-6), row
    assert (
        counts[1] == 0 and counts[6] == 1 and min(counts[0], counts[2], counts[3], counts[4], counts[5]) > 0
    )


def test_saliency_and_moments_refine_each_other():
    model, batch = build_small().eval(), ragged_batch()
    output = model(batch, trace=True)
    first = output.trace["first_saliency"]
    assert first.shape == output.saliency.shape and not torch.allclose(first, output.saliency, atol=1e-3)
    with torch.no_grad():  # another moment at the top changes saliency, another saliency the moments
        model.span_head.layers[-1].bias += torch.tensor([2.0, -2.0])
        assert not torch.allclose(model(batch).saliency, output.saliency, atol=1e-4)
        model.saliency_head.weight *= -3
        assert not torch.allclose(model(batch).layers["logits"], output.layers["logits"], atol=1e-4)


def test_context_query_attention_against_loops():
    torch.manual_seed(0)
    layer, batch = ContextQueryAttention(8, 0.5).eval(), ragged_batch(samples=3, clips=8, words=4)
    video, text = torch.randn(3, 8, 8), torch.randn(3, 4, 8)
    found = layer(video, batch.video_mask, text, batch.text_mask)
    a, b, c = layer.clip.weight[0], layer.word.weight[0], layer.product[0, 0]
    for row in range(3):
        v, q = video[row][batch.video_mask[row]], text[row][batch.text_mask[row]]
        similarity = torch.stack([torch.stack([a @ x + b @ y + (c * x) @ y for y in q]) for x in v])
        words, clips = similarity.softmax(1), similarity.softmax(0)
        share = layer.sentence.weight(q).softmax(0)
        sentence = (share * q).sum(0)
        for t, x in enumerate(v):
            read = sum(words[t, l] * q[l] for l in range(len(q)))
            returned = sum(words[t, l] * clips[s, l] * v[s] for l in range(len(q)) for s in range(len(v)))
            mixed = layer.mix(torch.cat((x, read, x * read, x * returned)))
            expected = layer.out(torch.cat((mixed, sentence))).relu()
            assert torch.allclose(found[row, t], expected, atol=1e-5)


def slow_losses(output, batch, config) -> dict[str, float]:
    """The public losses sample by sample, query by query."""
    spans, logits = output.layers["spans"], output.layers["logits"]
    matches = match(spans, logits.softmax(-1)[..., 0], batch.spans, batch.span_mask, MatchCost())
    l1 = giou = label = 0.0
    for layer in range(len(spans)):
        distances, overlaps, terms = [], [], []
        for row in range(len(batch)):
            taken = set()
            for moment in range(int(batch.span_mask[row].sum())):
                query = int(matches.query[layer, row, moment])
                taken.add(query)
                pair = spans[layer, row, query], batch.spans[row, moment]
                distances += (pair[0] - pair[1]).abs().tolist()
                overlaps.append(1 - generalised_iou(cw_to_se(pair[0]), cw_to_se(pair[1])).item())
            for query in range(spans.shape[2]):
                for column, logit in enumerate(logits[layer, row, query].tolist()):
                    wanted = (query in taken) == (column == 0)
                    p = 1 / (1 + math.exp(-logit if wanted else logit))
                    terms.append((0.25 if wanted else 0.75) * (1 - p) ** 2 * -math.log(p))
        l1, giou, label = l1 + _mean(distances), giou + _mean(overlaps), label + _mean(terms)
    local, videos, sentences = [], [], []
    for row in range(len(batch)):
        clips = output.extras["clips"][row][batch.video_mask[row]]
        words = output.extras["words"][row][batch.text_mask[row]]
        sentence = F.normalize(words, dim=-1).mean(0)
        for clip, score in zip(clips, batch.saliency[row].tolist(), strict=False):
            p = torch.sigmoid(F.normalize(clip, dim=0) @ sentence / TEMPERATURE).item()
            local.append(-math.log(p if score > 0 else 1 - p))
        videos.append(F.normalize(clips.mean(0), dim=0))
        sentences.append(F.normalize(words.mean(0), dim=0))
    similarity = torch.stack(sentences) @ torch.stack(videos).T / TEMPERATURE
    target = torch.arange(len(batch))
    both = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
    return {
        "l1": 10 * l1,
        "giou": giou,
        "label": 4 * label,
        "local": config.weight_local * _mean(local),
        "global": config.weight_global * both.item(),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def slow_rank_contrast(saliency, target, mask) -> float:
    """QD-DETR's Eq. 5-6 for one rank and one video at a time, without negative pairs."""
    total = 0.0
    for row in range(len(target)):
        log_p = (saliency[row][mask[row]] / 0.5).log_softmax(0)
        for rank in range(1, 12):
            above = target[row][mask[row]] >= rank
            total -= log_p[above].mean().item() if above.any() else 0.0
    return total / len(target) / 12


@pytest.mark.parametrize("highlights_only", [False, True])
def test_losses_against_loops(highlights_only):
    model, batch = build_small(highlights_only=highlights_only).eval(), ragged_batch()
    batch.span_mask[0, 0], batch.spans[0, 0] = True, torch.tensor([0.3, 0.2])
    if highlights_only:  # votes, 0..12, of every clip
        batch.saliency = torch.rand(batch.saliency.shape) * 12 * batch.video_mask
    output = model(batch)
    torch.manual_seed(1)
    found = {name: value.item() for name, value in model.loss(output, batch).items()}
    contrast = slow_rank_contrast(output.saliency, batch.saliency, batch.video_mask)
    if highlights_only:
        assert set(found) == {"saliency", "local", "global"}
        rows = [
            (s[m], v[m]) for s, v, m in zip(output.saliency, batch.saliency, batch.video_mask, strict=True)
        ]
        hinge = _mean([2 * max(0.0, 0.2 + (s[v.argmin()] - s[v.argmax()]).item()) for s, v in rows])
        middle = [v.median() for _, v in rows]
        batch.saliency = torch.stack([v * (v > m) for v, m in zip(batch.saliency, middle, strict=True)])
    else:
        from vtg_lib.losses.saliency import saliency_pairs

        torch.manual_seed(1)
        hinge = hinge_saliency(output.saliency, *saliency_pairs(batch.saliency, batch.video_mask), 0.2).item()
    assert found.pop("saliency") == pytest.approx(hinge + contrast, rel=1e-4)
    expected = slow_losses(output, batch, model.config)
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-4)
    assert set(found) == ({"local", "global"} if highlights_only else set(expected))


def test_local_alignment_falls_when_relevant_clips_turn_to_the_sentence():
    sentence, other = F.normalize(torch.randn(2, 8), dim=-1)
    positive = torch.tensor([[True, True, False]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    apart = clip_sentence_alignment(
        torch.stack((other, sentence, sentence))[None], mask, sentence.view(1, 1, 8), mask[:, :1], positive
    )
    close = clip_sentence_alignment(
        torch.stack((sentence, sentence, -sentence))[None],
        mask,
        sentence.view(1, 1, 8),
        mask[:, :1],
        positive,
    )
    assert close < 1e-3 < apart


def test_half_precision_gives_nearly_the_same_and_trains():
    model, batch = build_small(), ragged_batch()
    model.eval()
    full = model(batch)
    with autocast(torch.device("cpu"), "bfloat16"):
        half = model(batch)
    assert half.spans.dtype == half.scores.dtype == torch.float32
    assert torch.allclose(full.spans, half.spans.float(), atol=0.05)
    assert torch.allclose(full.scores, half.scores, atol=0.05)
    model.train()
    with autocast(torch.device("cpu"), "bfloat16"):
        output = model(batch)
    sum(model.loss(output, batch).values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_few_samples_can_be_learned():
    model, batch = build_small(moved=False, input_dropout=0.0, dropout=0.0), ragged_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        losses = model.loss(model(batch), batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    first, last = history[0], history[-1]
    assert sum(last.values()) < 0.5 * sum(first.values())
    assert all(last[name] < first[name] for name in first)
