"""A sweep on the workers of a dask scheduler: a worker that dies, other code, nobody there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import BAD, SMALL, go, seeds

from vtg_lib.experiments import cluster
from vtg_lib.experiments.cluster import ClusterError, ClusterExecutor, connect
from vtg_lib.experiments.store import Store


@contextlib.contextmanager
def scheduler(folder: Path, **options: Any) -> Iterator[str]:
    """The address of a scheduler on this machine."""
    distributed = pytest.importorskip("distributed", reason="an optional extra")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp", **options}
    with distributed.LocalCluster(dashboard_address=None, local_directory=str(folder), **options) as local:
        yield local.scheduler_address


def test_without_dask_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'vtg-lib\[cluster\]'"), connect("tcp://x:1", []):
        pass


def test_what_is_no_scheduler_or_has_no_fit_worker_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT", 2.0)

    def refused(address: str) -> str:
        with pytest.raises(ClusterError) as error, connect(address, seeds(1)):
            pass
        return str(error.value)

    with scheduler(tmp_path, n_workers=0) as address:
        assert "has no workers; start some with `dask worker tcp://" in refused(address)
    assert "no dask scheduler answers" in refused(address)  # any more
    assert "no dask scheduler answers" in refused("localhost")
    with scheduler(tmp_path, threads_per_worker=2) as address:
        assert "expected 1 thread, got 2" in refused(address)


def test_a_worker_with_other_code_is_refused_also_when_it_joins_late(tmp_path: Path, monkeypatch):
    with scheduler(tmp_path, processes=True) as address:
        with connect(address, seeds(1)) as executor:
            executor._digests = {"moment_detr": "other"}  # as if the worker had joined since
            report = go(seeds(1), None, tmp_path, executor=executor)
        assert "expected the caller's code of moment_detr (digest other)" in report.failed[SMALL.hash]
        monkeypatch.setattr(cluster, "model_digest", lambda model: "other")  # here, not in the worker
        with pytest.raises(ClusterError, match="cannot run this code.*install the same version of vtg_lib"):
            connect(address, seeds(1)).__enter__()


class Mortal(ClusterExecutor):
    """Kills the worker in the middle of seed 1's run, the first time."""

    marker: Path

    def submit(self, function, spec, *rest):
        return super().submit(_mortal, self.marker, function, spec, *rest)


def _mortal(marker: Path, function, spec, *rest):
    if spec.seed == 1 and not marker.exists():
        marker.touch()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return function(spec, *rest)


def test_a_worker_that_is_killed_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store(tmp_path / "s.jsonl")
    monkeypatch.setattr(cluster, "ClusterExecutor", Mortal)
    monkeypatch.setattr(Mortal, "marker", tmp_path / "killed", raising=False)
    long = dataclasses.replace(SMALL.train, epochs=20, eval_every=20)
    specs = [dataclasses.replace(spec, train=long) for spec in seeds(3)]
    with scheduler(tmp_path, n_workers=2, processes=True) as address, connect(address, specs) as executor:
        assert executor.workers == 2
        report = go([BAD, *specs], store, tmp_path, executor=executor, workers=executor.workers)
    assert Mortal.marker.exists()
    assert list(report.failed) == [BAD.hash] and "train.select" in report.failed[BAD.hash]
    lines = store.path.read_text().splitlines()
    assert len(lines) == 3 and {spec.hash for spec in specs} == {record["hash"] for record in store}
    assert all(result.provenance["device"].endswith("1 thread(s)") for result in report.done)
    (here,) = go(specs[:1], None, tmp_path / "here").done
    assert store.get(here.hash)["metrics"] == here.metrics
