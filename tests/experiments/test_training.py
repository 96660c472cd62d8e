"""The training loop: determinism, separation of random streams, schedules, checkpoints, errors."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import Config, TinyModel, tiny_data, without_labels

from vtg_lib import files
from vtg_lib.data.hooks import HOOKS, PermutedText
from vtg_lib.experiments import training
from vtg_lib.experiments.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments.machine import Machine
from vtg_lib.experiments.training import NonFiniteLossError, TrainOutcome, train
from vtg_lib.models.inference import autocast, evaluate_model, predict, to_float32

CONFIG = TrainConfig(epochs=6, batch_size=8, learning_rate=1e-2, eval_every=2)
QUIET = Machine(progress=False)


def fit(
    config: TrainConfig = CONFIG,
    *,
    seed: int = 0,
    model: TinyModel | None = None,
    machine: Machine = QUIET,
    **options,
) -> TrainOutcome:
    torch.manual_seed(seed)
    model = model or TinyModel(Config())
    return train(model, tiny_data(24), tiny_data(12, 1), config, seed=seed, machine=machine, **options)


def same(first: TrainOutcome, second: TrainOutcome) -> bool:
    """Equal curves and metrics; as text, because NaN is not equal to itself."""
    return all(
        str(getattr(first, n)) == str(getattr(second, n)) for n in ("curves", "best_epoch", "best", "last")
    )


def losses(outcome: TrainOutcome) -> list[dict[str, float]]:
    return [row["loss"] for row in outcome.curves]


def test_training_lowers_the_loss_and_reports():
    outcome = fit(dataclasses.replace(CONFIG, epochs=20))
    assert outcome.finished and outcome.resumed_from == 0
    assert sum(losses(outcome)[-1].values()) < 0.8 * sum(losses(outcome)[0].values())
    assert [row["epoch"] for row in outcome.curves if "val" in row] == list(range(2, 21, 2))
    assert outcome.memory["process_peak_mb"] > 0 and outcome.timings["step_ms"] > 0


def test_deterministic_given_a_seed_and_different_with_another():
    first, again, other = fit(), fit(), fit(seed=1)
    assert same(first, again)
    assert losses(first) != losses(other)


def test_evaluating_more_often_does_not_change_training():
    often, seldom = (fit(dataclasses.replace(CONFIG, eval_every=every)) for every in (1, 3))
    assert losses(often) == losses(seldom)
    assert str(often.last) == str(seldom.last)


def test_selection_is_the_best_validated_epoch_the_earliest_of_equals():
    model = TinyModel(Config())
    outcome = fit(dataclasses.replace(CONFIG, epochs=12, eval_every=1), model=model)
    values = [row["val"]["MR-full-mAP"] for row in outcome.curves]
    assert outcome.best_epoch == 1 + values.index(max(values))
    assert outcome.best["brief"]["MR-full-mAP"] == max(values)
    # the model has the selected epoch's weights
    assert str(evaluate_model(model, tiny_data(12, 1))) == str(outcome.best)


def test_stopped_and_resumed_gives_the_same_numbers(tmp_path: Path):
    whole = fit()
    for stop in (1, 3):
        part = fit(checkpoint_dir=tmp_path / str(stop), stop_after=stop)
        assert not part.finished and len(part.curves) == stop
        rest = fit(checkpoint_dir=tmp_path / str(stop))
        assert rest.resumed_from == stop
        assert same(rest, whole) and len(rest.devices) == 1


def test_what_went_on_elsewhere_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "device_name", lambda device: "a processor, 2 thread(s)")
    fit(checkpoint_dir=tmp_path, stop_after=1)
    monkeypatch.setattr(training, "device_name", lambda device: "a processor, 1 thread(s)")
    assert fit(checkpoint_dir=tmp_path).devices == ["a processor, 2 thread(s)", "a processor, 1 thread(s)"]


def test_deadline_pauses_with_a_checkpoint(tmp_path: Path):
    assert not fit(
        checkpoint_dir=tmp_path, machine=Machine(progress=False, deadline=time.time() - 1)
    ).finished
    assert fit(checkpoint_dir=tmp_path).resumed_from == 1


KILLED = """
import json, os, signal, sys
from pathlib import Path
from tiny import Config, TinyModel, tiny_data
import torch
from vtg_lib.experiments.machine import Machine
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments import training
from vtg_lib.experiments.training import train

class Suicidal(TinyModel):
    steps = 0
    def loss(self, output, batch):
        Suicidal.steps += 1
        if Suicidal.steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(output, batch)

torch.manual_seed(0)
model = Suicidal(Config())
config = TrainConfig(epochs=6, batch_size=8, learning_rate=1e-2, eval_every=2)
outcome = train(model, tiny_data(24), tiny_data(12, 1), config, seed=0,
                machine=Machine(progress=False), checkpoint_dir=Path(sys.argv[1]), checkpoint_every_s=0)
print(json.dumps([outcome.curves, outcome.best, outcome.best_epoch, outcome.resumed_from,
                  [p.double().sum().item() for p in model.parameters()]]))
"""


def test_killed_with_sigkill_and_resumed_gives_the_same_numbers(tmp_path: Path):
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def start(folder: str, kill_at: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", KILLED, str(tmp_path / folder), str(kill_at)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert start("killed", 11).returncode == -signal.SIGKILL  # in the fourth epoch of three steps
    resumed = start("killed", 0)
    assert resumed.returncode == 0, resumed.stderr
    torch.manual_seed(0)
    model = TinyModel(Config())
    whole = train(model, tiny_data(24), tiny_data(12, 1), CONFIG, seed=0, machine=QUIET)
    weights = [p.double().sum().item() for p in model.parameters()]
    assert str(json.loads(resumed.stdout)) == str([whole.curves, whole.best, whole.best_epoch, 3, weights])


class Diverging(TinyModel):
    """Gives a term that is not a number from the fifth training step on."""

    steps = 0

    def loss(self, output, batch):
        self.steps += 1
        terms = super().loss(output, batch)
        return {**terms, "saliency": terms["saliency"] * (float("nan") if self.steps >= 5 else 1)}


def test_divergence_names_step_and_term_and_keeps_the_checkpoint(tmp_path: Path):
    with pytest.raises(
        NonFiniteLossError, match=r"step 5 \(epoch 2\): saliency.*smaller learning rate.*checkpoint"
    ) as e:
        fit(model=Diverging(Config()), checkpoint_dir=tmp_path, checkpoint_every_s=0)
    assert "span" not in str(e.value)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert state is not None and state["epoch"] == 1
    assert all(value.isfinite().all() for value in state["model"].values())


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match="disk is full.*previous checkpoint is kept.*VTG_CACHE"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path):
    fit(checkpoint_dir=tmp_path, stop_after=1)
    with pytest.raises(CheckpointError, match="seed differ"):
        fit(seed=1, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="identity differ"):
        fit(checkpoint_dir=tmp_path, identity="another run")
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not a readable checkpoint.*Delete it"):
        fit(checkpoint_dir=tmp_path)


def test_schedules():
    step = TrainConfig(epochs=4, learning_rate=1.0, warmup_steps=5, step_epochs=2, step_gamma=0.1)
    rates = [step.learning_rate_at(i, 10) for i in range(40)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[19] == 1.0 and rates[20] == pytest.approx(0.1) and rates[39] == pytest.approx(0.1)
    cosine = TrainConfig(epochs=4, learning_rate=1.0, warmup_ratio=0.25, schedule="cosine")
    rates = [cosine.learning_rate_at(i, 10) for i in range(40)]
    assert rates[9] == 1.0 and rates[25] == pytest.approx(0.5) and rates[39] < 0.01
    assert TrainConfig(learning_rate=0.3, schedule="constant").learning_rate_at(10**6, 10) == 0.3
    stones = TrainConfig(learning_rate=1.0, epochs=10, milestones=(4, 8), step_gamma=0.5)
    assert [stones.learning_rate_at(10 * e, 10) for e in (0, 3, 4, 7, 8, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    linear = TrainConfig(learning_rate=1.0, epochs=10, schedule="linear", decay_from=6)
    assert [linear.learning_rate_at(10 * e, 10) for e in (0, 6, 8)] == pytest.approx([1, 1, 0.5])
    assert linear.learning_rate_at(99, 10) == pytest.approx(1 / 40)
    warm = TrainConfig(learning_rate=1.0, warmup_epochs=2, warmup_from=0.2, schedule="constant")
    assert [warm.learning_rate_at(i, 10) for i in (0, 9, 19, 20)] == pytest.approx([0.24, 0.6, 1.0, 1.0])


def test_a_hook_changes_the_batch_and_not_the_order(monkeypatch, tmp_path):
    seen: list[list[int]] = []

    class Spy(PermutedText):
        def bind(self, data):
            hook, tallies = super().bind(data), {}

            def spy(batch, generator):
                seen.append(batch.index.tolist())
                tallies["samples"] = tallies.get("samples", 0) + torch.tensor(len(batch))
                return hook(batch, generator)

            spy.tallies = tallies
            return spy

    monkeypatch.setitem(HOOKS, "spy", Spy)
    config = dataclasses.replace(CONFIG, epochs=2)
    assert losses(fit(dataclasses.replace(config, hook="spy"))) != losses(fit(config))
    order = torch.Generator().manual_seed(0)
    expected = [row for _ in range(2) for row in torch.randperm(24, generator=order).tolist()]
    assert [row for batch in seen for row in batch] == expected
    hooked = dataclasses.replace(config, hook="spy")
    fit(hooked, checkpoint_dir=tmp_path, stop_after=1)
    resumed = fit(hooked, checkpoint_dir=tmp_path)
    assert resumed.resumed_from == 1 and resumed.hook == {"samples": 48}  # of both sittings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "train.epochs: expected greater than or equal to 0, got -1"),
        ({"learning_rate": 0.0}, "train.learning_rate: expected greater than 0, got 0"),
        ({"learning_rate": math.inf}, "train.learning_rate: expected a finite number, got inf"),
        ({"clip_norm": -1.0}, "train.clip_norm: expected greater than or equal to 0, got -1"),
        ({"warmup_ratio": 1.0}, "train.warmup_ratio: expected less than 1, got 1"),
        ({"warmup_ratio": 0.1, "warmup_steps": 5}, "give one of train.warmup_steps, "),
        ({"precision": "fp16"}, "'float32', 'bfloat16' or 'float16', got 'fp16'"),
        ({"schedule": "square"}, "'step', 'cosine', 'linear' or 'constant'"),
        ({"step_epochs": 3, "milestones": [2]}, "not both"),
        ({"milestones": [0]}, "train.milestones"),
        ({"hook": "permuted"}, "did you mean 'permuted_text'"),
        ({"epochs": 1.5}, "train.epochs: expected a whole number, got 1.5"),
        ({"epochs": True}, "train.epochs: expected a whole number, got True"),
        ({"compile": "yes"}, "train.compile: expected true or false, got 'yes'"),
        ({"learning_rate": "fast"}, "train.learning_rate: expected a number, got 'fast'"),
    ],
)
def test_bad_settings_say_what_was_expected(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_unknown_selection_metric_lists_the_known_ones():
    with pytest.raises(ValueError, match="MR-full-mAP.*got 'mAP'"):
        fit(dataclasses.replace(CONFIG, select="mAP"))


def test_gradient_clipping_limits_the_update():
    free, clipped = (fit(dataclasses.replace(CONFIG, clip_norm=norm)) for norm in (0.0, 1e-9))
    assert losses(free) != losses(clipped)
    assert free.curves[0]["gradient_norm"] > 1e-3  # the norm before clipping


def test_bfloat16_trains_and_its_losses_are_float32():
    outcome = fit(dataclasses.replace(CONFIG, precision="bfloat16", epochs=20))
    assert sum(losses(outcome)[-1].values()) < 0.8 * sum(losses(outcome)[0].values())
    value = {"a": [torch.zeros(2, dtype=torch.bfloat16)], "b": torch.zeros(2, dtype=torch.int64)}
    assert to_float32(value)["a"][0].dtype == torch.float32 and to_float32(value)["b"].dtype == torch.int64


def test_float16_needs_a_gpu():
    with pytest.raises(ValueError, match="use bfloat16 or float32"):
        autocast(torch.device("cpu"), "float16")


def test_predictions_are_a_submission():
    data = tiny_data(12)
    model = TinyModel(Config()).train()
    state = torch.get_rng_state()
    rows = predict(model, data, batch_size=5)
    assert model.training and torch.equal(state, torch.get_rng_state())
    assert [row["qid"] for row in rows] == [a["qid"] for a in data.annotations]
    for row, annotation, length in zip(rows, data.annotations, data.video_length.tolist(), strict=True):
        scores = [window[2] for window in row["pred_relevant_windows"]]
        assert scores == sorted(scores, reverse=True)
        assert all(
            0 <= start <= end <= annotation["duration"] for start, end, _ in row["pred_relevant_windows"]
        )
        assert len(row["pred_saliency_scores"]) == length
    for row, again in zip(
        rows, predict(model, data, batch_size=12), strict=True
    ):  # another padding, the same numbers
        assert row["pred_saliency_scores"] == pytest.approx(again["pred_saliency_scores"], abs=1e-5)


def test_data_without_saliency_is_also_judged_by_recall_and_miou():
    data = without_labels(without_labels(tiny_data(12), "saliency_scores"), "relevant_clip_ids")
    brief = evaluate_model(TinyModel(Config()), data)["brief"]
    assert {"MR-full-mAP", "MR-full-R1@0.3", "MR-full-mIoU"} <= set(brief)
    assert "HL-min-VeryGood-mAP" not in brief
    assert "MR-full-mIoU" not in evaluate_model(TinyModel(Config()), tiny_data(12))["brief"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_a_gpu(precision: str, tmp_path: Path):
    config = dataclasses.replace(CONFIG, precision=precision)
    fit(config, machine=Machine(device="cuda", progress=False), checkpoint_dir=tmp_path, stop_after=2)
    outcome = fit(config, machine=Machine(device="cuda", progress=False), checkpoint_dir=tmp_path)
    assert outcome.finished and outcome.resumed_from == 2
    assert outcome.memory["peak_memory_mb"] > 0 and "process_peak_mb" not in outcome.memory


def test_what_is_observed_after_every_evaluation():
    seen = []
    config = dataclasses.replace(CONFIG, epochs=4, eval_every=2)
    outcome = fit(config, observe=lambda model: seen.append(model) or len(seen))
    assert [row.get("observed") for row in outcome.curves] == [None, 1, None, 2] and len(seen) == 2
    assert losses(outcome) == losses(fit(config))  # looking changes nothing
