"""Sentence token, local saliency, guided cross-attention and amplifier, each against a slow version."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from vtg_lib.layers.saliency_guidance import (
    AMPLIFIED,
    FACTORS,
    GUIDANCE,
    Amplifier,
    GuidedCrossLayer,
    GuidedEncoder,
    LocalSaliency,
    SentencePool,
)

WORDS = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
CLIPS = torch.arange(7) < torch.tensor([7, 4])[:, None]


def tokens(*sizes: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, size, 8) for size in sizes]


def slow_heads(query, key, value, weigh) -> torch.Tensor:
    """One query `[D]` of two heads of 4 channels; `weigh` makes weights of the logits of a head."""
    heads = (slice(0, 4), slice(4, 8))
    return torch.cat([weigh(key[:, h] @ query[h] / 2) @ value[:, h] for h in heads])


@pytest.mark.parametrize("projections", [False, True])
def test_the_sentence_token_reads_the_words_layer_by_layer(projections: bool):
    (words,) = tokens(5)
    pool = SentencePool(8, 2, 16, 0.0, 2, projections)
    found = pool(words, WORDS)
    for b in range(2):
        token = pool.token
        for number, layer in enumerate(pool.layers):
            token = pool.norm(token) if number else token
            real = layer.norm_words(words[b, WORDS[b]])
            softmax = lambda logits: logits.softmax(-1)  # noqa: E731
            token = token + layer.out(slow_heads(token, layer.key(real), layer.value(real), softmax))
            token = token + layer.feed_forward(layer.norm_feed_forward(token))
        torch.testing.assert_close(found[b], token)
    assert len(pool.layers) == 2 and isinstance(pool.layers[0].key, torch.nn.Linear) == projections


def test_local_saliency_is_a_scaled_cosine():
    (clips,), sentence = tokens(7), torch.randn(2, 8)
    local = LocalSaliency()
    expected = F.cosine_similarity(clips, sentence[:, None], dim=-1)
    torch.testing.assert_close(local(clips, sentence), expected * math.exp(3))
    with torch.no_grad():
        local.shift.fill_(0.5)
    assert local(clips * 0, sentence).unique().tolist() == [0.5]  # no features, no direction


def test_factors_of_the_guidance():
    (local,) = torch.randn(1, 2, 7)
    saliency, constant, shuffled = (
        FACTORS[name](local, CLIPS) for name in ("saliency", "constant", "shuffled")
    )
    torch.testing.assert_close(saliency, local.sigmoid())
    for b in range(2):
        own = local[b, CLIPS[b]].sigmoid()
        torch.testing.assert_close(constant[b, CLIPS[b]], own.mean().expand(len(own)))
        assert sorted(shuffled[b, CLIPS[b]].tolist()) == sorted(own.tolist())
        assert shuffled[b, CLIPS[b]].tolist() != own.tolist()
        alone = FACTORS["shuffled"](local[b : b + 1, CLIPS[b]], CLIPS[b : b + 1, CLIPS[b]])
        torch.testing.assert_close(alone[0], shuffled[b, CLIPS[b]])  # padding changes nothing
    silent = torch.zeros(2, 7)
    assert all(factor(silent, CLIPS)[CLIPS].unique().tolist() == [0.5] for factor in FACTORS.values())


@pytest.mark.parametrize("projections", [False, True])
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_guided_cross_attention_against_a_loop(guidance: str, projections: bool):
    dummies = 2 if guidance == "dummy" else 0
    x, position, words, place = tokens(7, 7, 5 + dummies, 5 + dummies)
    mask = F.pad(WORDS, (dummies, 0), value=True)
    local = torch.randn(2, 7)
    factor = FACTORS[guidance](local, CLIPS) if guidance in FACTORS else None
    layer = GuidedCrossLayer(8, 2, 16, 0.0, 0.0, projections, guidance == "sigmoid")
    found, weights, update = layer(x, position, words, place, mask, factor, dummies, True)
    for b in range(2):
        real = mask[b]
        key, value = layer.key((words + place)[b, real]), layer.value(words[b, real]).clone()
        value[:dummies] = 0
        for t in range(7):
            share = 1.0 if factor is None else factor[b, t]

            def weigh(logits: torch.Tensor, share=share) -> torch.Tensor:
                return share * (logits.sigmoid() if guidance == "sigmoid" else logits.softmax(-1))

            read = layer.out(slow_heads(layer.query((x + position)[b, t]), key, value, weigh))
            torch.testing.assert_close(update[b, t], read)
            clip = x[b, t] + read
            clip = layer.norm(clip + layer.norm_branch(layer.feed_forward(clip)))
            torch.testing.assert_close(found[b, t], clip)
    if guidance != "sigmoid":
        total = torch.ones(2, 7) if factor is None else factor
        torch.testing.assert_close(weights.sum(-1), total)


def test_the_encoder_normalises_clips_and_words_after_every_layer():
    x, position, words = tokens(7, 7, 5)
    nowhere, local = torch.zeros_like(words), torch.randn(2, 7)
    encoder = GuidedEncoder(2, 8, 2, 16, 0.0, 0.0, "saliency", False)
    with torch.no_grad():
        encoder.norm.weight.add_(torch.randn(8))
    read = encoder(x, position, CLIPS, local, words, nowhere, WORDS, trace=True)
    clips, factor = x, local.sigmoid()
    for layer in encoder.layers:
        clips, _, _ = layer(clips, position, words, nowhere, WORDS, factor)
        clips, words = encoder.norm(clips), encoder.norm(words)
    torch.testing.assert_close(read.clips, encoder.norm(clips))
    assert read.update.shape == (2, 2, 7) and read.attention.shape == (2, 7, 5)
    assert encoder(x, position, CLIPS, local, words, nowhere, WORDS).attention is None


def test_a_clip_of_no_saliency_reads_nothing():
    x, position, words = tokens(7, 7, 5)
    nowhere, encoder = torch.zeros_like(words), GuidedEncoder(1, 8, 2, 16, 0.0, 0.0, "saliency", False)
    with torch.no_grad():
        encoder.layers[0].out.bias.zero_()
    read = encoder(x, position, CLIPS, torch.full((2, 7), -100.0), words, nowhere, WORDS, trace=True)
    assert read.update.max() < 1e-6


@pytest.mark.parametrize("layer", [False, True])
def test_the_amplifier(layer: bool):
    x, position = tokens(7, 7)
    saliency, amplifier = torch.randn(2, 7), Amplifier(8, 2, 16, 0.0, layer).eval()
    expected = x * (1 + saliency.sigmoid())[..., None]
    expected = amplifier.layer(expected, position, CLIPS) if layer else expected
    torch.testing.assert_close(amplifier(x, saliency, position, CLIPS), expected)
    assert list(AMPLIFIED) == ["on", "off", "first", "second"]
