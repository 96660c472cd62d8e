"""The papers' tables as data: one YAML per paper, read into frozen dataclasses.

A paper's YAML holds `key, chapter, title, venue, code, notes, include, order, profiles, doses` and `tables`
(or files of tables, named by `include` relative to the YAML). A table:

    tab5:
      caption: ...            # ours, short; place: the section of the paper
      columns: [mAP, HD mAP]  # names of vtg_lib.papers.tables.metric_of, or any other name
      primary: mAP            # the column that a row's verdict is about (default mAP)
      reference: Ours         # label of the row that the others are compared with
      defaults: {...}         # fields given to every row that does not set them
      varied: {knob: queries, unit: queries, claims: {TR-DETR: falls}}  # see `Varied`
      notes: [...]            # reconstructions and doubts, with reasons
      rows:
        - label: Def. CA
          paper: [54.27, 43.26]              # in column order, null where nothing is printed; or {column:
          number} source: run                        # run | released | quoted
          model: sdst                        # a name in vtg_lib.models.MODELS, now or later
          overrides: {config: {...}, data: {...}}
          released: {val: moment_detr_val}   # split -> prediction file, for source released
          text: {column: word}               # printed cells that are not numbers
          also: {sd: [...]}                  # further printed numbers: sd (±) or gain (in parentheses)
          added: true                        # a row of ours that the paper's table does not have
          planned: false                     # shown, but left out of sweeps (default: true unless quoted)
          features: levels                   # other features than the model's usual ones; what they are, the
          profile says diagnostics: [name]                # of vtg_lib.diagnostics, to be computed with the
          row's run field: config.width                # Tab. A: the field of Config or TrainConfig that holds
          the value

A dose-response study, one of the list `doses`, gives the fields of `Dose` (`key` and so on).

A profile gives `config`, `data` and `train` overrides, once for all, per model (`models`) and per data set
(`datasets`, which may hold `models` in turn) or per kind of `features` that a row asks for. Later ones win:
profile, its model, data set, its model, features, row.
"""

from __future__ import annotations

from vtg_lib.papers.loader import load_paper, paper_keys
from vtg_lib.papers.plan import Planned, RowRef, plan, row_spec, specs
from vtg_lib.papers.schema import (
    DATASETS,
    EVIDENCE,
    Column,
    Dose,
    Layer,
    Overrides,
    Paper,
    Profile,
    Row,
    Table,
)

__all__ = [
    "DATASETS",
    "EVIDENCE",
    "Column",
    "Dose",
    "Layer",
    "Overrides",
    "Paper",
    "Planned",
    "Profile",
    "Row",
    "RowRef",
    "Table",
    "load_paper",
    "paper_keys",
    "plan",
    "row_spec",
    "specs",
]
