"""Where runs are executed: what is no part of a run's hash."""

from __future__ import annotations

import functools
import platform
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The computer that a run runs on, and how it is to go about it there.

    Attributes:
        device: of torch.
        data_root: the folder with real data; None for VTG_DATA_ROOT, else `data/`.
        checkpoint_root: where runs keep checkpoints and weights; None for VTG_CACHE, else the user's
            cache folder.
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

    def bar(self, **options: Any) -> tqdm[Any]:
        """A progress bar, if one is wanted and there is a terminal or a notebook to draw it in."""
        drawn = sys.stderr.isatty() or "ipykernel" in sys.modules  # a log file would get a line an update
        return tqdm(disable=not (self.progress and drawn), **options)


CPU = Machine()


def peak_memory(device: str) -> dict[str, float]:
    """Highest memory use in MiB: `peak_memory_mb`, since the training began on a GPU, or `process_peak_mb`,
    resident, on a CPU.

    The latter is of the process since it began, with whatever it did before: an upper bound for the training.
    """
    if device.startswith("cuda"):
        import torch

        return {"peak_memory_mb": round(torch.cuda.max_memory_allocated(device) / 2**20, 1)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"process_peak_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)}


@functools.cache
def processor() -> str:
    """The CPU's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """What `device` is, in words."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return f"{processor()}, {torch.get_num_threads()} thread(s)"
