"""Where and how runs are executed: all that must make no difference to their numbers' meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run needs to know about the computer that it runs on; no part of its hash.

    Attributes:
        device: of torch.
        data_root: the folder with real data; None as `vtg_lib.data.data_root`.
        checkpoint_root: where runs keep checkpoints and weights; None as `cache_root`.
        progress: show bars where there is a terminal.
        rerun: train what is stored once more; the new line supersedes the old one.
        deadline: a `time.time()` after which runs pause, with a checkpoint.
    """

    device: str = "cpu"
    data_root: Path | None = None
    checkpoint_root: Path | None = None
    progress: bool = True
    rerun: bool = False
    deadline: float | None = None


CPU = Machine()
