"""Videos for tests: descriptions that the fake of PyAV reads, and, where PyAV is installed, real ones.

A frame's grey is 5 times its number, so that a test can tell which frame it was shown.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FAKES = Path(__file__).parent / "fakes"
TICKS = 1000
STEP = 5


def fake_packages(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Puts the fakes in the place of PyAV and open_clip, installed or not."""
    for name in names or ("av", "open_clip"):
        path = FAKES / name / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, name, module)


def described(path: Path, times: list[float | None], **facts: Any) -> Path:
    """A file for the fake: one packet and frame a time (None: without a timestamp).

    Args:
        facts: `frame`, fields of every frame; `broken`, numbers of packets; `stop`, the packet that cannot be
            read; the rest replaces fields of the file.
    """
    frame, broken, stop = facts.pop("frame", {}), facts.pop("broken", ()), facts.pop("stop", None)
    packets: list[dict[str, Any]] = [
        {
            "pts": time,
            "duration": 0.1,
            "broken": n in broken,
            "frames": [{"time": time, "grey": STEP * n % 256, "duration": 0.1, **frame}],
        }
        for n, time in enumerate(times)
    ]
    if stop is not None:
        packets[stop:] = [{"stop": True}]
    streams = [{"kind": "video", "rate": 10}]
    whole = {"start": 0, "duration": None, "streams": streams, "packets": packets, **facts}
    path.write_text(json.dumps(whole))
    return path


def encoded(
    path: Path,
    times: list[float],
    *,
    codec: str = "mpeg4",
    format: str | None = None,
    white_left: bool = False,
) -> Path:
    """A real video of grey frames shown at `times` (seconds), the left half white if asked for."""
    import av

    with av.open(str(path), "w", format=format) as file:
        stream = file.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
        stream.options = {"mpeg4": {"qmin": "1", "qmax": "1"}, "libx264": {"crf": "1", "bf": "0"}}.get(
            codec, {}
        )
        for number, time in enumerate(times):
            picture = np.full((48, 64, 3), STEP * number % 256, np.uint8)
            picture[:, : 32 * white_left] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def numbers(images: Any) -> list[int]:
    """Which frames (modulo 51) were shown."""
    return [round(float(np.median(np.asarray(image))) / STEP) for image in images]
