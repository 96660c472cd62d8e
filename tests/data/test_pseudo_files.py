"""Files of captions: what is read, refused, left out and counted; killed, doubled and full runs."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vtg_lib.data.annotations import read_annotations
from vtg_lib.data.features import FeatureError
from vtg_lib.data.pseudo import stream
from vtg_lib.data.pseudo.captions import Caption, CaptionError, parse, read_captions
from vtg_lib.data.pseudo.labels import PseudoLabels
from vtg_lib.data.pseudo.report import Tally, qvhighlights, report_text
from vtg_lib.data.pseudo.stream import Job, PseudoLabelWarning, pseudo_label
from vtg_lib.data.statistics import statistics
from vtg_lib.files import ROOT, Busy, locked

DIM = 8
GOOD = {
    "vid": "v0",
    "caption": "a dog throws the red ball",
    "interval": [4.0, 12.0],
    "duration": 40.0,
    "qid": 0,
}


def write(folder, number=40, videos=8, clips=20, *, suffix="npz"):
    """Captions of 40-second videos whose captioned clips look like them."""
    rng = np.random.default_rng(0)
    for kind in ("video", "text"):
        (folder / "f" / kind).mkdir(parents=True)
    shown = {f"v{n}": rng.normal(0, 0.3, (clips, DIM)) for n in range(videos)}
    rows = []
    for qid in range(number):
        vid, text, start = f"v{qid % videos}", rng.normal(0, 1, DIM), int(rng.integers(0, clips - 6))
        size = int(rng.integers(1, 6))
        shown[vid][start : start + size] += text
        shown[vid][(start + 9) % clips] += 0.8 * text
        rows.append(
            {
                "qid": qid,
                "vid": vid,
                "caption": f"the dog number {qid} throws a red ball",
                "interval": [2.0 * start, 2.0 * (start + size)],
                "duration": 2.0 * clips,
            }
        )
        np.savez(folder / "f" / "text" / f"qid{qid}.npz", pooler_output=text, last_hidden_state=-text[None])
    for vid, video in shown.items():
        path = folder / "f" / "video" / f"{vid}.{suffix}"
        np.save(path, video) if suffix == "npy" else np.savez(path, features=video)
    return lines(folder, rows), rows


def lines(folder, rows):
    path = folder / "c.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def job(folder, **changes):
    given = {"captions": folder / "c.jsonl", "features": folder / "f", "out": folder / "train.jsonl"}
    return Job(**{**given, **changes})


def run(folder, **changes):
    return pseudo_label(job(folder, **changes), progress=False)


def test_captions_become_annotations_that_are_read(tmp_path, recwarn):
    _, captions = write(tmp_path)
    report = run(tmp_path)
    rows = read_annotations(tmp_path / "train.jsonl", "qvhighlights")
    assert [row["qid"] for row in rows] == list(range(40)) and not recwarn.list
    assert {row["duration"] for row in rows} == {40} and rows[3]["query"] == captions[3]["caption"]
    inside = 0
    for row, caption in zip(rows, captions, strict=True):
        named = range(int(caption["interval"][0] // 2), int(caption["interval"][1] // 2))
        assert set(named) & set(row["relevant_clip_ids"])
        inside += len(set(named) & set(row["relevant_clip_ids"])) / len(named)
    assert inside / 40 > 0.6
    # counted as it goes, and the same as counted at the end
    whole = statistics(rows)
    for name in (
        "words_per_query",
        "windows_per_query",
        "window_length",
        "window_count_share",
        "length_share",
    ):
        assert report[name] == pytest.approx(whole[name]), name
    assert report["coverage"] == pytest.approx(whole["coverage"])
    grades = [votes[0] for row in rows for votes in row["saliency_scores"]]
    assert report["grade_share"] == {
        str(g): pytest.approx(grades.count(g) / len(grades)) for g in (1, 2, 3, 4)
    }
    assert report == json.loads((tmp_path / "train.report.json").read_text())
    assert not (tmp_path / ".train.jsonl.partial").exists()


def test_intern_vid_s_names_times_and_gzip(tmp_path):
    write(tmp_path)
    ours = tmp_path / "train.jsonl"
    run(tmp_path)

    def clock(seconds):
        return f"{int(seconds // 3600):02}:{int(seconds // 60) % 60:02}:{seconds % 60:06.3f}"

    theirs = [
        {
            "YoutubeID": row["vid"],
            "Start_timestamp": clock(row["interval"][0]),
            "End_timestamp": clock(row["interval"][1]),
            "Caption": row["caption"],
            "UMT_Score": 0.4,
        }
        for row in map(json.loads, (tmp_path / "c.jsonl").read_text().splitlines())
    ]
    packed = tmp_path / "flt.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(map(json.dumps, theirs)).encode()))
    run(tmp_path, captions=packed, out=tmp_path / "theirs.jsonl")
    assert (tmp_path / "theirs.jsonl").read_bytes() == ours.read_bytes()


def test_the_three_rules_are_counted(tmp_path):
    _, rows = write(tmp_path, 8)
    rows[1]["caption"] = "  "
    rows[2]["caption"] = "the dog is in there"
    rows[3] |= {"caption": rows[0]["caption"].upper() + "!", "vid": "v0", "interval": [0.0, 6.0]}
    rows[4]["caption"] = rows[0]["caption"]  # of another video
    lines(tmp_path, rows)
    report = run(tmp_path)
    assert report["dropped"] == {"empty": 1, "few_words": 1, "repeated": 1, "longer_than_window": 0}
    assert (report["captions"], report["kept"]) == (8, 5)
    again = run(tmp_path, out=tmp_path / "file.jsonl", settings=PseudoLabels(repeated="file"))
    assert again["dropped"]["repeated"] == 2
    loose = run(tmp_path, out=tmp_path / "loose.jsonl", settings=PseudoLabels(min_words=1))
    assert loose["dropped"]["few_words"] == 0
    text = report_text(report, qvhighlights())
    assert "8 captions: 5 kept; left out: empty 1, few_words 1, repeated 1" in text and "QVHighlights" in text
    with pytest.raises(
        CaptionError, match=r"got none of 8 \(few_words 7, empty 1\)|none of 8 \(empty 1, few_words 7\)"
    ):
        run(tmp_path, out=tmp_path / "none.jsonl", settings=PseudoLabels(min_words=30))
    assert not (tmp_path / "none.jsonl").exists() and not (tmp_path / ".none.jsonl.partial").exists()


def test_a_long_video_is_trimmed_and_its_features_written(tmp_path):
    _, rows = write(tmp_path, 3, videos=1, clips=120)
    rows[0]["interval"], rows[1]["interval"], rows[2]["interval"] = (
        [100.0, 110.0],
        [0.0, 160.0],
        [230.0, 240.0],
    )
    lines(tmp_path, rows)
    report = run(tmp_path, video_out=tmp_path / "trimmed")
    assert report["dropped"]["longer_than_window"] == 1 and report["notes"]["trimmed"] == 2
    made = read_annotations(tmp_path / "train.jsonl", "qvhighlights")
    assert [row["vid"] for row in made] == ["v0_30.0_180.0", "v0_90.0_240.0"]
    assert all(row["duration"] == 150 for row in made)
    with np.load(tmp_path / "f" / "video" / "v0.npz") as whole:
        video = whole["features"]
    for row, first in zip(made, (15, 45), strict=True):
        kept = np.load(tmp_path / "trimmed" / f"{row['vid']}.npy")
        assert kept.shape == (75, DIM) and np.allclose(kept, video[first : first + 75], atol=2e-3)
        assert max(row["relevant_clip_ids"]) < 75
    # the same scores in the window as in the video: clip 50 of the video is clip 35 of its window
    text = np.load(tmp_path / "f" / "text" / "qid0.npz")["pooler_output"]
    cosine = video @ text / np.linalg.norm(video, axis=1) / np.linalg.norm(text)
    inside = cosine[50:55]
    passed = np.flatnonzero(cosine[15:90] >= inside.mean() - inside.std())
    assert passed.tolist() == made[0]["relevant_clip_ids"]


def test_levels_and_words_give_their_last(tmp_path):
    write(tmp_path, suffix="npy")
    run(tmp_path)
    for path in (tmp_path / "f" / "video").iterdir():
        video = np.load(path)
        np.save(path, np.stack([-video, video]))
    for path in (tmp_path / "f" / "text").iterdir():
        with np.load(path) as found:
            words = np.stack([-found["pooler_output"], found["pooler_output"]])
        np.savez(path, last_hidden_state=words)
    run(tmp_path, out=tmp_path / "levels.jsonl", video_out=tmp_path / "videos")
    assert (tmp_path / "levels.jsonl").read_bytes() == (tmp_path / "train.jsonl").read_bytes()
    assert np.load(tmp_path / "videos" / "v0.npy").shape == (2, 20, DIM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"caption": ...},
            "field 'caption': expected one, got none of caption, text, query, sentence among vid",
        ),
        ({"caption": None}, "field 'caption': expected one"),
        ({"caption": 7}, "field 'caption': expected text, got 7. Fix: write the caption as text"),
        ({"interval": ...}, "field 'interval': expected one, got none of interval, timestamp"),
        ({"interval": "4-12"}, r"field 'interval': expected \[start, end\] in seconds, got \"4-12\""),
        ({"interval": [4.0]}, r"expected \[start, end\] in seconds, got \[4.0\]"),
        ({"interval": [4.0, float("nan")]}, r"in seconds or HH:MM:SS.mmm, got \[4.0, NaN\]"),
        ({"interval": ["00:00:61", "00:02:00"]}, "HH:MM:SS.mmm"),
        ({"interval": [12.0, 4.0]}, r"expected start < end, got \[12.0, 4.0\]. Fix: swap the two"),
        ({"interval": [4.0, 4.0]}, "expected start < end"),
        ({"interval": [-1.0, 4.0]}, "expected a start of 0 or more"),
        ({"interval": [4.0, 41.5]}, r"expected an interval within 0 and 40 s, got \[4, 41.5\]"),
        ({"interval": [40.0, 40.5]}, "expected an interval within 0 and 40 s"),
        ({"duration": -3}, "field 'duration': expected a positive number of seconds, got -3"),
        ({"vid": ...}, "field 'vid': expected one, got none of vid, youtubeid"),
        ({"vid": "../v0"}, "field 'vid': expected the name of a video"),
        ({"qid": [1]}, "field 'qid': expected an integer or text without slashes"),
        ({"qid": 1}, "line 2: field 'qid': expected an id used once, got 1 again"),
        ({"qid": "1"}, 'expected an id used once, got "1" again'),
    ],
)
def test_faults_of_captions(tmp_path, change, message):
    _, rows = write(tmp_path, 4)
    first = {name: value for name, value in (GOOD | change).items() if value is not ...}
    faulty = [rows[1], first, rows[2]]
    lines(tmp_path, faulty)
    with pytest.raises(CaptionError, match="line 2: " if message.startswith("line") else message) as caught:
        run(tmp_path)
    assert f"{tmp_path}/c.jsonl, line 2: " in str(caught.value) and "--skip-bad" in str(caught.value)
    assert not (tmp_path / "train.jsonl").exists()
    report = run(tmp_path, skip_bad=True)
    assert report["kept"] == 2 and sum(report["dropped"].values()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"vid": "v0", "cap', "torn line, which ends after 18 characters"),
        ("not json", "expected one JSON object, got 'not json'"),
        ("[1, 2]", r"expected a JSON object, got \[1, 2\]"),
    ],
)
def test_lines_that_are_no_captions(tmp_path, line, message):
    path, rows = write(tmp_path, 4)
    path.write_text("\n".join([*map(json.dumps, rows), line]))
    with pytest.raises(CaptionError, match=f"line 5: .*{message}"):
        run(tmp_path)
    assert run(tmp_path, skip_bad=True)["dropped"]["json"] == 1


def test_files_that_are_no_captions(tmp_path):
    path, rows = write(tmp_path, 4)
    with pytest.raises(CaptionError, match="expected a readable file, got No such file"):
        run(tmp_path, captions=tmp_path / "nowhere.jsonl")
    for content, message in (
        (b"", "got an empty file"),
        (b"\n\n", "got an empty file"),
        (b"<html>", "got a web page"),
        (gzip.compress(path.read_bytes())[:-20], "got a torn one"),
        (path.read_bytes() + b'{"vid": "\xff"}\n', "line 5: expected UTF-8 text, got the byte ff"),
    ):
        (tmp_path / "bad.jsonl").write_bytes(content)
        with pytest.raises(CaptionError, match=message):
            run(tmp_path, captions=tmp_path / "bad.jsonl")
    lines(tmp_path, [{**row, "interval": [9, 1]} for row in rows for _ in range(4)])
    with pytest.raises(CaptionError, match="… and 6 more problems") as caught:
        run(tmp_path)
    assert str(caught.value).count("expected start < end") == 10


def test_intervals_at_the_edges_are_used_and_counted(tmp_path):
    _, rows = write(tmp_path, 4)
    rows[0]["interval"], rows[1]["interval"], rows[2]["interval"] = [5.0, 5.5], [30.0, 40.9], [39.5, 40.0]
    lines(tmp_path, rows)
    report = run(tmp_path)
    assert report["kept"] == 4 and report["notes"]["short_interval"] == 2
    made = read_annotations(tmp_path / "train.jsonl", "qvhighlights")
    assert 2 in made[0]["relevant_clip_ids"] and 19 in made[2]["relevant_clip_ids"]


def test_equal_scores_and_all_clips_are_used_and_counted(tmp_path):
    write(tmp_path, 4, videos=4)
    with np.load(tmp_path / "f" / "text" / "qid0.npz") as found:
        text = found["pooler_output"]
    np.savez(tmp_path / "f" / "video" / "v0.npz", features=np.tile(text, (20, 1)))
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    rows[0]["interval"] = [4.0, 10.0]
    lines(tmp_path, rows)
    report = run(tmp_path)
    assert report["notes"]["equal_scores"] == report["notes"]["all_clips"] == 1
    first = read_annotations(tmp_path / "train.jsonl", "qvhighlights")[0]
    assert first["relevant_windows"] == [[0, 40]] and first["saliency_scores"] == [[4] * 3] * 20


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "video" / "v2.npz").unlink(), "v2.npz: expected a feature file, got none"),
        (lambda f: (f / "text" / "qid2.npz").unlink(), "qid2.npz: expected a feature file, got none"),
        (
            lambda f: np.savez(f / "video" / "v2.npz", features=np.ones((20, 5))),
            r"expected 1 level\(s\) of 8 dimensions .* got 1 of 5",
        ),
        (
            lambda f: np.savez(f / "text" / "qid2.npz", pooler_output=np.ones(5)),
            r"expected 1 level\(s\) of 8 dimensions .* got 1 of 5",
        ),
        (
            lambda f: np.savez(f / "video" / "v2.npz", features=np.ones((31, DIM))),
            "v2: expected about 20 clips of 2 s for 40 s, got 31",
        ),
        (
            lambda f: np.savez(f / "video" / "v2.npz", features=np.full((20, DIM), np.nan)),
            "expected finite numbers, got NaN or infinity at item 0",
        ),
        (lambda f: np.savez(f / "text" / "qid2.npz", pooler_output=np.zeros(DIM)), "2: .* got zeros only"),
        (lambda f: (f / "video" / "v2.npz").write_bytes(b"PK torn"), "expected a readable .npz file"),
    ],
)
def test_faults_of_features(tmp_path, spoil, message):
    write(tmp_path, 4, videos=4)
    spoil(tmp_path / "f")
    with pytest.raises(FeatureError, match=f"c.jsonl, line 3: .*{message}"):
        run(tmp_path)
    report = run(tmp_path, skip_bad=True, out=tmp_path / "rest.jsonl")
    assert report["dropped"]["features"] == 1 and report["kept"] == 3


def test_features_of_two_spaces_or_nowhere(tmp_path):
    write(tmp_path, 4)
    for path in (tmp_path / "f" / "text").iterdir():
        np.savez(path, pooler_output=np.ones(5))
    with pytest.raises(FeatureError, match="expected video and text in one space, got 8 and 5 channels"):
        run(tmp_path)
    with pytest.raises(FeatureError, match="nowhere/video: expected a folder of video features, got none"):
        run(tmp_path, features=tmp_path / "nowhere")
    (tmp_path / "f" / "video" / "v0.npz").unlink()
    with pytest.raises(FeatureError, match=r"expected a file for video v0, such as v0\.npz, got none"):
        run(tmp_path)


def test_without_a_duration_the_features_tell_it(tmp_path):
    _, rows = write(tmp_path, 4)
    rows = [{name: value for name, value in row.items() if name != "duration"} for row in rows]
    rows[2]["interval"] = [30.0, 50.0]
    lines(tmp_path, rows)
    with pytest.raises(CaptionError, match=r"line 3: .* within 0 and 40 s, got \[30, 50\]"):
        run(tmp_path)
    assert run(tmp_path, skip_bad=True)["dropped"]["interval"] == 1


def test_what_is_there_is_found_or_kept(tmp_path):
    write(tmp_path)
    first = run(tmp_path)
    stamp = (tmp_path / "train.jsonl").stat().st_mtime_ns
    assert run(tmp_path) == first and (tmp_path / "train.jsonl").stat().st_mtime_ns == stamp
    other = job(tmp_path, settings=PseudoLabels(threshold="min"))
    with pytest.raises(CaptionError, match="is there already, and was not made of these.*--overwrite"):
        pseudo_label(other, progress=False)
    assert pseudo_label(other, overwrite=True, progress=False)["window_length"] != first["window_length"]
    (tmp_path / "train.report.json").unlink()
    with pytest.raises(CaptionError, match="is there already"):
        pseudo_label(other, progress=False)


class Stopped(Exception):
    pass


def stop_after(monkeypatch, number, error=Stopped):
    """`annotate` that fails the next time after `number` captions."""
    whole, count = stream.annotate, iter(range(10**6))

    def annotate(*given):
        if next(count) == number:
            raise error() if isinstance(error, type) else error
        return whole(*given)

    monkeypatch.setattr(stream, "annotate", annotate)


@pytest.mark.parametrize("number", [0, 3, 10, 17, 39])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, number):
    write(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    rows.insert(9, {**rows[2], "qid": "again"})  # a repetition, told from a caption before the stop
    rows.append({**rows[20], "qid": "late"})
    lines(tmp_path, rows)
    for qid in ("again", "late"):
        np.savez(tmp_path / "f" / "text" / f"qid{qid}.npz", pooler_output=np.ones(DIM))
    whole = run(tmp_path)
    assert whole["dropped"]["repeated"] == 2
    monkeypatch.setattr(stream, "EVERY", 5)
    with monkeypatch.context() as inner:
        stop_after(inner, number)
        with pytest.raises(Stopped):
            run(tmp_path, out=tmp_path / "again.jsonl")
    partial = tmp_path / ".again.jsonl.partial"
    assert not (tmp_path / "again.jsonl").exists() and partial.exists()
    with (partial / "rows.jsonl").open("ab") as file:
        file.write(b'{"qid": 99, "torn')  # what a kill may leave behind the last record
    seen = []
    annotate = stream.annotate
    monkeypatch.setattr(stream, "annotate", lambda *given: seen.append(given[0].qid) or annotate(*given))
    again = run(tmp_path, out=tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "train.jsonl").read_bytes()
    assert again == whole
    assert number < 5 or 0 not in seen  # what was recorded is not done twice


def test_other_captions_or_settings_start_over(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(stream, "EVERY", 5)
    with monkeypatch.context() as inner:
        stop_after(inner, 12)
        with pytest.raises(Stopped):
            run(tmp_path)
    settings = PseudoLabels(threshold="min")
    with pytest.warns(PseudoLabelWarning, match="made of other captions, features or settings; started over"):
        run(tmp_path, settings=settings)
    run(tmp_path, settings=settings, out=tmp_path / "clean.jsonl")
    assert (tmp_path / "train.jsonl").read_bytes() == (tmp_path / "clean.jsonl").read_bytes()


def test_a_full_disk_is_said_and_gone_on_from(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(stream, "EVERY", 5)
    with monkeypatch.context() as inner:
        stop_after(inner, 12, OSError(errno.ENOSPC, "No space left on device", "x"))
        with pytest.raises(
            OSError, match=r"no space left on the device; what is done stays in .*which goes on"
        ) as caught:
            run(tmp_path)
    assert caught.value.errno == errno.ENOSPC and not (tmp_path / "train.jsonl").exists()
    run(tmp_path)
    run(tmp_path, out=tmp_path / "clean.jsonl")
    assert (tmp_path / "train.jsonl").read_bytes() == (tmp_path / "clean.jsonl").read_bytes()


def test_a_second_run_of_the_same_output_is_refused(tmp_path):
    write(tmp_path)
    with (
        locked(tmp_path / "train.jsonl"),
        pytest.raises(Busy, match="train.jsonl: another run is writing it"),
    ):
        run(tmp_path)
    assert run(tmp_path)["kept"] == 40


def test_killed_for_good_and_resumed(tmp_path):
    """A process of its own, SIGKILL in the middle."""
    write(tmp_path, 3000, videos=300)
    run(tmp_path, out=tmp_path / "whole.jsonl")
    code = (
        "import sys, time; from pathlib import Path; from vtg_lib.data.pseudo import stream\n"
        "stream.EVERY = 100; whole = stream.annotate\n"
        "stream.annotate = lambda *given: time.sleep(0.002) or whole(*given)\n"
        "folder = Path(sys.argv[1])\n"
        "stream.pseudo_label(stream.Job(captions=folder / 'c.jsonl', features=folder / 'f', "
        "out=folder / 'train.jsonl'), progress=False)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    record, until = tmp_path / ".train.jsonl.partial" / "progress.json", time.monotonic() + 60
    while not record.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and record.exists()
    assert 0 < json.loads(record.read_text())["captions"] < 3000
    run(tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_counts_survive_json_and_a_report_needs_no_rows():
    tally = Tally(read=3)
    tally.add(
        {
            "query": "a b",
            "duration": 10.5,
            "relevant_windows": [[0, 2], [4, 10.5]],
            "saliency_scores": [[4] * 3],
        }
    )
    tally.notes["trimmed"] += 1
    again = Tally.from_json(json.loads(json.dumps(tally.to_json())))
    assert again == tally and again.report() == tally.report()
    assert tally.report()["window_length"] == {"mean": 4.25, "median": 4.25, "min": 2.0, "max": 6.5}
    empty = Tally(read=2).report()
    assert empty["kept"] == 0 and "moments" not in report_text(empty, None)


def test_what_stands_beside_is_qvhighlights_as_recorded(data_root):
    rows = read_annotations(data_root / "qvhighlights" / "highlight_train_release.jsonl")
    whole, beside = statistics(rows, "qvhighlights"), qvhighlights()
    for name in ("words_per_query", "window_length", "window_count_share"):
        assert beside[name] == pytest.approx(whole[name], abs=1e-4)
    assert beside["grade_share"].keys() == {"0", "1", "2", "3", "4"} and sum(
        beside["grade_share"].values()
    ) == pytest.approx(1, abs=1e-3)


def test_one_caption_is_parsed():
    made = parse({**GOOD, "interval": ["0:04", "00:00:12.5"]}, 3, "c.jsonl, line 3")
    assert made == Caption(3, 0, "v0", GOOD["caption"], (4.0, 12.5), 40.0)
    bare = parse({"Video_ID": "x", "TEXT": "y", "start_sec": 1, "end_sec": 2}, 7, "")
    assert bare == Caption(7, 6, "x", "y", (1.0, 2.0), None)


def test_errors_are_given_in_the_place_of_captions(tmp_path):
    path = lines(tmp_path, [GOOD, "{", GOOD])
    first, second, third = read_captions(path)
    assert isinstance(second, CaptionError) and second.kind == "json" and isinstance(third, Caption)
    assert first.line == 1 and third.line == 3
