"""From a model's output to a submission and its metrics."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from vtg_lib.data.batches import Batch, GroundingData, Output

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """The autocast context for `precision` on `device`.

    Raises:
        ValueError: float16 on a CPU, or bfloat16 on a GPU that has none.
    """
    dtype = PRECISIONS[precision]
    if dtype is None:
        return contextlib.nullcontext()
    if dtype is torch.float16 and device.type != "cuda":
        raise ValueError(f"precision float16 needs a CUDA device, got {device.type}: use bfloat16 or float32")
    if dtype is torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError("this GPU has no bfloat16: use precision float16 or float32")
    return torch.autocast(device.type, dtype=dtype)


def to_float32(value: Any) -> Any:
    """`value` with every floating tensor in it (dataclasses, dicts, lists, tuples) as float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: to_float32(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **changes)
    if isinstance(value, Mapping):
        return {key: to_float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(to_float32(item) for item in value)
    return value


@contextlib.contextmanager
def evaluation_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """`model` in eval mode, without gradients; neither its mode nor any random state is different
    afterwards.
    """
    was_training = model.training
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)


def forward(model: nn.Module, batch: Batch, precision: str) -> Output:
    """`model(batch)` under autocast; what comes out is float32, so that losses and decoding never see
    less.
    """
    if precision == "float32":
        return model(batch)
    with autocast(batch.video.device, precision):
        output = model(batch)
    return to_float32(output)


def predict(
    model: nn.Module,
    data: GroundingData,
    *,
    batch_size: int = 128,
    precision: str = "float32",
) -> list[dict[str, Any]]:
    """Run `model` over `data` and return a submission in the QVHighlights layout, in the order of `data`.

    Each row: qid, query, vid, pred_relevant_windows [[start s, end s, score], ...] by falling score, start
    and end within [0, duration], but not for videos with labelled clips; pred_saliency_scores, one number a
    clip. A model's `post_process(output)` (soft-NMS, say) is applied where it has one. The random state and
    the mode of the model are untouched.
    """
    device = next(model.parameters()).device
    post_process = getattr(model, "post_process", None)
    rows: list[dict[str, Any]] = []
    with evaluation_mode(model, device):
        for index in torch.arange(len(data)).split(batch_size):
            batch = data.batch(index).to(device)
            output = forward(model, batch, precision)
            if post_process is not None:
                output = post_process(output)
            rows.extend(decode(output, batch, data))
    return rows


def decode(output: Output, batch: Batch, data: GroundingData) -> list[dict[str, Any]]:
    """One submission row a sample of `batch` from spans [B, Q, 2] (center, width), scores [B, Q], saliency
    [B, T].
    """
    clips = batch.video_mask.sum(1)  # [B]
    seconds = (clips * data.clip_length)[:, None]  # what a normalised 1 stands for
    center, width = output.spans.float().unbind(-1)
    rows = batch.index.tolist()
    duration = seconds.new_tensor([data.annotations[row]["duration"] for row in rows])[:, None]
    start = ((center - width / 2) * seconds).clamp(min=0).minimum(duration)
    end = ((center + width / 2) * seconds).clamp(min=0).minimum(duration)
    triples = torch.stack([start, end, output.scores.float()], dim=-1)  # [B, Q, 3]
    order = output.scores.argsort(dim=1, descending=True, stable=True)
    windows = triples.gather(1, order[..., None].expand_as(triples)).tolist()
    saliency = output.saliency.float().tolist()
    submission = []
    for i, (row, length) in enumerate(zip(rows, clips.tolist(), strict=True)):
        annotation = data.annotations[row]
        submission.append(
            {
                **{name: annotation[name] for name in ("qid", "query", "vid")},
                **({} if annotation.get("label") else {"pred_relevant_windows": windows[i]}),
                "pred_saliency_scores": saliency[i][:length],
            }
        )
    return submission


def score(predictions: list[dict[str, Any]], data: GroundingData) -> dict[str, Any]:
    """Nested metrics of a submission: the QVHighlights protocol, and where a data set has no saliency scores
    (Charades-STA, TACoS) also the two numbers that it is judged by, R1@0.3 and mIoU, in "brief"; of labelled
    clips those of `vtg_lib.evaluation.highlights`, by domain and over domains and videos."""
    from vtg_lib.evaluation import protocol as metrics
    from vtg_lib.evaluation import scoring

    if data.annotations[0].get("label"):
        return scoring.evaluate(predictions, data.annotations)[0]
    nested = metrics.evaluate(predictions, data.annotations)
    if not data.annotations[0].get("saliency_scores"):
        recall = metrics.recall_and_miou(predictions, data.annotations, thresholds=(0.3,))
        nested["brief"] |= {f"MR-full-{name}": value for name, value in recall.items()}
    return nested


def evaluate_model(
    model: nn.Module, data: GroundingData, *, batch_size: int = 128, precision: str = "float32"
) -> dict[str, Any]:
    """`score` of `predict`: the nested metrics of `model` on `data`."""
    return score(predict(model, data, batch_size=batch_size, precision=precision), data)
