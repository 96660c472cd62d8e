"""Where a number comes from: code, versions, machine, date."""

from __future__ import annotations

import datetime
import functools
import hashlib
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
# what a training run executes, besides its model's own file
TRAINING_SOURCES = (
    "spans.py",
    "matching.py",
    "losses*.py",
    "metrics.py",
    "inference.py",
    "train.py",
    "initialisation.py",
    "layers/*.py",
    "data/batches.py",
)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def code_version() -> str:
    """The commit of the checkout, with "-dirty" where vtg_lib differs from it; else the package's version."""
    from vtg_lib import __version__

    top = _git("rev-parse", "--show-toplevel")
    commit = _git("rev-parse", "--short=12", "HEAD")
    if top is None or commit is None or Path(top).resolve() != PACKAGE.parent:
        return f"{__version__}, no commit"
    return commit + ("-dirty" if _git("status", "--porcelain", "--", str(PACKAGE)) else "")


def source_digest(model_module: str) -> str:
    """First 12 hex digits of the SHA-256 over the sources that a training run of `model_module` executes."""
    files = {path for pattern in TRAINING_SOURCES for path in PACKAGE.glob(pattern)}
    own = PACKAGE.parent / (model_module.replace(".", "/") + ".py")
    digest = hashlib.sha256()
    for path in sorted(files | ({own} if own.exists() else set())):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def processor() -> str:
    """The CPU's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
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


def provenance(device: str) -> dict[str, Any]:
    """code_version, versions {python, torch, numpy, cuda}, device, date (UTC, to the second)."""
    import numpy
    import torch

    return {
        "code_version": code_version(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "cuda": torch.version.cuda,
        },
        "device": device_name(device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
