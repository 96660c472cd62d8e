"""The commands that a page of the documentation shows, run as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

from vtg_lib.files import ROOT


def run_commands(page: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Every block ```` ```sh ```` of a page in one shell that stops at the first failure, with the library of
    this checkout, in `folder`, where data and caches go, too.
    """
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert blocks
    script = "\n".join(["set -e", f'vtg() {{ "{sys.executable}" -m vtg_lib "$@"; }}', *blocks])
    paths = {"VTG_DATA_ROOT": str(folder / "data"), "VTG_CACHE": str(folder / "cache")}
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran
