"""One training loop for every model.

Four streams of random numbers are kept apart, so that nothing that only looks (evaluation, logging,
checkpoints) can change what is learned: the order of the data has a generator of its own; initialisation
happens before `train` and leaves no trace; dropout draws from torch's global generator, seeded at the start
of training; evaluation runs inside a fork of the global generator that is thrown away. On a CPU with a fixed
number of threads, the same seed gives the same numbers, with or without an interruption.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vtg_lib.data.hooks import Hook, hook_options
from vtg_lib.experiments.checkpoint import load_checkpoint, save_checkpoint
from vtg_lib.experiments.config import TrainConfig
from vtg_lib.experiments.machine import CPU, Machine, device_name, peak_memory
from vtg_lib.models.inference import autocast, evaluate_model, forward

if TYPE_CHECKING:
    from tqdm import tqdm

    from vtg_lib.data.batches import GroundingData

CHECK_EVERY = 50  # steps between looks at the losses on a GPU, where each look waits for the device


class NonFiniteLossError(RuntimeError):
    """Training diverged: a loss term or the gradient is infinite or not a number."""


@dataclass(kw_only=True)
class TrainOutcome:
    """What a training run leaves behind. The model itself ends with the weights of the selected epoch.

    curves: one dict an epoch: epoch (from 1), step, learning_rate, loss {term: mean over the epoch,
    weighted}, gradient_norm, and, where evaluated, val (the evaluator's "brief" numbers).
    best / last: nested metrics of the selected and of the last epoch. `finished` is False after `stop_after`.
    timings: seconds in train and evaluate, summed over interruptions; step_ms, the mean of a training step.
    memory: see `peak_memory`. hook: what the hook on the batches counted, if there is one. devices: that it
    ran on, in order, more than one where it was interrupted and went on elsewhere.
    """

    curves: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    hook: dict[str, int] = field(default_factory=dict)
    finished: bool = False
    resumed_from: int = 0
    devices: list[str] = field(default_factory=list)


def resident(data: GroundingData, device: torch.device, share: float = 0.6) -> GroundingData:
    """`data` on `device` where its features take at most `share` of the free memory there, else as it is."""
    if device.type != "cuda":
        return data.to(device)
    free, _ = torch.cuda.mem_get_info(device)
    return data.to(device) if data.bytes <= share * free else data


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained; the fused kernel (CPU and CUDA have one)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def train(
    model: nn.Module,
    data_train: GroundingData,
    data_val: GroundingData,
    config: TrainConfig,
    *,
    seed: int,
    machine: Machine = CPU,
    checkpoint_dir: Path | None = None,
    checkpoint_every_s: float = 60.0,
    stop_after: int | None = None,
    identity: str = "",
    observe: Callable[[nn.Module], Any] | None = None,
) -> TrainOutcome:
    """Train `model` and leave it with the weights of the selected epoch.

    Args:
        model: an initialised model (seed before building it); its `loss(output, batch)` gives weighted scalar
            terms.
        data_val: selects the epoch; nothing else does.
        seed: of the data order and of dropout.
        machine: at the first end of an epoch after its deadline training stops, with a checkpoint.
        checkpoint_dir: where `checkpoint.pt` is kept, at the ends of epochs, at most every
            `checkpoint_every_s` seconds. A checkpoint that is there is continued.
        stop_after: stop, with a checkpoint, after this many epochs (counted from the start of the training).
        identity: belongs to the checkpoint; another value is refused (a run's hash).
        observe: looks at the model after every evaluation, without drawing random numbers; the curves keep
            what it returns as `observed`.

    Raises:
        NonFiniteLossError: names epoch, step and term; the last checkpoint is kept.
        CheckpointError: the disk is full, or the checkpoint belongs to another run.
        ValueError: an empty training set, or `config.select` is not among the metrics.
    """
    if len(data_train) == 0 or len(data_val) == 0:
        raise ValueError(
            f"training needs samples, got {len(data_train)} for training, {len(data_val)} for validation"
        )
    trainer = _Trainer(
        model,
        data_train,
        data_val,
        config,
        seed=seed,
        machine=machine,
        folder=checkpoint_dir,
        identity=identity,
    )
    return trainer.fit(stop_after, checkpoint_every_s, observe)


class _Trainer:
    """The state of one training run."""

    def __init__(
        self,
        model: nn.Module,
        data_train: GroundingData,
        data_val: GroundingData,
        config: TrainConfig,
        *,
        seed: int,
        machine: Machine = CPU,
        folder: Path | None = None,
        identity: str = "",
    ) -> None:
        self.config, self.machine, self.seed, self.identity = config, machine, seed, identity
        self.device = device = torch.device(machine.device)
        self.model: Any = model.to(device)  # its `loss` is beyond what nn.Module declares
        autocast(device, config.precision)  # refuses impossible combinations before any work
        self.data_train, self.data_val = resident(data_train, device), resident(data_val, device)
        self.network: Any = torch.compile(self.model) if config.compile else self.model
        self.optimizer = make_optimizer(self.model, config)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.order = torch.Generator().manual_seed(seed)
        self.hook: Hook | None = None
        if config.hook:
            self.hook = hook_options(config.hook, config.hook_options).bind(data_train)
        self.hooked = torch.Generator().manual_seed(seed + 1)
        self.steps_per_epoch = math.ceil(len(data_train) / config.batch_size)
        self.checkpoint = folder / "checkpoint.pt" if folder is not None else None
        self.outcome = TrainOutcome()
        self.epoch = 0
        self.best_value = -math.inf
        self.best_state: dict[str, Tensor] = {}
        self.seconds = {"train_s": 0.0, "evaluate_s": 0.0}
        self.outcome.devices = [device_name(machine.device)]

    def fit(
        self,
        stop_after: int | None,
        checkpoint_every_s: float,
        observe: Callable[[nn.Module], Any] | None,
    ) -> TrainOutcome:
        torch.manual_seed(self.seed)  # dropout; the model is initialised already
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._resume()
        config, outcome, deadline = self.config, self.outcome, self.machine.deadline
        last = config.epochs if stop_after is None else min(stop_after, config.epochs)
        saved_at = time.perf_counter()
        total, done = (epochs * self.steps_per_epoch for epochs in (config.epochs, self.epoch))
        with self.machine.bar(total=total, initial=done, unit="step", leave=False) as bar:
            if config.epochs == 0:
                self._evaluate()
            while self.epoch < last:
                record = self._train_epoch(bar)
                self.epoch += 1
                if self.epoch % config.eval_every == 0 or self.epoch == config.epochs:
                    record["val"] = self._evaluate()
                    if observe is not None:
                        record["observed"] = observe(self.model)
                outcome.curves.append(record)
                late = deadline is not None and time.time() > deadline
                due = time.perf_counter() - saved_at >= checkpoint_every_s
                if self.checkpoint is not None and (due or late or self.epoch == last):
                    self._save(self.checkpoint)
                    saved_at = time.perf_counter()
                if late:
                    break
        outcome.finished = self.epoch == config.epochs
        if outcome.finished:
            self.model.load_state_dict(self.best_state)
        step_s = self.seconds["train_s"] / max(1, self.epoch * self.steps_per_epoch)
        outcome.timings = {**self.seconds, "step_ms": 1e3 * step_s}
        outcome.memory = peak_memory(self.machine.device)
        outcome.hook = self._tallies()
        return outcome

    def _train_epoch(self, bar: tqdm) -> dict[str, Any]:
        """One pass over the data. Nothing in here waits for a GPU, except the look at the losses now and
        then.
        """
        config, started = self.config, time.perf_counter()
        self.model.train()
        every = CHECK_EVERY if self.device.type == "cuda" else 1
        pending: list[Tensor] = []  # rows [terms..., gradient norm] not yet looked at
        sums = torch.zeros(0, dtype=torch.float64)
        names: list[str] = []
        shown = 0.0
        order = torch.randperm(len(self.data_train), generator=self.order)
        first = self.epoch * self.steps_per_epoch
        end = first + self.steps_per_epoch
        for step, index in enumerate(order.split(config.batch_size), first):
            rate = config.learning_rate_at(step, self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            try:
                names, row = self._step(index)
            except FloatingPointError as error:  # the matching saw predictions that are not finite
                raise self._diverged(step, str(error)) from error
            pending.append(row)
            if len(pending) == every or step + 1 == end:
                block = torch.stack(pending).double().cpu()
                self._check(block, names, step + 1 - len(pending))
                sums = block.sum(0) if not len(sums) else sums + block.sum(0)
                pending.clear()
                if not bar.disable and time.perf_counter() - shown > 0.3:
                    shown = time.perf_counter()
                    latest = {n: f"{v:.3g}" for n, v in zip(names, block[-1].tolist(), strict=False)}
                    bar.set_postfix(epoch=self.epoch + 1, **latest, refresh=False)
            bar.update()
        self.seconds["train_s"] += time.perf_counter() - started
        *terms, norm = (sums / self.steps_per_epoch).tolist()
        return {
            "epoch": self.epoch + 1,
            "step": end,
            "learning_rate": rate,
            "loss": dict(zip(names, terms, strict=True)),
            "gradient_norm": norm,
        }

    def _step(self, index: Tensor) -> tuple[list[str], Tensor]:
        """One update on rows `index`; returns the names of the loss terms and [terms..., gradient norm],
        detached.
        """
        batch = self.data_train.batch(index).to(self.device)
        if self.hook is not None:
            batch = self.hook(batch, self.hooked)
        output = forward(self.network, batch, self.config.precision)
        losses = self.model.loss(output, batch)
        terms = torch.stack(list(losses.values()))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms.sum()).backward()
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        limit = self.config.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.parameters, limit, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return list(losses), torch.cat([terms.detach(), norm.detach().reshape(1)])

    def _tallies(self) -> dict[str, int]:
        return (
            {name: int(count) for name, count in self.hook.tallies.items()} if self.hook is not None else {}
        )

    def _check(self, block: Tensor, names: list[str], first: int) -> None:
        """Refuse losses or gradients that are not finite; `block` is [steps, terms + 1], `first` its first
        step.
        """
        if self.scaler.is_enabled():  # float16 overflows now and then, and the scaler skips that step
            block = block[:, :-1]
        bad = ~block.isfinite()
        if not bad.any():
            return
        step = int(bad.any(1).nonzero()[0, 0])
        where = [([*names, "gradient norm"])[i] for i in bad[step].nonzero()[:, 0].tolist()]
        raise self._diverged(first + step, f"{', '.join(where)} = {block[step][bad[step]].tolist()}")

    def _diverged(self, step: int, what: str) -> NonFiniteLossError:
        message = (
            f"training diverged at step {step + 1} (epoch {self.epoch + 1}): {what}. Try a smaller learning "
            f"rate (now {self.config.learning_rate:g}), a longer warm-up, or precision float32 (now "
            f"{self.config.precision})."
        )
        if self.checkpoint is not None:
            message += f" The last good checkpoint is kept in {self.checkpoint.parent}."
        return NonFiniteLossError(message)

    def _evaluate(self) -> dict[str, float]:
        started = time.perf_counter()
        metrics = evaluate_model(self.model, self.data_val, precision=self.config.precision)
        brief, select = metrics["brief"], self.config.select
        if select not in brief:
            raise ValueError(f"train.select must be one of {', '.join(brief)}; got {select!r}")
        if math.isnan(brief[select]):
            raise ValueError(f"train.select: the validation split has no query that {select} is about")
        self.outcome.last = metrics
        if brief[select] > self.best_value:
            self.best_value = brief[select]
            self.outcome.best, self.outcome.best_epoch = metrics, self.epoch
            self.best_state = {k: v.detach().to("cpu", copy=True) for k, v in self.model.state_dict().items()}
        self.seconds["evaluate_s"] += time.perf_counter() - started
        return dict(brief)

    # --- interruptions

    def _identity(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "seed": self.seed,
            "config": dataclasses.asdict(self.config),
            "data": [self.data_train.fingerprint, self.data_val.fingerprint],
            "device": self.device.type,
        }

    def _save(self, path: Path) -> None:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        outcome = {name: getattr(self.outcome, name) for name in ("curves", "best_epoch", "best", "last")}
        state = {
            "run": self._identity(),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": {
                "global": torch.get_rng_state(),
                "cuda": cuda,
                "order": self.order.get_state(),
                "hook": self.hooked.get_state(),
            },
            "best_value": self.best_value,
            "best_state": self.best_state,
            "outcome": outcome,
            "seconds": self.seconds,
            "tallies": self._tallies(),
            "devices": self.outcome.devices,
        }
        save_checkpoint(path, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint, self._identity()) if self.checkpoint is not None else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for name in ("epoch", "best_value", "best_state", "seconds"):
            setattr(self, name, state[name])
        for name, value in state["outcome"].items():
            setattr(self.outcome, name, value)
        self.outcome.resumed_from = self.epoch
        before = state.get("devices", [])  # of an earlier version: not known
        self.outcome.devices = list(dict.fromkeys([*before, *self.outcome.devices]))
        if self.hook is not None:
            self.hook.tallies |= {name: torch.tensor(count) for name, count in state["tallies"].items()}
        self.order.set_state(state["random"]["order"])
        self.hooked.set_state(state["random"]["hook"])
        torch.set_rng_state(state["random"]["global"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
