"""The parts of `vtg bench` that run a model: where a step's time goes, and what a prediction takes."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any, Literal
from unittest import mock

import torch
from torch import nn
from torch.utils.benchmark import Measurement, Timer

from vtg_lib import models
from vtg_lib.data import load_data
from vtg_lib.data.hooks import hook_options
from vtg_lib.experiments.bench.memory import forget_peak, peak_mb
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.experiments.training import make_optimizer
from vtg_lib.losses.matching import match
from vtg_lib.models.inference import forward, predict

Precision = Literal["float32", "bfloat16"]
WARMUP, REPEATS = 5, 40  # steps
PAPER_BATCH, PAPER_CLIPS = 32, 75


def timed(function: Callable[[], Any], seconds: float = 1.0) -> Measurement:
    """The times of calls that last at least `seconds` together; waits for a GPU."""
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds)


def precisions(device: str) -> tuple[Precision, ...]:
    """float32, and bfloat16 where the processor computes in it; where it is emulated a step takes several
    times as long.
    """
    fast = device.startswith("cuda") or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ("float32", "bfloat16") if fast else ("float32",)


def at_paper_size(spec: RunSpec) -> RunSpec:
    """`spec` with the model and the features as wide as published for QVHighlights, a batch of 32 videos of
    75 clips.
    """
    config_class: Any = models.entry(spec.model).config_class
    published = config_class.paper("qvhighlights")
    video, text = published.video_dim, published.text_dim
    sizes = {"semantic_dim": text, "motion_dim": video - text}
    if spec.data.get("layout") == "levels":  # rendered at one width for clips and words; `Step` cuts them
        sizes = {"semantic_dim": max(video, text)}
    data = {**spec.data, "clips": PAPER_CLIPS, **sizes}
    return replace(
        spec, config=asdict(published), data=data, train=replace(spec.train, batch_size=PAPER_BATCH)
    )


class Step:
    """A training step of a spec's model on generated data; `parts` are to be called in their order.

    Raises:
        ValueError: unknown model or knob, or a precision that the device does not have.
    """

    def __init__(self, spec: RunSpec, device: str) -> None:
        config, size = models.resolve(spec.model, spec.config), spec.train.batch_size
        data = load_data({**spec.data, "kind": "sim", "train": 2 * size, "val": 2 * size})["train"]
        data.video, data.text = data.video[..., : config.video_dim], data.text[..., : config.text_dim]
        torch.manual_seed(0)
        self.model: Any = models.build(spec.model, spec.config).to(device).train()  # has a `loss`
        self.data, self.device, self.train = data.to(device), device, spec.train
        if spec.train.hook:
            self.hook = hook_options(spec.train.hook, spec.train.hook_options).bind(self.data)
            self.generator = torch.Generator().manual_seed(0)
        self.optimizer = make_optimizer(self.model, spec.train)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        float16 = spec.train.precision == "float16"
        self.scaler = torch.amp.GradScaler(torch.device(device).type, enabled=float16)
        self.parts: dict[str, Callable[[], None]] = {
            "batch": self._batch,
            **({"hook": self._changed} if spec.train.hook else {}),
            "forward": self._forward,
            "loss": self._loss,
            "backward": self._backward,
            "optimizer": self._update,
        }

    def __call__(self) -> None:
        for part in self.parts.values():
            part()

    def _batch(self) -> None:
        self.batch = self.data.batch(torch.arange(self.train.batch_size)).to(self.device)

    def _changed(self) -> None:
        self.batch = self.hook(self.batch, self.generator)

    def _forward(self) -> None:
        self.output = forward(self.model, self.batch, self.train.precision)

    def _loss(self) -> None:
        self.total = torch.stack(list(self.model.loss(self.output, self.batch).values())).sum()

    def _backward(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(self.total).backward()

    def _update(self) -> None:
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, self.train.clip_norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()


def split_ms(step: Step) -> dict[str, float]:
    """Median milliseconds of a step's parts, over steps after a warm-up; `loss` without `matching`."""
    cuda = step.device.startswith("cuda")
    wait: Callable[[], Any] = torch.cuda.synchronize if cuda else lambda: None
    times: dict[str, list[float]] = {name: [] for name in (*step.parts, "matching")}

    def ms(function: Callable[[], Any]) -> tuple[float, Any]:
        wait()
        started = time.perf_counter()
        result = function()
        wait()
        return 1e3 * (time.perf_counter() - started), result

    matching: list[float] = []  # of one step

    def watched(*arguments: Any, **keywords: Any) -> Any:
        spent, result = ms(lambda: match(*arguments, **keywords))
        matching.append(spent)
        return result

    with _in_place_of_match(watched):
        for _ in range(WARMUP + REPEATS):
            matching.clear()
            for name, part in step.parts.items():
                times[name].append(ms(part)[0])
            times["matching"].append(sum(matching))
            times["loss"][-1] -= times["matching"][-1]
    return {name: statistics.median(values[WARMUP:]) for name, values in times.items()}


@contextlib.contextmanager
def _in_place_of_match(function: Callable[..., Any]) -> Iterator[None]:
    """Losses call `function` instead of `match`, wherever they imported it to."""
    modules = [module for name, module in sys.modules.items() if name.startswith("vtg_lib")]
    with contextlib.ExitStack() as stack:
        for module in modules:
            if getattr(module, "match", None) is match and module.__name__ != __name__:
                stack.enter_context(mock.patch.object(module, "match", function))
        yield


def step_rows(spec: RunSpec, device: str) -> list[dict[str, Any]]:
    """A training step in milliseconds, whole and by its parts: a row for each of `precisions`."""
    rows = []
    for precision in precisions(device):
        step = Step(replace(spec, train=replace(spec.train, precision=precision)), device)
        forget_peak(device)
        parts = split_ms(step)
        total = sum(parts.values())
        rows.append(
            {
                "model": spec.model,
                "precision": precision,
                "parameters": models.count_parameters(step.model),
                "video": "×".join(map(str, step.batch.video.shape)),
                "step_ms": total,
                **{f"{name}_ms": value for name, value in parts.items()},
                "matching_and_loss_share": (parts["matching"] + parts["loss"]) / total,
                "iterations_per_s": 1e3 / total,
                "peak_memory_mb": peak_mb(device),
            }
        )
    return rows


def inference(spec: RunSpec, device: str) -> dict[str, Any]:
    """Milliseconds a batch of the forward pass alone, and a query of `predict` with decoding."""
    step, size = Step(spec, device), spec.train.batch_size
    network, batch = step.model.eval(), step.data.batch(torch.arange(size)).to(device)
    with torch.no_grad():
        forward_ms = 1e3 * timed(lambda: network(batch)).median
    submission_s = timed(lambda: predict(network, step.data, batch_size=size)).median
    return {
        "model": spec.model,
        "batch": size,
        "forward_ms": forward_ms,
        "forward_ms_per_query": forward_ms / size,
        "predict_ms_per_query": 1e3 * submission_s / len(step.data),
    }
