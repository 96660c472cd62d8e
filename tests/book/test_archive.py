"""The run store as one file to deposit."""

import hashlib
import json
import zipfile

import pytest

from vtg_lib.book import archive
from vtg_lib.files import ROOT


@pytest.fixture()
def root(tmp_path):
    """A checkout with one run and its weights, and what a killed sweep leaves."""
    (tmp_path / "results" / "weights").mkdir(parents=True)
    (tmp_path / "results" / "01_x.jsonl").write_text('{"hash": "a"}\n')
    (tmp_path / "results" / "01_x.jsonl.lock").write_text("")
    (tmp_path / "results" / "weights" / "a.safetensors").write_bytes(b"weights")
    for name in archive.BESIDE:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_everything_is_there_with_its_checksum_and_the_same_store_gives_the_same_bytes(root):
    first, second = root / "first.zip", root / "out" / "second.zip"
    assert archive.write(first, root) == archive.write(second, root)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as found:
        names = {"results/01_x.jsonl", "results/weights/a.safetensors", "README.md", "zenodo.json"}
        assert set(found.namelist()) == names | {"SHA256SUMS", *archive.BESIDE}
        sums = dict(reversed(line.split("  ")) for line in found.read("SHA256SUMS").decode().splitlines())
        assert sums.keys() == set(found.namelist()) - {"SHA256SUMS"}
        assert all(hashlib.sha256(found.read(name)).hexdigest() == told for name, told in sums.items())
        about = json.loads(found.read("zenodo.json"))["metadata"]
    assert "SG-DETR" not in about["title"] and "Saliency-Guided DETR" in about["description"]
    assert {"identifier": "arXiv:2509.23867", "relation": "isSupplementTo"} in about["related_identifiers"]


def test_without_a_store_nothing_is_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a run store"):
        archive.write(tmp_path / "x.zip", tmp_path)
    assert not (tmp_path / "x.zip").exists()
