"""One caption: Eqs. 16 to 18 by hand, and what happens at their edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg_lib.data.annotations import validate_annotations
from vtg_lib.data.pseudo.labels import (
    LabelConfig,
    PseudoLabels,
    captioned_clips,
    grades_of,
    joined,
    label,
    moments_of,
    similarity,
    threshold_of,
    window_of,
)

SCORES = np.array([0.1, 0.6, 0.4, 0.2, 0.1, 0.5, 0.3, 0.0])
NAMED = np.array([False, True, True, True, False, False, False, False])  # .6, .4, .2: mean .4, sd .1633


def test_similarity_is_the_cosine_whatever_the_lengths():
    video = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [-5.0, 0.0], [0.0, 0.0]])
    assert similarity(video, np.array([10.0, 0.0])) == pytest.approx([1, 0, 0.5**0.5, -1, 0])
    assert similarity(video.astype(np.float16), np.zeros(2, np.float16)).tolist() == [0.0] * 5
    with pytest.raises(ValueError, match=r"one space, got \[5, 2\] and \[3\]"):
        similarity(video, np.ones(3))


@pytest.mark.parametrize(
    ("rule", "threshold", "clips"),
    [
        ("mean_minus_sd", 0.4 - (0.08 / 3) ** 0.5, [1, 2, 5, 6]),
        ("mean", 0.4, [1, 2, 5]),
        ("min", 0.2, [1, 2, 3, 5, 6]),
    ],
)
def test_the_three_readings_of_the_threshold(rule, threshold, clips):
    made = label(SCORES, NAMED, PseudoLabels(threshold=rule))
    assert made.threshold == pytest.approx(threshold) == threshold_of(SCORES, NAMED, rule)
    assert np.flatnonzero(made.clips).tolist() == clips
    assert (made.grades > 0).tolist() == made.clips.tolist()


def test_moments_are_runs_and_may_be_kept_near():
    assert label(SCORES, NAMED, PseudoLabels(threshold="min")).moments.tolist() == [[1, 4], [5, 7]]
    # four seconds are two clips beyond 1..3: clip 5 is near, clip 6 is not
    near = label(SCORES, NAMED, PseudoLabels(threshold="min", extend="near", near=4.0))
    assert near.moments.tolist() == [[1, 4], [5, 6]]
    assert label(SCORES, NAMED, PseudoLabels(threshold="min", extend="near", near=0.0)).moments.tolist() == [
        [1, 4]
    ]
    assert moments_of(np.zeros(3, bool)).shape == (0, 2)
    assert moments_of(np.ones(3, bool)).tolist() == [[0, 3]]


def test_short_gaps_may_be_filled_and_ends_never():
    clips = np.array([0, 1, 0, 1, 0, 0, 1, 0, 0], bool)
    assert moments_of(joined(clips, 1.9)).tolist() == [[1, 2], [3, 4], [6, 7]]
    assert moments_of(joined(clips, 2.0)).tolist() == [[1, 4], [6, 7]]
    assert moments_of(joined(clips, 60.0)).tolist() == [[1, 7]]
    made = label(SCORES, NAMED, PseudoLabels(threshold="mean", join=6.0))
    assert made.moments.tolist() == [[1, 6]] and made.grades.tolist() == [0, 4, 3, 2, 1, 4, 0, 0]


def test_grades_by_edges_and_linear():
    scores, clips = np.array([0.0, 0.1, 0.5, 0.6, 1.0, 9.0]), np.array([True] * 5 + [False])
    # mean .44, sd .3611: edges .0789, .44, .72
    assert grades_of(scores, clips, "edges").tolist() == [1, 2, 3, 3, 4, 0]
    # 1 + 3 s: 1, 1.3, 2.5, 2.8, 4
    assert grades_of(scores, clips, "linear").tolist() == [1, 1, 3, 3, 4, 0]


def test_equal_scores_all_pass_and_are_all_graded_four():
    scores = np.full(7, 0.1)  # whose mean, of three, rounds to above them
    named = np.arange(7) < 3
    for rule in ("mean_minus_sd", "mean", "min"):
        for grades in ("edges", "linear"):
            made = label(scores, named, PseudoLabels(threshold=rule, grades=grades))
            assert made.clips.all() and set(made.grades.tolist()) == {4}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_caption_ends_without_a_moment(data):
    """Of the captioned clips the best one passes, whatever the scores; grades rise with the scores."""
    scores = np.array(data.draw(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)))
    first = data.draw(st.integers(0, len(scores) - 1))
    named = (np.arange(len(scores)) >= first) & (
        np.arange(len(scores)) < data.draw(st.integers(first + 1, len(scores)))
    )
    chosen = PseudoLabels(
        threshold=data.draw(st.sampled_from(["mean_minus_sd", "mean", "min"])),
        extend=data.draw(st.sampled_from(["video", "near"])),
        grades=data.draw(st.sampled_from(["edges", "linear"])),
    )
    made = label(scores, named, chosen)
    best = np.flatnonzero(named)[scores[named].argmax()]
    assert made.clips[best] and set(made.grades[made.clips].tolist()) <= {1, 2, 3, 4}
    order = np.argsort(scores[made.clips], kind="stable")
    assert (np.diff(made.grades[made.clips][order]) >= 0).all()
    assert sum(end - start for start, end in made.moments.tolist()) == made.clips.sum()


def test_a_slider_may_leave_nothing_or_everything():
    assert label(SCORES, NAMED, PseudoLabels(), threshold=2.0).fields(16.0) == {
        "relevant_windows": [],
        "relevant_clip_ids": [],
        "saliency_scores": [],
    }
    assert label(SCORES, NAMED, PseudoLabels(), threshold=-1.0).moments.tolist() == [[0, 8]]


def test_fields_are_read_by_the_annotation_reader():
    fields = label(SCORES, NAMED, PseudoLabels(threshold="min")).fields(15.2)
    assert fields["relevant_windows"] == [[2, 8], [10, 14]] and fields["relevant_clip_ids"] == [1, 2, 3, 5, 6]
    assert fields["saliency_scores"][0] == [4, 4, 4]
    whole = label(SCORES, NAMED, PseudoLabels(), threshold=-1.0).fields(15.2)
    assert whole["relevant_windows"] == [[0, 15.2]]  # the last clip is not whole
    rows = [
        {"qid": n, "query": "x", "vid": f"v{n}", "duration": 15.2, **part}
        for n, part in enumerate((fields, whole))
    ]
    assert validate_annotations(rows, "qvhighlights") == []


@pytest.mark.parametrize(
    ("interval", "clips"),
    [((2.0, 6.0), [1, 2]), ((2.5, 5.5), [1, 2]), ((3.2, 4.4), [1]), ((2.9, 3.1), [1]), ((9.5, 10.4), [4])],
)
def test_captioned_clips_by_their_centres(interval, clips):
    assert np.flatnonzero(captioned_clips(interval, 5)).tolist() == clips


@pytest.mark.parametrize(
    ("interval", "clips", "expected"),
    [
        ((0.0, 10.0), 60, (0, 60)),  # shorter than a window: all of it
        ((200.0, 210.0), 300, (65, 140)),  # 75 clips, the interval's five in the middle
        ((0.0, 4.0), 300, (0, 75)),
        ((590.0, 600.0), 300, (225, 300)),
        ((100.0, 250.0), 300, (50, 125)),  # exactly a window
        ((100.0, 251.0), 300, None),
        ((99.0, 249.5), 300, None),  # touches 76 clips
    ],
)
def test_the_window_keeps_the_interval_whole(interval, clips, expected):
    assert window_of(interval, clips, PseudoLabels()) == expected


@given(st.floats(0, 590), st.floats(0.1, 140), st.floats(0, 1))
def test_a_drawn_window_keeps_the_interval_too(start, length, draw):
    interval = (start, min(600.0, start + length))
    first, last = window_of(interval, 300, PseudoLabels(place="drawn"), draw)
    assert last - first == 75 and first >= 0 and last <= 300
    assert first * 2 <= interval[0] + 1e-6 and last * 2 >= interval[1] - 1e-6


def test_drawn_windows_differ_and_central_ones_do_not():
    drawn = {window_of((300.0, 310.0), 300, PseudoLabels(place="drawn"), draw) for draw in (0.0, 0.5, 1.0)}
    assert drawn == {(150, 225), (115, 190), (80, 155)}
    assert len({window_of((300.0, 310.0), 300, PseudoLabels(), draw) for draw in (0.0, 0.5, 1.0)}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": "median"}, "threshold: expected one of mean_minus_sd, mean, min; got 'median'"),
        ({"extend": "far"}, "extend: expected one of video, near"),
        ({"grades": "log"}, "grades: expected one of edges, linear"),
        ({"place": "left"}, "place: expected one of centre, drawn"),
        ({"repeated": "never"}, "repeated: expected one of video, file"),
        ({"window": 1.0}, "window: expected seconds, 2 or more, got 1.0"),
        ({"window": float("nan")}, "window: expected seconds"),
        ({"near": -1.0}, "near: expected seconds, 0 or more"),
        ({"join": -1.0}, "join: expected seconds, 0 or more"),
        ({"min_words": -1}, "min_words: expected 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PseudoLabels(**change)
    if f"label_{next(iter(change))}" in LabelConfig.__dataclass_fields__:
        with pytest.raises(ValueError, match=message):
            LabelConfig(**{f"label_{name}": value for name, value in change.items()})


@pytest.mark.parametrize(
    ("scores", "named", "message"),
    [
        (np.zeros(0), np.zeros(0, bool), "at least one of 0 clips"),
        (SCORES, np.zeros(8, bool), "at least one of 8 clips, got none"),
        (SCORES, NAMED[:5], r"got shapes \[8\] and \[5\]"),
        (np.where(NAMED, np.nan, SCORES), NAMED, "3 scores not finite"),
    ],
)
def test_scores_that_cannot_be_labelled_are_refused(scores, named, message):
    with pytest.raises(ValueError, match=message):
        label(scores, named, PseudoLabels())
