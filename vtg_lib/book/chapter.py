"""What a chapter's notebook holds: its parameters, its paper and its runs; `book.views` display them."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.book.parameters import LIVE, Parameters, executed_cells, injected_names
from vtg_lib.experiments.machine import Machine
from vtg_lib.experiments.pool import process_pool
from vtg_lib.experiments.provenance import usable_cores
from vtg_lib.files import ANNOTATIONS, RESULTS

if TYPE_CHECKING:
    from IPython.display import Markdown
    from torch import nn

    from vtg_lib.data.batches import GroundingData
    from vtg_lib.experiments.replay import Replay
    from vtg_lib.experiments.run import RunResult
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers import Profile
    from vtg_lib.papers.claims import Judged
    from vtg_lib.papers.evidence import TableResults

PAPER_SIZE = ("rendered", "official")  # profiles that train at the paper's size, which takes a GPU


class Chapter:
    """One chapter at one profile.

    Attributes:
        parameters: checked parameters.
        paper: the paper's tables and profiles, see `vtg_lib.papers`.
        store: the run store that the chapter's numbers come from.
        profile: the profile that is really run: `quick` where the one asked for lacks its data or a GPU.
        missing: sentences that say what this execution does without, and which command gets it.
    """

    def __init__(self, key: str, parameters: Parameters, *, results: Path | None = None) -> None:
        from vtg_lib.experiments.store import Store
        from vtg_lib.papers import load_paper

        if parameters.device == "cpu":
            import torch

            torch.set_num_threads(1)  # small models lose time to threads; more runs at once use the cores
        self.parameters = parameters
        self.paper = load_paper(key)
        self.started = datetime.datetime.now(datetime.UTC)
        self.store = Store((results or RESULTS) / f"{self.paper.chapter}.jsonl")
        self.missing: list[str] = []
        self.profile = self._possible(parameters.profile)
        self._trained: dict[str, tuple[nn.Module, RunResult]] = {}  # by hash of the spec
        self.trained_here: list[str] = []
        self.replayed: list[str] = []  # in part
        self._scratch: Path | None = None
        self._used: dict[str, str] = {}

    @classmethod
    def open(cls, key: str, **parameters: Any) -> Chapter:
        """Start a chapter; the first thing that a notebook does.

        Args:
            key: the paper, a name of `vtg_lib.papers.paper_keys`.
            parameters: the notebook's five parameters.

        Raises:
            ParameterError: a parameter is unknown (papermill injected it under another name) or its value is
                bad.
        """
        injected = dict.fromkeys(injected_names(executed_cells()))
        return cls(key, Parameters.parse(**injected | parameters))

    def _possible(self, profile: str) -> str:
        """`profile`, or `quick` where what it needs is not there; notes in `missing` what was not found."""
        annotated = _annotated(self.parameters.data_root)
        if "qvhighlights" not in annotated:
            self.missing.append(
                "No real annotations of QVHighlights were found, so nothing could be scored anew against "
                "them: `vtg data fetch qvhighlights` gets them, and `released_predictions` the predictions "
                "that authors published."
            )
        if profile != "quick" and profile not in self.paper.profiles:
            why = (
                "is not set up for this paper: its features have no public download that `vtg data list` "
                "knows."
            )
        elif profile not in PAPER_SIZE:
            return profile
        elif "qvhighlights" not in annotated:
            why = "needs the real annotations."
        elif self.parameters.device == "cpu":
            why = (
                f"trains at the paper's size, for which there is no GPU here: `{self._sweep(profile)}` fills "
                "the store on a machine with a GPU."
            )
        else:
            if lacking := sorted(set(self.paper.profile(profile).datasets) - annotated):
                self.missing.append(
                    f"The annotations of {', '.join(lacking)} were not found, so their runs are left out: "
                    f"`vtg data fetch {' '.join(lacking)}` gets them."
                )
            return profile
        instead = "This execution ran `quick` instead and shows the best evidence in the run store."
        self.missing.append(f"Profile `{profile}` {why} {instead}")
        return "quick"

    def _sweep(self, profile: str) -> str:
        """The command that trains what the store lacks at a profile."""
        return f"vtg sweep --paper {self.paper.key} --profile {profile}"

    @property
    def size(self) -> Profile:
        """The paper's profile that runs are sized by; a paper without a `quick` of its own runs `quick` at
        the size of `sim`.
        """
        name = self.profile if self.profile in self.paper.profiles else "sim"
        return self.paper.profile(name)

    @property
    def live(self) -> bool:
        """Whether this profile trains in the chapter itself, outside the run store."""
        return self.profile in LIVE

    def spec(self, table: str, label: str, *, seed: int | None = None) -> RunSpec:
        """The run behind a row of a table, at this chapter's profile, with its first seed unless one is
        named.
        """
        from vtg_lib.papers import row_spec
        from vtg_lib.papers.plan import row_datasets

        chosen, size = self.paper.table(table), self.size
        seed = self.parameters.seeds[0] if seed is None else seed
        return row_spec(chosen.row(label), size, row_datasets(chosen, size)[0], seed)

    def train(self, specs: Mapping[str, RunSpec]) -> dict[str, tuple[nn.Module, RunResult]]:
        """The trained model of each spec and its result, from the run store and the weights that it keeps.

        What is lacking there is trained here and now, and so is everything at profile `smoke`; at `smoke` and
        `quick` in a folder that is thrown away. On a CPU each runs in a process of its own with one thread,
        which is the fastest way for models this small.
        """
        from vtg_lib.experiments.run import find, trained_model

        wanted = {spec.hash: dataclasses.replace(spec, keep=True, diagnostics=()) for spec in specs.values()}
        wanted = {key: spec for key, spec in wanted.items() if key not in self._trained}
        if self.profile != "smoke" and not self.parameters.rerun:
            for key, spec in list(wanted.items()):
                if (found := find(self.store, spec)) is not None:
                    self._trained[key] = trained_model(spec, self.store), found
                    del wanted[key]
        store, machine = self._where()
        workers = min(len(wanted), usable_cores())
        if self.profile != "smoke" and machine.device == "cpu" and workers > 1:
            with process_pool(workers) as pool:
                jobs = [pool.submit(_train, spec, store.path, machine) for spec in wanted.values()]
                results = [job.result() for job in jobs]
        else:
            results = [_train(spec, store.path, machine) for spec in wanted.values()]
        for spec, result in zip(wanted.values(), results, strict=True):
            self._trained[spec.hash] = trained_model(spec, store, machine), result
            self.trained_here.append(spec.hash)
        return {name: self._trained[spec.hash] for name, spec in specs.items()}

    def again(self, spec: RunSpec) -> Replay | None:
        """A stored run trained once more up to its first evaluation, and compared; None where it is not
        stored, was trained in this chapter, or the profile is not `quick`.
        """
        from vtg_lib.experiments.replay import replay

        record = self.store.get(spec.hash)
        if self.profile != "quick" or record is None or spec.hash in self.trained_here:
            return None
        self.replayed.append(spec.hash)
        return replay(record, self._where()[1])

    def untrained(self, spec: RunSpec) -> nn.Module:
        """The model of `spec` as it is before training."""
        from vtg_lib.experiments.run import build_model

        return build_model(spec).to(self.parameters.device).eval()

    def data(self, spec: RunSpec) -> dict[str, GroundingData]:
        """The splits that `spec` is trained and scored on."""
        from vtg_lib.experiments.run import load_data

        splits = load_data(spec, self.parameters.data_root)
        for name, split in splits.items():
            self._used[f"{split.facts.get('kind', 'data')} {name}"] = split.fingerprint
        return splits

    def fill(self) -> Markdown:
        """Train what this profile asks for beyond the headline comparison, and say what was done.

        `smoke` trains every planned run for a few steps and throws it away; `quick` nothing; the others what
        the store lacks, of the data sets that are there.

        Raises:
            RuntimeError: a run failed at `smoke`. At other profiles the page says so, and shows what there
                is.
        """
        from IPython.display import Markdown

        from vtg_lib.experiments.run import find
        from vtg_lib.experiments.sweep import sweep
        from vtg_lib.papers import specs
        from vtg_lib.papers.dose import dose_specs

        if self.profile == "quick":
            return Markdown(
                "At profile `quick` nothing but the headline comparison is trained; the tables come from the "
                "run store."
            )
        planned = specs(self.paper, self.profile, self.parameters.seeds)
        if self.profile in PAPER_SIZE:
            here = _annotated(self.parameters.data_root)
            wanted = [spec for refs, spec in planned if refs[0].dataset in here]
        else:
            doses = dose_specs(self.paper.key, self.profile, self.parameters.seeds)
            wanted = [spec for _, spec in [*planned, *doses]]
        store, machine = self._where()
        lacking = [spec for spec in wanted if machine.rerun or find(store, spec) is None]
        workers = 1 if self.live or machine.device != "cpu" else usable_cores()
        report = sweep(lacking, store, machine, workers=workers)
        done = sum(find(store, spec) is not None for spec in wanted)
        live = "and were thrown away: they prove that the code runs, nothing else"
        kept = live if self.live else "and are in the run store"
        told = f"{done} of {len(wanted)} planned runs at profile `{self.profile}` are done {kept}."
        if report.failed:
            first = next(iter(report.failed.values()))
            failed = f"{len(report.failed)} of {len(lacking)} runs failed; the first:\n"
            if self.profile == "smoke":
                raise RuntimeError(failed + first)
            told += f" `{self._sweep(self.profile)}` tries the others again. {failed}\n```\n{first}\n```"
        return Markdown(told)

    def _where(self) -> tuple[Store, Machine]:
        """Where runs of this profile are kept and trained."""
        from vtg_lib.experiments.store import Store

        machine = Machine(
            device=self.parameters.device,
            data_root=self.parameters.data_root,
            progress=False,
            rerun=self.parameters.rerun and not self.live,  # live runs are always trained anew
        )
        if not self.live:
            return self.store, machine
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="vtg-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        machine = dataclasses.replace(machine, checkpoint_root=self._scratch)
        return Store(self._scratch / "live.jsonl"), machine

    @functools.cached_property
    def compared(self) -> dict[str, TableResults]:
        """Every table of the paper with all evidence in the run store, and released predictions scored
        anew.
        """
        from vtg_lib.papers.comparison import compare
        from vtg_lib.papers.evidence import released_scores

        released = released_scores(self.paper, self.parameters.data_root)
        return compare(self.paper, self.store, released=released)

    @functools.cached_property
    def judged(self) -> list[Judged]:
        """The paper's claims, and what the run store says of them."""
        from vtg_lib.papers.claims import judge_claims

        return judge_claims(self.paper, self.store)

    def provenance(self) -> dict[str, Any]:
        """Code version, spec hashes, data and feature fingerprints, seeds, device, versions, start and
        duration.
        """
        from vtg_lib.experiments.provenance import provenance

        known = provenance(self.parameters.device)
        versions = {name: version for name, version in known["versions"].items() if version}
        for name in ("pandas", "scipy", "papermill", "jupyter-book", "ipywidgets"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
        return {
            "chapter": self.paper.chapter,
            "profile": self.parameters.profile,
            "seeds": list(self.parameters.seeds),
            "rerun": self.parameters.rerun,
            "code_version": known["code_version"],
            "versions": versions,
            "device": known["device"],
            "started": self.started.isoformat(timespec="seconds"),
            "duration_s": round((datetime.datetime.now(datetime.UTC) - self.started).total_seconds(), 1),
            "live_specs": sorted(self.trained_here),
            "replayed_specs": sorted(self.replayed),
            "store_specs": sorted({record["hash"] for record in self.store}),
            "data": dict(self._used),
        }


def _annotated(root: Path | None) -> set[str]:
    """The data sets whose annotations for training and validation are below `root`."""
    from vtg_lib.data import REAL

    if root is None:
        return set()
    files = {name: [f for split, f in ANNOTATIONS[name].items() if split != "test"] for name in REAL}
    return {name for name, needed in files.items() if all((root / file).is_file() for file in needed)}


def _train(spec: RunSpec, store: Path, machine: Machine) -> RunResult:
    """Train one run unless the store has it."""
    from vtg_lib.experiments.run import run
    from vtg_lib.experiments.store import Store

    return run(spec, Store(store), machine)
