"""A frame for each clip: by presentation time, whatever the file lacks; faults are said."""

from pathlib import Path

import pytest
from videos import described, encoded, fake_packages, numbers

from vtg_lib.data.extraction.decode import Video, VideoError

TENTHS = [n / 10 for n in range(100)]  # ten seconds, ten frames a second


@pytest.fixture
def fake(monkeypatch):
    fake_packages(monkeypatch, "av")


def read(path: Path, clip_length: float = 2.0):
    with Video(path) as video:
        shown = numbers(video.clips(clip_length))
    return shown, video


def test_a_clip_shows_the_last_frame_before_its_middle(fake, tmp_path):
    shown, video = read(described(tmp_path / "a.mp4", TENTHS, duration=10_000_000))
    assert shown == [9, 29, 49, 69 % 51, 89 % 51]
    assert video.duration == pytest.approx(10.0) and video.stated == 10.0 and video.notes == []


def test_variable_frame_rate_counts_seconds_and_not_frames(fake, tmp_path):
    times = [0.0, 0.1, 0.2, 0.3, 3.2, 6.0]  # the picture stands still in between
    shown, video = read(described(tmp_path / "a.mp4", times))
    assert shown == [3, 3, 4] and video.duration == pytest.approx(6.1)
    shown, _ = read(described(tmp_path / "b.mp4", times), 1.0)
    assert shown == [3, 3, 3, 4, 4, 4]


def test_as_many_clips_as_have_their_middle_in_the_video(fake, tmp_path):
    for frames, clips in ((1, 1), (10, 1), (29, 1), (30, 2), (49, 2), (50, 3)):
        shown, video = read(described(tmp_path / "a.mp4", TENTHS[:frames]))
        assert len(shown) == clips and video.duration == pytest.approx(frames / 10)


def test_time_starts_where_the_file_starts(fake, tmp_path):
    late = [5 + time for time in TENTHS]
    shown, video = read(described(tmp_path / "a.ts", late, start=5_000_000))
    assert shown == [9, 29, 49, 18, 38] and video.duration == pytest.approx(10.0)
    # sound begins 5 s before the picture: the first frame stands for what is before it
    shown, video = read(described(tmp_path / "b.mp4", late, start=0))
    assert shown[:4] == [0, 0, 0, 19] and video.duration == pytest.approx(15.0)
    shown, video = read(described(tmp_path / "c.mp4", late, start=None))
    assert len(shown) == 5 and video.duration == pytest.approx(10.0)


def test_frames_without_a_timestamp_follow_at_the_frame_rate(fake, tmp_path):
    shown, video = read(described(tmp_path / "a.h264", [None] * 100, start=None))
    assert shown == [9, 29, 49, 18, 38]
    assert video.notes == ["100 frames without a timestamp, counted at 10 a second"]
    nothing = [{"kind": "video", "rate": None}]
    with pytest.raises(VideoError, match="expected timestamps or a frame rate, got neither"):
        read(described(tmp_path / "b.h264", [None], start=None, streams=nothing))


def test_a_timestamp_that_goes_back_counts_as_the_one_before(fake, tmp_path):
    shown, video = read(described(tmp_path / "a.avi", [0.0, 0.4, 0.3, 0.5, 0.6]), 0.2)
    assert shown == [0, 0, 2, 4] and video.duration == pytest.approx(0.7)


def test_a_phone_that_was_held_upright(fake, tmp_path):
    for degrees, corner in ((0, (0, 0)), (90, (0, 3)), (-90, (1, 0)), (180, (3, 1))):
        path = described(tmp_path / "a.mp4", [0.0], frame={"rotation": degrees})
        with Video(path) as video:
            (image,) = video.clips(2.0)
        assert image.size == ((2, 4) if abs(degrees) == 90 else (4, 2))
        assert image.getpixel(corner) == (255, 0, 0)


def test_what_is_broken_is_left_out_and_said(fake, tmp_path):
    shown, video = read(described(tmp_path / "a.mp4", TENTHS, broken=[9, 28, 29]))
    assert shown[:2] == [8, 27]
    assert video.notes == ["3 broken packets left out; the frames before them stand in"]
    shown, video = read(described(tmp_path / "b.mp4", TENTHS, broken=range(10, 90)))
    assert shown == [9, 9, 9, 9, 9]
    assert video.notes[0] == "no frame for 8.1 s from 0.9 s on; the one before stands in"
    with pytest.raises(VideoError, match=r"expected frames, got none.*\(100 broken packets\)"):
        read(described(tmp_path / "c.mp4", TENTHS, broken=range(100)))


def test_a_torn_file_is_no_shorter_video(fake, tmp_path):
    path = described(tmp_path / "a.mp4", TENTHS[:50], duration=10_000_000)
    with pytest.raises(VideoError, match=r"a\.mp4: expected 10\.0 s, as its header says, got 5\.0 s"):
        read(path)
    path = described(tmp_path / "b.mp4", TENTHS, duration=10_000_000, stop=50)
    with pytest.raises(VideoError, match=r"got 5\.0 s: it is torn; reading stopped: Input/output error"):
        read(path)
    # sound that goes on after the picture is no fault
    packets = [{"stream": 1, "pts": 9.9, "duration": 0.1}, {"pts": 0.0, "frames": [{"time": 0.0, "grey": 0}]}]
    streams = [{"kind": "video", "rate": 10}, {"kind": "audio", "rate": None}]
    path = described(tmp_path / "c.mp4", [], duration=10_000_000, packets=packets, streams=streams)
    assert read(path)[1].duration == pytest.approx(0.1)


def test_what_is_no_video_is_refused(fake, tmp_path):
    with pytest.raises(VideoError, match="expected a video file, got none"):
        Video(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="expected a video file, got a folder"):
        Video(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match="cannot be read as one"):
        Video(tmp_path / "a.mp4")
    cover = [{"kind": "video", "rate": None, "disposition": 1024}, {"kind": "audio", "rate": None}]
    with pytest.raises(VideoError, match="expected a video stream, got none"):
        Video(described(tmp_path / "b.mp3", [0.0], streams=cover))


def test_without_pyav_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"expected PyAV.*pip install 'vtg_lib\[video\]'"):
        Video(tmp_path / "a.mp4")


# --- the same by PyAV itself


@pytest.fixture
def real():
    return pytest.importorskip("av")


def ffmpegs_choice(av, path: Path, clip_length: float) -> list[int]:
    """The frames that ffmpeg's filter `fps` picks, as the public features were extracted."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        graph = av.filter.Graph()
        chain = [graph.add_buffer(template=stream), graph.add("fps", f"fps=1/{clip_length:g}")]
        chain.append(graph.add("buffersink"))
        graph.link_nodes(*chain).configure()
        shown = []

        def pull():
            while True:
                try:
                    shown.append(graph.pull().to_image())
                except (av.error.BlockingIOError, av.error.EOFError):
                    return

        for frame in file.decode(stream):
            graph.push(frame)
            pull()
        graph.push(None)
        pull()
    return numbers(shown)


@pytest.mark.parametrize("seconds", [2.0, 7.9, 8.4, 9.0, 31.0])
def test_the_choice_is_that_of_ffmpegs_filter(real, tmp_path, seconds):
    frames = round(25 * seconds)
    path = encoded(tmp_path / "a.mkv", [n / 25 for n in range(frames)])
    shown, video = read(path)
    assert shown == ffmpegs_choice(real, path, 2)
    assert video.duration == pytest.approx(frames / 25, abs=0.001)


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [
        ("a.mp4", "mpeg4", None),
        ("a.mp4", "libx264", None),
        ("a.mkv", "libx264", None),
        ("a.avi", "mpeg4", None),
        ("a.ts", "libx264", "mpegts"),
        ("a.m4v", "mpeg4", "m4v"),
        ("ü ж.mkv", "mpeg4", None),
    ],
)
def test_real_files_of_variable_rate(real, tmp_path, name, codec, format):
    times = [0.0, 0.1, 0.2, 0.3, 3.2, 6.0, 6.1]
    try:
        path = encoded(tmp_path / name, times, codec=codec, format=format)
    except (real.error.FFmpegError, ValueError) as error:  # a build without that encoder
        pytest.skip(str(error))
    shown, video = read(path)
    assert shown[:3] == [3, 3, 4] and 6.0 <= video.duration < 7.0


def test_a_real_stream_without_timestamps(real, tmp_path):
    try:
        path = encoded(tmp_path / "a.h264", [n / 25 for n in range(50)], codec="libx264", format="h264")
    except (real.error.FFmpegError, ValueError) as error:
        pytest.skip(str(error))
    shown, video = read(path, 1.0)
    assert shown == [12, 37] and "50 frames without a timestamp, counted at 25 a second" in video.notes


def test_a_real_torn_file(real, tmp_path):
    path = encoded(tmp_path / "a.mkv", TENTHS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"expected \d+\.\d s, as its header says, got"):
        read(path)
    path = encoded(tmp_path / "a.mp4", TENTHS)  # whose index is at its end
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="cannot be read as one"):
        read(path)


def test_a_real_file_turned_by_its_header(real, tmp_path):
    path = encoded(tmp_path / "a.mp4", [0.0, 0.1], white_left=True)
    data = path.read_bytes()
    one, upright = (1 << 16).to_bytes(4, "big"), (1 << 30).to_bytes(4, "big")
    minus = (0xFFFF0000).to_bytes(4, "big")
    zero = bytes(4)
    plain = one + zero * 3 + one + zero * 3 + upright
    turned = zero + one + zero + minus + zero * 4 + upright  # a quarter clockwise, as phones write it
    track = data.index(b"tkhd")
    at = data.index(plain, track)
    path.write_bytes(data[:at] + turned + data[at + len(plain) :])
    with Video(path) as video:
        (image,) = video.clips(2.0)
    assert image.size == (48, 64)
    assert image.getpixel((24, 8))[0] > 200 and image.getpixel((24, 56))[0] < 50  # left is up now
