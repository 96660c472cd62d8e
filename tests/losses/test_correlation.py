"""CG-DETR's losses against slow versions, sample by sample and clip by clip."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vtg_lib.losses.correlation import (
    distillation,
    guided_saliency,
    membership,
    moment_sentence_alignment,
    orthogonality,
    relevance,
)
from vtg_lib.losses.saliency import hinge_saliency, saliency_pairs


def test_guided_saliency_against_a_loop_over_samples():
    torch.manual_seed(0)
    own, other = torch.randn(6, 23), torch.randn(6, 23)
    mask, real = (
        torch.arange(23) < torch.tensor([23, 7, 12, 20, 5, 16])[:, None],
        torch.tensor([True, True, False, True, False, True]),
    )
    target = torch.randint(-6, 13, (6, 23)).clamp(min=0).float() * mask
    pairs = saliency_pairs(target, mask)
    surprise = F.softplus(other)
    found = guided_saliency((own, other, surprise), target, mask, pairs, real, 0.2, 0.5)
    contrast, silence = [], []
    for b in range(6):
        clips = own[b, mask[b]].tolist() + (other[b, mask[b]].tolist() if real[b] else [])
        labels = target[b, mask[b]].tolist() + [0.0] * (len(clips) - int(mask[b].sum()))
        log_probability = (torch.tensor(clips) / 0.5).log_softmax(0)
        ranks = [
            [p for p, y in zip(log_probability, labels, strict=True) if y >= rank] for rank in range(1, 12)
        ]
        contrast.append(sum(-sum(rank) / len(rank) for rank in ranks if rank) / 12)
        if real[b]:
            silence.append(sum(-torch.log(1 - x.sigmoid()) for x in other[b, mask[b]]))
    expected = hinge_saliency(own, *pairs, 0.2) + sum(contrast) / 6 + 0.5 * sum(silence) / 4
    assert found.item() == pytest.approx(float(expected), rel=1e-4)


def test_distillation_clip_by_clip():
    torch.manual_seed(0)
    attention, clips, words = torch.rand(3, 6, 5).softmax(-1), torch.randn(3, 6, 8), torch.randn(3, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 4 + [False], [True] * 5])
    moment = torch.rand(3, 6) > 0.5
    per_clip = []
    for b in range(3):
        for t in range(6):
            if moment[b, t]:
                teacher = (words[b, mask[b]] @ clips[b, t]).softmax(0)
                student = attention[b, t, mask[b]] + 1e-6
                per_clip.append((teacher * (teacher.log() - student.log())).mean())
    found = distillation(attention, clips, words, mask, moment)
    torch.testing.assert_close(found, torch.stack(per_clip).mean())


def test_alignment_row_by_row():
    torch.manual_seed(0)
    first, second, sentence = torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 8)
    rows = []
    for i, wanted in enumerate((1, 0, 0, 3)):
        logits = [F.cosine_similarity(token, s, dim=0) for token in (first[i], second[i]) for s in sentence]
        rows.append(-torch.stack(logits).log_softmax(0)[wanted])
    found = moment_sentence_alignment(first, second, sentence, torch.tensor([1, 0, 0, 3]))
    torch.testing.assert_close(found, torch.stack(rows).mean())


def test_membership_and_relevance_clip_by_clip():
    torch.manual_seed(0)
    clips, moment = torch.randn(3, 6, 8), torch.rand(3, 6) > 0.5
    token, valid = torch.randn(3, 8) / 4, torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    terms = [
        -(
            torch.sigmoid(clips[b, t] @ token[b])
            if moment[b, t]
            else 1 - torch.sigmoid(clips[b, t] @ token[b])
        ).log()
        for b in range(3)
        for t in range(6)
        if valid[b, t]
    ]
    torch.testing.assert_close(membership(token, clips, moment, valid), torch.stack(terms).mean())

    share, target = torch.rand(3, 6), torch.tensor([12.0, 0, 3, 0, 0, 1]).expand(3, -1)
    terms = [
        -(share[b, t] if target[b, t] > 0 else 1 - share[b, t]).log()
        for b in range(3)
        for t in range(6)
        if valid[b, t]
    ]
    torch.testing.assert_close(relevance(share, target, valid), torch.stack(terms).mean())


def test_orthogonality_pair_by_pair():
    torch.manual_seed(0)
    tokens = torch.randn(2, 3, 8)
    cosines = [
        0.0 if i == j else F.cosine_similarity(tokens[b, i], tokens[b, j], dim=0).abs().item()
        for b in range(2)
        for i in range(3)
        for j in range(3)
    ]
    loss = orthogonality(tokens)
    assert loss.item() == pytest.approx(sum(cosines) / len(cosines), rel=1e-5)
    assert orthogonality(tokens[:, :1]).item() == 0
