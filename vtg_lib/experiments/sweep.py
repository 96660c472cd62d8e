"""Many runs: in this process, in a pool of processes, or on any `concurrent.futures.Executor`.

The parent is the only writer of the store; workers return plain dicts, so that a worker may be anywhere that
shares nothing with the parent but the code. What is stored is skipped; a run that was killed goes on from its
checkpoint. A run that another one starts from comes before it, and its weights are kept.
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import dataclasses
import functools
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from vtg_lib.experiments.checkpoint import discard_checkpoint
from vtg_lib.experiments.machine import CPU, Machine, device_name
from vtg_lib.experiments.pool import process_pool
from vtg_lib.experiments.run import PausedError, RunResult, find, run, run_folder, store_result
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.experiments.store import Store
from vtg_lib.files import locked

MARGIN = 1.1  # a run is expected to take this much longer than the longest alike
ATTEMPTS = 2  # a worker that dies takes its neighbours' runs with it; they get another chance


@dataclass(kw_only=True)
class SweepReport:
    """What a sweep did.

    done: results trained now. stored: hashes that were there, or that another sweep stored meanwhile. paused:
    hashes that reached the time budget with a checkpoint. left: hashes not begun, for lack of time. failed:
    {hash: error with traceback}. wall_s: of the sweep.
    """

    done: list[RunResult] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def complete(self) -> bool:
        """Every run asked for is in the store now."""
        return not (self.paused or self.left or self.failed)

    def summary(self) -> str:
        """One line in words."""
        counts = {
            "trained": len(self.done),
            "in the store already": len(self.stored),
            "paused": len(self.paused),
            "left": len(self.left),
            "failed": len(self.failed),
        }
        told = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
        return f"{told or 'nothing to do'} in {self.wall_s:.0f} s"


class _Estimate:
    """Seconds that a run will take, from the runs of the same cost that finished, here or earlier on this
    device.
    """

    def __init__(self, store: Store | None, device: str) -> None:
        self.seconds: dict[str, float] = {}
        here = "" if store is None else device_name(device).split(",")[0]
        for record in store or ():
            origin = record.get("provenance", {})
            if str(origin.get("device", "")).split(",")[0] == here and "wall_s" in origin:
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    self.add(RunSpec.from_dict(record["spec"]), origin["wall_s"])

    def add(self, spec: RunSpec, seconds: float) -> None:
        self.seconds[spec.cost_key] = max(seconds, self.seconds.get(spec.cost_key, 0.0))

    def of(self, spec: RunSpec) -> float:
        """The expected seconds: of its like; of the longest run known where it has none; 0 where nothing is
        known.
        """
        known = self.seconds.get(spec.cost_key)
        return MARGIN * (max(self.seconds.values(), default=0.0) if known is None else known)


def sweep(
    specs: Iterable[RunSpec],
    store: Store | None,
    machine: Machine = CPU,
    *,
    executor: Executor | None = None,
    workers: int = 1,
    time_budget: float | None = None,
    priority: Callable[[RunSpec], Any] | None = None,
    partial: bool = False,
) -> SweepReport:
    """Fill `store` with the runs of `specs`.

    Args:
        executor: any executor, such as that of `vtg_lib.experiments.cluster.connect`; it is left open.
            Default: this process for one worker, else processes with one torch thread each.
        workers: runs under way at once.
        time_budget: seconds. A run that will not fit, judging by those that finished, is not begun; one that
            is under way when the time is up stops at the end of its epoch, with a checkpoint.
        partial: begin runs that will not fit too; they pause, and the next sweep goes on with them.
        priority: sort key; the smallest first. Default: the order of `specs`.

    Raises:
        StoreError: the store cannot be written; what is running is stopped.
        KeyboardInterrupt: passed on, after the workers were stopped; finished runs are in the store.
    """
    started = time.time()
    if time_budget is not None:
        deadline = started + time_budget
        machine = dataclasses.replace(machine, deadline=min(deadline, machine.deadline or deadline))
    known = store if executor is None else None  # of an executor's device only runs of this sweep tell
    loop = _Loop(store, machine, partial, _Estimate(known, machine.device))
    wanted = list({spec.hash: spec for spec in specs}.values())
    loop.add(wanted if priority is None else sorted(wanted, key=priority))
    with machine.bar(total=len(loop.todo), unit="run") as bar:
        if executor is not None:
            loop.through(executor, workers, bar)
            loop.report.left += [spec.hash for spec in loop.todo]  # the executor broke
        elif workers > 1 and loop.todo:
            loop.through_pool(workers, bar)
        else:
            loop.here(bar)
    loop.report.wall_s = time.time() - started
    return loop.report


@dataclass
class _Loop:
    """The state of one sweep; `sweep` is its only user."""

    store: Store | None
    machine: Machine
    partial: bool
    estimate: _Estimate
    todo: list[RunSpec] = field(default_factory=list)
    first: set[str] = field(default_factory=set)  # not stored yet, and others start from them
    attempts: dict[str, int] = field(default_factory=dict)
    report: SweepReport = field(default_factory=SweepReport)

    def stored(self, spec: RunSpec) -> bool:
        return self.store is not None and not self.machine.rerun and find(self.store, spec) is not None

    def add(self, specs: Iterable[RunSpec]) -> None:
        """What is not stored is to be done, after the runs that it starts from."""
        todo: dict[str, RunSpec] = {}

        def needed(spec: RunSpec, keep: bool = False) -> None:
            spec = dataclasses.replace(spec, keep=spec.keep or keep)
            if self.stored(spec):
                return
            if isinstance(spec.init, RunSpec) and self.store is not None:
                needed(spec.init, keep=True)
            if keep:
                self.first.add(spec.hash)
            known = todo.get(spec.hash, spec)
            todo[spec.hash] = dataclasses.replace(
                known,
                diagnostics=tuple(dict.fromkeys((*known.diagnostics, *spec.diagnostics))),
                keep=known.keep or spec.keep,
            )

        for spec in specs:
            if self.stored(spec):
                self.report.stored.append(spec.hash)
            else:
                needed(spec)
        self.todo += todo.values()

    def _ready(self, spec: RunSpec) -> bool:
        return not (isinstance(spec.init, RunSpec) and spec.init.hash in self.first)

    def _leave(self, parent: str) -> None:
        """What starts from a run that did not come out is left."""
        if parent not in self.first:
            return
        for spec in [s for s in self.todo if isinstance(s.init, RunSpec) and s.init.hash == parent]:
            self.todo.remove(spec)
            self.report.left.append(spec.hash)
            self._leave(spec.hash)

    def _next(self, bar: tqdm[Any]) -> RunSpec | None:
        """The first run that fits into the time left; those that do not are counted as left."""
        deadline = self.machine.deadline
        while (spec := next(filter(self._ready, self.todo), None)) is not None:
            self.todo.remove(spec)
            remaining = math.inf if deadline is None else deadline - time.time()
            if self.stored(spec):  # by another sweep, since this one began
                self.report.stored.append(spec.hash)
                self.first.discard(spec.hash)
                bar.update()
            elif remaining > (0.0 if self.partial else self.estimate.of(spec)):
                return spec
            else:
                self.report.left.append(spec.hash)
                self._leave(spec.hash)
        return None

    @property
    def _path(self) -> Path | None:
        return None if self.store is None else self.store.path.absolute()

    def here(self, bar: tqdm[Any]) -> None:
        """Run everything in this process."""
        while (spec := self._next(bar)) is not None:
            self._settle(spec, functools.partial(_execute, spec, self._path, self.machine), bar)

    def through_pool(self, workers: int, bar: tqdm[Any]) -> None:
        """Run everything in pools of processes, a new one whenever a process dies (of memory, say)."""
        while self.todo:
            # who was there when a pool broke runs alone, so that the culprit takes nobody along a second time
            suspects = [spec for spec in self.todo if spec.hash in self.attempts]
            others = [spec for spec in self.todo if spec.hash not in self.attempts]
            self.todo, later = (suspects, others) if suspects else (others, [])
            at_once = 1 if suspects else workers
            with process_pool(at_once) as pool:
                self.through(pool, at_once, bar)
            self.todo += later

    def through(self, executor: Executor, workers: int, bar: tqdm[Any]) -> None:
        """Keep `workers` runs under way until nothing is left to begin, or the executor breaks."""
        quiet = dataclasses.replace(self.machine, progress=False)
        running: dict[Future[RunResult], RunSpec] = {}
        broken = False
        try:
            while True:
                while not broken and len(running) < workers and (spec := self._next(bar)) is not None:
                    try:
                        job = executor.submit(_execute, spec, self._path, quiet)
                    except BrokenExecutor:
                        self.todo.insert(0, spec)
                        broken = True
                    else:
                        running[job] = spec
                        self.attempts[spec.hash] = self.attempts.get(spec.hash, 0) + 1
                if not running:
                    return
                for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                    spec = running.pop(future)
                    lost = future.cancelled() or isinstance(future.exception(), BrokenExecutor)
                    broken |= lost
                    if lost and self.attempts[spec.hash] < ATTEMPTS:
                        self.todo.insert(0, spec)
                    else:
                        self._settle(spec, future.result, bar)
        finally:
            for future in running:
                future.cancel()

    def _settle(self, spec: RunSpec, outcome: Callable[[], RunResult], bar: tqdm[Any]) -> None:
        """Store what `outcome()` returns, or note how it failed."""
        try:
            result = outcome()
        except PausedError:
            self.report.paused.append(spec.hash)
            self._leave(spec.hash)
        except Exception as error:  # whatever one run does must not cost the others
            self.report.failed[spec.hash] = "".join(traceback.format_exception(error))
            self._leave(spec.hash)
            tqdm.write(f"run {spec.hash} failed: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            folder = run_folder(spec, self.machine)
            with locked(folder):
                if self.stored(spec):  # another sweep was faster
                    self.report.stored.append(spec.hash)
                else:
                    if self.store is not None:
                        store_result(self.store, result)
                    self.report.done.append(result)
                discard_checkpoint(folder)
            self.first.discard(spec.hash)
            self.estimate.add(spec, result.provenance.get("wall_s", 0.0))
        bar.update()
        bar.set_postfix(failed=len(self.report.failed), refresh=False)


def _execute(spec: RunSpec, path: Path | None, machine: Machine) -> RunResult:
    """Train one run, in whatever process, unless the store at `path` got it; the checkpoint stays until it is
    stored.
    """
    store = None if path is None else Store(path)
    return run(spec, store, machine, append=False)
