"""One frame for each clip of a video, by presentation time; PyAV decodes (the extra `video`).

Which frame, and how many clips, is the habit of the public CLIP features: HERO_Video_Feature_Extractor
(linjieli222/HERO_Video_Feature_Extractor @ 5a435c9, clip/video_loader.py) and its copies in Moment-DETR
(jayleicn/moment_detr @ 2fd431e, run_on_video/) and Lighthouse (line/lighthouse @ 192c373,
frame_loaders/clip_loader.py) ask ffmpeg's filter `fps` for one frame every clip length. That filter rounds to
the nearest output time: clip n shows the last frame before its own middle, (n + 1/2) clip lengths, and there
are as many clips as have their middle in the video. Here the same holds for any timestamps, and a video
shorter than half a clip is one clip (they take two frames or more of such a video).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

SAME = 1e-6  # seconds apart that count as the same time
TORN = 0.02  # the share of a stated length that a file may lack
HOLE = 3  # clips without a frame of their own before it is said: a still picture, or a damaged file


class VideoError(ValueError):
    """A video that cannot be read; the message names the file, expected, got and the fix."""


class Video:
    """A video file, read once and frame by frame: no more than two decoded frames are held.

    Attributes:
        path: of the file.
        stated: seconds that the header states, None where it does not; good for a progress bar only.
        duration: seconds from the start of the file to the end of its last frame; set once `clips` has ended,
            as headers may lack it or be wrong.
        notes: what had to be made up, in words; complete once `clips` has ended.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens the file.

        Raises:
            VideoError: no such file, no video in it, or none that can be read.
            ModuleNotFoundError: PyAV is not installed.
        """
        av = import_av()
        self.path = Path(path)
        self._errors: Any = (av.error.FFmpegError, EOFError)
        if not self.path.is_file():
            got = "a folder" if self.path.is_dir() else "none"
            raise VideoError(f"{self.path}: expected a video file, got {got}. Fix: correct the path.")
        try:
            # absolute, as ffmpeg takes a name with a colon for an address
            self._container = av.open(str(self.path.absolute()))
        except self._errors as error:
            raise VideoError(
                f"{self.path}: expected a video, got a file that cannot be read as one ({_reason(error)}). "
                "Fix: copy or download it again: it is of another kind, or torn before its index."
            ) from None
        streams = [stream for stream in self._container.streams.video if not _is_cover(av, stream)]
        if not streams:
            self._container.close()
            raise VideoError(
                f"{self.path}: expected a video stream, got none (sound alone?). Fix: another file."
            )
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        start, length = self._container.start_time, self._container.duration
        self._origin = None if start is None else start / av.time_base
        self.stated = None if length is None or length <= 0 else length / av.time_base
        self.duration: float | None = None
        self.notes: list[str] = []
        self._broken, self._reached, self._stopped = 0, -math.inf, ""

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def clips(self, clip_length: float) -> Iterator[Any]:
        """A PIL image (RGB, upright) for each clip of `clip_length` seconds, in order; see the module.

        Seconds count from the start of the file, which players show as 0. Frames without a timestamp follow
        each other at the stated frame rate; a timestamp before that of the frame before it counts as equal;
        packets that cannot be decoded are left out. `notes` says so.

        Raises:
            VideoError: nothing can be decoded, or the file ends well before its stated length.
        """
        shown = 0
        before, time, gap, hole = None, 0.0, 0.0, (0.0, 0.0)
        for seconds, frame in self._frames():
            if before is not None:
                gap = seconds - time or gap
                hole = max(hole, (seconds - time, time))
                while seconds > (shown + 0.5) * clip_length - SAME:
                    yield _image(before)
                    shown += 1
            before, time = frame, seconds
        if before is None:
            raise VideoError(
                f"{self.path}: expected frames, got none that can be decoded"
                f"{f' ({self._broken} broken packets)' if self._broken else ''}{self._stopped}. Fix: copy or "
                "download it again, or convert it (ffmpeg -i OLD NEW.mp4)."
            )
        end = time + self._length_of(before, gap)
        self._check_whole(end, clip_length)
        self.duration = end or clip_length  # a still picture without a rate
        if hole[0] > HOLE * clip_length:
            self.notes.append(
                f"no frame for {hole[0]:.1f} s from {hole[1]:.1f} s on; the one before stands in"
            )
        if self._broken:
            self.notes.append(f"{self._broken} broken packets left out; the frames before them stand in")
        image = _image(before)
        for _ in range(shown, max(1, math.floor((end + SAME) / clip_length + 0.5))):
            yield image

    def _frames(self) -> Iterator[tuple[float, Any]]:
        """(seconds from the start, frame) in presentation order, times never falling."""
        made_up, last, rate = 0, None, _rate(self._stream)
        anchor, since = 0.0, 0  # the last timestamp, and frames from there on
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self._errors:
                self._broken += 1
                continue
            for frame in frames:
                seconds = frame.time
                if seconds is None:
                    if rate is None:
                        raise VideoError(
                            f"{self.path}: expected timestamps or a frame rate, got neither. Fix: convert it "
                            "(ffmpeg -r RATE -i OLD NEW.mp4)."
                        )
                    made_up += 1
                    seconds = anchor + since / rate
                else:
                    anchor, since = seconds, 0
                since += 1
                if self._origin is None:
                    self._origin = seconds
                last = seconds if last is None else max(last, seconds)
                yield last - self._origin, frame
        if made_up:
            self.notes.append(
                f"{made_up} frames without a timestamp, counted at {float(rate or 0):g} a second"
            )

    def _packets(self) -> Iterator[Any]:
        """Packets of the video, at last the one that flushes the decoder; notes how far all streams reach."""
        streams = [self._stream, *self._container.streams.audio]
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            except self._errors as error:
                self._stopped = f"; reading stopped: {_reason(error)}"
                return
            if packet is None:
                return
            if packet.pts is not None and packet.time_base:
                ends = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._reached = max(self._reached, ends)
            if packet.stream is self._stream:
                yield packet

    def _length_of(self, frame: Any, gap: float) -> float:
        """Seconds that a frame is shown: its own, or those of the one before, or by the frame rate."""
        if frame.duration and frame.time_base:
            return float(frame.duration * frame.time_base)
        rate = _rate(self._stream)
        return gap or (1 / rate if rate else 0.0)

    def _check_whole(self, end: float, clip_length: float) -> None:
        """Sound may go on after the picture, so what counts is how far any stream reaches."""
        reached = max(end, self._reached - (self._origin or 0.0))
        if self.stated is None or self.stated - reached <= max(clip_length, TORN * self.stated):
            return
        raise VideoError(
            f"{self.path}: expected {self.stated:.1f} s, as its header says, got {reached:.1f} s: it is torn"
            f"{self._stopped}. Fix: copy or download it again; to use what there is, "
            "ffmpeg -i OLD -c copy NEW.mkv."
        )


def import_av() -> Any:
    """PyAV.

    Raises:
        ModuleNotFoundError: says how to install it.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing("PyAV", error) from None
    return av


def missing(package: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """What to say where a package of the extra `video` is not installed."""
    return ModuleNotFoundError(
        f"reading videos: expected {package}, got no module {error.name!r}. Fix: pip install "
        "'vtg_lib[video]', or in a checkout pip install -e '.[video]'; beside a CPU build of torch take "
        "torchvision's CPU build, too"
    )


def _is_cover(av: Any, stream: Any) -> bool:
    """Whether a stream is the one picture that players show beside sound."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _rate(stream: Any) -> float | None:
    found = stream.guessed_rate or stream.average_rate
    return float(found) if found else None


def _image(frame: Any) -> Any:
    """Upright RGB, as ffmpeg's command line shows it; `rotation` is counter-clockwise, in degrees."""
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
