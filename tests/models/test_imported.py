"""Import of public checkpoints: every tensor in its place, and nothing but a clear error for what cannot be
imported.

`models/golden/<method>.json` lists the tensors of a small public model (names and shapes), and what our model
predicts with them; `python tests/models/test_imported.py` writes the predictions anew after a deliberate
change.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from vtg_lib.cli.checkpoints import authors_rounding
from vtg_lib.cli.main import main
from vtg_lib.data.batches import Batch
from vtg_lib.models.imported import (
    CheckpointImportError,
    import_checkpoint,
    importable,
    load_imported,
    read_source,
    rules_of,
)
from vtg_lib.models.imported.reading import STATE_KEYS

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("moment_detr", "qd_detr", "tr_detr")
OPTIONS = {
    "nheads": 8,
    "ctx_mode": "video_tef",
    "dropout": 0.1,
    "input_dropout": 0.5,
    "lw_saliency": 1.0,
    "use_txt_pos": False,
}
TOLERANCE = 1e-4
FUZZ = int(os.environ.get("VTG_FUZZ", "200"))  # mutated files for each reader


def noise(name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """Normal numbers that depend on the name alone; numpy keeps this generator's stream the same in every
    version.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return torch.from_numpy(scale * np.random.RandomState(seed).standard_normal(shape)).float()


def public_state(name: str) -> dict[str, Tensor]:
    """The state dict of a small public model, with norms around one and matrices of moderate size."""
    state = {}
    for key, shape in golden(name)["tensors"].items():
        norm = "norm" in key.lower() and key.endswith("weight")
        vector = norm or len(shape) < 2
        scale = 1.0 if key.startswith("query_embed") else 0.3 if vector else shape[1] ** -0.5
        state[key] = noise(key, tuple(shape), scale) + norm
    return state


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def ragged_batch() -> Batch:
    """Three videos of 7, 5 and 2 clips with 4, 6 and 1 words."""
    video_mask = torch.arange(7) < torch.tensor([7, 5, 2])[:, None]
    text_mask = torch.arange(6) < torch.tensor([4, 6, 1])[:, None]
    none = torch.zeros(3)
    return Batch(
        video=noise("video", (3, 7, 10)) * video_mask[..., None],
        video_mask=video_mask,
        text=noise("text", (3, 6, 6)) * text_mask[..., None],
        text_mask=text_mask,
        spans=torch.zeros(3, 1, 2),
        span_mask=torch.zeros(3, 1, dtype=torch.bool),
        saliency=torch.zeros(3, 7),
        duration=none,
        index=none,
    )


def predictions(model: torch.nn.Module) -> dict[str, list]:
    """Spans and logits of every layer and the saliency of real clips."""
    batch = ragged_batch()
    with torch.no_grad():
        output = model(batch)
    found = {**output.layers, "saliency": output.saliency[batch.video_mask]}
    return {key: [round(x, 6) for x in value.flatten().tolist()] for key, value in found.items()}


def save(path: Path, state: dict[str, Tensor], **options: object) -> Path:
    torch.save({"model": state, "epoch": 7, "opt": argparse.Namespace(**{**OPTIONS, **options})}, path)
    return path


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A QD-DETR checkpoint as its authors' code saves it."""
    return save(tmp_path / "model_best.ckpt", public_state("qd_detr"))


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_checkpoint_predicts_as_recorded(name: str, tmp_path: Path) -> None:
    source, target = save(tmp_path / "theirs.ckpt", public_state(name)), tmp_path / "ours.safetensors"
    done, notes = import_checkpoint(name, source, target)
    model = load_imported(target)
    assert not model.training
    expected = golden(name)["predictions"]
    found = predictions(model)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=TOLERANCE), key
    # Every public tensor is used or knowingly not; packed projections count three times.
    packed = sum("in_proj" in key for key in golden(name)["tensors"])
    assert len(done.used) + len(done.unused) == len(golden(name)["tensors"]) + 2 * packed
    assert set(done.unused) == {
        key for key in golden(name)["tensors"] if key.startswith("txt_position_embed")
    }
    assert notes["vtg_source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.loads(notes["vtg_options"])["nheads"] == 8


def test_every_importable_method_is_a_method_with_rules() -> None:
    assert set(NAMES) <= set(importable())
    assert all("@" in rules_of(name).source for name in importable())
    with pytest.raises(ValueError, match="no public checkpoint of it"):
        rules_of("sdst")


def test_sizes_come_from_the_tensors_and_the_rest_from_the_options(public: Path, tmp_path: Path) -> None:
    done, _ = import_checkpoint("qd_detr", public, tmp_path / "a")
    c = done.config
    assert (c.video_dim, c.text_dim, c.width, c.hidden, c.queries) == (10, 6, 256, 8, 3)
    assert (c.encoder_layers, c.cross_layers, c.decoder_layers, c.heads, c.tef) == (2, 2, 2, 8, True)
    source = save(tmp_path / "b.ckpt", public_state("qd_detr"), nheads=4, lw_saliency=4.0, ctx_mode="video")
    c = import_checkpoint("qd_detr", source, tmp_path / "b")[0].config
    assert (c.heads, c.weight_saliency, c.tef, c.video_dim) == (4, 4.0, False, 12)
    assert import_checkpoint("qd_detr", source, tmp_path / "c", {"heads": 16})[0].config.heads == 16


@pytest.mark.parametrize("key", [*STATE_KEYS, None])
def test_the_state_dict_is_found_where_others_put_it(key: str | None, tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in public_state("moment_detr").items()}
    torch.save(state if key is None else {key: state, "epoch": 1}, tmp_path / "theirs.pth")
    read = read_source(tmp_path / "theirs.pth")
    assert "span_embed.layers.0.weight" in read.tensors and read.options == {}


def test_a_safetensors_source_gives_the_same_model(public: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(public_state("qd_detr"), tmp_path / "theirs.safetensors", metadata={"opt": json.dumps(OPTIONS)})
    import_checkpoint("qd_detr", tmp_path / "theirs.safetensors", tmp_path / "a")
    import_checkpoint("qd_detr", public, tmp_path / "b")
    assert predictions(load_imported(tmp_path / "a")) == predictions(load_imported(tmp_path / "b"))


class Intruder:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "was here"
    torch.save({"model": public_state("qd_detr"), "opt": Intruder(trace)}, tmp_path / "theirs.ckpt")
    with pytest.raises(
        CheckpointImportError, match=r"whose code this library does not run. Fix: .*torch.save"
    ):
        import_checkpoint("qd_detr", tmp_path / "theirs.ckpt", tmp_path / "ours")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Intruder(trace), protocol=2))
    with pytest.raises(CheckpointImportError):
        read_source(tmp_path / "plain.ckpt")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"", "an empty file"),
        (b"PK\x03\x04 nothing that follows is an archive", "probably truncated"),
        (b"\x00" * 64, "cannot be read"),
    ],
)
def test_files_that_are_no_checkpoint_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.ckpt").write_bytes(content)
    (tmp_path / "ours").write_text("an older import")
    with pytest.raises(CheckpointImportError, match=message):
        import_checkpoint("qd_detr", tmp_path / "theirs.ckpt", tmp_path / "ours")
    assert (tmp_path / "ours").read_text() == "an older import"
    assert {p.name for p in tmp_path.iterdir()} == {"theirs.ckpt", "ours"}


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_truncated_file_is_named(public: Path, share: float, tmp_path: Path) -> None:
    whole = public.read_bytes()
    public.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointImportError, match="probably truncated"):
        import_checkpoint("qd_detr", public, tmp_path / "ours")


def test_the_right_model_is_suggested(public: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointImportError, match="Fix: --model qd_detr"):
        import_checkpoint("moment_detr", public, tmp_path / "ours")
    torch.save({"model": {"conv1.weight": torch.zeros(3)}}, tmp_path / "resnet.pth")
    with pytest.raises(
        CheckpointImportError, match="expected a tensor 'input_vid_proj.0.net.1.weight', got conv1.weight"
    ):
        import_checkpoint("moment_detr", tmp_path / "resnet.pth", tmp_path / "ours")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": torch.zeros(2)}, "expected only tensors of qd_detr, got also extra.weight"),
        (
            {"class_embed.bias": None},
            "expected a public tensor for each of ours, got none for class_head.bias",
        ),
        (
            {"class_embed.weight": torch.zeros(2, 9)},
            r"shapes differ: class_head.weight: expected \[2, 256\], got \[2, 9\]",
        ),
        (
            {"class_embed.bias": torch.tensor([0.0, torch.nan])},
            "expected finite weights, got NaN .* in class_embed.bias",
        ),
        (
            {"input_vid_proj.2.net.1.bias": torch.zeros(256)},
            "got none for input_vid_proj.2.net.1.bias -> project_video.linears.2.bias",
        ),
    ],
)
def test_a_tensor_out_of_place_is_named(change: dict, message: str, tmp_path: Path) -> None:
    state = {
        name: tensor for name, tensor in {**public_state("qd_detr"), **change}.items() if tensor is not None
    }
    with pytest.raises(CheckpointImportError, match=message):
        import_checkpoint("qd_detr", save(tmp_path / "theirs.ckpt", state), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_settings_that_we_have_no_variant_for_are_refused(public: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "theirs.ckpt", public_state("qd_detr"), use_txt_pos=True)
    with pytest.raises(CheckpointImportError, match="stored option use_txt_pos: expected False, got True"):
        import_checkpoint("qd_detr", source, tmp_path / "ours")
    with pytest.raises(CheckpointImportError, match="shapes differ.*Fix: leave out the --config fields"):
        import_checkpoint("qd_detr", public, tmp_path / "ours", {"queries": 5})
    with pytest.raises(ValueError, match="unknown fields"):
        import_checkpoint("qd_detr", public, tmp_path / "ours", {"quries": 5})
    with pytest.raises(ValueError, match="another file"):
        import_checkpoint("qd_detr", public, public)


def test_only_our_own_files_are_loaded(public: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(CheckpointImportError, match="Fix: `vtg import-checkpoint"):
        load_imported(public)
    save_file(public_state("qd_detr"), tmp_path / "theirs.safetensors")
    with pytest.raises(CheckpointImportError, match="of another origin"):
        load_imported(tmp_path / "theirs.safetensors")
    import_checkpoint("qd_detr", public, tmp_path / "ours")
    with pytest.raises(CheckpointImportError, match="imported already"):
        read_source(tmp_path / "ours")


def test_from_the_shell_a_checkpoint_is_imported_and_scored(public: Path, tmp_path: Path, capsys) -> None:
    ours, out = str(tmp_path / "ours.safetensors"), tmp_path / "p.jsonl"
    assert main(["import-checkpoint", "--model", "qd_detr", str(public), ours, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["config"]["queries"] == 3 and value["used"] == 191 and len(value["unused"]) == 3
    data = ["--data", "train=4", "val=6", "clips=8", "semantic_dim=6", "motion_dim=4"]
    assert (
        main(
            [
                "predict",
                "--model",
                ours,
                *data,
                "--out",
                str(out),
                "--device",
                "cpu",
                "--authors-rounding",
                "--json",
            ]
        )
        == 0
    )
    value = json.loads(capsys.readouterr().out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert value["queries"] == len(rows) == 6 and "MR-full-mAP" in value["metrics"]
    assert all(x % 2 == 0 for row in rows for *span, _ in row["pred_relevant_windows"] for x in span)
    assert (
        main(["predict", "--model", ours, *data[:-1], "motion_dim=5", "--out", str(out), "--device", "cpu"])
        == 1
    )
    assert "expected features with 10 channels of video and 6 of text" in capsys.readouterr().err
    assert (
        main(["predict", "--model", ours, *data, "--split", "test", "--out", str(out), "--device", "cpu"])
        == 1
    )
    assert "expected one of train, val" in capsys.readouterr().err


def test_rounding_of_the_authors() -> None:
    row = {
        "qid": 1,
        "pred_relevant_windows": [[2.9, 5.0, 0.123456], [3.1, 7.1, 0.1]],
        "pred_saliency_scores": [0.1, -2.00001],
    }
    (rounded,) = authors_rounding([row], 2.0)
    assert rounded["pred_relevant_windows"] == [[2.0, 4.0, 0.1235], [4.0, 8.0, 0.1]]
    assert rounded["pred_saliency_scores"] == [0.0999755859375, -2.0] and rounded["qid"] == 1


if __name__ == "__main__":
    import tempfile

    for method in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            import_checkpoint(
                method, save(Path(folder) / "theirs.ckpt", public_state(method)), Path(folder) / "ours"
            )
            case = {**golden(method), "predictions": predictions(load_imported(Path(folder) / "ours"))}
        lines = ",\n".join(
            f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in case.items()
        )
        (GOLDEN / f"{method}.json").write_text(f"{{\n{lines}\n}}\n")


class EasyDict(dict):
    """As the package of this name has it: items are attributes, too."""

    def __init__(self, **items: object) -> None:
        super().__init__(items)
        self.__dict__.update(items)


def test_options_in_containers_of_other_libraries_are_read_and_not_run(tmp_path: Path) -> None:
    state = public_state("moment_detr")
    options = EasyDict(nheads=np.int64(4), results_dir=Path("/home/them"), ctx_mode="video_tef", extra=None)
    options["inner"] = EasyDict(list=[1, 2])
    torch.save({"model": state, "opt": options}, tmp_path / "theirs.ckpt")
    read = read_source(tmp_path / "theirs.ckpt")
    assert read.options["nheads"] == 4 and read.options["results_dir"] == "/home/them"
    assert read.options["inner"] == {"list": [1, 2]} and json.dumps(read.options)
    assert import_checkpoint("moment_detr", tmp_path / "theirs.ckpt", tmp_path / "a")[0].config.heads == 4


def test_wrappers_are_taken_off_and_told(public: Path, tmp_path: Path) -> None:
    state = {f"module._orig_mod.{name}": tensor for name, tensor in public_state("qd_detr").items()}
    torch.save({"state_dict": {**state, "n_averaged": torch.tensor(3)}, "opt": OPTIONS}, tmp_path / "a.ckpt")
    read = read_source(tmp_path / "a.ckpt")
    assert set(read.tensors) == set(read_source(public).tensors)
    assert read.notes == (
        "left aside: n_averaged",
        "taken off every name: module.",
        "taken off every name: _orig_mod.",
    )


def test_what_the_weights_do_not_show_is_asked_for(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": public_state("qd_detr"), "hyper_parameters": {"nheads": 4}}, tmp_path / "a.ckpt"
    )
    assert import_checkpoint("qd_detr", tmp_path / "a.ckpt", tmp_path / "a")[0].config.heads == 4
    torch.save({"state_dict": public_state("qd_detr")}, tmp_path / "b.ckpt")
    with pytest.raises(
        CheckpointImportError, match=r"options that tell heads.*got none. Fix: --config heads="
    ):
        import_checkpoint("qd_detr", tmp_path / "b.ckpt", tmp_path / "b")
    assert (
        import_checkpoint("qd_detr", tmp_path / "b.ckpt", tmp_path / "b", {"heads": 8})[0].config.heads == 8
    )


@settings(max_examples=FUZZ // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_checkpoint_ends_in_a_fault_of_ours(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "whole.ckpt"
    if not path.exists():
        torch.save({"model": {"a": torch.zeros(3)}, "opt": argparse.Namespace(nheads=8)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        content[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    (tmp_path / "fuzzed.ckpt").write_bytes(content)
    with contextlib.suppress(CheckpointImportError):
        read_source(tmp_path / "fuzzed.ckpt")
