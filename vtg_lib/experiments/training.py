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
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from vtg_lib.data import cast_like
from vtg_lib.experiments.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from vtg_lib.experiments.machine import CPU, Machine
from vtg_lib.models.inference import PRECISIONS, autocast, evaluate_model, forward, predict

__all__ = ["NonFiniteLossError", "TrainConfig", "TrainOutcome", "evaluate_model", "predict", "train"]

if TYPE_CHECKING:
    from vtg_lib.data.batches import GroundingData

SCHEDULES = ("step", "cosine", "constant")
CHECK_EVERY = 50  # steps between looks at the losses on a GPU, where each look waits for the device


class NonFiniteLossError(RuntimeError):
    """Training diverged: a loss term or the gradient is infinite or not a number."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Every field can change the numbers, so every field is part of a run's hash.

    Selection rule: of the evaluated epochs, the one with the highest `select` on the *validation* split; of
    equals, the earliest. The last epoch is always evaluated.
    """

    epochs: int = 200
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    warmup_steps: int = 0  # linear from 0; used when positive
    warmup_ratio: float = 0.0  # the same, as a share of all steps
    schedule: Literal["step", "cosine", "constant"] = "step"
    step_epochs: int = 0  # "step": multiply by step_gamma after every so many epochs; 0 never does
    step_gamma: float = 0.1
    clip_norm: float = 0.1  # largest L2 norm of the whole gradient; 0 does not clip
    precision: Literal["float32", "bfloat16", "float16"] = (
        "float32"  # autocast of forward; losses stay float32
    )
    compile: bool = False
    eval_every: int = 1  # epochs
    select: str = "MR-full-mAP"  # a key of the evaluator's "brief" result

    def __post_init__(self) -> None:
        for field_ in dataclasses.fields(self):  # 1 and 1.0 must not hash differently
            value = cast_like(f"train.{field_.name}", field_.default, getattr(self, field_.name))
            object.__setattr__(self, field_.name, value)
        for name in ("epochs", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"train.learning_rate must be positive, got {self.learning_rate}")
        for name in ("weight_decay", "warmup_steps", "step_epochs", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"train.warmup_ratio is a share of all steps in [0, 1), got {self.warmup_ratio}")
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("give train.warmup_steps or train.warmup_ratio, not both")
        for name, known in (("precision", tuple(PRECISIONS)), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"train.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of update `step` (from 0)."""
        total = self.epochs * steps_per_epoch
        warmup = self.warmup_steps or round(self.warmup_ratio * total)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.schedule == "step" and self.step_epochs:
            return self.learning_rate * self.step_gamma ** (step // steps_per_epoch // self.step_epochs)
        if self.schedule == "cosine":
            return (
                self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
            )
        return self.learning_rate


@dataclass(kw_only=True)
class TrainOutcome:
    """What a training run leaves behind. The model itself ends with the weights of the selected epoch.

    curves: one dict an epoch: epoch (from 1), step, learning_rate, loss {term: mean over the epoch,
    weighted},
        gradient_norm, and, where evaluated, val (the evaluator's "brief" numbers).
    best / last: nested metrics of the selected and of the last epoch. `finished` is False after `stop_after`.
    timings: seconds in train and evaluate, summed over interruptions; step_ms, the mean of a training step.
    memory: see `peak_memory`.
    """

    curves: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    resumed_from: int = 0


def resident(data: GroundingData, device: torch.device, share: float = 0.6) -> GroundingData:
    """`data` on `device` where its features take at most `share` of the free memory there, else as it is."""
    if device.type != "cuda":
        return data.to(device)
    free, _ = torch.cuda.mem_get_info(device)
    return data.to(device) if data.bytes <= share * free else data


def peak_memory(device: torch.device) -> dict[str, float]:
    """Highest memory use in MiB: `peak_memory_mb`, this training's on a GPU, or `process_peak_mb`, resident,
    on a CPU.

    The latter is of the process since it began, with whatever it did before: an upper bound for the training.
    """
    if device.type == "cuda":
        return {"peak_memory_mb": round(torch.cuda.max_memory_allocated(device) / 2**20, 1)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"process_peak_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)}


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
    return _Trainer(
        model,
        data_train,
        data_val,
        config,
        seed,
        torch.device(machine.device),
        checkpoint_dir,
        checkpoint_every_s,
        identity,
        observe,
    ).fit(machine, stop_after)


class _Trainer:
    """The state of one training run; `train` is its only user."""

    def __init__(
        self,
        model: nn.Module,
        data_train: GroundingData,
        data_val: GroundingData,
        config: TrainConfig,
        seed: int,
        device: torch.device,
        checkpoint_dir: Path | None,
        checkpoint_every_s: float,
        identity: str,
        observe: Callable[[nn.Module], Any] | None = None,
    ) -> None:
        self.config, self.device, self.seed, self.identity = config, device, seed, identity
        self.model: Any = model.to(device)  # its `loss` is beyond what nn.Module declares
        autocast(device, config.precision)  # refuses impossible combinations before any work
        self.data_train, self.data_val = resident(data_train, device), resident(data_val, device)
        self.network: Any = torch.compile(self.model) if config.compile else self.model
        self.optimizer = make_optimizer(self.model, config)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.order = torch.Generator().manual_seed(seed)
        self.steps_per_epoch = math.ceil(len(data_train) / config.batch_size)
        self.checkpoint = checkpoint_dir / "checkpoint.pt" if checkpoint_dir is not None else None
        self.checkpoint_every_s, self.observe = checkpoint_every_s, observe
        self.outcome = TrainOutcome()
        self.epoch = 0
        self.best_value = -math.inf
        self.best_state: dict[str, Tensor] = {}
        self.seconds = {"train_s": 0.0, "evaluate_s": 0.0}

    def fit(self, machine: Machine, stop_after: int | None) -> TrainOutcome:
        torch.manual_seed(self.seed)  # dropout; the model is initialised already
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._resume()
        config, outcome = self.config, self.outcome
        last = config.epochs if stop_after is None else min(stop_after, config.epochs)
        saved_at = time.perf_counter()
        total = config.epochs * self.steps_per_epoch
        with tqdm(
            total=total,
            initial=self.epoch * self.steps_per_epoch,
            disable=not machine.progress,
            unit="step",
            leave=False,
        ) as bar:
            while self.epoch < last:
                record = self._train_epoch(bar)
                self.epoch += 1
                if self.epoch % config.eval_every == 0 or self.epoch == config.epochs:
                    record["val"] = self._evaluate()
                    if self.observe is not None:
                        record["observed"] = self.observe(self.model)
                outcome.curves.append(record)
                late = machine.deadline is not None and time.time() > machine.deadline
                due = time.perf_counter() - saved_at >= self.checkpoint_every_s
                if self.checkpoint is not None and (due or late or self.epoch == last):
                    self._save()
                    saved_at = time.perf_counter()
                if late:
                    break
        outcome.finished = self.epoch == config.epochs
        if outcome.finished:
            self.model.load_state_dict(self.best_state)
        outcome.timings = {
            **self.seconds,
            "step_ms": 1e3 * self.seconds["train_s"] / max(1, self.epoch * self.steps_per_epoch),
        }
        outcome.memory = peak_memory(self.device)
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
        for number, index in enumerate(order.split(config.batch_size)):
            rate = config.learning_rate_at(first + number, self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            try:
                names, row = self._step(index)
            except FloatingPointError as error:  # the matching saw predictions that are not finite
                raise self._diverged(first + number, str(error)) from error
            pending.append(row)
            if len(pending) == every or number + 1 == self.steps_per_epoch:
                block = torch.stack(pending).double().cpu()
                self._check(block, names, first + number + 1 - len(pending))
                sums = block.sum(0) if not len(sums) else sums + block.sum(0)
                pending.clear()
                now = time.perf_counter()
                if not bar.disable and now - shown > 0.3:
                    shown = now
                    postfix = {
                        name: f"{value:.3g}" for name, value in zip(names, block[-1].tolist(), strict=False)
                    }
                    bar.set_postfix(epoch=self.epoch + 1, **postfix, refresh=False)
            bar.update()
        self.seconds["train_s"] += time.perf_counter() - started
        *terms, norm = (sums / self.steps_per_epoch).tolist()
        return {
            "epoch": self.epoch + 1,
            "step": first + self.steps_per_epoch,
            "learning_rate": rate,
            "loss": dict(zip(names, terms, strict=True)),
            "gradient_norm": norm,
        }

    def _step(self, index: Tensor) -> tuple[list[str], Tensor]:
        """One update on rows `index`; returns the names of the loss terms and [terms..., gradient norm],
        detached.
        """
        batch = self.data_train.batch(index).to(self.device)
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
        kept = (
            ""
            if self.checkpoint is None
            else f" The last good checkpoint is kept in {self.checkpoint.parent}."
        )
        return NonFiniteLossError(
            f"training diverged at step {step + 1} (epoch {self.epoch + 1}): {what}. Try a smaller learning rate (now "
            f"{self.config.learning_rate:g}), a longer warm-up, or precision float32 (now {self.config.precision}).{kept}"
        )

    def _evaluate(self) -> dict[str, float]:
        started = time.perf_counter()
        metrics = evaluate_model(self.model, self.data_val, precision=self.config.precision)
        brief = metrics["brief"]
        if self.config.select not in brief:
            raise ValueError(f"train.select must be one of {', '.join(brief)}; got {self.config.select!r}")
        if math.isnan(brief[self.config.select]):
            raise ValueError(
                f"train.select: the validation split has no query that {self.config.select} is about"
            )
        self.outcome.last = metrics
        if brief[self.config.select] > self.best_value:
            self.best_value = brief[self.config.select]
            self.outcome.best, self.outcome.best_epoch = metrics, self.epoch
            self.best_state = {k: v.detach().to("cpu", copy=True) for k, v in self.model.state_dict().items()}
        self.seconds["evaluate_s"] += time.perf_counter() - started
        return dict(brief)

    # -------------------------------------------------------------------------------------------
    # interruptions

    def _identity(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "seed": self.seed,
            "config": dataclasses.asdict(self.config),
            "data": [self.data_train.fingerprint, self.data_val.fingerprint],
            "device": self.device.type,
        }

    def _save(self) -> None:
        assert self.checkpoint is not None
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        save_checkpoint(
            self.checkpoint,
            {
                "run": self._identity(),
                "epoch": self.epoch,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random": {"global": torch.get_rng_state(), "cuda": cuda, "order": self.order.get_state()},
                "best_value": self.best_value,
                "best_state": self.best_state,
                "outcome": {
                    name: getattr(self.outcome, name) for name in ("curves", "best_epoch", "best", "last")
                },
                "seconds": self.seconds,
            },
        )

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint) if self.checkpoint is not None else None
        if state is None:
            return
        expected = self._identity()
        if different := [key for key, value in expected.items() if state["run"].get(key) != value]:
            raise CheckpointError(
                f"{self.checkpoint} belongs to another run: {', '.join(different)} differ "
                f"(expected {[expected[k] for k in different]}, got {[state['run'].get(k) for k in different]}). "
                "Use another checkpoint folder, or delete the file to train from the start."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.best_value, self.best_state = (
            state["epoch"],
            state["best_value"],
            state["best_state"],
        )
        for name, value in state["outcome"].items():
            setattr(self.outcome, name, value)
        self.seconds = state["seconds"]
        self.outcome.resumed_from = self.epoch
        self.order.set_state(state["random"]["order"])
        torch.set_rng_state(state["random"]["global"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
