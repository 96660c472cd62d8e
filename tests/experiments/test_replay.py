"""Replays: which runs are due, what counts as the same number, which versions of the code count as one."""

import copy
import dataclasses

import pytest
from tiny import at

from vtg_lib.experiments import replay as module
from vtg_lib.experiments.machine import device_name
from vtg_lib.experiments.provenance import SameCode
from vtg_lib.experiments.replay import cover, due, replay, replay_all, sampled
from vtg_lib.experiments.run import run
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.experiments.store import Store

SPEC = {
    "model": "moment_detr",
    "config": {"video_dim": 24, "text_dim": 16, "width": 16, "heads": 2, "hidden": 16, "queries": 3},
    "data": {"kind": "sim", "semantic_dim": 16, "motion_dim": 8, "train": 32, "val": 16, "clips": 12},
    "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "eval_every": 1},
}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return run(RunSpec.from_dict(SPEC), None, at(tmp_path_factory.mktemp("cache"))).to_dict()


def of_digest(record, digest, **config):
    made = copy.deepcopy(record)
    made["provenance"] |= {"source_digest": digest, "device": module._one_thread(device_name("cpu"))}
    made["spec"]["config"] |= config
    return made


def test_what_is_due(record):
    today = record["provenance"]["source_digest"]
    assert due([record]) == []
    old = of_digest(record, "old")
    assert due([of_digest(record, today), old]) == [old] == due([old], models=["moment_detr"])
    assert due([old], models=["sdst"]) == []
    assert len(due([old, of_digest(record, "older")])) == 2
    elsewhere = copy.deepcopy(old)
    elsewhere["provenance"]["versions"]["torch"] = "1.0"
    other = copy.deepcopy(old)
    other["provenance"]["device"] = "another processor, 1 thread(s)"
    assert due([elsewhere, other]) == []
    today_again = of_digest(record, today)
    assert sampled([elsewhere, other, today_again, old], 3) == [today_again]  # `old` makes no other choice
    assert sampled([old], 3, models=["sdst"]) == sampled([old], 0) == []


def test_what_todays_code_has_replayed_is_not_due_again(record, tmp_path):
    old = of_digest(record, "old")
    path, today = tmp_path / "replays.jsonl", record["provenance"]["source_digest"]
    alike, other = {**old, "hash": "alike"}, {**of_digest(record, "old", tef=False), "hash": "other"}
    assert due([old, alike], replays=path) == [old]
    Store(path).append({"hash": record["hash"], "earlier": "old", "now": "yesterday"})
    assert due([old, alike], replays=path) == [old]
    Store(path).append({"hash": record["hash"], "earlier": "old", "now": today})
    assert due([old, alike], replays=path) == []  # nor is another run with the same choices
    assert due([old, alike, other], replays=path) == [other]


def test_every_choice_is_covered_and_numbers_are_none(record):
    one = of_digest(record, "old", tef=True, width=16)
    wide, plain = of_digest(record, "old", tef=True, width=32), of_digest(record, "old", tef=False, width=32)
    assert cover([one, wide]) == [one]
    assert cover([one, wide, plain]) == [one, plain]


def test_a_replay_finds_the_same_numbers(record, tmp_path):
    old = of_digest(record, "old")
    found = replay(old)
    assert found.differs == {} and found.epoch == record["curves"]["epoch"][0]
    assert (found.earlier, found.now) == ("old", record["provenance"]["source_digest"])
    store = Store(tmp_path / "replays.jsonl")
    store.append(dataclasses.asdict(found))
    same = SameCode(store.path)
    assert same.of("old") == same.of(found.now) and same.of("other") == "other"


def test_a_replay_finds_a_changed_number(record, tmp_path):
    old = of_digest(record, "old")
    old["curves"]["loss"][0] += 0.01
    store = Store(tmp_path / "replays.jsonl")
    (found,) = replay_all([old], store)
    assert set(found.differs) == {"loss"} and found.differs["loss"][0] == old["curves"]["loss"][0]
    assert SameCode(store.path).of("old") == "old"


def line(run, earlier, now, equal=True):
    return {"hash": run, "earlier": earlier, "now": now, "differs": {} if equal else {"loss": [1, 2]}}


def test_versions_that_count_as_one(tmp_path):
    store = Store(tmp_path / "replays.jsonl")
    for row in (
        line("1", "a", "b"),
        line("2", "a", "b", False),
        line("3", "b", "c"),
        line("4", "d", "c"),
        line("5", "c", "d"),
    ):
        store.append(row)
    same = SameCode(store.path)
    assert same.of("b") == same.of("c") == same.of("d")  # also back and forth
    assert same.of("a") == "a"  # one of two replays differed
    store.append(line("2", "a", "b"))  # mended
    assert SameCode(store.path).of("a") == same.of("c")


def test_a_run_that_is_no_spec_any_more_is_refused(record):
    broken = of_digest(record, "old", no_such_field=1)
    with pytest.raises(ValueError, match="no_such_field"):
        replay(broken)
