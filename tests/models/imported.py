"""Golden predictions of imported checkpoints, see `test_imported`.

`python tests/models/imported.py cg_detr num_prompts=2` writes those of a method anew after a deliberate
change.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from test_imported import GOLDEN, TOLERANCE, golden, predictions, public_state, save

from vtg_lib.models.imported import import_checkpoint, load_imported
from vtg_lib.models.imported.rules import Converted


def check_golden(name: str, folder: Path, **options: Any) -> Converted:
    """Imports the small public model of `name`, checks what it predicts and that every public tensor is
    accounted for.
    """
    source = save(folder / "theirs.ckpt", public_state(name), **options)
    done, _ = import_checkpoint(name, source, folder / "ours.safetensors")
    found, expected = predictions(load_imported(folder / "ours.safetensors")), golden(name)["predictions"]
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=TOLERANCE), key
    assert all(reason for reason in done.unused.values())
    return done


if __name__ == "__main__":
    name, *pairs = sys.argv[1:]
    options = {key: json.loads(value) for key, value in (pair.split("=") for pair in pairs)}
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "ours"
        import_checkpoint(name, save(Path(folder) / "theirs.ckpt", public_state(name), **options), ours)
        case = {**golden(name), "predictions": predictions(load_imported(ours))}
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in case.items()
    )
    (GOLDEN / f"{name}.json").write_text(f"{{\n{lines}\n}}\n")
