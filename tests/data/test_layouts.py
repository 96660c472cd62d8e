"""Every layout of annotations gives the same queries; what is none is refused with place and mend."""

import gzip
import json
import os
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtg_lib.data.annotations import AnnotationError, read_annotations
from vtg_lib.data.datasets import SCORED
from vtg_lib.data.layouts import AnnotationNote

FUZZ = int(os.environ.get("VTG_FUZZ", "200"))  # mutated files for each reader
WINDOWS = {"v_a": [[0.0, 10.0], [12.0, 50.0]], "v_b": [[5.0, 8.0]]}
SENTENCES = {"v_a": ["A man sits.", "He stands up."], "v_b": ["Rain falls."]}
SECONDS = {"v_a": 50.0, "v_b": 20.0}
EXPECTED = [
    (f"{video}_{n}", SENTENCES[video][n], SECONDS[video], video, [window])
    for video, windows in WINDOWS.items()
    for n, window in enumerate(windows)
]


def each():
    return [(video, n, window) for video, windows in WINDOWS.items() for n, window in enumerate(windows)]


def rows():
    return [
        {"qid": qid, "query": query, "duration": seconds, "vid": video, "relevant_windows": windows}
        for qid, query, seconds, video, windows in EXPECTED
    ]


ACTIVITYNET = {
    v: {"duration": SECONDS[v], "timestamps": WINDOWS[v], "sentences": SENTENCES[v]} for v in WINDOWS
}
LAYOUTS = {
    "lines": "\n".join(map(json.dumps, rows())),
    "list": json.dumps(rows(), indent=1),
    "wrapped": json.dumps({"version": 1, "data": rows()}),
    "activitynet": json.dumps(ACTIVITYNET),
    "activitynet, indented": json.dumps(ACTIVITYNET, indent=2),
    "tacos in frames": json.dumps(
        {
            v: {
                "fps": 25.0,
                "num_frames": int(25 * SECONDS[v]),
                "timestamps": [[25 * s, 25 * e] for s, e in WINDOWS[v]],
                "sentences": SENTENCES[v],
            }
            for v in WINDOWS
        }
    ),
    "segments": json.dumps(
        {
            "database": {
                v: {
                    "duration": SECONDS[v],
                    "annotations": [
                        {"segment": w, "sentence": SENTENCES[v][n]} for n, w in enumerate(WINDOWS[v])
                    ],
                }
                for v in WINDOWS
            }
        }
    ),
    "list of objects": json.dumps(
        [
            {"video": v, "duration": SECONDS[v], "timestamp": w, "sentence": SENTENCES[v][n]}
            for v, n, w in each()
        ]
    ),
    "list of lists": json.dumps([[v, SECONDS[v], w, SENTENCES[v][n]] for v, n, w in each()]),
    "ego4d": json.dumps(
        {
            "videos": [
                {
                    "clips": [
                        {
                            "clip_uid": v,
                            "video_start_sec": 100.0,
                            "video_end_sec": 100.0 + SECONDS[v],
                            "annotations": [
                                {
                                    "language_queries": [
                                        {
                                            "clip_start_sec": w[0],
                                            "clip_end_sec": w[1],
                                            "query": SENTENCES[v][n],
                                        }
                                        for n, w in enumerate(WINDOWS[v])
                                    ]
                                }
                            ],
                        }
                    ]
                }
                for v in WINDOWS
            ]
        }
    ),
    "mad": json.dumps(
        {
            f"{v}_{n}": {
                "movie": v,
                "movie_duration": SECONDS[v],
                "timestamps": w,
                "sentence": SENTENCES[v][n],
            }
            for v, n, w in each()
        }
    ),
}
CHARADES = "\n".join(f"{v} {w[0]} {w[1]}##{SENTENCES[v][n]}" for v, n, w in each())


def found(path, **options):
    names = ("qid", "query", "duration", "vid", "relevant_windows")
    return [tuple(row[name] for name in names) for row in read_annotations(path, SCORED, **options)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_queries(tmp_path, name):
    path = tmp_path / "x.json"
    path.write_text(LAYOUTS[name])
    assert found(path) == EXPECTED


@pytest.mark.parametrize("form", ["gzip", "bom", "crlf", "utf-16"])
def test_forms_of_text_are_told_by_the_bytes(tmp_path, form):
    text, path = LAYOUTS["lines"], tmp_path / "annotations.anything"
    path.write_bytes(
        {
            "gzip": lambda: gzip.compress(text.encode()),
            "bom": lambda: text.encode("utf-8-sig"),
            "crlf": lambda: text.replace("\n", "\r\n").encode(),
            "utf-16": lambda: text.encode("utf-16"),
        }[form]()
    )
    assert found(path) == EXPECTED


def test_lines_of_charades(tmp_path):
    path, lengths = tmp_path / "charades.txt", tmp_path / "lengths.csv"
    path.write_text(CHARADES)
    with pytest.warns(AnnotationNote, match="length of videos is the largest end"):
        assert [row[0] for row in found(path)] == [0, 1, 2] and found(path)[2][2] == 8.0
    lengths.write_text("id,length\nv_a,50\nv_b,20.0\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [row[1:] for row in found(path, durations=lengths)] == [row[1:] for row in EXPECTED]
    lengths.write_text(json.dumps(SECONDS))
    assert [row[2] for row in found(path, durations=lengths)] == [50.0, 50.0, 20.0]
    lengths.write_text("name,seconds\nv_a,50\n")
    with pytest.raises(AnnotationError, match=r"expected a header with id .or video. and length"):
        found(path, durations=lengths)


REFUSED = {
    "A 1 2##x.\nB 1##y.": r"line 2: expected VIDEO START END##SENTENCE, got 'B 1##y\.'",
    json.dumps({"v": {"duration": 5, "timestamps": [[0, 1]], "sentences": []}}): "v: expected as many",
    json.dumps({"v": {"timestamps": [[0, 1]], "sentences": ["x"]}}): "v, sentence 1: field 'duration'",
    json.dumps({"database": {"v": {"duration": 5, "annotations": [{"sentence": "x"}]}}}): (
        "v, annotation 1: field 'relevant_windows'"
    ),
    json.dumps({"version": 1}): "line 1: field 'qid': .*no such field among version",
    "[1]": "item 1: expected a JSON object",
    "\x80\x04": "pickle|binary|UTF-8",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_annotation_is_refused(tmp_path, text):
    path = tmp_path / "x"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError, match=REFUSED[text]) as error:
        found(path)
    assert str(path) in str(error.value) and "Fix: " in str(error.value)


@st.composite
def mutated(draw):
    """A file of some layout with bytes changed, cut out, doubled, or a value replaced."""
    text = draw(st.sampled_from([*LAYOUTS.values(), CHARADES]))
    if draw(st.booleans()):
        for old, new in draw(
            st.lists(
                st.tuples(
                    st.sampled_from(['"duration"', "50.0", "[", "]", '"v_a"', "{", "}", ":", ",", "10.0"]),
                    st.sampled_from(["null", "NaN", "-1", '"x"', "[]", "{}", "1e999", "true", "", "##"]),
                ),
                min_size=1,
                max_size=3,
            )
        ):
            place = text.find(old, draw(st.integers(0, len(text))))
            text = text if place < 0 else text[:place] + new + text[place + len(old) :]
        return text.encode()
    data = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        data[start : start + draw(st.integers(0, 6))] = draw(st.binary(max_size=4))
    return bytes(data)


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=mutated())
def test_no_file_ends_in_a_fault_of_ours(tmp_path, data):
    path = tmp_path / "fuzzed"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = read_annotations(path, SCORED)
        except AnnotationError as error:
            assert "Fix: " in str(error)
        else:
            for row in read:
                assert row["duration"] > 0
                assert all(0 <= s < e <= row["duration"] + 1 for s, e in row.get("relevant_windows") or ())
