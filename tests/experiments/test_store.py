"""The store: one JSON line a run, whatever happens while it is written."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vtg_lib.experiments.store import Store, StoreError


def test_store_returns_what_was_appended_and_the_last_of_a_hash(tmp_path: Path):
    store = Store(tmp_path / "results" / "runs.jsonl")
    assert len(store) == 0 and store.get("a") is None
    for record in ({"hash": "a", "n": 1}, {"hash": "b", "n": 2}, {"hash": "a", "n": 3}):
        store.append(record)
    assert store.get("a") == {"hash": "a", "n": 3} and "b" in store and len(store) == 2
    assert len(store.path.read_text().splitlines()) == 3  # append-only
    assert [record["n"] for record in Store(store.path)] == [2, 3]


def test_store_sees_the_lines_of_others_and_a_replaced_file(tmp_path: Path):
    mine, other = Store(tmp_path / "s.jsonl"), Store(tmp_path / "s.jsonl")
    mine.append({"hash": "a"})
    other.append({"hash": "b"})
    assert "a" in mine and "b" in mine and "a" in other
    replacement = tmp_path / "new"
    replacement.write_text('{"hash": "c"}\n')
    replacement.replace(mine.path)
    assert "c" in mine and "a" not in mine
    mine.path.unlink()
    assert len(mine) == 0


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_a_torn_last_line_is_skipped_reported_and_closed_off(tmp_path: Path, cut: int):
    store = Store(tmp_path / "s.jsonl")
    store.append({"hash": "a", "value": 1})
    store.append({"hash": "b", "value": 2})
    store.path.write_bytes(store.path.read_bytes()[: -1 - cut])
    reader = Store(store.path)
    with pytest.warns(UserWarning, match="line 2 is not a whole run"):
        assert "a" in reader and "b" not in reader
    reader.append({"hash": "c", "value": 3})
    assert {record["hash"] for record in reader} == {"a", "c"}
    assert len(reader.problems) == 1  # once is enough
    with pytest.warns(UserWarning, match="line 2"):
        assert "c" in Store(store.path)


def test_a_missing_line_end_loses_nothing(tmp_path: Path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"hash": "a"}')
    store = Store(path)
    assert "a" in store
    store.append({"hash": "b"})
    assert [json.loads(line)["hash"] for line in path.read_text().splitlines()] == ["a", "b"]
    assert "a" in store and "b" in store and not store.problems


def test_a_foreign_line_is_skipped_and_reported(tmp_path: Path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"hash": "a"}\n<<<<<<< HEAD\n[1]\n{"hash": 3}\n\n{"hash": "b"}\n')
    store = Store(path)
    with pytest.warns(UserWarning):
        assert {record["hash"] for record in store} == {"a", "b"}
    assert [problem.split(" is not")[0].rsplit(" ", 1)[1] for problem in store.problems] == ["2", "3", "4"]


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path):
    store = Store(tmp_path / "s.jsonl")
    store.append({"hash": "a"})
    before = store.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))  # a file that cannot grow
    try:
        with pytest.raises(StoreError, match="could not add run b.*as it was"):
            store.append({"hash": "b", "value": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.path.read_bytes() == before


APPEND = """
import sys
from vtg_lib.experiments.store import Store
for number in range(50):
    Store(sys.argv[1]).append({"hash": f"{sys.argv[2]}{number}", "padding": "x" * 2000})
"""


def test_two_processes_append_whole_lines(tmp_path: Path):
    path, root = str(tmp_path / "s.jsonl"), Path(__file__).parents[2]
    processes = [subprocess.Popen([sys.executable, "-c", APPEND, path, name], cwd=root) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    store = Store(path)
    assert len(store) == 100 and not store.problems
