"""The renderer: timelines of events to features, the same way for real and for generated annotations.

What is assumed is in `vtg_lib.data.appearance.RenderConfig`, one knob a line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtg_lib.data.appearance import POOLERS, Embeddings, RenderConfig
from vtg_lib.data.batches import GroundingData, fingerprint, targets
from vtg_lib.data.timeline import FIRST_WORD, Event, Timeline, content_stem, tokenize

RENDER_VERSION = "render v1"
MAX_WORDS = 32
_CHUNK = 64  # videos rendered at once


def _rotation(dim: int, seed: int, depth: int) -> Tensor:
    """A fixed random orthogonal matrix."""
    matrix = np.random.default_rng([seed, 6, depth, 1]).standard_normal((dim, dim))
    return torch.tensor(np.linalg.qr(matrix)[0], dtype=torch.float32)


# --- what is shown when


@dataclass
class _Shown:
    """Concept occurrences of a chunk of videos, padded: axes v videos, C occurrences, T clips."""

    start: Tensor  # [v, C] clips
    end: Tensor
    row: Tensor  # [v, C] rows of the embedding tables
    instance: list[list[int]]
    salience: Tensor  # [v, T, C]
    scene: Tensor  # [v, C] bool
    real: Tensor  # [v, C] bool


def _collect(timelines: Sequence[Timeline], embeddings: Embeddings, clips: int, clip_length: float) -> _Shown:
    flat = [
        [(e, c, s) for s, es in ((False, t.events), (True, t.scenes)) for e in es for c in e.concepts]
        for t in timelines
    ]
    count, most = len(timelines), max(len(f) for f in flat)
    start, end, row = np.zeros((count, most)), np.zeros((count, most)), np.zeros((count, most), np.int64)
    salience = np.ones((count, clips, most), np.float32)
    scene, real = np.zeros((count, most), bool), np.zeros((count, most), bool)
    instance = [[0] * most for _ in range(count)]
    for v, occurrences in enumerate(flat):
        for c, (event, concept, is_scene) in enumerate(occurrences):
            start[v, c], end[v, c] = event.start / clip_length, event.end / clip_length
            row[v, c], scene[v, c], real[v, c] = concept, is_scene, True
            instance[v][c] = event.instance
            _write_salience(salience[v, :, c], event, clip_length)
    tensor = torch.from_numpy
    return _Shown(
        tensor(start).float(),
        tensor(end).float(),
        tensor(embeddings.rows(row)),
        instance,
        tensor(salience),
        tensor(scene),
        tensor(real),
    )


def _write_salience(column: np.ndarray, event: Event, clip_length: float) -> None:
    if event.salience is None:
        return
    first = int(event.start / clip_length)
    values = event.salience[: max(0, len(column) - first)]
    column[first : first + len(values)] = values
    column[:first] = event.salience[0]  # what fades in or out shows the salience of the border
    column[first + len(values) :] = event.salience[-1]


def _coverage(shown: _Shown, clips: int, blur: float) -> Tensor:
    """`[v, T, C]` in 0..1: how much of each occurrence is on screen, with linear ramps of `blur` clips at its
    borders.
    """
    center = torch.arange(clips)[None, :, None] + 0.5
    blur = max(blur, 1e-3)
    rise = (0.5 + (center - shown.start[:, None]) / blur).clamp(0, 1)
    fall = (0.5 + (shown.end[:, None] - center) / blur).clamp(0, 1)
    return rise * fall * shown.real[:, None]


# --- features


class Renderer:
    """Renders the videos and queries of one split."""

    def __init__(self, config: RenderConfig, embeddings: Embeddings, clip_length: float, seed: int) -> None:
        self.config, self.embeddings, self.clip_length, self.seed = config, embeddings, clip_length, seed
        self.rotations = [_rotation(config.semantic_dim, embeddings.seed, d) for d in range(1, config.levels)]

    def videos(self, timelines: Sequence[Timeline], clips: int) -> Tensor:
        """`[V, T, motion_dim + semantic_dim]` or `[V, levels, T, semantic_dim]`, float16, each part of unit
        length.
        """
        chunks = [timelines[i : i + _CHUNK] for i in range(0, len(timelines), _CHUNK)]
        return torch.cat([self._chunk(chunk, clips, number).half() for number, chunk in enumerate(chunks)])

    def _chunk(self, timelines: Sequence[Timeline], clips: int, number: int) -> Tensor:
        c = self.config
        shown = _collect(timelines, self.embeddings, clips, self.clip_length)
        rng = np.random.default_rng([self.seed, 7, number, 1])
        luck = torch.from_numpy(rng.random(shown.salience.shape, dtype=np.float32))
        vectors = self._appearance(shown)
        if c.layout == "clips":
            present = self._present(shown, luck, clips, 0)
            semantic = present @ vectors + c.semantic_noise * _normal(
                rng, (len(timelines), clips, c.semantic_dim)
            )
            return torch.cat((_l2(self._motion(shown, present, clips, rng)), _l2(semantic)), -1)
        places = (
            torch.from_numpy(rng.random((*luck.shape, c.tokens), dtype=np.float32).argsort(-1))
            < c.token_spread
        )
        levels = [
            self._level(shown, luck, places, vectors, clips, number, depth)
            for depth in reversed(range(c.levels))
        ]
        return torch.stack(levels, 1)

    def _appearance(self, shown: _Shown) -> Tensor:
        """`[v, C, D]`: a word looks a little different in every event; scenes always look the same."""
        c, base = self.config, self.embeddings.semantic[shown.row]
        share = c.moment_similarity
        ids = list(dict.fromkeys(i for row in shown.instance for i in row))  # an event's words share one
        own = [np.random.default_rng([self.seed, 8, i, 1]).standard_normal(base.shape[-1]) for i in ids]
        place = {i: number for number, i in enumerate(ids)}
        which = torch.tensor([[place[i] for i in row] for row in shown.instance])
        instance = _l2(torch.tensor(np.stack(own), dtype=torch.float32))[which]
        word = math.sqrt(share) * base + math.sqrt(1 - share) * instance
        return torch.where(shown.scene[..., None], c.scene_strength * base, word)

    def _present(self, shown: _Shown, luck: Tensor, clips: int, depth: int) -> Tensor:
        """`[v, T, C]`: coverage of the occurrences that show in a clip; sharper and more complete at
        shallower levels.
        """
        c, sharp = self.config, self.config.level_sharpness**depth
        chance = c.dim_visibility + (c.visibility - c.dim_visibility) * shown.salience
        chance = torch.where(shown.scene[:, None], 1.0, 1 - (1 - chance) * sharp)
        return _coverage(shown, clips, c.border_blur * sharp) * (luck < chance)

    def _motion(self, shown: _Shown, present: Tensor, clips: int, rng: np.random.Generator) -> Tensor:
        """`[v, T, motion_dim]`: still scenes, and actions that swing at their own frequency."""
        e = self.embeddings
        phase = torch.from_numpy(rng.random(shown.row.shape, dtype=np.float32)) * 2 * math.pi
        swing = torch.cos(
            torch.arange(clips)[None, :, None] * e.frequency[shown.row][:, None] + phase[:, None]
        )
        gain = torch.where(shown.scene, 0.5, torch.where(e.moves[shown.row], 1.5, 0.0))[:, None]
        weight = present * gain * torch.where(shown.scene[:, None], torch.ones_like(swing), 0.6 + 0.8 * swing)
        noise = self.config.motion_noise * _normal(rng, (*weight.shape[:2], self.config.motion_dim))
        return weight @ e.motion[shown.row] + noise

    def _level(
        self,
        shown: _Shown,
        luck: Tensor,
        places: Tensor,
        vectors: Tensor,
        clips: int,
        number: int,
        depth: int,
    ) -> Tensor:
        """`[v, T, D]`: the level `depth` steps above the last, pooled over its tokens."""
        c = self.config
        rng = np.random.default_rng([self.seed, 9, number, depth, 1])
        present = self._present(shown, luck, clips, depth)
        words, scenes = present * ~shown.scene[:, None], present * shown.scene[:, None]
        placed = (words[..., None] * places).permute(0, 1, 3, 2)  # [v, T, P, C]
        tokens = placed.flatten(1, 2) @ vectors
        tokens = tokens.unflatten(1, (clips, c.tokens)) + (scenes @ vectors)[:, :, None]
        cls = tokens.mean(2, keepdim=True) + (scenes @ vectors)[:, :, None]
        tokens = torch.cat((tokens, cls), 2)
        tokens += c.token_noise * _normal(rng, tokens.shape)
        pooled_over = tokens[:, :, -1:] if c.pooling == "cls" else tokens[:, :, :-1]
        if depth:
            angle = min(depth * c.level_misalignment, 0.45 * math.pi)
            turn = math.cos(angle) * torch.eye(c.semantic_dim) + math.sin(angle) * self.rotations[depth - 1]
            pooled_over = pooled_over @ turn
        pooler = torch.tensor(self.embeddings.pooler, dtype=torch.float32)
        return _l2(POOLERS[c.pooling](pooled_over, pooler, c.pooler_sharpness))

    def texts(self, queries: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`[N, L, semantic_dim]` float16 and `[N]` lengths: one vector a word, then one for the whole
        sentence.
        """
        c, e = self.config, self.embeddings
        lines = [tokenize(query)[: MAX_WORDS - 1] for query in queries]
        length = torch.tensor([len(line) + 1 for line in lines])
        text = np.zeros((len(lines), int(length.max()), c.semantic_dim), np.float32)
        functions: dict[str, np.ndarray] = {}
        for number, line in enumerate(lines):
            stems = [content_stem(word) for word in line]
            rows = [e.vocabulary.add(stem) - FIRST_WORD if stem else -1 for stem in stems]
            content = e.words[[row for row in rows if row >= 0]]
            mean = content.mean(0) if len(content) else np.zeros(c.semantic_dim, np.float32)
            for place, (word, row) in enumerate(zip(line, rows, strict=True)):
                if row < 0 and word not in functions:
                    functions[word] = e.function_word(word)
                text[number, place] = (e.words[row] if row >= 0 else functions[word]) + c.text_context * mean
            text[number, len(line)] = mean * math.sqrt(max(1, len(content)))
        rng = np.random.default_rng([self.seed, 10, 1])
        real = torch.arange(text.shape[1]) < length[:, None]
        noisy = torch.from_numpy(text) + c.text_noise * _normal(rng, text.shape)
        return (_l2(noisy) * real[..., None]).half(), length


def _normal(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


def _l2(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def render(
    rows: list[dict[str, Any]],
    timelines: Sequence[Timeline],
    index: np.ndarray,
    embeddings: Embeddings,
    config: RenderConfig,
    clip_length: float,
    seed: int,
    facts: dict[str, Any],
) -> GroundingData:
    """Features and targets of one split.

    Args:
        rows: annotations in the QVHighlights layout; timelines: one per video; index: `[N]` timeline of each
            row.
        embeddings: shared by all splits; seed: of this split's noise; facts: added to `GroundingData.facts`.
    """
    length = np.array([max(1, int(timeline.duration / clip_length)) for timeline in timelines])
    clips = int(length.max())
    renderer = Renderer(config, embeddings, clip_length, seed)
    text, text_length = renderer.texts([row["query"] for row in rows])
    spans, count, saliency = targets(rows, length[index], clip_length, clips)
    return GroundingData(
        annotations=rows,
        video=renderer.videos(timelines, clips),
        video_length=torch.from_numpy(length),
        video_index=torch.from_numpy(index),
        text=text,
        text_length=text_length,
        spans=torch.from_numpy(spans),
        span_count=torch.from_numpy(count),
        saliency=torch.from_numpy(saliency),
        clip_length=clip_length,
        fingerprint=fingerprint(
            RENDER_VERSION,
            json.dumps(facts, sort_keys=True),
            seed,
            spans,
            saliency,
            [row["query"] for row in rows],
        ),
        facts={"renderer": RENDER_VERSION, **facts},
    )
