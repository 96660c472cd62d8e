"""Diagnostics: what a trained model does inside. One file a topic, found by listing this folder.

To add one, write `diagnostics/<topic>.py` with

    def measure(model: nn.Module, data: GroundingData) -> dict[str, Any]

which gives plain JSON of one model on one split, `{}` for methods that have no such thing (`topic.collect`
runs the model with its trace; `@decoder.of_decoder` makes one of what the decoder layers predicted), and a
constant

    VIEW = View(title=..., table=..., figure=..., by_epoch=...)

which says what pages show of that JSON: see `vtg_lib.diagnostics.topic`; each part may be left out. With
`by_epoch` it is also measured after every evaluation during training. Nothing else has to know of the file: a
row of a paper's YAML asks for it with `diagnostics: [<topic>]`, its runs store what `measure` gives before
and after training, and a notebook shows it with `figure(chapter, "<topic>")` and `table` of
`vtg_lib.book.views.diagnostics`. The file's name is the name under which results are stored, so it stays.
Files without `measure` are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from torch import nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.diagnostics.topic import View

Measure = Callable[[nn.Module, GroundingData], dict[str, Any]]


def find_topics() -> dict[str, tuple[Measure, View]]:
    """The function and the view of every topic in this folder, by name."""
    modules = {
        found.name: importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    }
    return {
        name: (module.measure, getattr(module, "VIEW", View(title=name)))
        for name, module in modules.items()
        if hasattr(module, "measure")
    }


_TOPICS = find_topics()
DIAGNOSTICS: dict[str, Measure] = {name: measure for name, (measure, _) in _TOPICS.items()}
VIEWS: dict[str, View] = {name: view for name, (_, view) in _TOPICS.items()}
OBSERVED = tuple(
    name for name, view in VIEWS.items() if view.by_epoch
)  # also after every evaluation of a run
