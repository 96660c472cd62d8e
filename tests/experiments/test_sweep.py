"""Sweeps: skipping, order, time budget, failures, process pools, other executors."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import BAD, SMALL, go, seeds

from vtg_lib.experiments import pool
from vtg_lib.experiments.store import Store


def test_trains_what_is_missing_once_and_skips_what_is_stored(tmp_path: Path):
    store = Store(tmp_path / "s.jsonl")
    first = go(seeds(2) + seeds(2), store, tmp_path)
    assert [result.spec["seed"] for result in first.done] == [0, 1] and first.complete
    second = go(seeds(3), store, tmp_path)
    assert (
        second.stored == [result.hash for result in first.done] and len(second.done) == 1 and len(store) == 3
    )
    assert not list((tmp_path / "cache" / "runs").glob("*/checkpoint.pt"))
    assert "1 trained, 2 in the store already" in second.summary()


def test_what_another_sweep_stored_meanwhile_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from vtg_lib.experiments import sweep as sweep_module

    other, path = go(seeds(2)[1:], None, tmp_path).done[0], tmp_path / "s.jsonl"
    execute = sweep_module._execute

    def meanwhile(spec, *rest):
        assert spec.seed == 0
        Store(path).append(other.to_dict())
        return execute(spec, *rest)

    monkeypatch.setattr(sweep_module, "_execute", meanwhile)
    report = go(seeds(2), Store(path), tmp_path)
    assert (
        [result.hash for result in report.done] == [SMALL.hash]
        and report.stored == [other.hash]
        and report.complete
    )


def test_two_sweeps_at_once_store_every_run_once(tmp_path: Path):
    path = tmp_path / "s.jsonl"
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(lambda _: go(seeds(4), Store(path), tmp_path), range(2)))
    assert len(path.read_text().splitlines()) == 4 == sum(len(report.done) for report in reports)
    assert all(len(report.done) + len(report.stored) == 4 for report in reports)
    assert len(go(seeds(1), Store(path), tmp_path, rerun=True).done) == 1  # unless asked for


def test_priority_orders_the_runs(tmp_path: Path):
    report = go(seeds(3), None, tmp_path, priority=lambda spec: -spec.seed)
    assert [result.spec["seed"] for result in report.done] == [2, 1, 0]


def test_a_failure_is_reported_and_costs_no_other_run(tmp_path: Path):
    store = Store(tmp_path / "s.jsonl")
    report = go([BAD, *seeds(2)], store, tmp_path)
    assert len(report.done) == 2 and not report.complete
    assert list(report.failed) == [BAD.hash] and "train.select must be one of" in report.failed[BAD.hash]
    assert BAD.hash not in store


def test_what_will_not_fit_is_not_begun(tmp_path: Path):
    store = Store(tmp_path / "s.jsonl")
    go(seeds(1), store, tmp_path)
    slow = {**store.get(SMALL.hash), "hash": SMALL.hash}
    slow["provenance"] = {**slow["provenance"], "wall_s": 1000.0}
    store.append(slow)
    report = go(seeds(3), store, tmp_path, time_budget=500)
    assert report.stored == [SMALL.hash] and len(report.left) == 2 and not report.done
    assert len(go(seeds(2), store, tmp_path, time_budget=5000).done) == 1


def test_the_time_budget_pauses_a_run_that_goes_on_next_time(tmp_path: Path):
    store = Store(tmp_path / "s.jsonl")
    long = dataclasses.replace(
        SMALL, train=dataclasses.replace(SMALL.train, epochs=100_000, eval_every=100_000)
    )
    report = go([long, *seeds(1)], store, tmp_path, time_budget=1.5, partial=True)
    assert report.paused == [long.hash] and report.left == [SMALL.hash] and report.wall_s < 10
    assert list((tmp_path / "cache" / "runs").glob(f"{long.hash}-cpu/checkpoint.pt"))


def test_a_pool_of_processes_gives_the_same_numbers_and_survives_failures(tmp_path: Path):
    serial = go(seeds(2), None, tmp_path)
    store = Store(tmp_path / "s.jsonl")
    pooled = go([BAD, *seeds(2)], store, tmp_path, workers=2)
    assert list(pooled.failed) == [BAD.hash]
    expected = {result.hash: result.metrics for result in serial.done}
    assert {result.hash: result.metrics for result in pooled.done} == expected
    assert {record["hash"] for record in store} == set(expected)
    assert "1 thread" in pooled.done[0].provenance["device"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_others_start_from_is_trained_first_and_once(tmp_path: Path, workers: int):
    parent = dataclasses.replace(SMALL, data={**SMALL.data, "train": 12})
    children = [dataclasses.replace(spec, init=parent) for spec in seeds(2)]
    lost = dataclasses.replace(SMALL, init=dataclasses.replace(BAD, init=parent))
    store = Store(tmp_path / "s.jsonl")
    report = go([*children, lost, parent], store, tmp_path, workers=workers)
    order = [record["hash"] for record in store]
    assert order[0] == parent.hash and sorted(order[1:]) == sorted(spec.hash for spec in children)
    assert list(report.failed) == [lost.init.hash] and report.left == [lost.hash]
    assert [path.stem for path in (tmp_path / "weights").iterdir()] == [parent.hash]

    (tmp_path / "weights" / f"{parent.hash}.safetensors").unlink()
    assert not go(children, store, tmp_path).done  # nobody needs it
    assert len(go([dataclasses.replace(children[0], seed=7)], store, tmp_path).done) == 2


def _die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_takes_no_neighbour_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Pool(concurrent.futures.ProcessPoolExecutor):
        def submit(self, function, spec, *rest):
            return super().submit(_die if spec.seed == 0 else function, spec, *rest)

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Pool)
    report = go(seeds(2), None, tmp_path, workers=2)
    assert list(report.failed) == [SMALL.hash] and [result.spec["seed"] for result in report.done] == [1]


def test_any_executor(tmp_path: Path):
    store = Store(tmp_path / "s.jsonl")
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert len(go(seeds(2), store, tmp_path, executor=executor).done) == 2
        assert executor.submit(int).result() == 0  # left open


INTERRUPTED = """
import signal, sys
from tiny import SMALL, seeds, go
from pathlib import Path
import dataclasses
from vtg_lib.experiments.store import Store

if __name__ == "__main__":
    # a shell's background jobs inherit that it is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    train = dataclasses.replace(SMALL.train, epochs=100_000, eval_every=100_000)
    long = dataclasses.replace(SMALL, train=train)
    folder = Path(sys.argv[1])
    go([*seeds(1), long], Store(folder / "s.jsonl"), folder, workers=2)
"""


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process(tmp_path: Path):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, here.parents[:2])),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    store = Store(tmp_path / "s.jsonl")
    limit = time.time() + 120
    while len(store) < 1 and process.poll() is None and time.time() < limit:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does, to parent and workers
    try:
        _, error = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert b"KeyboardInterrupt" in error and len(Store(store.path)) == 1
    with pytest.raises(ProcessLookupError):  # nobody of the session is left
        for _ in range(50):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
