"""`vtg pseudo-label`: a file of captions to a file of training annotations, however many there are.

Captions are read twice: once to check all of them before anything is computed, once to label them. The
second pass works in `.<out>.partial` beside the output: rows, and a record of how far it is, written every
`EVERY` captions. Killed, it goes on after the last record and ends with the same bytes; complete, the rows
are renamed into place, with `<out>.report.json` beside them. Memory holds a hash of each caption and of its
id, a few videos, and counts.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.data.annotations import SHOWN
from vtg_lib.data.features import FeatureError
from vtg_lib.data.generate import CLIP_LENGTH
from vtg_lib.data.pseudo.captions import (
    LONG,
    Caption,
    CaptionError,
    Filter,
    digest,
    inside,
    read_captions,
)
from vtg_lib.data.pseudo.labels import (
    PseudoLabels,
    captioned_clips,
    label,
    plain,
    similarity,
    window_of,
)
from vtg_lib.data.pseudo.report import Tally
from vtg_lib.data.pseudo.space import Space, check_length
from vtg_lib.files import atomic_write, locked, sha256

FORMAT = 1
EVERY = 1000  # captions between two records of progress


class PseudoLabelWarning(UserWarning):
    """Something that was done otherwise than asked."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is asked for.

    Attributes:
        captions: see `vtg_lib.data.pseudo.captions`; features: see `vtg_lib.data.pseudo.space`.
        out: annotations in the QVHighlights layout.
        settings: see `PseudoLabels`.
        skip_bad: leave out and count captions with a fault, or with features that are missing or at fault,
            where they would stop everything.
        video_out: a folder for the features of every row's video, `{vid}.npy`, float16; None for none.
            Without it, rows that show part of a video have no file of their own.
    """

    captions: Path
    features: Path
    out: Path
    settings: PseudoLabels = PseudoLabels()
    skip_bad: bool = False
    video_out: Path | None = None

    @property
    def partial(self) -> Path:
        """Where it works."""
        return self.out.with_name(f".{self.out.name}.partial")

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.out.with_name(f"{self.out.stem}.report.json")

    def header(self) -> dict[str, Any]:
        """What a file of rows was made of."""
        return {
            "format": FORMAT,
            "captions": sha256(self.captions),
            "features": str(self.features.resolve()),
            "video_out": None if self.video_out is None else str(self.video_out.resolve()),
            "skip_bad": self.skip_bad,
            "settings": dataclasses.asdict(self.settings),
        }


def pseudo_label(job: Job, *, overwrite: bool = False, progress: bool = True) -> dict[str, Any]:
    """Write the annotations that captions give, or find them written.

    Args:
        overwrite: replace what was made of other captions or with other settings; progress: show a bar.

    Returns:
        `Tally.report`, with `made_of`: the header of the job.

    Raises:
        CaptionError: captions that cannot be used, or an output that is there already and was made otherwise.
        FeatureError: features that cannot be used. Busy: another run writes the same output.
        OSError: the disk is full; what is done stays, and the same call goes on.
    """
    with locked(job.out, wait=False):
        number = check_captions(job)
        header = job.header()
        if job.out.exists() and not overwrite:
            if (found := _finished(job, header)) is not None:
                return found
            raise CaptionError(
                f"{job.out} is there already, and was not made of these captions, features and settings. "
                "Fix: another --out, or --overwrite."
            )
        try:
            return _write(job, header, number, progress)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(
                    error.errno,
                    f"{job.out}: no space left on the device; what is done stays in {job.partial}. Fix: free "
                    "space, and give the same command again, which goes on.",
                ) from None
            raise


def check_captions(job: Job) -> int:
    """How many captions there are, those with a fault among them.

    Raises:
        CaptionError: there is none; or, but for `skip_bad`, some have a fault: the first are named.
    """
    problems, number, faults = list[str](), 0, 0
    for caption in checked(job.captions):
        number += 1
        if isinstance(caption, CaptionError):
            faults += 1
            if faults <= SHOWN:
                problems.append(str(caption))
    if not number:
        raise CaptionError(
            f"{job.captions}: expected captions, one a line, got an empty file. Fix: write it again."
        )
    if faults and not job.skip_bad:
        more = [f"… and {faults - SHOWN} more problems."] if faults > SHOWN else []
        hint = "--skip-bad leaves such captions out and counts them."
        raise CaptionError("\n".join([*problems, *more, hint]))
    return number


def checked(path: Path) -> Iterator[Caption | CaptionError]:
    """`read_captions`, where an id that was there before is a fault."""
    ids: set[int] = set()
    for caption in read_captions(path):
        if isinstance(caption, Caption):
            mark = digest(str(caption.qid))
            if mark in ids:
                yield CaptionError(
                    f"{path}, line {caption.line}: field 'qid': expected an id used once, got "
                    f"{json.dumps(caption.qid)} again. Fix: number the captions through, or drop the ids.",
                    "qid",
                )
                continue
            ids.add(mark)
        yield caption


def annotate(caption: Caption, space: Space, job: Job) -> tuple[dict[str, Any], Counter[str]] | None:
    """A row of annotations (QVHighlights layout) from a caption, and what is odd about it (see `Tally`); None
    if its interval is longer than a window. Writes the features of the row's video, where that is asked for.

    Raises:
        CaptionError: the interval lies outside the video, as its features tell its length.
        FeatureError: see `Space`.
    """
    settings, place = job.settings, f"{job.captions}, line {caption.line}"
    try:
        video, text = space.video(caption.vid), space.text(caption.qid)
        space.check_width()
        if not text.any():
            raise FeatureError(f"{caption.qid}: expected features of the caption, got zeros only.")
        duration = caption.duration or len(video) * CLIP_LENGTH
        check_length(len(video), duration, caption.vid)
    except FeatureError as error:
        raise FeatureError(f"{place}: {error}") from None
    interval = inside(caption.interval, duration, place)
    clips = min(len(video), math.ceil(duration / CLIP_LENGTH))
    draw = digest(f"{caption.vid}\n{caption.text}") / 2**64
    window = window_of(interval, clips, settings, draw)
    if window is None:
        return None
    first, last = window
    offset = first * CLIP_LENGTH
    whole = last - first == clips
    length = duration if whole else min(duration, last * CLIP_LENGTH) - offset
    vid = caption.vid if whole else f"{caption.vid}_{offset:.1f}_{round(offset + length, 3)}"
    scores = similarity(video[first:last, -1], text)
    captioned = captioned_clips((interval[0] - offset, interval[1] - offset), last - first)
    labels = label(scores, captioned, settings)
    if job.video_out is not None:
        _write_video(job.video_out / f"{vid}.npy", video[first:last])
    odd = {
        "short_interval": caption.interval[1] - caption.interval[0] < CLIP_LENGTH,
        "all_clips": bool(labels.clips.all()),
        "equal_scores": captioned.sum() > 1 and bool(np.ptp(scores[captioned]) == 0),
        "trimmed": not whole,
    }
    row = {
        "qid": caption.qid,
        "query": " ".join(caption.text.split()),
        "duration": plain(length),
        "vid": vid,
        **labels.fields(length),
    }
    return row, Counter(name for name, is_so in odd.items() if is_so)


def _write(job: Job, header: dict[str, Any], number: int, progress: bool) -> dict[str, Any]:
    from tqdm.auto import tqdm

    rows, record = job.partial / "rows.jsonl", job.partial / "progress.json"
    space, keep = Space(job.features), Filter(job.settings)
    done, tally = _resume(rows, record, header)
    if done == 0:
        shutil.rmtree(job.partial, ignore_errors=True)
        job.partial.mkdir(parents=True)
        rows.touch()
    if job.video_out is not None:
        job.video_out.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        file.flush()
        os.fsync(file.fileno())
        state = {"made_of": header, "captions": tally.read, "bytes": file.tell(), "tally": tally.to_json()}
        atomic_write(record, json.dumps(state).encode())

    with (
        rows.open("ab") as file,
        tqdm(total=number, initial=done, unit="caption", disable=not progress) as bar,
    ):
        for place, caption in enumerate(checked(job.captions), 1):
            # repeated captions are told from those before, so all of them pass the filter again
            rule = caption.kind if isinstance(caption, CaptionError) else keep.rule(caption)
            if place <= done:
                continue
            tally.read += 1
            try:
                found = annotate(caption, space, job) if isinstance(caption, Caption) and not rule else None
            except (CaptionError, FeatureError) as error:
                if not job.skip_bad:
                    raise
                found, rule = None, getattr(error, "kind", "features")
            if found is None:
                tally.dropped[rule or LONG] += 1
            else:
                row, notes = found
                tally.add(row)
                tally.notes.update(notes)
                file.write((json.dumps(row) + "\n").encode())
            bar.update()
            if tally.read % EVERY == 0:
                save()
        save()
    report = {"made_of": header, **tally.report()}
    if not tally.kept:
        shutil.rmtree(job.partial)
        told = ", ".join(f"{name} {n}" for name, n in tally.dropped.items())
        raise CaptionError(
            f"{job.captions}: expected captions that can be used, got none of {tally.read} ({told}). Fix: "
            "correct them, or loosen the settings."
        )
    # first the report, then the rows: rows that are there have theirs
    atomic_write(job.report, (json.dumps(report, indent=2) + "\n").encode())
    rows.replace(job.out)
    shutil.rmtree(job.partial)
    return report


def _resume(rows: Path, record: Path, header: dict[str, Any]) -> tuple[int, Tally]:
    """How many captions a killed run has done, and its counts; `rows` are cut after the last recorded."""
    try:
        state = json.loads(record.read_text(encoding="utf-8"))
        size = rows.stat().st_size
    except (OSError, ValueError):
        return 0, Tally()
    if state["made_of"] != header or size < state["bytes"]:
        text = f"{rows.parent}: made of other captions, features or settings; started over"
        warnings.warn(text, PseudoLabelWarning, stacklevel=2)
        return 0, Tally()
    os.truncate(rows, state["bytes"])
    return state["captions"], Tally.from_json(state["tally"])


def _finished(job: Job, header: dict[str, Any]) -> dict[str, Any] | None:
    """The report of an output that was made of the same."""
    try:
        found: dict[str, Any] = json.loads(job.report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("made_of") == header else None


def _write_video(path: Path, video: np.ndarray) -> None:
    """`[T, K, D]` as `[T, D]`, or `[K, T, D]` with more than one level; whole or not at all."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, (video[:, 0] if video.shape[1] == 1 else video.swapaxes(0, 1)).astype(np.float16))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
