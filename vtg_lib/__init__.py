"""A reproducibility book for video temporal grounding: the library behind its chapters.

The public names, imported when they are first used; the page "The library" of the book shows each at work:

- `evaluate`: score predictions by the QVHighlights protocol; `load_data`: the splits of a data set;
- `build`: a method with its weights drawn; `train`: train it;
- `RunSpec`, `TrainConfig`: what to train, as a value; `run`: train it, or take it from a store (`Store`), on
a `Machine`;
- `load_paper`: a paper's tables; `compare`: a table beside stored runs, with verdicts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtg_lib.data import load_data
    from vtg_lib.evaluation.protocol import evaluate
    from vtg_lib.experiments.config import TrainConfig
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.run import run
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store
    from vtg_lib.experiments.training import train
    from vtg_lib.models import build
    from vtg_lib.papers import load_paper
    from vtg_lib.papers.comparison import compare

__version__ = "0.1.0"
__all__ = [
    "Machine",
    "RunSpec",
    "Store",
    "TrainConfig",
    "build",
    "compare",
    "evaluate",
    "load_data",
    "load_paper",
    "run",
    "train",
]
_HOMES = {
    "data": ("load_data",),
    "evaluation.protocol": ("evaluate",),
    "experiments.config": ("TrainConfig",),
    "experiments.machine": ("Machine",),
    "experiments.run": ("run",),
    "experiments.spec": ("RunSpec",),
    "experiments.store": ("Store",),
    "experiments.training": ("train",),
    "models": ("build",),
    "papers": ("load_paper",),
    "papers.comparison": ("compare",),
}


def __getattr__(name: str) -> Any:
    """A public name from its home: `import vtg_lib` alone needs neither torch nor numpy."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"vtg_lib.{home}"), name)
    raise AttributeError(f"module 'vtg_lib' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
