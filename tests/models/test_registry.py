"""The registry: a file is a method, and listing methods imports none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vtg_lib import models
from vtg_lib.models import MODELS, entry

TOY = '''
"""A method in a file of its own."""
from dataclasses import dataclass
from torch import nn
from vtg_lib.models.config import ModelEntry, Published

@dataclass(frozen=True, kw_only=True)
class Config(Published):
    width: int = 3

class Toy(nn.Linear):
    def __init__(self, config: Config) -> None:
        super().__init__(config.width, config.width)

ENTRY = ModelEntry(Toy, Config, published_parameters=12e-6)
'''


def test_a_file_with_an_entry_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(MODELS)
    assert {"moment_detr", "sim_detr", "sdst"} <= set(before) and "config" not in before
    (tmp_path / "toy_of_a_test.py").write_text(TOY)
    (tmp_path / "helper_of_a_test.py").write_text("SIZE = 3\n")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    assert list(MODELS) == sorted([*before, "toy_of_a_test"]) and len(MODELS) == len(before) + 1
    toy = entry("toy_of_a_test")
    assert toy.published_parameters == 12e-6 and toy.module == "vtg_lib.models.toy_of_a_test"
    assert models.count_parameters(models.build("toy_of_a_test", {"width": 4})) == 20


def test_every_entry_is_of_its_own_file() -> None:
    for name, found in MODELS.items():
        assert found.module == found.config_class.__module__ == f"vtg_lib.models.{name}"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError):
        MODELS["config"]
    with pytest.raises(ValueError, match="model: expected one of bam_detr, .*; got 'config'"):
        entry("config")


def test_names_are_listed_without_torch() -> None:
    code = (
        "import sys; from vtg_lib.models import MODELS; assert 'sdst' in MODELS; print('torch' in"
        " sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
