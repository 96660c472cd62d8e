"""What a paper, its tables, rows and profiles are. Built by `vtg_lib.papers.loader`, which does the checking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EVIDENCE: tuple[str, ...] = ("official", "rendered", "sim")  # kinds that runs can be, best first
DATASETS: tuple[str, ...] = ("qvhighlights", "charades_sta", "tacos")
SOURCES: tuple[str, ...] = ("run", "released", "quoted")
Source = Literal["run", "released", "quoted"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of numbers.

    Attributes:
        name: unique in its table.
        dataset, split: where the numbers come from; None for counts, settings, p-values and ranks.
        metric: key in the evaluator's "brief" result, "parameters" for millions of learnable parameters, or
            None where our runs have no such number.
    """

    name: str
    dataset: str | None
    split: str | None
    metric: str | None


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Changes to a model's Config, to the keyword arguments of `load_data`, and to the TrainConfig."""

    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def then(self, other: Overrides) -> Overrides:
        """These, with `other` on top."""
        return Overrides(
            config={**self.config, **other.config},
            data={**self.data, **other.data},
            train={**self.train, **other.train},
        )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Overrides for every model, and further ones per model."""

    base: Overrides = field(default_factory=Overrides)
    models: Mapping[str, Overrides] = field(default_factory=dict)

    def of(self, model: str) -> Overrides:
        return self.base.then(self.models.get(model, Overrides()))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A size at which the paper's rows are run.

    Attributes:
        evidence: the kind of evidence its runs are; None if they only exercise code.
        datasets: the data sets it can produce, each with its own layer.
        features: what a row sets that asks for other features than its model's usual ones, by their name.
    """

    name: str
    evidence: str | None
    layer: Layer
    datasets: Mapping[str, Layer]
    features: Mapping[str, Overrides] = field(default_factory=dict)

    def overrides(self, model: str, dataset: str) -> Overrides:
        """What the profile sets for one model on one data set.

        Raises:
            ValueError: the profile does not produce `dataset`.
        """
        if dataset not in self.datasets:
            raise ValueError(
                f"profile {self.name}: data set {dataset!r} is not one of {', '.join(self.datasets)}"
            )
        return self.layer.of(model).then(self.datasets[dataset].of(model))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table. `paper` has every column; None where nothing (or a word, see `text`) is printed."""

    label: str
    paper: Mapping[str, float | None]
    source: Source
    model: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    released: Mapping[str, str] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    config_field: str | None = None  # Tab. A: the Config or TrainConfig field that holds the value
    added: bool = False
    planned: bool = True
    features: str | None = None
    diagnostics: tuple[str, ...] = ()


def title_of(table_id: str) -> str:
    """ "Tab. 5" for `tab5`; "Queries" for `queries`, which the paper does not number."""
    kind, number = table_id[:3], table_id[3:]
    return f"{kind.capitalize()}. {number}" if kind in ("tab", "fig") else table_id.capitalize()


@dataclass(frozen=True, kw_only=True)
class Varied:
    """One setting of several methods, varied over the rows of a table, whose labels are "METHOD, NUMBER".

    Attributes:
        knob: the Config's field that is the number; unit: of the numbers.
        claims: method -> how the primary column moves with the number by the paper.
    """

    knob: str
    unit: str
    claims: Mapping[str, Literal["grows", "falls"]]

    def point(self, label: str) -> tuple[str, float]:
        """The method and the number of a row.

        Raises:
            ValueError: not such a label, or a method without a claim.
        """
        method, _, number = label.rpartition(", ")
        if method not in self.claims or not number.replace(".", "", 1).isdigit():
            raise ValueError(
                f"expected a label such as '{next(iter(self.claims), 'METHOD')}, 4', got {label!r}"
            )
        return method, float(number)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table or figure of a paper.

    Attributes:
        primary: the column that verdicts on a whole row are about; None if the table has no columns.
        reference: label of the row that the others are compared with; None if rows are not comparable.
        see: id of the table that prints this figure's numbers.
        computed: "ranks" or "nemenyi" if our side is recomputed from printed numbers instead of trained.
        varied: what its rows vary, where that is one setting of each method.
    """

    id: str
    kind: Literal["table", "figure"]
    caption: str
    place: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    primary: str | None = None
    reference: str | None = None
    higher_is_better: bool = True
    see: str | None = None
    computed: str | None = None
    varied: Varied | None = None
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """See `title_of`."""
        return title_of(self.id)

    def row(self, label: str) -> Row:
        """The row with this label.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.label == label:
                return row
        raise KeyError(f"{self.id} has no row {label!r}; it has {[r.label for r in self.rows]}")

    def column(self, name: str) -> Column:
        """The column with this name.

        Raises:
            KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.id} has no column {name!r}; it has {[c.name for c in self.columns]}")


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One study of how a gain follows a knob of the generated world (`vtg_lib.papers.dose`).

    Attributes:
        key: its name.
        question: what it asks, as a sentence.
        knob: field of the data specification; values: what it is set to, or what `settings` mean in numbers;
            unit: of the values.
        settings: what the knob is set to at each value, where that is no number.
        treated, control: (table, row label) of the two rows compared.
        gain: what the difference is called on the axis.
        claim: how the gain moves with the knob if the paper's explanation holds; place: where the paper gives
            it.
    """

    key: str
    question: str
    knob: str
    values: tuple[float, ...]
    unit: str
    treated: tuple[str, str]
    control: tuple[str, str]
    gain: str
    claim: Literal["grows", "falls"]
    place: str
    settings: tuple[Any, ...] = ()

    @property
    def points(self) -> list[tuple[float, Any]]:
        """Every value, and what the knob is set to for it."""
        return list(zip(self.values, self.settings or self.values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper: its tables in the order of the chapter, the sizes at which they are run, and the dose-response
    studies.
    """

    key: str
    chapter: str
    title: str
    venue: str
    code: str | None
    tables: tuple[Table, ...]
    profiles: Mapping[str, Profile]
    doses: tuple[Dose, ...] = ()
    notes: tuple[str, ...] = ()

    def table(self, table_id: str) -> Table:
        """The table with this id.

        Raises:
            ValueError: there is none.
        """
        for table in self.tables:
            if table.id == table_id:
                return table
        raise ValueError(
            f"{self.key} has no table {table_id!r}; it has {', '.join(t.id for t in self.tables)}"
        )

    def profile(self, name: str) -> Profile:
        """The profile with this name.

        Raises:
            ValueError: there is none.
        """
        if name not in self.profiles:
            raise ValueError(f"{self.key} has no profile {name!r}; it has {', '.join(self.profiles)}")
        return self.profiles[name]
