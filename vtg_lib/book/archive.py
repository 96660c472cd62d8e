"""The run store as one file to deposit (at Zenodo, say): `python -m vtg_lib.book.archive [FILE]`.

The same store gives the same bytes. Beside the runs and the kept weights it holds what they are and how to
cite them, metadata in Zenodo's form, and a checksum of every file.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from vtg_lib import __version__
from vtg_lib.files import ROOT

TARGET = f"_build/vtg_lib-results-{__version__}.zip"
BESIDE = ("CITATION.cff", "LICENSE", "CHANGELOG.md")
KINDS = ("*.jsonl", "*.json", "weights/*.safetensors")
ALWAYS = (1980, 1, 1, 0, 0, 0)  # the date of every member
TOLD = """# The runs behind "Video temporal grounding, reproduced", version {version}

`results/*.jsonl`: a line a training run, JSON. `hash` identifies `spec` (model, config, data, training,
seed); `metrics` by split, in percent; `curves` on validation by epoch; `diagnostics`; `provenance` (code,
versions, device, seconds, data fingerprints). The number of a file is that of its chapter; `search.jsonl`
holds the runs that learning rates were chosen by, which no table reads; `replays.jsonl` what training stored
runs again gave. `results/weights/HASH.safetensors`: the selected weights of some of them, at half precision.
`SHA256SUMS`: of every file here.

Put `results/` into a checkout of this version to read them: `vtg tables`, `vtg claims`, `vtg replay`,
`make book`.
Annotations and features of real data are no part of this.
"""


def metadata(citation: dict[str, Any]) -> dict[str, Any]:
    """What Zenodo asks for, from CITATION.cff."""
    papers = [work["title"] for work in citation["references"]]
    return {
        "upload_type": "dataset",
        "title": f"{citation['title']}: runs and weights",
        "version": citation["version"],
        "license": citation["license"],
        "creators": [{"name": author["name"]} for author in citation["authors"]],
        "description": f"Training runs, with provenance, that reproduce {'; '.join(papers)}.",
        "related_identifiers": [
            {"identifier": f"arXiv:{one['value'].removeprefix('arXiv:')}", "relation": "isSupplementTo"}
            for work in citation["references"]
            for one in work.get("identifiers", [])
        ],
    }


def members(root: Path = ROOT) -> dict[str, bytes]:
    """Everything in the archive, by name.

    Raises:
        FileNotFoundError: no run store below `root`.
    """
    import yaml

    runs = sorted(path for kind in KINDS for path in (root / "results").glob(kind))
    if not runs:
        raise FileNotFoundError(f"{root / 'results'}: expected a run store, got none; run from a checkout")
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in runs}
    found |= {name: (root / name).read_bytes() for name in BESIDE}
    about = metadata(yaml.safe_load(found["CITATION.cff"]))
    found["zenodo.json"] = json.dumps({"metadata": about}, indent=1).encode()
    found["README.md"] = TOLD.format(version=__version__).encode()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(found.items()))
    return found | {"SHA256SUMS": sums.encode()}


def write(target: Path, root: Path = ROOT) -> int:
    """Write the archive; returns how many files it holds."""
    found = members(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in sorted(found.items()):
            member = zipfile.ZipInfo(name, ALWAYS)
            member.external_attr = 0o644 << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    return len(found)


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / TARGET
    print(f"{file}: {write(file)} files, {file.stat().st_size / 2**20:.1f} MiB")
