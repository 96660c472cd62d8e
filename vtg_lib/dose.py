"""Dose-response: turn the knob that a paper blames, and see whether the method's gain over its control follows.

Only generated data has such knobs. Every dose is a pair of rows of the paper's tables, run on the same world at several
values of one knob; the gain is the paired difference over seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtg_lib.papers import RowRef, load_paper, row_spec
from vtg_lib.stats import Interval, paired_difference

if TYPE_CHECKING:
    from vtg_lib.runs import RunSpec
    from vtg_lib.store import Store

METRIC = "MR-full-mAP"


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One study.

    Attributes:
        key: its name.
        question: what it asks, as a sentence.
        knob: field of the data specification; values: what it is set to; unit: of the values.
        treated, control: (table, row label) of the two rows compared.
        gain: what the difference is called on the axis.
    """

    key: str
    question: str
    knob: str
    values: tuple[float, ...]
    unit: str
    treated: tuple[str, str]
    control: tuple[str, str]
    gain: str


DOSES: dict[str, tuple[Dose, ...]] = {
    "sdst": (
        Dose(
            key="moment_length",
            question="Does RDSA help more the longer the moments are?",
            knob="window_median",
            values=(5.0, 10.0, 20.0),
            unit="median length of a moment (s)",
            treated=("tab5", "Ours"),
            control=("tab5", "Def. CA"),
            gain="RDSA − deformable CA (mAP)",
        ),
        Dose(
            key="level_misalignment",
            question="Do intermediate levels help less the further they are rotated away from the text?",
            knob="level_misalignment",
            values=(0.0, 0.25, 0.5),
            unit="misalignment of the shallower levels",
            treated=("tabK", "K=4, intermediate"),
            control=("tabK", "K=4, last level"),
            gain="intermediate − last level only (mAP)",
        ),
    )
}


def dose_specs(
    paper_key: str, profile: str, seeds: Iterable[int], keys: Iterable[str] | None = None
) -> list[tuple[RowRef, RunSpec]]:
    """The runs of a paper's dose-response studies, first seed first, each once.

    Raises:
        ValueError: an unknown study.
    """
    paper = load_paper(paper_key)
    studies = {dose.key: dose for dose in DOSES.get(paper_key, ())}
    chosen = list(studies) if keys is None else list(keys)
    if unknown := sorted(set(chosen) - set(studies)):
        raise ValueError(f"dose: unknown study {', '.join(unknown)}; {paper_key} has {', '.join(studies) or 'none'}")
    found: dict[str, tuple[RowRef, RunSpec]] = {}
    for seed in seeds:
        for key in chosen:
            for value in studies[key].values:
                for table, label in (studies[key].treated, studies[key].control):
                    row = paper.table(table).row(label)
                    base = row_spec(row, paper.profile(profile), "qvhighlights", seed)
                    spec = dataclasses.replace(base, data={**base.data, studies[key].knob: value})
                    ref = RowRef(
                        paper=paper_key, table=key, label=f"{label}, {studies[key].knob}={value:g}", dataset="qvhighlights"
                    )
                    found.setdefault(spec.hash, (ref, spec))
    return list(found.values())


def response(dose: Dose, paper_key: str, profile: str, seeds: Iterable[int], store: Store) -> list[Interval | None]:
    """The gain at each value of the knob from stored runs; None where no seed has both rows."""
    from vtg_lib.runs import find

    paper = load_paper(paper_key)
    seeds = list(seeds)
    gains: list[Interval | None] = []
    for value in dose.values:
        sides = []
        for table, label in (dose.treated, dose.control):
            scores = {}
            for seed in seeds:
                base = row_spec(paper.table(table).row(label), paper.profile(profile), "qvhighlights", seed)
                spec = dataclasses.replace(base, data={**base.data, dose.knob: value}, diagnostics=())
                if (result := find(store, spec)) is not None:
                    scores[seed] = result.metrics["val"][METRIC]
            sides.append(scores)
        both = set(sides[0]) & set(sides[1])
        gains.append(paired_difference(sides[0], sides[1]) if both else None)
    return gains
