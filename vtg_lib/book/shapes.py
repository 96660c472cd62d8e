"""Shapes told in letters: of a batch whose sizes are chosen so that no number of a config is taken for one of
them, and of a config. B samples, T clips, L words; D, Q, S, K, H and more of the config.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vtg_lib.data.batches import Batch

# Letter -> (what it counts, field of the config).
LETTERS = {
    "D": ("channels", "width"),
    "Q": ("queries", "queries"),
    "K": ("levels", "levels"),
    "S": ("decoder layers", "decoder_layers"),
    "H": ("heads", "heads"),
    "Dv": ("channels of the video", "video_dim"),
    "Dt": ("channels of the text", "text_dim"),
}
OF_BATCH = {"B": "samples", "T": "clips", "L": "words", "M": "moments", "P": "points"}
HALVED = 3  # times that a pyramid halves the clips, as far as this is told


class Letters:
    """What the numbers of a shape are called: a letter, or a small expression of letters."""

    def __init__(self, config: Any, sizes: Mapping[str, int]) -> None:
        own = {letter: int(getattr(config, field, 0) or 0) for letter, (_, field) in LETTERS.items()}
        self.sizes = {**sizes, **{letter: number for letter, number in own.items() if number}}
        b, t, n, d = (self.sizes.get(letter, 0) for letter in "BTLD")
        named = {"B": b, "2B": 2 * b, "T": t, "T + 1": t + 1, "T + 2": t + 2, "2T": 2 * t}
        named |= {f"T/{2**k}": t // 2**k for k in range(1, HALVED + 1)} | {"L": n, "L + 1": n + 1}
        named |= {"T + L": t + n, "T + L + 1": t + n + 1, "D": d, "Q": own["Q"], "M": sizes["M"]}
        named |= {"2D": 2 * d, "3D": 3 * d, "4D": 4 * d, "Dv": own["Dv"], "Dv + 2": own["Dv"] + 2}
        named |= {"Dt": own["Dt"], "D + 2": d + 2}
        named |= {f"B·{letter}": b * self.sizes.get(letter, 0) for letter in "TLQKS"}
        named |= {f"L + {number}": n + number for number in _numbers(config)}
        self.named: dict[int, str] = {}
        for name, number in named.items():
            if number > 2:
                self.named.setdefault(number, name)
        self.used: set[str] = set()

    def tell(self, shape: Sequence[int]) -> str:
        """Such as "[B, T, D]". Small numbers and those of features are told by their place."""
        told = [self.named.get(number, str(number)) for number in shape]
        size = self.sizes.get
        if len(told) == 1 and size("K") == shape[0]:
            told = ["K"]
        if len(told) > 1 and told[1] in ("B", "2B"):  # stacked over levels or layers
            told[0] = next((letter for letter in "KS" if size(letter) == shape[0]), told[0])
        if len(told) == 4 and told[0] in ("B", "2B"):
            if shape[3] * size("H", 0) == size("D") and shape[1] == size("H"):
                told[1], told[3] = "H", "D/H"
            elif shape[1] == size("K") and shape[3] != size("T"):
                told[1] = "K"
            elif shape[1] == size("H"):
                told[1] = "H"
        if "K" in told and shape[-1] in (size("Dv"), size("Dv", 0) + 2):
            told[-1] = "Dv" if shape[-1] == size("Dv") else "Dv + 2"
        if "L" in told and shape[-1] == size("Dt") != size("D"):
            told[-1] = "Dt"
        self.used |= {letter for name in told for letter in name.replace("2", "").split() if letter}
        return f"[{', '.join(told)}]"


def _numbers(config: Any) -> list[int]:
    return sorted({v for v in vars(config).values() if isinstance(v, int) and not isinstance(v, bool)})


def choose_sizes(*configs: Any) -> dict[str, int]:
    """Sizes of a batch that no number of the configs is taken for; clips that pyramids can halve."""
    numbers = {number for config in configs for number in _numbers(config)}
    told = {factor * c.width for c in configs for factor in (2, 3, 4)}
    told |= {number + 2 for c in configs for number in (c.width, c.video_dim)}
    taken = numbers | told
    for t, b, n in itertools.product(range(64, 2048, 64), range(5, 40), range(6, 40)):
        clips = [t, t + 1, t + 2, 2 * t, *(t // 2**k for k in range(1, HALVED + 1))]
        wanted = [b, 2 * b, n, n + 1, t + n, t + n + 1, *clips]
        if len(set(wanted)) == len(wanted) and not taken & set(wanted):
            return {"B": b, "T": t, "L": n, "M": 2}
    raise ValueError(f"no sizes of a batch are free: the configs have {sorted(numbers)}")


def example(config: Any, sizes: Mapping[str, int]) -> Batch:
    """A batch of random features, with M moments each and saliency inside them."""
    b, t, n, m = (sizes[letter] for letter in "BTLM")
    draw = torch.Generator().manual_seed(0)
    levels = (getattr(config, "levels", 0) or 0,) if hasattr(config, "levels") else ()
    width = torch.full((b, m), 0.5 / m)
    center = (torch.arange(m) + 0.4) / m + 0.05 * torch.rand(b, 1, generator=draw)
    middle = (torch.arange(t) + 0.5) / t
    inside = ((middle - center[..., None]).abs() < width[..., None] / 2).any(1)
    return Batch(
        video=torch.randn(b, *levels, t, config.video_dim, generator=draw),
        video_mask=torch.ones(b, t, dtype=torch.bool),
        text=torch.randn(b, *levels, n, config.text_dim, generator=draw),
        text_mask=torch.ones(b, n, dtype=torch.bool),
        spans=torch.stack((center, width), -1),
        span_mask=torch.ones(b, m, dtype=torch.bool),
        saliency=torch.randint(1, 13, (b, t), generator=draw) * inside.float(),
        duration=torch.full((b,), 2.0 * t),
        index=torch.arange(b),
    )
