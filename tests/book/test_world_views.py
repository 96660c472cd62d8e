"""Pictures of the renderer: what is drawn is what the data hold."""

import ast
import json

import numpy as np
import pytest
import torch

from vtg_lib.book.views import calibration
from vtg_lib.book.views import world as world_views
from vtg_lib.cli.main import main
from vtg_lib.data import load_data
from vtg_lib.data.batches import Output
from vtg_lib.experiments import provenance
from vtg_lib.files import ROOT

pytest.importorskip("matplotlib")
DATA = {"kind": "sim", "semantic_dim": 16, "motion_dim": 8, "train": 20, "val": 10, "clips": 12}


@pytest.mark.parametrize(("layout", "rows"), [("clips", 1), ("levels", 4)])
def test_similarity_is_higher_inside_moments(layout: str, rows: int) -> None:
    data = load_data({**DATA, "layout": layout})["val"]
    gaps = []
    for row, annotation in enumerate(data.annotations):
        names, values = world_views.similarity(data, row)
        assert len(names) == rows and values.shape == (rows, 12)
        inside = np.isin(np.arange(12), annotation["relevant_clip_ids"])
        gaps.append(values[:, inside].mean() - values[:, ~inside].mean() if not inside.all() else 0)
    assert np.mean(gaps) > 0.1


def test_pages_show_real_statistics_and_alt_text() -> None:
    splits = load_data(DATA)
    html = world_views.statistics_table(splits).data
    assert "sim train" in html and "QVHighlights train (real)" in html
    picture = world_views.feature_picture(splits["val"], 0).data
    assert 'alt="Similarity of clips' in picture and "inside" in picture


def test_calibration_compares_with_the_logs(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(calibration, "CALIBRATION", tmp_path / "none.jsonl")
    assert "not run" in calibration.figure().data
    assert (
        "not run: vtg x" in calibration.table("vtg x").data and "vtg x" in calibration.run_table("vtg x").data
    )
    record = {"hash": "a", "spec": {"model": "qd_detr"}, "metrics": {"last": {"MR-full-mAP": 30.0}}}
    record["curves"] = {"epoch": [5, 10], "MR-full-mAP": [14.0, 40.0]}
    record["provenance"] = {"source_digest": "another", "code_version": "0123abc"}
    monkeypatch.setattr(calibration, "runs", lambda: [record])
    table = calibration.table("").data
    assert "within 6" in table and "above" in table  # 13.48 and 24.93 in the log
    assert "earlier (0123abc)" in table
    record["provenance"]["source_digest"] = provenance.source_digest("vtg_lib.models.qd_detr")
    assert "earlier" not in calibration.table("").data


def test_the_command_that_the_page_names_plans_its_three_runs(capsys) -> None:
    notebook = json.loads((ROOT / "notebooks" / "03_sdst.ipynb").read_text())
    (source,) = [
        text for cell in notebook["cells"] if "calibration.table(" in (text := "".join(cell["source"]))
    ]
    command = ast.literal_eval(ast.parse(source).body[0].value)  # type: ignore[attr-defined]
    assert main([*command.split()[1:], "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert sorted(row["model"] for row in planned) == ["moment_detr", "qd_detr", "sdst"]


def test_text_blind_scores_use_other_sentences() -> None:
    data = load_data({**DATA, "val": 6})["val"]

    class Reader(torch.nn.Module):
        """Answers with the moments of the query whose sentence it is given."""

        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch, trace=False):
            words = min(data.text.shape[1], batch.text.shape[1])
            gap = (batch.text[:, None, :words] - data.text[None, :, :words].float()).abs().sum((-1, -2))
            row = gap.argmin(1)
            return Output(
                data.spans[row], torch.linspace(1, 0.5, 5).expand(len(row), -1), batch.video_mask.float()
            )

    table = world_views.text_blind({"reader": Reader()}, data)
    assert table["mAP"][0] > 90 > 60 > table["mAP, another query's sentence"][0]
