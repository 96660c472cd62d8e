"""Reading what the options of several commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib.files import RESULTS

if TYPE_CHECKING:
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers.schema import Paper


def store_of(options: argparse.Namespace, paper: Paper) -> Store:
    """`--store`, or the paper's own."""
    from vtg_lib.experiments.store import Store

    return Store(options.store or RESULTS / f"{paper.chapter}.jsonl")


def knobs(items: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs, the values read as YAML."""
    import yaml

    found = {}
    for item in items:
        key, sign, text = item.partition("=")
        if not key or not sign:
            raise ValueError(f"expected KEY=VALUE, got {item!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"expected KEY=VALUE with a YAML value, got {item!r}") from None
        try:  # YAML takes 1e-3 for a word
            value = float(value) if isinstance(value, str) else value
        except ValueError:
            pass
        found[key] = value
    return found


def seeds_of(text: str) -> list[int]:
    """`3` -> [0, 1, 2]; `0,2,5` -> [0, 2, 5]."""
    try:
        numbers = [int(part) for part in text.split(",") if part]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or numbers == [0] and "," not in text:
        raise ValueError(f"--seeds: expected how many (3) or which (0,2,5), got {text!r}")
    return numbers if "," in text else list(range(numbers[0]))


def device_of(name: str) -> str:
    """`--device`; "auto" is a GPU where torch sees one."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU; use --device cpu")
    return name
