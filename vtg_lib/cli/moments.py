"""What `vtg predict --features` checks of own videos, and shows of their moments."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtg_lib.data.batches import GroundingData
    from vtg_lib.data.extraction.folder import Manifest

SHOWN = 3  # moments of a query


def own_features(folder: Path, notes: Mapping[str, Any], data_root: Path | None = None) -> GroundingData:
    """The queries of a folder that `vtg features` wrote, with their features.

    Args:
        notes: of the checkpoint: `options` of its training, or `data` that a run was trained on.

    Raises:
        FeatureError: see `read_folder`.
        ValueError: features that are not those of the checkpoint's training, as far as it tells.
    """
    from vtg_lib.data.extraction.folder import read_folder

    data, manifest = read_folder(folder)
    options = notes["options"]
    _same(notes["model"], "clips of (seconds)", options.get("clip_length"), manifest.clip_length)
    trained = [Path(str(part)).name for part in options.get("v_feat_dirs") or ()]
    if any("clip" in name.lower() for name in trained) and manifest.encoder.public is None:
        told = f"whether {manifest.encoder.extractor}, are those of the checkpoint's training cannot be told"
        print(f"vtg: note: {told}", file=sys.stderr)
    elif any("clip" in name.lower() for name in trained) and not manifest.encoder.public:
        public = (
            "CLIP ViT-B/32 of OpenAI, as the public sets' (--model ViT-B-32-quickgelu --pretrained openai)"
        )
        _same(notes["model"], "frames encoded by", public, manifest.encoder.extractor)
    if trained_on := notes.get("data"):
        _same_as_run(notes["model"], trained_on, manifest, data_root)
    longest, known = int(data.video_length.max()), options.get("max_v_l")
    if isinstance(known, int) and 0 < known < longest:
        print(
            f"vtg: note: a video has {longest} clips; the checkpoint was trained on at most {known}: cut "
            "longer videos into parts",
            file=sys.stderr,
        )
    return data


def _same(model: str, what: str, expected: Any, got: Any) -> None:
    if expected is not None and expected != got:
        raise ValueError(
            f"{model}: {what}: expected {expected}, as the checkpoint was trained on, got {got}. Fix: "
            "extract the features again with `vtg features`, another --out and the settings of that training"
        )


def _same_as_run(
    model: str, trained_on: Mapping[str, Any], manifest: Manifest, data_root: Path | None
) -> None:
    """A run on own data, if these are still known: the same extractor and clips."""
    from vtg_lib.data.own import path_of, read_own

    if trained_on.get("kind", "sim") != "own":
        kind = trained_on.get("kind", "sim")
        if kind != "official":
            raise ValueError(
                f"{model}: expected a checkpoint trained on features of videos, got one trained on generated "
                f"ones (kind={kind}). Fix: train on own data (`vtg data add`), or import a public checkpoint"
            )
        return
    if not path_of(trained_on["name"], data_root).exists():
        return
    specs = [source.spec for source in read_own(trained_on["name"], data_root).video]
    _same(model, "clips of (seconds)", specs[0].clip_length, manifest.clip_length)
    if all(spec.extractor != "own" for spec in specs):
        _same(
            model, "frames encoded by", " and ".join(s.extractor for s in specs), manifest.encoder.extractor
        )


def shown_moments(
    rows: Sequence[Mapping[str, Any]], clip_length: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """The best moments and the best clip of each row of a submission, as values and as lines.

    Args:
        clip_length: seconds.
    """
    values, lines = [], []
    for row in rows:
        windows, scores = row["pred_relevant_windows"][:SHOWN], row["pred_saliency_scores"]
        highlight = max(range(len(scores)), key=scores.__getitem__) * clip_length
        facts = {"vid": row["vid"], "query": row["query"]}
        values.append({"qid": row["qid"], **facts, "windows": windows, "highlight": highlight})
        lines.append(f"{row['vid']}: {row['query']}")
        lines += [f"  {_clock(start)} - {_clock(end)}  {score:.2f}" for start, end, score in windows]
        lines.append(f"  highlight: the clip at {_clock(highlight)}")
    return values, lines


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
