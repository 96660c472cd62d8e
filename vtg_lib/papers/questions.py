"""What a paper's rows are compared for: studies of a dose, causal claims; and where a paper left a choice.

`vtg_lib.papers.loader` builds them from YAML, as it builds `vtg_lib.papers.schema`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, FiniteFloat, StringConstraints

from vtg_lib.data.forms import unknown

Direction = Literal["grows", "falls"]
Expected = Literal["more", "less"]
RowName = tuple[str, str]  # (table, label)
Text = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One study of how a gain follows a knob of the generated world (`vtg_lib.papers.dose`).

    Attributes:
        key: its name.
        question: what it asks, as a sentence.
        knob: field of the data specification, or "init." and one of the data of the run that the rows' runs
            start from; values: what it is set to, or what `settings` mean in numbers;
            unit: of the values.
        settings: what the knob is set to at each value, where that is no number; data: further fields, the
            same at every value.
        treated, control: (table, row label) of the two rows compared.
        gain: what the difference is called on the axis.
        claim: how the gain moves with the knob if the paper's explanation holds; place: where the paper gives
            it.
    """

    key: str
    question: str
    knob: str
    values: tuple[FiniteFloat, ...]
    unit: str
    treated: tuple[str, str]
    control: tuple[str, str]
    gain: str
    claim: Direction
    place: str
    settings: tuple[Any, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.settings and len(self.settings) != len(self.values):
            raise ValueError(
                f"field 'settings': expected one for each of the {len(self.values)} values, "
                f"got {len(self.settings)}"
            )

    @property
    def points(self) -> list[tuple[float, Any]]:
        """Every value, and what the knob is set to for it."""
        return list(zip(self.values, self.settings or self.values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Two rows of the paper's tables that differ in a claimed cause alone."""

    treated: RowName
    control: RowName


@dataclass(frozen=True, kw_only=True)
class Claim(Contrast):
    """A causal claim of the paper, and the pair of rows that tests it.

    Attributes:
        key: its name; claim: a sentence; place: where the paper makes it.
        treated, control: (table, row label).
        column: of the treated row's table, whose number is compared; or measure: the name of a diagnostic of
            `vtg_lib.diagnostics`, whose one number is.
        reach: with a column; what is compared is not its number but the epochs until validation first has
            this share of its last value, between two evaluations in proportion.
        effect: what the paper prints as the difference; default that of the rows' printed numbers, if there
            are.
        expect: the sign that the claim says; default that of the effect, else "more".
        than: another pair, whose difference this one is to exceed: what is compared is the difference of
            both.
        knob, high, low: a knob of the generated world; what is compared is the difference at `high` less
            that at `low`, what the two are set to; data: further fields of the data, the same at both.
    """

    key: Text
    claim: Text
    place: Text
    column: str | None = None
    measure: str | None = None
    reach: Annotated[float, Field(gt=0, lt=1)] | None = None
    effect: FiniteFloat | None = None
    expect: Expected | None = None
    than: Contrast | None = None
    knob: str | None = None
    high: Any = None
    low: Any = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.column is None) == (self.measure is None):
            raise ValueError(
                f"claim {self.key!r}: expected a column or a measure, got {self.column!r} and "
                f"{self.measure!r}"
            )
        if self.reach is not None and self.column is None:
            raise ValueError(f"claim {self.key!r}: expected a column beside reach, got none")
        if self.than is not None and self.knob is not None:
            raise ValueError(f"claim {self.key!r}: expected a further pair or a knob, got both")

    @property
    def number(self) -> str:
        """What is compared."""
        epochs = "" if self.reach is None else f"epochs to {self.reach:.0%} of "
        return f"{epochs}{self.column or self.measure}"

    @property
    def is_score(self) -> bool:
        """Whether it is a column's number as it stands."""
        return self.column is not None and self.reach is None

    @property
    def pairs(self) -> list[tuple[int, Contrast]]:
        """The pairs of rows whose differences it adds up, with the sign of each."""
        return [(1, self), *([(-1, self.than)] if self.than is not None else [])]


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A choice that the paper leaves open: where, what its text says, what was chosen, and why."""

    number: int
    place: Text
    text_says: Text
    we_do: Text
    reason: Text


Question = TypeVar("Question", Dose, Claim)


def by_key(what: str, asked: Iterable[Question], keys: Iterable[str] | None) -> list[Question]:
    """Those with these keys, or all.

    Raises:
        ValueError: a key is none of theirs.
    """
    known = {one.key: one for one in asked}
    if keys is None:
        return list(known.values())
    chosen = list(keys)
    for key in chosen:
        if key not in known:
            raise ValueError(f"{what}: {unknown(key, known)}")
    return [known[key] for key in chosen]
