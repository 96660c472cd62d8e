"""Have the runs of a profile learned? The rule by which its length is set, checked on one row: `vtg rule`.

Of eight seeds all learn to read, their standard deviation is at most 1.5 mAP on test, and twice the training
moves it by less than 2. Where ten minutes a run do not buy both, the spread counts, and the page shows what
doubling moves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation.statistics import summarise
from vtg_lib.papers.evidence import TUNING, index_runs
from vtg_lib.papers.plan import row_spec
from vtg_lib.papers.schema import Paper
from vtg_lib.papers.verdict import METRIC, has_learned

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store

SEEDS, SPREAD, MOVED = 8, 1.5, 2.0
PROFILE, DATASET = "sim", "qvhighlights"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What runs of a paper's yardstick say.

    Attributes:
        row: its label; learned: how many of `seeds` runs have learned to read.
        mean, sd: of these, mAP on test; NaN where there are none.
        moved: what twice the training adds, mean over the `doubled` seeds that have both.
        seconds: a run takes, in the median.
    """

    row: str
    seeds: int
    learned: int
    mean: float
    sd: float
    doubled: int
    moved: float
    seconds: float

    @property
    def parts(self) -> dict[str, bool | None]:
        """Each part of the rule: kept, broken, or (None) not known yet."""
        enough = self.seeds >= SEEDS
        return {
            f"all of {SEEDS} seeds learn to read": self.learned == self.seeds if enough else None,
            f"their sd is at most {SPREAD}": self.sd <= SPREAD if enough else None,
            f"twice the training moves them by less than {MOVED:g}": (
                abs(self.moved) < MOVED if self.doubled else None
            ),
        }


def yardstick(paper: Paper, seed: int, times: int = 1) -> RunSpec:
    """The run that the rule is about, `times` as long.

    Raises:
        ValueError: the paper has no yardstick.
    """
    if paper.yardstick is None:
        raise ValueError(f"{paper.key}: expected field 'yardstick' in its YAML, which is missing")
    table, label = paper.yardstick
    spec = row_spec(paper.table(table).row(label), paper.profile(PROFILE), DATASET, seed)
    train = dataclasses.replace(spec.train, epochs=times * spec.train.epochs)
    return dataclasses.replace(spec, train=train, diagnostics=(), keep=False)


def check_rule(paper: Paper, store: Store | Iterable[Mapping[str, Any]]) -> Rule:
    """The rule on the runs that a store has."""
    runs = index_runs(store)
    once, twice = (
        {
            seed: record
            for seed, record in runs.get(yardstick(paper, 0, times).cost_key, {}).items()
            if seed < TUNING
        }
        for times in (1, 2)
    )
    assert paper.yardstick is not None
    learned = {seed: _score(record) for seed, record in once.items() if has_learned(record)}
    whole = summarise(list(learned.values()))
    gains = [_score(twice[seed]) - score for seed, score in learned.items() if seed in twice]
    seconds = sorted(record["provenance"]["wall_s"] for record in once.values())
    return Rule(
        row=paper.yardstick[1],
        seeds=len(once),
        learned=len(learned),
        mean=whole.mean,
        sd=whole.sd,
        doubled=len(gains),
        moved=summarise(gains).mean,
        seconds=seconds[len(seconds) // 2] if seconds else math.nan,
    )


def _score(record: Mapping[str, Any]) -> float:
    metrics = record["metrics"]
    return float(metrics.get("test", metrics["val"])[METRIC])
