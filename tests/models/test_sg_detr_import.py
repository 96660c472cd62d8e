"""Import of SG-DETR's checkpoints: parity with the public forward pass, and what cannot be imported.

`golden/sg_detr.json` lists the tensors of a small public model (width 16, 2 heads, 7 queries), whose values
follow from their names, and what the public code (chinagalaxy2002/SG_CGP @ 931cad1) makes of three videos
with these weights, each alone, as its loader fills them with zeros; "atss" and "fused" are rows of score,
start and end after suppression and fusion by the QVHighlights settings. In a padded batch the public code
lets a video's padding reach its pyramid: the class logits of the shortest of these videos differ by 1.1.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from test_imported import GOLDEN, noise
from torch import Tensor

from vtg_lib.data.batches import Batch
from vtg_lib.models.imported import CheckpointImportError, import_checkpoint, load_imported
from vtg_lib.spans import cw_to_se

LENGTHS, WORDS = (12, 10, 4), (4, 6, 1)
OVERRIDES = {"heads": 2, "queries": 7}
CASE = json.loads((GOLDEN / "sg_detr.json").read_text())
EXPECTED = CASE["predictions"]


def recipe(name: str, shape: list[int]) -> Tensor:
    """Norms around one and matrices of moderate size, numbers that depend on the name alone."""
    norm = "norm" in name.lower() and name.endswith("weight")
    scale = 0.3 if norm or len(shape) < 2 else shape[1] ** -0.5
    return (noise(name, tuple(shape) or (1,), scale) + norm).reshape(shape)


def public_state() -> dict[str, Tensor]:
    anchors = {f"model.aux_det_head.anchor_generator.cell_anchors.{i}": torch.zeros(1, 2) for i in range(4)}
    return {name: recipe(name, shape) for name, shape in CASE["tensors"].items()} | anchors


def save(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def padded_batch() -> Batch:
    mask = torch.arange(12) < torch.tensor(LENGTHS)[:, None]
    text_mask = torch.arange(6) < torch.tensor(WORDS)[:, None]
    none = torch.zeros(3)
    return Batch(
        video=noise("video", (3, 12, 10)).masked_fill(~mask[..., None], 7.0),
        video_mask=mask,
        text=noise("text", (3, 6, 6)).masked_fill(~text_mask[..., None], -7.0),
        text_mask=text_mask,
        spans=torch.zeros(3, 1, 2),
        span_mask=torch.zeros(3, 1, dtype=torch.bool),
        saliency=torch.zeros(3, 12),
        duration=none,
        index=none,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("sg_detr")
    source = save(folder / "best.ckpt", public_state())
    done, _ = import_checkpoint("sg_detr", source, folder / "ours.safetensors", OVERRIDES)
    own = {name for name in public_state() if "txt_position_embed" in name or "cell_anchors" in name}
    assert {f"model.{name}" for name in done.unused} == own and all(done.unused.values())
    assert (done.config.width, done.config.video_dim, done.config.text_dim) == (16, 10, 6)
    return load_imported(folder / "ours.safetensors")


def differences(model) -> dict[str, float]:
    """Largest differences from the public numbers, by output, in one padded batch: as they are, of numbers
    beyond 1 as a share of the number.
    """
    with torch.no_grad():
        output = model(padded_batch())
        outcome = {name: model.detector.finish(output, name) for name in model.config.readings}
    worst: dict[str, float] = {}

    def compare(name: str, ours: Tensor, row: int) -> None:
        theirs = torch.tensor(EXPECTED[row][name])
        assert ours.numel() == theirs.numel(), (name, row, ours.shape, len(theirs))
        gap = (ours.flatten() - theirs).abs() / theirs.abs().clamp(min=1.0)
        worst[name] = max(worst.get(name, 0.0), gap.max().item())

    heads, valid = output.extras["heads"], output.extras["anchors"].valid
    queries, points = heads["detr"].queries, heads["atss"]
    for row, length in enumerate(LENGTHS):
        compare("local", output.extras["local"][row, :length], row)
        compare("saliency", output.saliency[row, :length], row)
        compare("spans", queries.spans[:, row], row)
        compare("logits", queries.logits[:, row], row)
        compare("iou", queries.iou[:, row], row)
        compare("class", points.logits[row, valid[row]], row)
        compare("centerness", points.centerness[row, valid[row]], row)
        compare("borders", points.borders[row, valid[row]], row)
    for name in ("atss", "fused"):
        spans, scores = model.detector.answer(output, name)
        for row in range(3):
            real = scores[row] > 0
            compare(name, torch.cat((scores[row, real, None], cw_to_se(spans[row, real])), -1), row)
    assert set(outcome) == {"fused", "detr", "atss"}
    return worst


def test_parity_with_the_public_forward_pass_in_a_padded_batch(model):
    worst = differences(model)
    assert set(worst) == set(EXPECTED[0])
    assert max(worst.values()) < 1e-5, worst


def test_what_cannot_be_imported(tmp_path: Path):
    target = tmp_path / "ours.safetensors"
    other = {name: tensor for name, tensor in public_state().items() if "fpn.level2" not in name}
    with pytest.raises(CheckpointImportError, match="expected a public tensor for each of ours"):
        import_checkpoint("sg_detr", save(tmp_path / "a.ckpt", other), target, OVERRIDES)
    more = {**public_state(), "model.audio_merger.weight": torch.zeros(2, 2)}
    with pytest.raises(CheckpointImportError, match="expected only tensors of sg_detr.*audio_merger"):
        import_checkpoint("sg_detr", save(tmp_path / "b.ckpt", more), target, OVERRIDES)
    with pytest.raises(CheckpointImportError, match="shapes differ"):
        import_checkpoint(
            "sg_detr", save(tmp_path / "c.ckpt", public_state()), target, {"width": 32, "heads": 2}
        )
    torn = tmp_path / "d.ckpt"
    torn.write_bytes(save(tmp_path / "c.ckpt", public_state()).read_bytes()[:2000])
    with pytest.raises(CheckpointImportError):
        import_checkpoint("sg_detr", torn, target, OVERRIDES)
    torch.save({"state_dict": public_state(), "hyper_parameters": os.getcwd}, tmp_path / "e.ckpt")
    with pytest.raises(CheckpointImportError, match="Fix"):
        import_checkpoint("sg_detr", tmp_path / "e.ckpt", target, OVERRIDES)
    assert not target.exists()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        import_checkpoint("sg_detr", save(folder / "a", public_state()), folder / "b", OVERRIDES)
        print(differences(load_imported(folder / "b")))
