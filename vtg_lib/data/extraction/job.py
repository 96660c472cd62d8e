"""`vtg features`: videos and sentences to files of features.

Each file is written whole or not at all and says what it was made of, so an interrupted run goes on where it
stopped: what is there and fits is kept. Memory holds two decoded frames, a batch of prepared ones and the
features of one video, however long it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.data import own
from vtg_lib.data.annotations import read_annotations
from vtg_lib.data.extraction.decode import Video, VideoError
from vtg_lib.data.extraction.folder import (
    FORM,
    MANIFEST,
    QUERIES,
    TEXT,
    VIDEO,
    Manifest,
    VideoEntry,
    manifest_of,
    read_manifest,
    write_manifest,
)
from vtg_lib.data.features import FeatureError, load_array
from vtg_lib.files import atomic_write, locked

if TYPE_CHECKING:
    from vtg_lib.data.extraction.encode import Encoder

Row = Mapping[str, Any]


def check_videos(videos: Sequence[str | Path]) -> dict[str, Path]:
    """Videos by the name that features and annotations call them, their file's without its ending.

    Raises:
        VideoError: none, a missing file, or two of one name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, videos):
        if not path.is_file():
            got = "a folder: name the files in it" if path.is_dir() else "none"
            raise VideoError(f"{path}: expected a video file, got {got}. Fix: correct the path.")
        other = found.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise VideoError(
                f"expected videos of different names, as features are filed by them, got {other} and {path}. "
                "Fix: rename one, or another --out for one of them."
            )
    return found


def extract(
    videos: Sequence[str | Path],
    texts: Sequence[str],
    out: str | Path,
    encoder: Encoder,
    *,
    annotations: Sequence[str | Path] = (),
    clip_length: float = 2.0,
    batch_size: int = 32,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes the features of videos and texts into a folder (`vtg_lib.data.extraction.folder`).

    Args:
        videos: files.
        texts: sentences to look for in each of these videos; they become rows of `queries.jsonl`.
        out: the folder; what it holds already stays.
        annotations: files of annotations whose queries get features, too, filed by their qid.
        clip_length: seconds.
        batch_size: frames encoded at once.
        overwrite: make anew what is there, of whatever video.

    Returns:
        `videos` {vid: {file, duration, clips, kept}}, `failed` {file: why}, `queries` (rows of these texts),
        `texts` (files written), `notes`, `fingerprint`.

    Raises:
        VideoError: see `check_videos`; a video that cannot be read does not stop the others, see `failed`.
        EncoderError: an empty text. FeatureError: the folder holds features of another kind.
        Busy: another run is writing there.
    """
    files, folder = check_videos(videos), Path(out)
    if not clip_length > 0 or batch_size < 1:
        wrong = f"--clip-length {clip_length:g}" if not clip_length > 0 else f"--batch-size {batch_size}"
        raise ValueError(
            f"{wrong}: expected a positive number. Fix: leave it out, the default is the field's."
        )
    rows_given = [row for path in annotations for row in read_annotations(path, own.FORM)]
    notes: list[str] = []
    words = {
        text: _words(encoder, text, notes) for text in _once([*texts, *(row["query"] for row in rows_given)])
    }
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / MANIFEST, wait=False):
        manifest = _manifest(folder, encoder, clip_length, overwrite)
        write_manifest(folder, manifest)
        entries, made, failed = dict(manifest.videos), dict[str, Any](), dict[str, str]()
        for vid, path in files.items():
            try:
                entry, kept, told = _video(
                    folder, vid, path, encoder, clip_length, batch_size, overwrite, progress
                )
            except (VideoError, FeatureError) as error:
                failed[str(path)] = str(error)
                continue
            notes += [f"{path}: {note}" for note in told]
            entries[vid] = entry
            made[vid] = {"file": entry.file, "duration": entry.duration, "clips": entry.clips, "kept": kept}
        manifest = manifest.with_videos(entries)
        write_manifest(folder, manifest)
        rows, every = _queries(folder, texts, made, entries)
        written = 0
        for row in [*every, *rows_given]:  # an interrupted run may have left rows without words
            if row["query"] not in words:
                words[row["query"]] = _words(encoder, row["query"], notes)
            written += _write_words(folder, str(row["qid"]), row["query"], words[row["query"]], overwrite)
    return {
        "videos": made,
        "failed": failed,
        "queries": rows,
        "texts": written,
        "notes": notes,
        "fingerprint": manifest.fingerprint,
    }


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _words(encoder: Encoder, text: str, notes: list[str]) -> np.ndarray:
    """`[L, D]` of a text; what is cut off is said."""
    states, cut = encoder.words(text)
    if cut:
        notes.append(
            f"text {text[:40]!r}…: the encoder reads {encoder.facts.context} tokens; cut off: {cut!r}"
        )
    return states


def _manifest(folder: Path, encoder: Encoder, clip_length: float, overwrite: bool) -> Manifest:
    """The folder's manifest, or a new one.

    Raises:
        FeatureError: the folder's features are of another kind.
    """
    new, old = manifest_of(encoder.facts, clip_length), read_manifest(folder)
    if old is None:
        return new
    pairs = (
        ("clip length", f"{old.clip_length:g} s", f"{clip_length:g} s"),
        ("encoder", old.encoder.extractor, encoder.facts.extractor),
    )
    differ = [f"{name} {was}, now {now}" for name, was, now in pairs if was != now]
    if not differ:
        return old
    if overwrite:
        others = sorted(vid for vid in old.videos)
        print(
            f"vtg: note: {folder}: {len(others)} videos of {'; '.join(differ)} are dropped", file=sys.stderr
        )
        for path in (*(folder / VIDEO).glob("*.npz"), *(folder / TEXT).glob("*.npz"), folder / QUERIES):
            path.unlink(missing_ok=True)
        return new
    raise FeatureError(
        f"{folder}: expected features of one kind in a folder, got {'; '.join(differ)}. Fix: another --out, "
        "or --overwrite to drop what is there."
    )


def _video(
    folder: Path,
    vid: str,
    path: Path,
    encoder: Encoder,
    clip_length: float,
    batch_size: int,
    overwrite: bool,
    progress: bool,
) -> tuple[VideoEntry, bool, list[str]]:
    """The features of a video: its entry, whether they were there, and notes.

    Raises:
        VideoError: it cannot be read. FeatureError: the file there is of another video.
    """
    target, stamp = folder / VIDEO / f"{vid}.npz", path.stat()
    source = {"file": str(path.resolve()), "size": stamp.st_size, "mtime_ns": stamp.st_mtime_ns}
    if not overwrite and (old := _made_of(target)) is not None:
        if {**old, "file": ""}.items() >= {**source, "file": ""}.items():
            return _entry(old), True, []
        if old["file"] != source["file"]:
            raise FeatureError(
                f"{target}: expected features of {path}, got those of {old['file']}, another of that "
                "name. Fix: rename one, or another --out, or --overwrite."
            )
    features, duration, notes = _features(path, vid, encoder, clip_length, batch_size, progress)
    digest = hashlib.sha256(features.tobytes()).hexdigest()
    source |= {"duration": round(duration, 3), "clips": len(features), "sha256": digest}
    _save(target, features=features, source=np.array(json.dumps(source)))
    return _entry(source), False, notes


def _entry(source: Mapping[str, Any]) -> VideoEntry:
    return VideoEntry(**{field.name: source[field.name] for field in dataclasses.fields(VideoEntry)})


def _made_of(target: Path) -> dict[str, Any] | None:
    """What a file of features says of its video; None if there is none that can be read."""
    try:
        return dict(json.loads(str(load_array(target, "source"))))
    except (FeatureError, ValueError):
        return None


def _features(
    path: Path, vid: str, encoder: Encoder, clip_length: float, batch_size: int, progress: bool
) -> tuple[np.ndarray, float, list[str]]:
    """`[T, D]` float16 of a video, its seconds, and notes."""
    from tqdm.auto import tqdm

    parts: list[np.ndarray] = []
    waiting: list[Any] = []
    with Video(path) as video:
        total = None if video.stated is None else max(1, round(video.stated / clip_length))
        for image in tqdm(
            video.clips(clip_length), desc=vid, total=total, unit="clip", disable=not progress, leave=False
        ):
            waiting.append(encoder.prepare(image))
            if len(waiting) == batch_size:
                parts.append(encoder.images(waiting))
                waiting = []
    if waiting:
        parts.append(encoder.images(waiting))
    assert video.duration is not None
    return _half(np.concatenate(parts), str(path)), video.duration, video.notes


def _half(array: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise FeatureError(
            f"{where}: expected features that half precision can hold, got NaN or more than 65504. Fix: "
            "other weights (--pretrained)."
        )
    return half


def _queries(
    folder: Path, texts: Sequence[str], made: Mapping[str, Any], entries: Mapping[str, VideoEntry]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of these texts and videos, added to those there (a known pair keeps its qid), and all rows."""
    path = folder / QUERIES
    old = read_annotations(path, FORM) if path.is_file() else []
    known = {(row["vid"], row["query"]): dict(row) for row in old}
    for row in known.values():  # a video that was replaced has another length
        if row["vid"] in entries:
            row["duration"] = entries[row["vid"]].duration
    numbers = {str(row["qid"]) for row in old}
    rows = []
    for vid in made:
        for text in _once(texts):
            number = 0
            while (vid, text) not in known:
                qid, number = f"{vid}_{number}", number + 1
                if qid not in numbers:
                    numbers.add(qid)
                    row = {"qid": qid, "query": text, "vid": vid, "duration": entries[vid].duration}
                    known[vid, text] = row
            rows.append(known[vid, text])
    if known:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in known.values()]
        atomic_write(path, "".join(lines).encode())
    return rows, list(known.values())


def _write_words(folder: Path, qid: str, query: str, states: np.ndarray, overwrite: bool) -> bool:
    """Writes the features of a query's words; False if they are there.

    Raises:
        FeatureError: those there are of another sentence.
    """
    if Path(qid).name != qid:
        raise FeatureError(f"qid {qid!r}: expected a name for a file. Fix: number the queries otherwise.")
    target = folder / TEXT / f"{qid}.npz"
    try:
        old = None if overwrite else str(load_array(target, "query"))
    except FeatureError:
        old = None
    if old == query:
        return False
    if old is not None:
        raise FeatureError(
            f"{target}: expected features of {query!r}, got those of {old!r}. Fix: number the queries of "
            "your annotations through, or another --out, or --overwrite."
        )
    _save(target, last_hidden_state=_half(states, f"text {query!r}"), query=np.array(query))
    return True


def _save(target: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write(target, buffer.getvalue())
