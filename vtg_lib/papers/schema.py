"""What a paper, its tables, rows and profiles are, and what must hold inside each.

`vtg_lib.papers.loader` builds them from YAML with the types below as its form, and says where a fault is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pydantic import FiniteFloat

from vtg_lib.data.forms import unknown
from vtg_lib.papers.questions import Claim, Deviation, Dose, RowName, Text
from vtg_lib.papers.ranks import RankTests
from vtg_lib.papers.statements import Statement

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Kind = Literal["official", "rendered", "sim"]
Dataset = Literal["qvhighlights", "charades_sta", "tacos", "tvsum", "youtube_highlights"]
Split = Literal["val", "last", "test", "val:detr", "val:atss"]
EVIDENCE: tuple[str, ...] = get_args(Kind)  # kinds that runs can be, best first
DATASETS: tuple[str, ...] = get_args(Dataset)


def _get(known: Mapping[str, T], name: str, what: str, error: type[Exception] = ValueError) -> T:
    if name not in known:
        raise error(f"{what} {name!r}; it has {', '.join(known) or 'none'}")
    return known[name]


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
    split: Split | None
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
class Layer(Overrides):
    """Overrides for every model, and further ones per model."""

    models: Mapping[str, Overrides] = field(default_factory=dict)

    def of(self, model: str) -> Overrides:
        return self.then(self.models.get(model, Overrides()))


@dataclass(frozen=True, kw_only=True)
class Profile(Layer):
    """A size at which the paper's rows are run.

    Attributes:
        evidence: the kind of evidence its runs are; None if they only exercise code.
        datasets: the data sets it can produce, each with its own layer.
        variants: what a row sets that asks for other features or sizes than its model's usual ones, by name.
    """

    name: str
    evidence: Kind | None = None
    datasets: Mapping[Dataset, Layer] = field(default_factory=dict)
    variants: Mapping[str, Overrides] = field(default_factory=dict)

    def overrides(self, model: str, dataset: str) -> Overrides:
        """What the profile sets for one model on one data set.

        Raises:
            ValueError: the profile does not produce `dataset`.
        """
        layers = {str(name): layer for name, layer in self.datasets.items()}
        layer = _get(layers, dataset, f"profile {self.name} has no data set")
        return self.of(model).then(layer.of(model))


HOOKED = {"hook", "hook_options"}  # what is done to batches is part of a method, how long it trains is not


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        paper: the printed numbers, for every column; None where nothing (or a word, see `text`) is printed.
        source: run by us; released predictions, by split; or quoted by the paper.
        also: further printed numbers: `sd` (±), `gain` (in parentheses).
        config_field: the field of Config or TrainConfig, such as "config.width", that holds the value.
        added: a row of ours that the paper's table does not have.
        variant: other features or sizes than the model's usual ones, by the name that the profile gives them.
        diagnostics: of `vtg_lib.diagnostics`, computed with the row's run.
        init: the row (table, label) whose run, of the same seed and on QVHighlights, its run starts from;
            init_scope: see `vtg_lib.experiments.spec.RunSpec`; parent: that row, which the loader fills in.
    """

    label: Text
    paper: Mapping[str, FiniteFloat | None]
    source: Literal["run", "released", "quoted"] = "run"
    model: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    released: Mapping[Split, str] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[str, Mapping[str, FiniteFloat]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    config_field: str | None = None
    added: bool = False
    variant: str | None = None
    diagnostics: tuple[str, ...] = ()
    init: RowName | None = None
    init_scope: Literal["all", "encoder"] = "all"
    parent: Row | None = None

    def __post_init__(self) -> None:
        if self.source == "run" and self.model is None:
            raise ValueError(
                "expected a model, as the row is to be run: field 'model' of the row, of the table's "
                "defaults or of the paper; got none"
            )
        if (self.source == "released") != bool(self.released):
            raise ValueError(
                "field 'released': expected split -> prediction file if source is released, else nothing; "
                f"got {dict(self.released)} and source {self.source}"
            )
        if others := sorted(set(self.overrides.train) - HOOKED):
            raise ValueError(
                f"overrides: expected config, data, and of train {', '.join(sorted(HOOKED))}; got train's "
                f"{', '.join(others)}, which only a profile sets"
            )

    @property
    def planned(self) -> bool:
        """Whether its model is one to train; the library may not have it yet."""
        return self.source != "quoted"


def title_of(table_id: str) -> str:
    """ "Tab. 5" for `tab5`; "Queries" for `queries`, which the paper does not number."""
    kind, number = table_id[:3], table_id[3:]
    return f"{kind.capitalize()}. {number}" if kind in ("tab", "fig") else table_id.capitalize()


@dataclass(frozen=True, kw_only=True)
class Varied:
    """One setting of several methods, varied over the rows of a table, whose labels are "METHOD, NUMBER".

    Attributes:
        knob: the Config's field that is the number; unit: of the numbers.
        methods: the methods.
    """

    knob: str
    unit: str
    methods: tuple[str, ...]

    def point(self, label: str) -> tuple[str, float]:
        """The method and the number of a row.

        Raises:
            ValueError: not such a label, or another method.
        """
        method, _, number = label.rpartition(", ")
        if method not in self.methods or not number.replace(".", "", 1).isdigit():
            raise ValueError(f"expected a label such as '{(*self.methods, 'METHOD')[0]}, 4', got {label!r}")
        return method, float(number)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table or figure of a paper.

    Attributes:
        primary: the column that verdicts on a whole row are about; None if the table has no columns.
        reference: label of the row that the others are compared with; None if rows are not comparable.
        see: id of the table that prints this figure's numbers.
        computed: its columns, though named after metrics, hold what follows from other tables (ranks), which
            no run gives.
        varied: what its rows vary, where that is one setting of each method.
        secondary: pages show it on demand.
    """

    id: str
    caption: Text
    place: Text
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    kind: Literal["table", "figure"] = "table"
    primary: str | None = None
    reference: str | None = None
    higher_is_better: bool = True
    see: str | None = None
    computed: bool = False
    varied: Varied | None = None
    secondary: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names, labels = [column.name for column in self.columns], [row.label for row in self.rows]
        for what, found in (("columns", names), ("labels", labels)):
            if len(set(found)) != len(found):
                raise ValueError(f"{what} must be unique, got {found}")
        for what, name, known in (("primary", self.primary, names), ("reference", self.reference, labels)):
            if name is not None and name not in known:
                raise ValueError(f"field {what!r}: {unknown(name, known)}")
        for row in self.rows:
            for what, cells in (("paper", row.paper), ("text", row.text), *row.also.items()):
                if wrong := [name for name in cells if name not in names]:
                    raise ValueError(f"row {row.label!r}, {what}: unknown column {unknown(wrong[0], names)}")
            if self.varied is not None:
                number = self.varied.point(row.label)[1]
                value = row.overrides.config.get(self.varied.knob, number)
                if value != number:
                    raise ValueError(
                        f"row {row.label!r}: expected {self.varied.knob} to be {number:g}, got {value!r}"
                    )

    @property
    def title(self) -> str:
        """See `title_of`."""
        return title_of(self.id)

    def printed(self) -> pd.DataFrame:
        """The numbers that the paper prints: rows by label, columns by name, NaN where nothing is printed."""
        return self.numbers().loc[[row.label for row in self.rows if not row.added]]

    def numbers(self) -> pd.DataFrame:
        """`printed`, and beside them rows of ours, most of which have no numbers."""
        import pandas as pd

        data = {row.label: row.paper for row in self.rows}
        return pd.DataFrame.from_dict(data, orient="index", dtype=float)[[c.name for c in self.columns]]

    def row(self, label: str) -> Row:
        """The row with this label.

        Raises:
            KeyError: there is none.
        """
        return _get({row.label: row for row in self.rows}, label, f"{self.id} has no row", KeyError)

    def column(self, name: str) -> Column:
        """The column with this name.

        Raises:
            KeyError: there is none.
        """
        return _get({c.name: c for c in self.columns}, name, f"{self.id} has no column", KeyError)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper, and the chapter about it.

    Attributes:
        chapter: name of its notebook, of the built page and of the run store.
        short: what the chapter is called in a list; question: what it asks, as a sentence.
        method: short name of the method; None for the chapter that collects tables of several papers.
        draft: the chapter is in the tree but not in the book: it has no runs to speak of yet.
        model: what is run for a row that names no model.
        yardstick: (table, row label) of the row that the length of the profile `sim` is set by
            (`vtg_lib.papers.rule`).
        tables: in the order of the chapter; profiles: the sizes at which they are run, by name.
        include, order: files with more of all this, and ids of the tables, as the YAML has them.
    """

    key: Text
    chapter: Text
    title: Text
    short: Text
    question: Text
    method: Text | None
    venue: Text
    code: str | None = None
    draft: bool = False
    model: str | None = None
    yardstick: RowName | None = None
    include: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    doses: tuple[Dose, ...] = ()
    claims: tuple[Claim, ...] = ()
    statements: tuple[Statement, ...] = ()
    rank_tests: RankTests | None = None
    deviations: tuple[Deviation, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = {table.id: [row.label for row in table.rows] for table in self.tables}
        for table in self.tables:
            if table.see is not None and table.see not in labels:
                raise ValueError(f"{table.id}, field 'see': no table {unknown(table.see, labels)}")
        for dose in self.doses:
            for side, (table_id, label) in (("treated", dose.treated), ("control", dose.control)):
                if label not in labels.get(table_id, ()):
                    raise ValueError(
                        f"doses, {dose.key}, field {side!r}: there is no row {label!r} in table {table_id!r}"
                    )
        if len({claim.key for claim in self.claims}) < len(self.claims):
            raise ValueError(f"claims: expected different keys, got {[claim.key for claim in self.claims]}")
        for claim in self.claims:
            for _, pair in claim.pairs:
                for side, (table_id, label) in (("treated", pair.treated), ("control", pair.control)):
                    if label not in labels.get(table_id, ()):
                        raise ValueError(
                            f"claims, {claim.key}, field {side!r}: there is no row {label!r} in table "
                            f"{table_id!r}"
                        )
            if claim.column is not None:
                self.table(claim.treated[0]).column(claim.column)
        for number, deviation in enumerate(self.deviations, 1):
            if deviation.number != number:
                raise ValueError(f"deviations: expected the number {number}, got {deviation.number}")

    def table(self, table_id: str) -> Table:
        """The table with this id.

        Raises:
            ValueError: there is none.
        """
        return _get({table.id: table for table in self.tables}, table_id, f"{self.key} has no table")

    def profile(self, name: str) -> Profile:
        """The profile with this name.

        Raises:
            ValueError: there is none.
        """
        return _get(self.profiles, name, f"{self.key} has no profile")
