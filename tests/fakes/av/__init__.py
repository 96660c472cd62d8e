"""What the library uses of PyAV, over a file of JSON in place of a video: for machines without PyAV, and for
faults that no encoder makes. `tests/videos.py` writes such files.
"""

from __future__ import annotations

import json
import types
from fractions import Fraction

from PIL import Image

time_base = 1_000_000
TICKS = Fraction(1, 1000)


class FFmpegError(OSError):
    pass


error = types.SimpleNamespace(FFmpegError=FFmpegError)
stream = types.SimpleNamespace(Disposition=types.SimpleNamespace(attached_pic=1024))


def _ticks(seconds):
    return None if seconds is None else round(seconds / TICKS)


class Frame:
    time_base = TICKS

    def __init__(self, facts):
        self.time, self.rotation = facts.get("time"), facts.get("rotation", 0)
        self.duration = _ticks(facts.get("duration", 0))
        self._facts = facts

    def to_image(self):
        image = Image.new("RGB", tuple(self._facts.get("size", (4, 2))), (self._facts["grey"],) * 3)
        image.putpixel((0, 0), (255, 0, 0))  # the top left corner, to see a rotation by
        return image


class Packet:
    time_base = TICKS

    def __init__(self, stream, facts):
        self.stream, self._facts = stream, facts
        self.pts, self.duration = _ticks(facts.get("pts")), _ticks(facts.get("duration", 0))

    def decode(self):
        if self._facts.get("broken"):
            raise FFmpegError(1, "Invalid data found when processing input")
        return [Frame(facts) for facts in self._facts.get("frames", ())]


class Container:
    def __init__(self, facts):
        self._facts = facts
        self.start_time, self.duration = facts.get("start"), facts.get("duration")
        made = [types.SimpleNamespace(**{"disposition": 0, **one}) for one in facts["streams"]]
        for one in made:
            one.guessed_rate = one.average_rate = one.rate
        kinds = {kind: [one for one in made if one.kind == kind] for kind in ("video", "audio")}
        self._made, self.streams = made, types.SimpleNamespace(**kinds)

    def demux(self, streams):
        for facts in self._facts["packets"]:
            if facts.get("stop"):
                raise FFmpegError(1, "Input/output error")
            if (one := self._made[facts.get("stream", 0)]) in streams:
                yield Packet(one, facts)
        yield Packet(streams[0], {})  # the one that flushes

    def close(self):
        pass


def open(path):
    try:
        with __builtins__["open"](path, encoding="utf-8") as file:
            return Container(json.load(file))
    except ValueError:
        raise FFmpegError(1, "Invalid data found when processing input") from None
