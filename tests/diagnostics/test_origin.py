"""Diagnostics that know where the weights come from: distance travelled, and words that training lacked."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import SMALL, at
from torch import nn

from vtg_lib.data import load_data
from vtg_lib.data.batches import Output
from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS
from vtg_lib.diagnostics.origin import Origin, with_origin
from vtg_lib.diagnostics.zero_shot_rank import words_of
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments.origin import part_of, trained_on
from vtg_lib.experiments.run import run
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.experiments.store import Store
from vtg_lib.models import build

WORLD = {"kind": "sim", "semantic_dim": 8, "motion_dim": 4, "train": 64, "val": 40, "clips": 16}
TOPICS = ("travelled", "zero_shot_rank")
LATER = dataclasses.replace(SMALL, diagnostics=TOPICS)


class Ranks(nn.Module):
    """Saliency that follows the votes in some rows, and goes against them in the others."""

    def __init__(self, rows):
        super().__init__()
        self.rightly = nn.Parameter(torch.tensor([1.0 if right else -1.0 for right in rows]))

    def forward(self, batch, trace=False):
        saliency = batch.saliency * self.rightly[batch.index][:, None]
        return Output(batch.spans[:, :1], torch.ones(len(batch), 1), saliency)


def told(data, initial=None, rows=None):
    return with_origin(data, Origin(initial=lambda: initial, part=part_of, trained_on=lambda: rows))


def test_without_an_origin_nothing_is_said():
    data = load_data(WORLD)["val"]
    assert [DIAGNOSTICS[topic](Ranks([True] * 40), data) for topic in TOPICS] == [{}, {}]
    assert DIAGNOSTICS["zero_shot_rank"](Ranks([True] * 40), told(data)) == {}  # a file of weights


def test_distance_is_relative_to_the_start_and_by_part():
    model = build("qd_detr", {"video_dim": 12, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16})
    initial = {name: value.detach().clone() for name, value in model.named_parameters()}
    data = told(load_data(WORLD)["val"], initial)
    assert set(DIAGNOSTICS["travelled"](model, data).values()) == {0.0}
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_({"moment finder": 1.5, "encoder": 0.0}.get(part_of(name), 1.0))
    found = DIAGNOSTICS["travelled"](model, data)
    assert {name: found.pop(name) for name in ("moment finder", "encoder")} == {
        "moment finder": 0.5,
        "encoder": 1.0,
    }
    assert 0 < found.pop("all") < 1 and found == {"projections": 0.0, "others": 0.0}
    zero = {name: torch.zeros_like(value) for name, value in initial.items()}
    assert set(DIAGNOSTICS["travelled"](model, told(data, zero)).values()) == {None}


def test_words_held_out_of_training_are_unseen():
    splits = load_data({**WORLD, "unseen_words": 2})
    train, val = splits["train"].annotations, splits["val"]
    known = set().union(*map(words_of, train))
    missing = set().union(*map(words_of, val.annotations)) - known
    assert len(missing) == 2 * 4  # kinds of words
    seen = [words_of(row) <= known for row in val.annotations]
    found = DIAGNOSTICS["zero_shot_rank"](Ranks(seen), told(val, rows=train))
    ranked = [len(row["relevant_clip_ids"]) < 16 for row in val.annotations]  # not all of the video
    some = [which for which, rank in zip(seen, ranked, strict=True) if rank]
    assert 0 < sum(some) < len(some) < len(seen)
    assert found["words"] == {
        **{"seen": 1.0, "seen_rows": sum(some)},
        **{"unseen": 0.0, "unseen_rows": len(some) - sum(some)},
    }
    assert found["domains"]["seen"] is None
    assert VIEWS["zero_shot_rank"].number(found) == 0.0
    assert list(VIEWS["zero_shot_rank"].table.rows(found)) == ["seen words", "unseen words"]


def test_domains_and_votes_of_highlight_data():
    val = load_data(WORLD)["val"]
    rows = [{**row, "domain": "AB"[n % 2]} for n, row in enumerate(val.annotations)]
    kept = val.span_count.clone()
    flat = dataclasses.replace(val, annotations=rows, span_count=torch.zeros_like(kept))  # votes alone
    model = Ranks([n % 2 == 0 for n in range(len(rows))])
    found = DIAGNOSTICS["zero_shot_rank"](model, told(flat, rows=[rows[0]]))["domains"]
    assert found["seen"] == 1.0 and found["unseen"] == 0.0
    assert found["seen_rows"] + found["unseen_rows"] > 30


def test_a_world_of_domains():
    world = {"kind": "sim", "dataset": "tvsum", "train": 8, "val": 20, "semantic_dim": 16, "motion_dim": 4}
    splits = load_data(world)
    rows = splits["train"].annotations
    of = {row["domain"] for row in rows}
    seen = [row["domain"] in of for row in splits["val"].annotations]
    found = DIAGNOSTICS["zero_shot_rank"](Ranks(seen), told(splits["val"], rows=rows))["domains"]
    assert found == {"seen": 1.0, "seen_rows": sum(seen), "unseen": 0.0, "unseen_rows": 20 - sum(seen)}
    assert 0 < sum(seen) < 20
    with pytest.raises(ValueError, match="unseen_words: expected 0 in a world of domains"):
        load_data({**world, "unseen_words": 1})


def test_held_out_words_change_nothing_else():
    world = {**WORLD, "unseen_words": 3}
    plain, held = load_data(WORLD), load_data(world)
    assert plain["val"].annotations == held["val"].annotations
    assert torch.equal(plain["val"].video, held["val"].video)
    spelled = {**WORLD, "unseen_words": 0}
    assert load_data(spelled)["train"].fingerprint == plain["train"].fingerprint
    assert RunSpec(model="tr_detr", data=spelled).hash == RunSpec(model="tr_detr", data=WORLD).hash
    with pytest.raises(ValueError, match="unseen_words: expected fewer than the 4 attributes, got 4"):
        load_data({**WORLD, "unseen_words": 4})


def test_runs_tell_where_they_come_from(tmp_path):
    store, world = Store(tmp_path / "s.jsonl"), {**SMALL.data, "train": 64}
    held = dataclasses.replace(SMALL, data={**world, "unseen_words": 2}, keep=True)
    first = run(held, store, at(tmp_path))
    nothing = TrainConfig(epochs=0)
    scored = run(dataclasses.replace(LATER, init=held, data=held.data, train=nothing), store, at(tmp_path))
    found = scored.diagnostics
    assert found["travelled"]["after"]["all"] == 0.0
    assert found["zero_shot_rank"]["after"] == found["zero_shot_rank"]["before"]
    assert found["zero_shot_rank"]["after"]["words"]["unseen_rows"] > 0
    tuned = run(dataclasses.replace(LATER, init=first.hash, data=world), store, at(tmp_path))
    assert (
        tuned.diagnostics["travelled"]["before"]["all"] == 0 < tuned.diagnostics["travelled"]["after"]["all"]
    )
    assert tuned.diagnostics["zero_shot_rank"]["after"]["words"]["unseen_rows"] == 0  # its own world has all
    file = str(tmp_path / "weights" / f"{first.hash}.safetensors")
    unknown = dataclasses.replace(LATER, init=file, data=held.data, train=nothing)
    assert trained_on(unknown, store, None) is None
    assert run(unknown, store, at(tmp_path)).diagnostics["zero_shot_rank"]["after"] == {}


def test_every_parameter_has_a_part():
    sizes = {"video_dim": 8, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16, "queries": 3}
    parts = {part_of(name) for name, _ in build("sg_detr", sizes).named_parameters()}
    assert parts == {"projections", "encoder", "moment finder", "others"}
