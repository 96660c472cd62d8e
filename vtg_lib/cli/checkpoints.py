"""`vtg import-checkpoint` and `vtg predict`; the command line itself is `vtg_lib.cli.main`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtg_lib.cli.options import DataRoot, Device, Reply, device_of, knobs, pairs, without_nan, writable

if TYPE_CHECKING:
    from torch import nn

    from vtg_lib.data.batches import GroundingData


def import_checkpoint(
    source: Annotated[
        Path,
        typer.Argument(metavar="THEIRS", help="a file that the authors' code saved; none of its code is run"),
    ],
    target: Annotated[Path, typer.Argument(metavar="OURS", help="the safetensors file to write")],
    *,
    model: Annotated[str, typer.Option(help="whose checkpoint it is, a name of `vtg models`")],
    config: Annotated[
        list[str] | None, pairs("fields that the file does not show or shows wrongly, e.g. heads=8")
    ] = None,
) -> Reply:
    """`vtg import-checkpoint`."""
    from vtg_lib.models import count_parameters
    from vtg_lib.models import imported as public_checkpoints

    writable(target, "OURS")
    done, notes = public_checkpoints.import_checkpoint(model, source, target, knobs(config))
    value = {
        **{
            name: notes[f"{public_checkpoints.PREFIX}{name}"]
            for name in ("model", "rules", "source", "source_sha256")
        },
        "config": json.loads(notes[f"{public_checkpoints.PREFIX}config"]),
        "parameters": count_parameters(done.model),
        "used": len(done.used),
        "unused": dict(done.unused),
        "notes": json.loads(notes[f"{public_checkpoints.PREFIX}notes"]),
        "file": str(target),
    }
    fields = " ".join(f"{name}={item}" for name, item in value["config"].items())
    reasons: dict[str, list[str]] = {}
    for name, why in done.unused.items():
        reasons.setdefault(why, []).append(name)
    lines = [
        f"{value['model']}, {value['parameters']:,} parameters, by the rules of {value['rules']}",
        f"config: {fields}",
        *value["notes"],
        f"{value['used']} public tensors used, {len(done.unused)} knowingly not:",
        *(f"  {', '.join(names)}: {why}" for why, names in reasons.items()),
        f"source {value['source']}, SHA-256 {value['source_sha256']}",
        f"written to {target}",
    ]
    return Reply(value=value, text="\n".join(lines))


def predict(
    *,
    model: Annotated[
        Path,
        typer.Option(
            metavar="OURS", help="what `vtg import-checkpoint` wrote, or the weights that a run kept"
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="P.jsonl", help="the submission to write")],
    data: Annotated[
        list[str] | None,
        pairs(
            "e.g. kind=official, features=qvhighlights_slowfast_clip, video=[slowfast,clip], text=clip_text"
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="instead of --data: own videos, a folder that `vtg features` wrote"),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test; of --data")] = "val",
    rounding: Annotated[
        bool, typer.Option("--authors-rounding", help="windows to whole clips, as their code does")
    ] = False,
    device: Device = "auto",
    data_root: DataRoot = None,
) -> Reply:
    """`vtg predict`."""
    from vtg_lib.cli.moments import own_features, shown_moments
    from vtg_lib.data import load_data
    from vtg_lib.evaluation.submission import write_submission
    from vtg_lib.models import inference

    settings = knobs(data)
    if bool(settings) == (features is not None):
        raise ValueError(
            "--data: expected the features to predict from, e.g. kind=official "
            "features=qvhighlights_slowfast_clip video=[slowfast,clip] text=clip_text; or kind=sim, whose "
            "features are generated; or --features DIR, own videos; "
            f"got {'both' if settings else 'none'}"
        )
    writable(out, "--out")
    where = device_of(device)
    module, notes = _checkpoint(model)
    if settings and settings.get("kind", "sim") not in ("official", "own") and "data" not in notes:
        print("vtg: note: the data are generated: this says nothing of the checkpoint", file=sys.stderr)
    if features is not None:
        chosen = own_features(features, notes, data_root)
    else:
        splits = load_data(settings, root=data_root)
        if split not in splits:
            raise ValueError(f"--split: expected one of {', '.join(splits)}; got {split!r}")
        chosen = splits[split]
    _check_features(notes, module.config, chosen)
    rows = inference.predict(module.to(where), chosen)
    if rounding:
        rows = authors_rounding(rows, chosen.clip_length)
    write_submission(out, rows)
    value = {
        "model": notes["model"],
        "source_sha256": notes["source_sha256"],
        "split": None if features is not None else split,
        "queries": len(rows),
        "authors_rounding": rounding,
        "predictions": str(out),
    }
    written = f"{len(rows)} predictions written to {out}"
    if features is not None:  # nothing to score them by
        moments, lines = shown_moments(rows, chosen.clip_length)
        return Reply(value={**value, "moments": moments}, text="\n".join([*lines, written]))
    brief = inference.score(rows, chosen)["brief"]
    lines = [f"{name:24} {number:6.2f}" for name, number in brief.items()]
    return Reply(value={**value, "metrics": without_nan(brief)}, text="\n".join([*lines, written]))


def _checkpoint(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model in a file, and what the file says of it: `model`, `source_sha256`, `options`; of a run's
    weights also `data`, what it was trained on.

    Raises:
        CheckpointImportError: neither kind of file. ValueError: see `_spec_of`.
    """
    from safetensors import SafetensorError, safe_open

    from vtg_lib import models
    from vtg_lib.experiments.weights import start_from
    from vtg_lib.files import sha256
    from vtg_lib.models.imported import imported_notes, load_imported

    facts: dict[str, str] = {}
    with contextlib.suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
    if "source_digest" not in facts:
        notes = imported_notes(path)
        return load_imported(path), {**notes, "options": json.loads(notes["options"])}
    spec = _spec_of(path, facts["hash"])
    module = models.build(spec["model"], spec["config"])
    start_from(module, path.read_bytes())
    digest = sha256(path)
    return module.eval(), {
        "model": spec["model"],
        "source_sha256": digest,
        "options": {},
        "data": spec["data"],
    }


def _spec_of(path: Path, key: str) -> dict[str, Any]:
    """The spec of the run whose weights `path` are, from the stores beside the folder of weights.

    Raises:
        ValueError: none has it.
    """
    from vtg_lib.experiments.store import Store

    stores = sorted(path.absolute().parent.parent.glob("*.jsonl"))
    for store in stores:
        if record := Store(store).get(key):
            spec: dict[str, Any] = record["spec"]
            return spec
    looked = ", ".join(store.name for store in stores) or "no store"
    raise ValueError(
        f"{path}: expected the run {key} in a run store beside its folder, which says what model it is; got "
        f"{looked} without it. Fix: leave the file where `vtg run --store S.jsonl --predictions P.jsonl` put "
        "it, in weights/ beside S.jsonl."
    )


def authors_rounding(rows: Sequence[Mapping[str, Any]], clip_length: float) -> list[dict[str, Any]]:
    """A submission as the public code of Moment-DETR and its descendants rounds it before it is scored.

    Windows to whole clips, ties to the even one, scores to four decimals, saliency to half precision
    (jayleicn/moment_detr @ b7e553a).

    Args:
        clip_length: seconds.
    """
    import torch

    def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
        windows = torch.tensor(row["pred_relevant_windows"])
        spans = ((windows[:, :2] / clip_length).round() * clip_length).tolist()
        scores = [float(f"{score:.4f}") for score in windows[:, 2].tolist()]
        saliency = torch.tensor(row["pred_saliency_scores"]).half().tolist()
        return {
            **row,
            "pred_relevant_windows": [[*span, score] for span, score in zip(spans, scores, strict=True)],
            "pred_saliency_scores": saliency,
        }

    return [rounded(row) for row in rows]


def _check_features(notes: Mapping[str, Any], config: Any, data: GroundingData) -> None:
    """Refuse features that the checkpoint was not trained on.

    Raises:
        ValueError: other numbers of channels.
    """
    expected, got = (config.video_dim, config.text_dim), (data.video.shape[-1], data.text.shape[-1])
    if expected == got:
        return
    names = ", ".join(Path(str(folder)).name for folder in notes["options"].get("v_feat_dirs") or ())
    fix = "--data with the features of that training"
    if data.facts["kind"] == "folder":
        fix = "a checkpoint trained on the features of --features; the page `Your own videos` lists some"
    model = notes["model"]
    raise ValueError(
        f"{model}: expected features with {expected[0]} channels of video and {expected[1]} of text, "
        f"as the checkpoint was trained on{f' ({names})' if names else ''}, got {got[0]} and {got[1]}. Fix: "
        f"{fix}"
    )
