"""What concepts look like in a rendered video: the knobs, and the vectors of words and scenes.

Noise is given as the standard deviation along any one direction, where a concept's vector has length 1, so
that a knob means the same at every feature dimension.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vtg_lib.data.timeline import FIRST_WORD, Vocabulary


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Knobs of the renderer.

    Attributes:
        layout: `clips` (motion and semantic channel side by side, as SlowFast + CLIP) or `levels` (as
            InternVideo2).
        semantic_dim, motion_dim: channels of the two; a level has `semantic_dim` channels.
        levels: depths rendered, counted from the last level of the backbone.
        visibility: probability that a concept of a fully salient event shows in a clip.
        dim_visibility: the same for an event of salience 0.
        moment_similarity: share of an event's appearance that its concepts determine (cosine between two
            moments of one query).
        scene_strength: length of a scene's vector.
        border_blur: clips over which an event fades in and out.
        semantic_noise, motion_noise, text_noise: see the module.
        text_alignment: cosine of a word's vector in the text and in the video; the rest of it is the text's
            own.
        text_context: weight of the sentence's mean in each word's vector.
        level_misalignment: radians by which each step away from the last level turns features away from text.
        level_sharpness: factor per step on blur and on the share of concepts that stay hidden.
        tokens: spatio-temporal tokens a clip (levels layout); token_spread: tokens that show a visible
            concept.
        token_noise: noise of one token; pooling: `adaptive` (the last level's frozen attention pooler), `avg`
            or `cls`.
        pooler_sharpness: inverse temperature of the pooler; pooler_share: part of a concept's vector that the
            pooler looks for.
    """

    layout: str = "clips"
    semantic_dim: int = 512
    motion_dim: int = 2304
    levels: int = 4
    visibility: float = 0.8
    dim_visibility: float = 0.3
    moment_similarity: float = 0.8
    scene_strength: float = 1.0
    border_blur: float = 1.5
    semantic_noise: float = 0.15
    motion_noise: float = 0.15
    text_noise: float = 0.1
    text_alignment: float = 1.0
    text_context: float = 0.3
    level_misalignment: float = 0.25
    level_sharpness: float = 0.7
    tokens: int = 8
    token_spread: int = 2
    token_noise: float = 0.35
    pooling: str = "adaptive"
    pooler_sharpness: float = 4.0
    pooler_share: float = 0.3

    def __post_init__(self) -> None:
        if self.layout not in ("clips", "levels"):
            raise ValueError(f"layout: expected 'clips' or 'levels', got {self.layout!r}")
        if self.pooling not in POOLERS:
            raise ValueError(f"pooling: expected one of {sorted(POOLERS)}, got {self.pooling!r}")
        for name in (
            "visibility",
            "dim_visibility",
            "moment_similarity",
            "level_sharpness",
            "pooler_share",
            "text_alignment",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a value in [0, 1], got {getattr(self, name)}")
        if self.levels < 1 or self.tokens < self.token_spread or min(self.semantic_dim, self.motion_dim) < 2:
            raise ValueError("render: expected levels >= 1, tokens >= token_spread and at least 2 channels")


def _pool_adaptive(tokens: Tensor, pooler: Tensor, sharpness: float) -> Tensor:
    weight = (tokens @ pooler * sharpness).softmax(-1)
    return (tokens * weight[..., None]).sum(-2)


def _pool_avg(tokens: Tensor, pooler: Tensor, sharpness: float) -> Tensor:
    return tokens.mean(-2)


def _pool_cls(tokens: Tensor, pooler: Tensor, sharpness: float) -> Tensor:
    return tokens[..., -1, :]  # the CLS token is rendered last


POOLERS = {"adaptive": _pool_adaptive, "avg": _pool_avg, "cls": _pool_cls}


class Embeddings:
    """Vectors of words and scenes. A word's vector depends on the word and the seed alone, not on who asks
    first; but the words of a generated world are orthogonal as far as there are channels, so that no world is
    harder than another because two of its words happen to look alike.
    """

    def __init__(self, config: RenderConfig, vocabulary: Vocabulary, scenes: int, seed: int) -> None:
        self.config, self.vocabulary, self.seed = config, vocabulary, seed
        dim = config.semantic_dim
        self.pooler = _unit(np.random.default_rng([seed, 1, 1]).standard_normal(dim))
        apart = self._orthogonal(dim) if vocabulary.moves and len(vocabulary) < dim else {}
        words = [self._word(word, dim, apart.get(word)) for word in vocabulary.words]
        scene = [_unit(np.random.default_rng([seed, 2, n, 1]).standard_normal(dim)) for n in range(scenes)]
        self.semantic = torch.tensor(np.stack(scene + words), dtype=torch.float32)
        motion = [np.random.default_rng([seed, 3, n, 1]) for n in range(scenes)]
        motion += [
            np.random.default_rng([seed, 4, zlib.crc32(word.encode()), 1]) for word in vocabulary.words
        ]
        self.motion = torch.tensor(
            np.stack([_unit(g.standard_normal(config.motion_dim)) for g in motion]), dtype=torch.float32
        )
        self.frequency = torch.tensor([g.uniform(0.6, 2.4) for g in motion], dtype=torch.float32)
        # Scenes stand still; of the words, those that are known as actions, and a third of the unknown.
        moves = [False] * scenes + [self._moves(word) for word in vocabulary.words]
        self.moves = torch.tensor(moves)
        self.scenes = scenes
        share = config.text_alignment
        own = [
            _unit(np.random.default_rng([seed, 11, zlib.crc32(word.encode()), 1]).standard_normal(dim))
            for word in vocabulary.words
        ]
        self.words = (share * np.stack(words) + math.sqrt(1 - share**2) * np.stack(own)).astype(np.float32)

    def rows(self, concepts: np.ndarray) -> np.ndarray:
        """Rows of the tables for concept ids."""
        return np.where(concepts >= FIRST_WORD, concepts - FIRST_WORD + self.scenes, concepts)

    def function_word(self, word: str) -> np.ndarray:
        return 0.5 * self._word("function " + word, self.config.semantic_dim)

    def _orthogonal(self, dim: int) -> dict[str, np.ndarray]:
        """A unit vector for each word, at right angles to the others and to the pooler."""
        rng = np.random.default_rng([self.seed, 12, 2])
        columns = np.column_stack([self.pooler, rng.standard_normal((dim, len(self.vocabulary)))])
        return dict(zip(self.vocabulary.words, np.linalg.qr(columns)[0].T[1:], strict=True))

    def _word(self, word: str, dim: int, own: np.ndarray | None = None) -> np.ndarray:
        share = self.config.pooler_share
        if own is None:
            rng = np.random.default_rng([self.seed, 5, zlib.crc32(word.encode()), 1])
            own = _unit(rng.standard_normal(dim))
        return _unit(math.sqrt(1 - share) * own + math.sqrt(share) * self.pooler)

    def _moves(self, word: str) -> bool:
        return self.vocabulary.moves.get(word, zlib.crc32(word.encode()) % 3 == 0)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
