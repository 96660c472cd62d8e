"""Which videos of a highlight data set train and which test: one domain alone, and leave-one-out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.data.batches import GroundingData, fingerprint


def divide(splits: Mapping[str, GroundingData], domain: str = "", fold: int = 0) -> dict[str, GroundingData]:
    """The splits of a data specification's `domain` and `fold`.

    Args:
        splits: at least `train` and `val`, of rows with a `domain`.
        domain: keep its videos alone, as the public code, which trains a model a domain; "" keeps all.
        fold: of the videos of a domain in `train` and `val`, in this order, leave number `fold` (from 1) out
            of training; they are `val` then. 0 keeps the splits. TVSum has 4 + 1 videos a domain: five folds,
            of which the last is the released split.

    Raises:
        ValueError: the data set has no domains, not this one, or a domain has fewer videos.
    """
    if not domain and not fold:
        return dict(splits)
    known = sorted({str(row.get("domain", "")) for row in splits["train"].annotations})
    if "" in known:
        raise ValueError(
            "data.domain, data.fold: expected a data set whose videos have a domain (tvsum, "
            "youtube_highlights); got one without. Fix: leave them out."
        )
    if domain and domain not in known:
        raise ValueError(f"data.domain: expected one of {', '.join(known)}; got {domain!r}")
    parts = dict(splits)
    if fold:
        parts["train"], parts["val"] = _left_out(joined(splits["train"], splits["val"]), fold)
    if domain:
        parts = {
            name: part.rows([n for n, row in enumerate(part.annotations) if row["domain"] == domain])
            for name, part in parts.items()
        }
    return parts


def _left_out(pool: GroundingData, fold: int) -> tuple[GroundingData, GroundingData]:
    """All but number `fold` of each domain, and these."""
    places: dict[str, list[int]] = {}
    for number, row in enumerate(pool.annotations):
        places.setdefault(row["domain"], []).append(number)
    least = min(places, key=lambda name: len(places[name]))
    if not 1 <= fold <= len(places[least]):
        raise ValueError(
            f"data.fold: expected 0, or 1 to {len(places[least])}, the videos of domain {least!r}; got {fold}"
        )
    out = {numbers[fold - 1] for numbers in places.values()}
    rest = [number for number in range(len(pool)) if number not in out]
    return pool.rows(rest), pool.rows(sorted(out))


def joined(first: GroundingData, second: GroundingData) -> GroundingData:
    """The rows of two splits of one data set, one after the other."""

    def both(name: str, axes: tuple[int, ...] = ()) -> Tensor:
        pair: list[Tensor] = [getattr(first, name), getattr(second, name)]
        return torch.cat([_padded(each, pair, axes) for each in pair])

    moved = second.video_index + len(first.video)
    return dataclasses.replace(
        first,
        annotations=[*first.annotations, *second.annotations],
        video=both("video", (-2,)),
        video_length=both("video_length"),
        video_index=torch.cat((first.video_index, moved)),
        text=both("text", (-2,)),
        text_length=both("text_length"),
        spans=both("spans"),
        span_count=both("span_count"),
        saliency=both("saliency", (-1,)),
        fingerprint=fingerprint("joined", first.fingerprint, second.fingerprint),
    )


def _padded(tensor: Tensor, pair: list[Tensor], axes: tuple[int, ...]) -> Tensor:
    """With zeros at the end of `axes` until it is as long there as the longer of the pair."""
    for axis in axes:
        lacking = max(each.shape[axis] for each in pair) - tensor.shape[axis]
        tensor = F.pad(tensor, (*(0, 0) * (-1 - axis), 0, lacking))
    return tensor
