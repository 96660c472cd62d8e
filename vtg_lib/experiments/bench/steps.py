"""The parts of `vtg bench` that run a model: where a step's time goes, and what would make it shorter."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output

WARMUP, REPEATS = 5, 40


def median_s(function: Callable[[], Any], repeats: int = REPEATS, warmup: int = 2) -> float:
    """Median seconds of a call."""
    for _ in range(warmup):
        function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def precisions(device: str) -> tuple[str, ...]:
    """float32, and bfloat16 where the processor computes in it; where it is emulated a step takes several
    times as long.
    """
    fast = device.startswith("cuda") or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ("float32", "bfloat16") if fast else ("float32",)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@dataclasses.dataclass(kw_only=True)
class Bench:
    """A model with data of the right shape, ready to step."""

    model: Any  # an nn.Module with `loss`
    data: GroundingData
    batch_size: int
    device: str

    def batch(self) -> Batch:
        return self.data.batch(torch.arange(self.batch_size)).to(self.device)


def prepare(model: str, size: str, device: str) -> Bench:
    """`model` at `size` ("sim" or "paper") with generated data.

    Raises:
        ValueError: unknown model or size.
    """
    from vtg_lib import data, models

    models.entry(model)  # refuses unknown names before anything is rendered
    (config, knobs), batch_size = _profile(model, "sim" if size == "sim" else "rendered")
    if size == "paper":
        config_class: Any = models.entry(model).config_class
        published = config_class.paper("qvhighlights")
        config, batch_size = dataclasses.asdict(published), 32
        if (
            knobs.get("layout") == "levels"
        ):  # rendered at one width for clips and words; cut to the published ones below
            sizes = {"semantic_dim": max(published.video_dim, published.text_dim)}
        else:
            sizes = {
                "semantic_dim": published.text_dim,
                "motion_dim": published.video_dim - published.text_dim,
            }
        knobs = {**knobs, "clips": 75, **sizes}
    else:
        config["video_dim"], config["text_dim"] = data.feature_dims(knobs)
    knobs = {**knobs, "kind": "sim", "train": 2 * batch_size, "val": 2 * batch_size}
    split = data.load_data(knobs)["train"]
    split.video, split.text = split.video[..., : config["video_dim"]], split.text[..., : config["text_dim"]]
    torch.manual_seed(0)
    return Bench(
        model=models.build(model, config).to(device).train(),
        data=split.to(device),
        batch_size=batch_size,
        device=device,
    )


def _profile(model: str, name: str) -> tuple[tuple[dict[str, Any], dict[str, Any]], int]:
    """((config, data) overrides, batch size) that the first paper with such a profile and rows of `model`
    gives it.
    """
    from vtg_lib.papers import load_paper, paper_keys

    for key in paper_keys():
        paper = load_paper(key)
        if name in paper.profiles and any(row.model == model for table in paper.tables for row in table.rows):
            overrides = paper.profiles[name].overrides(model, "qvhighlights")
            data = {k: v for k, v in overrides.data.items() if k not in ("dataset", "limit")}
            return (dict(overrides.config), data), int(overrides.train.get("batch_size", 32))
    raise ValueError(f"no paper has a profile {name} and a row of {model}")


# -----------------------------------------------------------------------------------------------------------
# the parts


def step(model: str, size: str, device: str) -> dict[str, Any]:
    """A training step in milliseconds, split into its parts, in each of `precisions`."""
    from vtg_lib.experiments.bench.memory import peak_resident_mb
    from vtg_lib.models import count_parameters

    bench = prepare(model, size, device)
    found: dict[str, Any] = {
        "model": model,
        "size": size,
        "parameters": count_parameters(bench.model),
        "batch": {"samples": bench.batch_size, "video": str(list(bench.batch().video.shape))},
    }
    for precision in precisions(device):
        parts = split_step(bench, precision)
        total = sum(parts.values())
        found[precision] = {"step_ms": total, **{f"{name}_ms": value for name, value in parts.items()}}
        found[precision]["matching_and_loss_share"] = (parts["matching"] + parts["loss"]) / total
        found[precision]["iterations_per_s"] = 1e3 / total
    if device.startswith("cuda"):
        found["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    else:
        found["peak_resident_mb"] = peak_resident_mb()
    return found


def split_step(bench: Bench, precision: str, repeats: int = REPEATS) -> dict[str, float]:
    """Median milliseconds of batch, forward, matching, loss (without matching), backward, optimizer (with
    clipping).
    """
    from vtg_lib.experiments.config import TrainConfig
    from vtg_lib.experiments.training import make_optimizer
    from vtg_lib.models.inference import forward

    optimizer = make_optimizer(bench.model, TrainConfig(learning_rate=1e-5))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    times: dict[str, list[float]] = {
        n: [] for n in ("batch", "forward", "matching", "loss", "backward", "optimizer")
    }
    with _timed_matching(bench.device) as matching:
        for repeat in range(WARMUP + repeats):
            marks = [_now(bench.device)]
            batch = bench.batch()
            marks.append(_now(bench.device))
            output = forward(bench.model, batch, precision)
            marks.append(_now(bench.device))
            matching.clear()
            total = torch.stack(list(bench.model.loss(output, batch).values())).sum()
            marks.append(_now(bench.device))
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            marks.append(_now(bench.device))
            nn.utils.clip_grad_norm_(parameters, 0.1, foreach=True)
            optimizer.step()
            marks.append(_now(bench.device))
            if repeat >= WARMUP:
                made, forwarded, lost, returned, updated = (
                    b - a for a, b in zip(marks, marks[1:], strict=False)
                )
                matched = sum(matching)
                values = (made, forwarded, matched, lost - matched, returned, updated)
                for name, value in zip(times, values, strict=True):
                    times[name].append(1e3 * value)
    return {name: statistics.median(values) for name, values in times.items()}


def _now(device: str) -> float:
    _wait(device)
    return time.perf_counter()


@contextlib.contextmanager
def _timed_matching(device: str) -> Iterator[list[float]]:
    """Collect the seconds of every call of `vtg_lib.losses.matching.match`, wherever it was imported to."""
    from vtg_lib.losses import matching

    seconds: list[float] = []
    original = matching.match

    def timed(*arguments: Any, **keywords: Any) -> Any:
        started = _now(device)
        result = original(*arguments, **keywords)
        seconds.append(_now(device) - started)
        return result

    users: list[Any] = [
        m for n, m in sys.modules.items() if n.startswith("vtg_lib") and getattr(m, "match", None) is original
    ]
    for module in users:
        module.match = timed
    try:
        yield seconds
    finally:
        for module in users:
            module.match = original


@contextlib.contextmanager
def pytorch_dropout() -> Iterator[None]:
    """Every layer drops with PyTorch's own kernel."""
    from unittest import mock

    from vtg_lib.layers import attention
    from vtg_lib.layers import dropout as module

    def slow(x: Tensor, p: float) -> Tensor:
        return nn.functional.dropout(x, p)

    with mock.patch.object(module, "dropout", slow), mock.patch.object(attention, "drop", slow):
        yield


def dropout(model: str, size: str, device: str) -> dict[str, Any]:
    """A training step with fast dropout masks and with PyTorch's, in each of `precisions`, on a CPU."""
    bench, found = prepare(model, size, device), {}
    for name, patch in (("pytorch", pytorch_dropout), ("fast", contextlib.nullcontext)):
        with patch():
            for precision in precisions(device):
                found[f"{name}_{precision}_ms"] = sum(split_step(bench, precision, 20).values())
    found["fast_times_faster"] = found["pytorch_float32_ms"] / found["fast_float32_ms"]
    if "fast_bfloat16_ms" in found:
        found["bfloat16_times_faster"] = found["fast_float32_ms"] / found["fast_bfloat16_ms"]
        found["both_times_faster"] = found["pytorch_float32_ms"] / found["fast_bfloat16_ms"]
    return found


def seeds(model: str, size: str, device: str, number: int = 3) -> dict[str, Any]:
    """Forward and backward per seed: `number` models in one vmapped graph against one after the other.

    A bound in favour of the batched graph: the Hungarian matching, which no graph can batch over seeds, is
    left out (the loss is the sum of all outputs), and so is dropout.
    """
    bench = prepare(model, size, device)
    batch = bench.batch()
    bench.model.eval()
    network = bench.model
    parameters = {n: p.detach() for n, p in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def proxy(parameters: dict[str, Tensor]) -> Tensor:
        output: Output = torch.func.functional_call(network, {**parameters, **buffers}, (batch,))
        return (
            output.spans.sum() + output.scores.sum() + output.saliency.masked_fill(~batch.video_mask, 0).sum()
        )

    stacked = {n: torch.stack([p + 0.01 * i for i in range(number)]) for n, p in parameters.items()}
    gradient = torch.func.grad(proxy)

    def separate() -> None:
        for i in range(number):
            leaves = {n: p[i].requires_grad_() for n, p in stacked.items()}
            torch.autograd.grad(proxy(leaves), list(leaves.values()), allow_unused=True)
        _wait(device)

    def batched() -> None:
        torch.func.vmap(gradient)(stacked)
        _wait(device)

    found: dict[str, Any] = {"seeds": number, "separate_ms_per_seed": 1e3 * median_s(separate, 20) / number}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap names each operation that it runs seed by seed
            found["batched_ms_per_seed"] = 1e3 * median_s(batched, 20) / number
    except Exception as error:  # a model may use what vmap cannot batch
        found["batched"] = f"not possible: {type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
    else:
        found["batched_times_faster"] = found["separate_ms_per_seed"] / found["batched_ms_per_seed"]
    return found


def inference(model: str, size: str, device: str) -> dict[str, Any]:
    """Milliseconds a batch of the forward pass alone, and a query of `predict` with decoding."""
    from vtg_lib.models.inference import predict

    bench = prepare(model, size, device)
    bench.model.eval()
    batch = bench.batch()

    def forward() -> None:
        with torch.no_grad():
            bench.model(batch)
        _wait(device)

    def submission() -> None:
        predict(bench.model, bench.data, batch_size=bench.batch_size)

    forward_ms = 1e3 * median_s(forward)
    return {
        "batch": bench.batch_size,
        "forward_ms": forward_ms,
        "forward_ms_per_query": forward_ms / bench.batch_size,
        "predict_ms_per_query": 1e3 * median_s(submission, 10) / len(bench.data),
    }
