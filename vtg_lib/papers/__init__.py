"""The papers as data: one YAML per paper, read into the frozen dataclasses of `vtg_lib.papers.schema`.

The fields of a YAML are those of `Paper`; `include` names further files, relative to the YAML, that go on
with it. A top-level field that begins with `x-` only holds what others refer to.

    key: sdst                 # the file's name; chapter: of the notebook and the run store
    chapter: 03_sdst
    title: ...                # short: in lists; method: its short name, ~ for none; question: what it asks
    venue: ICCV 2025
    draft: true               # the chapter is in no book yet
    model: sdst               # of every row that is run and names none
    include: [sdst/main.yaml]
    order: [tab1, tab5]       # of the tables in the chapter; default as they are read
    tables:
      tab5:
        caption: ...          # ours, short; place: the section of the paper
        columns: [mAP, HD mAP]  # names of `vtg_lib.papers.columns`, or any other name
        primary: mAP          # the column that a row's verdict is about (default mAP)
        reference: Ours       # label of the row that the others are compared with
        defaults: {...}       # fields of every row that does not set them
        varied: {knob: queries, unit: queries, methods: [TR-DETR]}  # see `Varied`
        secondary: true       # pages show it folded, under a line that says what is in it
        notes: [...]          # reconstructions and doubts, with reasons
        rows:
          - label: Def. CA
            paper: [54.27, 43.26]   # in column order, ~ where nothing is printed; or {column: number}
            source: run             # run | released | quoted
            model: sdst             # a name in `vtg_lib.models.MODELS`, now or later
            overrides: {config: {...}, data: {...}}
            released: {val: moment_detr_val}  # split -> prediction file, for source released
            text: {column: word}    # printed cells that are not numbers
            also: {sd: [...]}       # further printed numbers: sd (±) or gain (in parentheses)
            added: true             # a row of ours that the paper's table does not have
            variant: levels         # other features or sizes than usual, as the profile has them
            diagnostics: [name]     # of `vtg_lib.diagnostics`, computed with the row's run
            config_field: config.width  # the field of Config or TrainConfig that holds the value
    profiles:
      sim: {evidence: sim, data: {...}, train: {...}, models: {...}, datasets: {...}, variants: {...}}
    doses: [{key: ..., ...}]        # dose-response studies, see `Dose`
    claims: [{key: ..., ...}]       # what the paper says causes what, see `Claim`
    yardstick: [tab5, Ours]         # the row that the length of the profile `sim` is set by
    statements:                     # of the paper about its own numbers, see `vtg_lib.papers.statements`
      - {place: Sec. 6.2, claim: ..., printed: consistently, check: {best: {table: tab5, rows: [Ours]}}}
    rank_tests: {...}               # where ranks are printed, see `vtg_lib.papers.ranks`
    deviations:                     # what the text leaves open, numbered from 1
      - {number: 1, place: Eq. 1, text_says: ..., we_do: ..., reason: ...}

A profile gives `config`, `data` and `train` overrides, once for all, per model (`models`) and per data set
(`datasets`, which may hold `models` in turn) or per `variant` that a row asks for. Later ones win:
profile, its model, data set, its model, variant, row.
"""

from __future__ import annotations

from vtg_lib.papers.loader import load_paper, paper_keys
from vtg_lib.papers.plan import Planned, RowRef, plan, row_spec, specs
from vtg_lib.papers.questions import Dose
from vtg_lib.papers.schema import (
    DATASETS,
    EVIDENCE,
    Column,
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
