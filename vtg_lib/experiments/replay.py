"""Does today's code still make the numbers of stored runs?

Every run keeps the digest of the code that made it (`vtg_lib.experiments.provenance.source_digest`). Code
that was moved, renamed or given an option that is off has another digest, and only running it shows that it
computes the same. A replay trains a stored run again, up to the first evaluation that its curves keep: by
then training has amplified the smallest difference, so where every loss, gradient norm and metric agrees in
all stored digits, the two versions of the code count as one in tables.

`results/replays.jsonl` keeps what was found, one replay a line; of one run the last line counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtg_lib.experiments.machine import CPU, Machine
from vtg_lib.experiments.pool import process_pool
from vtg_lib.experiments.provenance import REPLAYS, model_digest, provenance
from vtg_lib.experiments.run import build_model, load_data, thin_curves
from vtg_lib.experiments.spec import RunSpec, canonical
from vtg_lib.experiments.store import Store


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What one replay found.

    Attributes:
        hash: of the stored run; model: its model; earlier, now: digests of the code that made it and of
            today's.
        epoch: of the evaluation that was compared.
        differs: curve -> (stored, found), where they are not equal.
        provenance: of the replay.
    """

    hash: str
    model: str
    earlier: str
    now: str
    epoch: int
    differs: Mapping[str, tuple[float | None, float | None]]
    provenance: Mapping[str, Any]


def due(
    records: Iterable[Mapping[str, Any]],
    models: Collection[str] | None = None,
    device: str = "cpu",
    replays: Path = REPLAYS,
) -> list[Mapping[str, Any]]:
    """The stored runs to replay: of each model and earlier version, so many that every choice that a spec can
    make occurs, among them or among those that today's code has replayed already.

    Those that are not `comparable` are left out.

    Args:
        models: names; default all.
        replays: the store of what was found so far.
    """
    here, done = provenance(device), Store(replays)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    replayed: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        known = record["provenance"]
        model, digest = record["spec"]["model"], known.get("source_digest")
        wanted = (models is None or model in models) and comparable(record, here)
        if wanted and digest is not None and digest != (now := model_digest(model)):
            found = done.get(record["hash"]) or {}
            into = replayed if (found.get("earlier"), found.get("now")) == (digest, now) else groups
            into.setdefault((model, digest), []).append(record)
    return [record for key, group in groups.items() for record in cover(group, replayed.get(key, ()))]


def sampled(
    records: Iterable[Mapping[str, Any]],
    number: int,
    models: Collection[str] | None = None,
    device: str = "cpu",
) -> list[Mapping[str, Any]]:
    """At most `number` of the `comparable` stored runs, of whatever code, that differ in their choices."""
    here = provenance(device)
    known = [
        record
        for record in records
        if (models is None or record["spec"]["model"] in models) and comparable(record, here)
    ]
    return cover(known)[:number]


def comparable(record: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether equal numbers can be asked of a stored run, given the provenance of runs here: another
    processor, set of instructions, number of threads or version of torch alone changes the last digits, and
    training magnifies them.
    """
    known = record["provenance"]
    return bool(
        known["device"] == _one_thread(here["device"])
        and known["versions"]["torch"] == here["versions"]["torch"]
        and known.get("instructions") in (None, here["instructions"])  # None: of an earlier version
        and "devices" not in known  # it went on elsewhere
    )


def cover(
    records: Sequence[Mapping[str, Any]], done: Iterable[Mapping[str, Any]] = ()
) -> list[Mapping[str, Any]]:
    """Few of the records that make all choices which their specs make and those `done` do not; greedily."""
    values = [_choices(record) for record in records]
    missing = set().union(*values) - set().union(*map(_choices, done))
    chosen: list[Mapping[str, Any]] = []
    while missing:
        best = max(range(len(records)), key=lambda index: len(values[index] & missing))
        chosen.append(records[best])
        missing -= values[best]
    return chosen


def _choices(record: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """The values of a spec's fields that are no numbers."""
    return {
        (part, name, canonical(value))
        for part in ("config", "data", "train")
        for name, value in record["spec"][part].items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    }


def replay(record: Mapping[str, Any], machine: Machine = CPU) -> Replay:
    """Train a stored run again up to its first kept evaluation, and compare.

    Raises:
        ValueError: the spec is no longer one.
    """
    from vtg_lib.experiments.training import train

    spec, stored = RunSpec.from_dict(record["spec"]), record["curves"]
    splits, epoch = load_data(spec, machine.data_root), int(stored["epoch"][0])
    outcome = train(
        build_model(spec),
        splits["train"],
        splits["val"],
        spec.train,
        seed=spec.seed,
        machine=machine,
        stop_after=epoch,
    )
    found = thin_curves(outcome.curves)
    pairs = {name: (values[0], found.get(name, [None])[0]) for name, values in stored.items()}
    return Replay(
        hash=record["hash"],
        model=spec.model,
        earlier=record["provenance"]["source_digest"],
        now=model_digest(spec.model),
        epoch=epoch,
        differs={name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
        provenance=provenance(machine.device),
    )


def replay_all(
    records: Sequence[Mapping[str, Any]], store: Store, machine: Machine = CPU, *, workers: int = 1
) -> Iterator[Replay]:
    """Replay in processes of one thread each; every result is stored before it is given."""
    quiet = dataclasses.replace(machine, progress=False)
    with process_pool(workers) as pool:
        jobs = [pool.submit(replay, record, quiet) for record in records]
        for job in jobs:
            found = job.result()
            store.append(dataclasses.asdict(found))
            yield found


def _one_thread(device: str) -> str:
    """`machine.device_name` as a worker of a sweep writes it."""
    return f"{device.rpartition(',')[0]}, 1 thread(s)" if device.endswith("thread(s)") else device
