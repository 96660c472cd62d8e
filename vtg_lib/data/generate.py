"""Generated annotations (`sim`): queries of a small grammar over generated timelines, in the QVHighlights
layout. Every seed is a world of its own: the vectors of its words, its videos and its queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from vtg_lib.data.timeline import Event, Timeline, TimelineConfig, Vocabulary, complete, content_stem
from vtg_lib.data.votes import importance, labelled, votes

WORLD_VERSION = "world v2"
SPLITS = ("train", "val", "test")
CLIP_LENGTH = 2.0  # seconds, as in QVHighlights
# Windows per query in QVHighlights train (67 % one, 17 % two, 6 % three, the rest four or five)
MOMENTS_PER_QUERY = (0.67, 0.17, 0.08, 0.05, 0.03)
WORDS = {
    "subject": ["woman", "man", "child", "dog", "cat", "chef", "robot", "girl", "boy", "monkey"],
    "action": ["lifts", "opens", "throws", "paints", "kicks", "holds", "turns", "shakes", "drops", "hides"],
    "object": ["ball", "box", "door", "chair", "bottle", "book", "guitar", "lamp", "phone", "basket"],
    "attribute": ["red", "blue", "small", "heavy", "green", "wooden"],
}
PATTERNS = ("a {s} {v} the {a} {o}", "the {a} {o} that a {s} {v}", "a {s} with a {a} {o} {v} it")
# Of `WorldConfig`, what may differ between training and test: all but sizes and words.
STATISTICS = ("moments", "window_median", "window_sigma", "window_between", "centre_bias", "irrelevant_share")
# Fields of worlds with labelled clips alone: no part of a specification that does not name them.
HIGHLIGHTS = ("domains", "domain_sizes", "annotators", "titles")


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Sizes and statistics of a generated world.

    Attributes:
        train, val, test: queries (one a video); without test there is no such split. clips: per video, of 2
            seconds.
        subjects, actions, objects, attributes: words of each kind, the first of `WORDS`.
        moments: probabilities of 1, 2, … moments per query.
        unseen_words: the last so many words of each kind are in no video of the training split and in no
            query of it; validation and test have all words.
        saliency: whether annotators voted on the clips of the moments, as in QVHighlights but not in
            Charades-STA and TACoS.
        window_median: seconds; window_sigma: of the logarithm. QVHighlights has 16 s and 0.95 in videos of
            150 s.
        window_between: share of the variance of log length that lies between videos, whose scenes tell it;
            the whole variance stays.
        centre_bias: probability that the moments of a video lie in its middle, not anywhere.
        irrelevant_share: share of clips that show no moment, at the same number of relevant clips: by the
            length of the video, at most four times `clips`; 0 keeps `clips`.
        draw: which videos and queries of the world, whose words and their vectors stay; those of two draws
            have nothing else in common, whatever their splits.
        domains: names of domains; a domain's videos share an action. Such a world has a label on every clip
            and no moments, as TVSum and YouTube Highlights. domain_sizes: how many videos the domains have
            relative to each other; () for equally many.
        annotators: that label every clip of such a world, see `votes.votes`.
        titles: whether a video of a domain has a sentence of its own (TVSum), or the domain's word alone
            (YouTube Highlights).
    """

    train: int = 4096
    val: int = 512
    test: int = 0
    clips: int = 32
    subjects: int = 7
    actions: int = 7
    objects: int = 7
    attributes: int = 4
    moments: tuple[float, ...] = MOMENTS_PER_QUERY
    window_median: float = 10.0
    window_sigma: float = 0.8
    window_between: float = 0.0
    centre_bias: float = 0.0
    irrelevant_share: float = 0.0
    draw: int = 0
    unseen_words: int = 0
    saliency: bool = True
    domains: tuple[str, ...] = ()
    domain_sizes: tuple[float, ...] = ()
    annotators: int = 20
    titles: bool = True

    def __post_init__(self) -> None:
        if (
            min(self.train, self.val, self.subjects, self.actions, self.objects, self.attributes) < 1
            or min(self.test, self.draw, self.unseen_words) < 0
            or self.clips < 4
        ):
            raise ValueError(
                "world: expected at least one query and word of each kind, 4 clips, and no negative number"
            )
        if abs(sum(self.moments) - 1) > 1e-6 or min(self.moments) < 0:
            raise ValueError(f"world: expected moment probabilities that sum to 1, got {self.moments}")
        for name in ("window_between", "centre_bias", "irrelevant_share"):
            if not 0 <= (share := getattr(self, name)) <= 1 or (name, share) == ("irrelevant_share", 1):
                raise ValueError(f"{name}: expected a share in [0, 1], got {share}")
        for kind, words in WORDS.items():
            if (count := getattr(self, f"{kind}s")) > len(words):
                raise ValueError(
                    f"{kind}s: expected at most the {len(words)} words that there are, got {count}"
                )
            if count <= self.unseen_words:
                raise ValueError(
                    f"unseen_words: expected fewer than the {count} {kind}s, got {self.unseen_words}"
                )
        if len(set(self.domains)) < len(self.domains) or len(self.domains) > self.actions:
            raise ValueError(
                f"domains: expected different names, at most one for each of the {self.actions} actions, got "
                f"{list(self.domains)}"
            )
        if self.domain_sizes and (len(self.domain_sizes) != len(self.domains) or min(self.domain_sizes) <= 0):
            raise ValueError(
                f"domain_sizes: expected none, or a positive number for each of {len(self.domains)} domains, "
                f"got {list(self.domain_sizes)}"
            )
        if self.domains and self.unseen_words:
            raise ValueError("unseen_words: expected 0 in a world of domains, whose words are its actions")
        if self.annotators < 1:
            raise ValueError(f"annotators: expected at least 1, got {self.annotators}")


def generate(
    config: WorldConfig, timeline: TimelineConfig, vocabulary: Vocabulary, split: str, seed: int
) -> tuple[list[dict[str, Any]], list[Timeline], np.ndarray]:
    """Annotations, timelines and the timeline of each annotation, for `split` train, val or test.

    The splits share words and grammar; their videos are independent draws.
    """
    kinds = {kind: words[: getattr(config, f"{kind}s")] for kind, words in WORDS.items()}
    ids = {
        kind: [vocabulary.add(content_stem(word) or word, moves=kind == "action") for word in words]
        for kind, words in kinds.items()
    }
    if split == "train" and config.unseen_words:
        kinds = {kind: words[: -config.unseen_words] for kind, words in kinds.items()}
        ids = {kind: words[: -config.unseen_words] for kind, words in ids.items()}
    part = SPLITS.index(split)
    own = [config.draw] if config.draw else []
    draw = np.random.default_rng([seed, 21, part, 2, *own])
    others = [
        tuple(int(c) for c in words)
        for words in np.stack([draw.choice(kind, 256) for kind in ids.values()], 1)
    ]
    lengths = _scene_lengths(timeline.scenes, seed)
    domains = _in_turn(config.domain_sizes or (1.0,) * len(config.domains), getattr(config, split))
    rows, timelines = [], []
    for number in range(getattr(config, split)):
        rng = np.random.default_rng([seed, 22, part, number, 2, *own])
        chosen = {kind: int(rng.integers(len(words))) for kind, words in kinds.items()}
        if config.domains:
            chosen["action"] = domains[number]
        concepts = tuple(ids[kind][word] for kind, word in chosen.items())
        scene = int(rng.integers(timeline.scenes)) if config.window_between else None
        clips, sizes = _sizes(config, 0.0 if scene is None else lengths[scene], rng)
        duration, windows = clips * CLIP_LENGTH, _windows(config, clips, sizes, rng)
        events = [_event(start, end, concepts, rng) for start, end in windows]
        vid = f"{split}{number}"
        sentence = PATTERNS[rng.integers(len(PATTERNS))].format(
            **dict(zip("svoa", (kinds[kind][word] for kind, word in chosen.items()), strict=True))
        )
        row = _annotation(vid, number, sentence, duration, events, timeline, rng)
        if config.domains:
            label = votes(
                importance(events, clips, CLIP_LENGTH),
                config.annotators,
                timeline.annotator_noise,
                np.random.default_rng([seed, 24, part, number, 2, *own]),
            )
            row = labelled(row, config.domains[chosen["action"]], label)
            if not config.titles:
                row["query"] = kinds["action"][chosen["action"]]
        elif not config.saliency:
            del row["saliency_scores"]
        rows.append(row)
        queries = [(concepts, events)]
        timelines.append(complete(vid, duration, queries, others, CLIP_LENGTH, timeline, rng, scene))
    return rows, timelines, np.arange(len(rows))


def _in_turn(sizes: tuple[float, ...], videos: int) -> list[int]:
    """The domain of each video: at any time the one that lacks most of its share, the first of equals."""
    share, count = np.array(sizes) / max(sum(sizes), 1e-9), np.zeros(len(sizes))
    found = []
    for number in range(videos if sizes else 0):
        found.append(int(np.argmax(np.round(share * (number + 1) - count, 9))))
        count[found[-1]] += 1
    return found


def _scene_lengths(scenes: int, seed: int) -> np.ndarray:
    """`[scenes]` of mean 0 and variance 1: what a scene adds to the log length of its video's moments, in
    standard deviations. Quantiles of a normal distribution, so that the variance is the same in every world.
    """
    quantiles = np.array([NormalDist().inv_cdf((scene + 0.5) / scenes) for scene in range(scenes)])
    scale = quantiles.std() or 1.0
    return np.random.default_rng([seed, 23, 2]).permutation(quantiles / scale)


def _sizes(config: WorldConfig, offset: float, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """Clips of a video, and of each of its moments, which fit into it with a clip between any two."""
    count = int(rng.choice(len(config.moments), p=config.moments)) + 1
    own, shared = np.sqrt(1 - config.window_between), np.sqrt(config.window_between)
    spread = own * rng.standard_normal(count) + shared * offset
    lengths = config.window_median * np.exp(config.window_sigma * spread)
    sizes = np.clip(np.round(lengths / CLIP_LENGTH), 1, config.clips).astype(int)
    while len(sizes) > 1 and sizes.sum() + len(sizes) - 1 > config.clips:
        sizes = sizes[:-1]
    clips = config.clips
    if config.irrelevant_share:
        wanted = max(sizes.sum() + len(sizes) - 1, round(sizes.sum() / (1 - config.irrelevant_share)), 4)
        clips = int(min(wanted, 4 * config.clips))
    return clips, sizes


def _windows(
    config: WorldConfig, clips: int, sizes: np.ndarray, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Windows on the clip grid that neither overlap nor touch."""
    free = clips - int(sizes.sum()) - (len(sizes) - 1)
    gaps = np.sort(rng.integers(0, free + 1, len(sizes)))
    if config.centre_bias and rng.random() < config.centre_bias:
        gaps[:] = free // 2
    starts = gaps + np.concatenate([[0], np.cumsum(sizes[:-1] + 1)])
    return [
        (float(s * CLIP_LENGTH), float((s + n) * CLIP_LENGTH)) for s, n in zip(starts, sizes, strict=True)
    ]


def _event(start: float, end: float, concepts: tuple[int, ...], rng: np.random.Generator) -> Event:
    """An event whose salience drifts from clip to clip."""
    clips = round((end - start) / CLIP_LENGTH)
    drift = 0.25 * rng.standard_normal(clips).cumsum() / np.sqrt(np.arange(1, clips + 1))
    salience = np.clip(rng.normal(0.75, 0.15) + drift, 0.25, 1.0)
    return Event(start, end, concepts, salience, int(rng.integers(1 << 30)))


def _annotation(
    vid: str,
    qid: int,
    query: str,
    duration: float,
    events: list[Event],
    config: TimelineConfig,
    rng: np.random.Generator,
) -> dict[str, Any]:
    clips: list[int] = []
    scores: list[list[int]] = []
    for event in events:
        assert event.salience is not None
        first = round(event.start / CLIP_LENGTH)
        clips += range(first, first + len(event.salience))
        votes = 4 * event.salience[:, None] + config.annotator_noise * rng.standard_normal(
            (len(event.salience), 3)
        )
        scores += np.clip(np.round(votes), 0, 4).astype(int).tolist()
    return {
        "qid": qid,
        "query": query,
        "duration": int(duration),
        "vid": vid,
        "relevant_windows": [[event.start, event.end] for event in events],
        "relevant_clip_ids": clips,
        "saliency_scores": scores,
    }
