"""Unknown or bad parameters stop a chapter at once."""

from pathlib import Path

import pytest

from vtg_lib.book import parameters
from vtg_lib.book.parameters import ParameterError, Parameters


def test_defaults(monkeypatch, tmp_path):
    monkeypatch.delenv("VTG_DATA_ROOT", raising=False)
    monkeypatch.setattr(parameters, "ROOT", tmp_path)
    got = Parameters.parse(device="cpu")
    assert got == Parameters(profile="quick", device="cpu", seeds=(0,), rerun=False, data_root=None)
    assert Parameters.parse(profile="sim", device="cpu").seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("value", "seeds"),
    [([3, 1], (3, 1)), ("0,1, 2", (0, 1, 2)), (4, (4,)), ("7", (7,)), (None, (0,)), ("", (0,))],
)
def test_seeds_come_in_the_forms_that_shells_give(value, seeds):
    assert Parameters.parse(device="cpu", seeds=value).seeds == seeds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("profile", "fast"),
        ("profile", None),
        ("device", "gpu"),
        ("device", 0),
        ("seeds", "a"),
        ("seeds", [-1]),
        ("seeds", []),
        ("seeds", [0, 0]),
        ("seeds", [1.5]),
        ("seeds", 1.5),
        ("seeds", True),
        ("rerun", "maybe"),
        ("rerun", 1),
        ("data_root", "/no/such/folder"),
        ("data_root", 3),
    ],
)
def test_bad_values_name_the_parameter(name, value):
    with pytest.raises(
        ParameterError, match=f"^parameters, {name}.*: (expected .*got |/no/such/folder is no)"
    ):
        Parameters.parse(**{"device": "cpu", name: value})


def test_rerun_as_a_word():
    assert Parameters.parse(device="cpu", rerun="true").rerun is True
    assert Parameters.parse(device="cpu", rerun="False").rerun is False


def test_cuda_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ParameterError, match="no GPU"):
        Parameters.parse(device="cuda")
    assert Parameters.parse(device="auto").device == "cpu"


def test_data_root_order(monkeypatch, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("VTG_DATA_ROOT", str(tmp_path / "a"))
    assert Parameters.parse(device="cpu").data_root == (tmp_path / "a").resolve()
    assert (
        Parameters.parse(device="cpu", data_root=str(tmp_path / "b")).data_root == (tmp_path / "b").resolve()
    )
    monkeypatch.setenv("VTG_DATA_ROOT", str(tmp_path / "gone"))
    monkeypatch.setattr(parameters, "ROOT", Path(tmp_path))
    assert Parameters.parse(device="cpu").data_root is None
    (tmp_path / "data").mkdir()
    assert Parameters.parse(device="cpu", data_root="data").data_root == (tmp_path / "data").resolve()


def test_unknown_names_are_refused():
    with pytest.raises(
        ParameterError, match="unknown field 'sede'; did you mean 'seeds'\\? expected one of profile"
    ):
        Parameters.parse(device="cpu", sede=3)


def test_only_the_injected_cell_counts():
    cells = ["", "profile = 'quick'\nx = 1", '# Parameters\nprofile = "smoke"\nsede = 3\n', "y = 2"]
    assert parameters.injected_names(cells) == ["profile", "sede"]
