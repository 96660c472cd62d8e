"""Run specs, the run store, and asking for runs."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import math
import pickle
import shutil
from collections import ChainMap
from pathlib import Path

import pytest
import tiny
import torch
from tiny import at

from vtg_lib import models
from vtg_lib.experiments import provenance
from vtg_lib.experiments import run as runs
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments.run import (
    PausedError,
    build_model,
    find,
    load_data,
    run,
    run_folder,
    thin_curves,
    trained_model,
)
from vtg_lib.experiments.spec import RunSpec, canonical
from vtg_lib.experiments.store import Store
from vtg_lib.experiments.weights import MOMENTS, kept, pack, start_from, unpack
from vtg_lib.models import MODELS, initialisation
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.inference import evaluate_model
from vtg_lib.papers import load_paper, paper_keys, row_spec
from vtg_lib.papers.schema import Paper, Row

THIN = {"semantic_dim": 8, "motion_dim": 4}
TRAIN = TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2)


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    """A spec of the tests' own model on the tests' own data."""
    entry = ModelEntry(tiny.TinyModel, tiny.Config)
    monkeypatch.setattr(models, "MODELS", ChainMap({"tiny": entry}, models.MODELS))
    splits = {"train": tiny.tiny_data(24), "val": tiny.tiny_data(12, 1)}
    monkeypatch.setattr(runs, "_load_data", lambda data, root: splits)
    return RunSpec(model="tiny", train=TRAIN)


# --- specs


def test_hash_ignores_order_and_spelled_out_defaults(tiny_model: RunSpec):
    a = RunSpec(model="tiny", config={"width": 8, "queries": 2}, data={"train": 64, "clips": 16}, train=TRAIN)
    b = RunSpec(model="tiny", config={"queries": 2, "width": 8}, data={"clips": 16, "train": 64}, train=TRAIN)
    assert a.hash == b.hash and len(a.hash) == 12
    assert dataclasses.replace(a, config={**a.config, "dropout": 0.3}).hash == a.hash
    assert dataclasses.replace(a, data={**a.data, "kind": "sim", "seed": 0}).hash == a.hash
    assert dataclasses.replace(a, diagnostics=("offsets",)).hash == a.hash
    others = [
        dataclasses.replace(a, seed=1),
        dataclasses.replace(a, config={**a.config, "dropout": 0.2}),
        dataclasses.replace(a, data={**a.data, "seed": 1}),
        dataclasses.replace(a, train=dataclasses.replace(TRAIN, learning_rate=2e-2)),
        dataclasses.replace(a, model="moment_detr", config={}),
    ]
    assert len({a.hash, *(other.hash for other in others)}) == 6
    hooked = [{"hook": "synthesis", "hook_options": o} for o in ({}, {"alpha": 0.7}, {"alpha": 0.5})]
    plain, spelled, other = (dataclasses.replace(a, train=dataclasses.replace(TRAIN, **o)) for o in hooked)
    assert plain.hash == spelled.hash and len({a.hash, plain.hash, other.hash}) == 3
    assert plain.resolved["train"]["hook_options"]["alpha"] == 0.7  # stores spell out everything
    assert RunSpec.from_dict(plain.resolved).hash == plain.hash
    assert others[0].cost_key == a.cost_key != others[1].cost_key


def test_hash_ignores_how_a_number_is_spelled(tiny_model: RunSpec):
    def written(train: dict, seed: object) -> str:
        return RunSpec.from_dict({"model": "tiny", "train": train, "seed": seed}).hash

    assert written({"learning_rate": 1, "epochs": 3.0}, 2.0) == written(
        {"learning_rate": 1.0, "epochs": 3}, 2
    )


def test_source_digest_counts_what_decides_numbers_and_nothing_else(tmp_path: Path, monkeypatch):
    package = Path(
        shutil.copytree(
            provenance.PACKAGE, tmp_path / "vtg_lib", ignore=shutil.ignore_patterns("__pycache__")
        )
    )
    monkeypatch.setattr(provenance, "PACKAGE", package)

    digest = provenance.source_digest.__wrapped__  # without its cache
    seen = {digest("vtg_lib.models.sdst")}

    def changes(name: str) -> bool:
        path, before = package / f"{name}.py", len(seen)
        path.write_text(path.read_text() + f"CHANGED = {name!r}\n")
        seen.add(digest("vtg_lib.models.sdst"))
        return len(seen) > before

    decide = [
        "layers/suppression",
        "evaluation/average_precision",
        "evaluation/arrays",
        "losses/set_prediction",
        "models/inference",
        "layers/deformable",
        "models/sdst",
    ]
    decide += ["data/timeline", "data/generate", "data/render", "data/__init__", "data/official"]
    assert [name for name in decide if not changes(name)] == []
    others = ["book/figures/charts", "cli/data", "experiments/sweep", "experiments/store", "models/qd_detr"]
    assert [name for name in others if changes(name)] == []
    source = (package / "models/sdst.py").read_text()
    (package / "models/sdst.py").write_text(
        source.replace('"""SDST (', '"""Reworded: SDST (').replace("  # Tab. A", "")
    )
    assert digest("vtg_lib.models.sdst") in seen, "docstrings and comments decide nothing"
    assert source != (package / "models/sdst.py").read_text()


def test_usable_cores_respects_the_affinity_where_there_is_one(monkeypatch):
    monkeypatch.setattr(provenance.os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(provenance.os, "cpu_count", lambda: 64)
    assert provenance.usable_cores() == 3
    monkeypatch.delattr(provenance.os, "sched_getaffinity")
    assert provenance.usable_cores() == 64


def test_spec_survives_json_and_pickle():
    spec = RunSpec(model="moment_detr", config={"width": 64}, train=TRAIN, seed=3)
    assert RunSpec.from_dict(json.loads(json.dumps(spec.resolved))).hash == spec.hash
    assert pickle.loads(pickle.dumps(spec)).hash == spec.hash


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"seed": 0}, "run spec: expected field 'model', which is missing; got seed"),
        ({"model": "moment_detr", "sead": 1}, "unknown field 'sead'; did you mean 'seed'"),
        (
            {"model": "moment_detr", "train": {"epoch": 1}},
            "run spec, train: unknown field 'epoch'; did you mean 'epochs'",
        ),
        ({"model": "moment_detr", "train": {"epochs": 1.5}}, "train, epochs: expected .*, got 1.5"),
        ({"model": "moment_detr", "seed": "1"}, "run spec, seed: expected a whole number, got '1'"),
        ({"model": "moment_detr", "data": ["kind"]}, "run spec, data: expected a mapping, got"),
        ({"model": "moment_detr", "config": {"widht": 1}}, "widht"),
        ({"model": "nobody"}, "nobody"),
        ({"model": "moment_detr", "renderer": "render v0"}, "made for 'render v0'"),
    ],
)
def test_bad_specs_are_refused(value: dict, message: str):
    with pytest.raises(ValueError, match=message):
        _ = RunSpec.from_dict(value).hash


# --- runs


def test_a_run_is_stored_with_its_provenance_and_returned(tmp_path: Path, tiny_model: RunSpec, monkeypatch):
    store = Store(tmp_path / "s.jsonl")
    result = run(tiny_model, store, at(tmp_path))
    assert set(result.metrics) == {"val", "last", "swapped"} and "MR-full-mAP" in result.metrics["val"]
    assert result.curves["epoch"] == [1, 2] and "loss/span" in result.curves
    origin = result.provenance
    assert {
        "code_version",
        "source_digest",
        "versions",
        "device",
        "date",
        "wall_s",
        "process_peak_mb",
    } <= set(origin)
    assert "peak_memory_mb" not in origin  # on a CPU only the process's is known
    assert origin["parameters"] == models.count_parameters(build_model(tiny_model))
    assert origin["data_fingerprint"] == {"train": "tiny-24-0", "val": "tiny-12-1"}
    assert not list((tmp_path / "runs").glob("*/*"))  # the checkpoint is gone
    monkeypatch.setattr(runs, "_train", None)  # training again would fail
    assert run(tiny_model, store, at(tmp_path)) == result
    assert find(Store(store.path), tiny_model) == result


def test_rerun_adds_a_line_and_gives_the_same_numbers(tmp_path: Path, tiny_model: RunSpec):
    store = Store(tmp_path / "s.jsonl")
    first = run(tiny_model, store, at(tmp_path))
    torch.randn(7)  # whatever happened before a run does not matter
    second = run(tiny_model, store, at(tmp_path, rerun=True))
    assert first.metrics == second.metrics and first.curves == second.curves
    assert len(store.path.read_text().splitlines()) == 2 and len(store) == 1


def test_a_run_that_another_process_finishes_meanwhile_is_not_trained(
    tmp_path: Path, tiny_model: RunSpec, monkeypatch
):
    path = tmp_path / "s.jsonl"
    result = run(tiny_model, None, at(tmp_path))
    monkeypatch.setattr(runs, "_train", None)  # training again would fail
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        with runs.locked(run_folder(tiny_model, at(tmp_path))):
            job = thread.submit(run, tiny_model, Store(path), at(tmp_path), append=False)
            with pytest.raises(concurrent.futures.TimeoutError):
                job.result(timeout=0.3)
            Store(path).append(result.to_dict())
        assert job.result(timeout=60) == result


def test_a_paused_run_goes_on_with_the_same_numbers(tmp_path: Path, tiny_model: RunSpec):
    whole = run(tiny_model, None, at(tmp_path / "a"))
    with pytest.raises(PausedError, match="paused after epoch 1 of 2"):
        run(tiny_model, None, at(tmp_path / "b", deadline=1.0))
    rest = run(tiny_model, None, at(tmp_path / "b"))
    assert rest.provenance["resumed_from"] == 1
    assert rest.metrics == whole.metrics and rest.curves == whole.curves


def test_a_checkpoint_of_other_code_is_not_continued(tmp_path: Path, tiny_model: RunSpec, monkeypatch):
    with pytest.raises(PausedError):
        run(tiny_model, None, at(tmp_path, deadline=1.0))
    monkeypatch.setattr(runs, "model_digest", lambda module: "changed")
    with pytest.warns(UserWarning, match="the code changed"):
        assert run(tiny_model, None, at(tmp_path)).provenance["resumed_from"] == 0


def test_a_line_written_before_a_config_gained_a_field_still_counts(tmp_path: Path, tiny_model: RunSpec):
    store = Store(tmp_path / "s.jsonl")
    record = run(tiny_model, None, at(tmp_path)).to_dict()
    del record["spec"]["config"]["dropout"]
    store.append({**record, "hash": "000000000000"})
    found = find(store, tiny_model)
    assert found is not None and found.metrics == record["metrics"]
    assert find(store, dataclasses.replace(tiny_model, config={"dropout": 0.1})) is None


def test_weights_are_kept_on_request(tmp_path: Path, tiny_model: RunSpec):
    store, wanted = Store(tmp_path / "s.jsonl"), dataclasses.replace(tiny_model, keep=True)
    run(tiny_model, store, at(tmp_path))
    assert kept(store, tiny_model.hash) is None and find(store, wanted) is None  # a line without weights
    run(wanted, store, at(tmp_path))
    assert find(store, wanted) is not None and len(store.path.read_text().splitlines()) == 2
    state, facts = unpack(kept(store, tiny_model.hash))
    assert facts["hash"] == tiny_model.hash and all(v.dtype == torch.float32 for v in state.values())
    model = trained_model(tiny_model, store, at(tmp_path / "other"))
    assert not (tmp_path / "other" / "runs").exists()  # nothing was trained
    torch.testing.assert_close(model.clip.weight, state["clip.weight"])
    assert not torch.equal(model.clip.weight, build_model(tiny_model).clip.weight)


def test_weights_of_other_code_are_trained_again(tmp_path: Path, tiny_model: RunSpec, monkeypatch):
    weights = run_folder(tiny_model, at(tmp_path)) / "weights.safetensors"
    trained_model(tiny_model, machine=at(tmp_path))
    first = weights.read_bytes()
    trained_model(tiny_model, machine=at(tmp_path))
    assert weights.read_bytes() == first
    monkeypatch.setattr(runs, "model_digest", lambda module: "changed")
    trained_model(tiny_model, machine=at(tmp_path))
    assert unpack(weights.read_bytes())[1]["source_digest"] == "changed"
    monkeypatch.setattr(runs, "_train", None)  # training again would fail
    trained_model(tiny_model, machine=at(tmp_path))


def test_weights_survive_a_run_that_does_not_keep_its_own(tmp_path: Path, tiny_model: RunSpec):
    run(dataclasses.replace(tiny_model, keep=True), None, at(tmp_path))
    run(tiny_model, None, at(tmp_path))
    left = [path.name for path in run_folder(tiny_model, at(tmp_path)).iterdir()]
    assert left == ["weights.safetensors"]


def test_a_run_may_start_from_the_weights_of_another(tmp_path: Path, tiny_model: RunSpec):
    store = Store(tmp_path / "s.jsonl")
    first = run(dataclasses.replace(tiny_model, keep=True), store, at(tmp_path))
    later = dataclasses.replace(tiny_model, init=first.hash)
    assert later.hash != tiny_model.hash and RunSpec.from_dict(later.resolved).hash == later.hash
    went_on = run(later, store, at(tmp_path))
    assert went_on.curves["loss"][0] < first.curves["loss"][0]
    file = tmp_path / "some.safetensors"
    file.write_bytes(kept(store, first.hash))
    copied = run(dataclasses.replace(tiny_model, init=str(file)), store, at(tmp_path))
    assert copied.curves["loss"] == went_on.curves["loss"]
    with pytest.raises(
        ValueError, match="expected a file, or the hash of a run whose weights the store keeps"
    ):
        run(dataclasses.replace(tiny_model, init="0123456789ab"), store, at(tmp_path))
    other = dataclasses.replace(tiny_model, config={**tiny_model.config, "width": 8}, init=first.hash)
    with pytest.raises(ValueError, match="expected weights of this model .* of another shape"):
        run(other, store, at(tmp_path))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        run(dataclasses.replace(tiny_model, init=str(file), seed=9), store, at(tmp_path))


def test_a_run_trains_the_run_that_it_starts_from(tmp_path: Path, tiny_model: RunSpec):
    parent = dataclasses.replace(tiny_model, data={**tiny_model.data, "seed": 5})
    scored = dataclasses.replace(tiny_model, init=parent, train=TrainConfig(epochs=0))
    assert RunSpec.from_dict(json.loads(canonical(scored.resolved))).hash == scored.hash
    again = dataclasses.replace(scored, seed=1, init=dataclasses.replace(parent, seed=1))
    assert again.cost_key == scored.cost_key and again.hash != scored.hash
    other = dataclasses.replace(scored, init=dataclasses.replace(parent, config={"width": 8}))
    assert other.cost_key != scored.cost_key

    found = run(scored, Store(tmp_path / "s.jsonl"), at(tmp_path))
    assert found.curves == {} and found.provenance["best_epoch"] == 0
    model = trained_model(parent, machine=at(tmp_path))
    expected = evaluate_model(model, load_data(scored)["val"])["brief"]
    assert found.metrics["val"] == found.metrics["last"] == {k: v for k, v in expected.items() if v == v}
    weights = (run_folder(parent, at(tmp_path)) / "weights.safetensors").read_bytes()
    assert found.provenance["init_sha256"] == hashlib.sha256(weights).hexdigest()


def test_a_run_may_start_from_an_encoder_alone():
    def built(**config):
        small = {"video_dim": 6, "text_dim": 4, "width": 8, "heads": 2, "hidden": 8}
        return models.build("qd_detr", {**small, **config})

    first, other = built(queries=3), built(queries=5)
    packed = pack(first, {})
    with pytest.raises(ValueError, match="scope all.*of another shape .'decoder"):
        start_from(other, packed)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    start_from(other, packed, "encoder")
    taken = {name: value.half() for name, value in first.state_dict().items()}
    for name, value in other.state_dict().items():
        head = name.split(".")[0] in MOMENTS
        torch.testing.assert_close(value, before[name] if head else taken[name].float(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="scope encoder.*missing .'cross_encoder"):
        start_from(other, pack(models.build("moment_detr", {}), {}), "encoder")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_an_encoder_and_what_finds_moments(name: str):
    parts = {tensor.split(".")[0] for tensor in models.build(name, {}).state_dict()}
    assert parts - MOMENTS and parts & MOMENTS


def test_every_run_says_what_it_finds_without_reading(tmp_path: Path, tiny_model: RunSpec):
    result = run(tiny_model, None, at(tmp_path))
    assert set(result.metrics["swapped"]) >= {"MR-full-mAP"}
    assert result.metrics["swapped"] != result.metrics["val"]


@pytest.mark.parametrize(
    ("model", "config", "data", "message"),
    [
        ("moment_detr", {}, THIN, "got 12 and 8. Fix: --config video_dim=12 text_dim=8, or --data"),
        (
            "moment_detr",
            {"video_dim": 9, "text_dim": 8},
            THIN,
            "or --data layout=clips semantic_dim=8 motion_dim=1",
        ),
        ("sdst", {}, {}, "in 4 levels; got .* in one level. Fix: --data layout=levels semantic_dim=768"),
        ("sdst", {"video_dim": 12, "text_dim": 8}, THIN, "in one level. Fix: --data layout=levels"),
        (
            "sdst",
            {},
            {**THIN, "layout": "levels"},
            "video_dim=8 text_dim=8, or --data layout=levels semantic_dim=768",
        ),
    ],
)
def test_features_that_do_not_fit_the_model_are_refused_with_the_knobs_to_set(
    tmp_path, model, config, data, message
):
    spec = RunSpec(model=model, config=config, data={"train": 4, "val": 4, "clips": 8, **data}, train=TRAIN)
    with pytest.raises(ValueError, match=message):
        run(spec, None, at(tmp_path))


def test_diagnostics_are_taken_before_and_after(tmp_path: Path, tiny_model: RunSpec, monkeypatch):
    from vtg_lib import diagnostics

    monkeypatch.setitem(
        diagnostics.DIAGNOSTICS, "norm", lambda model, data: {"norm": model.clip.weight.norm().item()}
    )
    store = Store(tmp_path / "s.jsonl")
    plain = run(tiny_model, store, at(tmp_path))
    asking = dataclasses.replace(tiny_model, diagnostics=("norm",))
    assert find(store, asking) is None  # the stored line lacks it
    result = run(asking, store, at(tmp_path))
    assert result.diagnostics["norm"]["before"] != result.diagnostics["norm"]["after"]
    assert result.metrics == plain.metrics  # looking changes nothing
    assert find(store, tiny_model) == result
    with pytest.raises(ValueError, match="diagnostics: expected some of"):
        run(dataclasses.replace(tiny_model, diagnostics=("none",)), None, at(tmp_path))


def test_curves_are_thinned_to_the_evaluated_epochs():
    rows = [
        {"epoch": e, "step": e, "learning_rate": 0.1, "gradient_norm": 1 / 3, "loss": {"a": 1.0}}
        | ({"val": {"MR-full-mAP": float(e)}} if e % 2 == 0 else {})
        for e in range(1, 202)
    ]
    rows[99]["val"] = {}  # epoch 100, evaluated without this metric
    curves = thin_curves(rows, points=100)
    assert curves["epoch"] == list(range(2, 202, 2))
    assert curves["MR-full-mAP"][48:51] == [98.0, None, 102.0]
    assert curves["gradient_norm"][0] == 0.3333
    thin = thin_curves(rows)
    assert len(thin["epoch"]) == 32 and thin["epoch"][0] == 2 and thin["epoch"][-1] == 200
    assert all(epoch % 2 == 0 for epoch in thin["epoch"])


# --- paired initialisation


@pytest.mark.parametrize("name", ["moment_detr", "qd_detr"])
def test_variants_share_the_initial_weights_that_they_have_in_common(name: str):
    small = {"width": 16, "heads": 2, "hidden": 16, "video_dim": 8, "text_dim": 8}
    base = RunSpec(model=name, config=small)
    weights = dict(build_model(base).named_parameters())
    variant = dict(
        build_model(dataclasses.replace(base, config={**small, "encoder_layers": 3})).named_parameters()
    )
    other_seed = dict(build_model(dataclasses.replace(base, seed=1)).named_parameters())
    shared = [n for n in weights if n in variant]
    assert len(variant) > len(weights) == len(shared)
    assert all(torch.equal(weights[n], variant[n]) for n in shared)
    drawn = [
        n
        for n in weights
        if weights[n].numel() > 2 and weights[n].std() > 0 and weights[n].unique().numel() > 2
    ]
    assert drawn and not any(torch.equal(weights[n], other_seed[n]) for n in drawn)
    plain = dict(models.build(name, small).named_parameters())
    for n in drawn:  # the same distributions as the constructor's
        if weights[n].numel() >= 256:
            assert weights[n].std().item() == pytest.approx(plain[n].std().item(), rel=0.2), n


def test_pairing_repeats_every_operation_on_a_parameter():
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            scratch = [
                torch.empty(4, 3).normal_() for _ in range(3)
            ]  # freed memory that later tensors may get
            del scratch
            self.zero = torch.nn.Parameter(torch.zeros(4, 3))
            self.part = torch.nn.Parameter(torch.empty(4, 3))
            torch.nn.init.uniform_(self.part, 1, 2)
            with torch.no_grad():
                self.part[:2].zero_()
                self.part[2:].mul_(10)
            self.random = torch.nn.Parameter(torch.randn(5))

    state = torch.get_rng_state()
    first, second = initialisation.build_paired(Odd, 0), initialisation.build_paired(Odd, 1)
    assert torch.equal(state, torch.get_rng_state())
    assert first.zero.abs().sum() == 0 and first.part[:2].abs().sum() == 0
    assert ((first.part[2:] >= 10) & (first.part[2:] <= 20)).all()
    assert not torch.equal(first.part, second.part) and not torch.equal(first.random, second.random)


def _smoke_rows() -> dict[str, tuple[Paper, Row]]:
    """Of every method that a table plans to run, the first paper with profile `smoke`, and the row."""
    papers = [paper for paper in map(load_paper, paper_keys()) if "smoke" in paper.profiles]
    rows = [(paper, row) for paper in papers for table in paper.tables for row in table.rows if row.planned]
    return {row.model: (paper, row) for paper, row in reversed(rows)}


@pytest.mark.parametrize("model", sorted(MODELS.keys() & _smoke_rows().keys()))
def test_every_method_runs_from_a_row_of_a_table(model: str):
    paper, row = _smoke_rows()[model]
    spec = row_spec(row, paper.profile("smoke"), "qvhighlights", 0)
    spec = dataclasses.replace(spec, data={**spec.data, "train": 16, "val": 8}, diagnostics=())
    result = runs.run(spec, None)
    assert result.provenance["parameters"] > 0 and math.isfinite(result.metrics["val"]["MR-full-mAP"])
