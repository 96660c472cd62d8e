"""Features of videos and captions in one space, read from a folder as they are needed.

`video/` holds a file a video, `[T, D]` or levels of it, of which the last is taken: the one that is aligned
with text; `text/` a file a caption, `{qid}` or `qid{qid}`: `[D]`, or `[L, D]` of which the last is taken, the
end-of-sentence token of CLIP and what `vtg render` writes for the whole sentence. Formats are those of
`vtg data add`; an `.npz` with `pooler_output` gives that one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vtg_lib.data.features import (
    CLIPS_OFF,
    LENGTH_TOLERANCE,
    FeatureError,
    FeatureSpec,
    read_source,
)
from vtg_lib.data.generate import CLIP_LENGTH
from vtg_lib.data.own import KEYS, PATTERNS, shape_facts

RECENT = 8  # videos kept in memory: captions of one video often follow each other
_KEYS = ("pooler_output", *KEYS)

Kind = Literal["video", "text"]


class Space:
    """A folder of features in one space.

    What the files are (name, array, axes, channels) is told from the first of each kind; the others must be
    the same.

    Raises:
        FeatureError: there is no such folder, or none of videos or text in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        for kind in ("video", "text"):
            if not (self.folder / kind).is_dir():
                raise FeatureError(
                    f"{self.folder / kind}: expected a folder of {kind} features, got none. Fix: give the "
                    "folder that holds `video` and `text`."
                )
        self._specs: dict[Kind, FeatureSpec] = {}
        self.video = functools.lru_cache(maxsize=RECENT)(self._video)

    def _video(self, vid: str) -> NDArray[np.float32]:
        """`[T, K, D]` of a video, as the files have it.

        Raises:
            FeatureError: no file, another width or shape than the others', or values that are not finite.
        """
        return read_source(self.folder / "video", vid, self._spec("video", vid))

    def text(self, qid: int | str) -> NDArray[np.float32]:
        """`[D]` of a caption.

        Raises:
            FeatureError: as for videos; or of another width than theirs.
        """
        spec = self._spec("text", str(qid))
        found: NDArray[np.float32] = read_source(self.folder / "text", str(qid), spec)[-1, -1]
        return found

    def check_width(self) -> None:
        """Refuses videos and text of two spaces.

        Raises:
            FeatureError: they differ in width.
        """
        video, text = self._specs["video"].dims, self._specs["text"].dims
        if video != text:
            raise FeatureError(
                f"{self.folder}: expected video and text in one space, got {video} and {text} channels. Fix: "
                "give features of one model that were made for each other (CLIP without SlowFast, say)."
            )

    def _spec(self, kind: Kind, item: str) -> FeatureSpec:
        if kind not in self._specs:
            folder = self.folder / kind
            name = next((name for name in PATTERNS if (folder / name.format(id=item)).exists()), None)
            if name is None:
                raise FeatureError(
                    f"{folder}: expected a file for {kind} {item}, such as {PATTERNS[0].format(id=item)}, "
                    f"got none. Fix: name the files by {'vid' if kind == 'video' else 'qid'}."
                )
            facts: dict[str, Any] = shape_facts(
                folder / name.format(id=item), KEYS if kind == "video" else _KEYS
            )
            seconds = CLIP_LENGTH if kind == "video" else None
            self._specs[kind] = FeatureSpec(
                name=kind,
                kind=kind,
                extractor="own",
                clip_length=seconds,
                files=(name,),
                normalise="none",
                **facts,
            )
        return self._specs[kind]


def check_length(clips: int, duration: float, vid: str) -> None:
    """Refuses features that are too few or too many for their video.

    Raises:
        FeatureError: says how many were expected.
    """
    expected = duration / CLIP_LENGTH
    if abs(clips - expected) > max(CLIPS_OFF, LENGTH_TOLERANCE * expected):
        raise FeatureError(
            f"{vid}: expected about {expected:.0f} clips of {CLIP_LENGTH:g} s for {duration:g} s, got "
            f"{clips}. Fix: correct the duration, or extract the video again."
        )
