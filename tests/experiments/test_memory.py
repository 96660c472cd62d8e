"""Efficiency: what is measured, that the record keeps one line per machine, and that a table says what is not
known.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from vtg_lib.book.chapter import Chapter
from vtg_lib.book.views import efficiency as views
from vtg_lib.cli.bench import _bench_spec
from vtg_lib.cli.main import main
from vtg_lib.experiments.bench import memory as efficiency
from vtg_lib.experiments.bench.steps import Step
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.files import ROOT
from vtg_lib.papers import load_paper
from vtg_lib.papers.comparison import compare

GPU = {"device": "Made-up GPU", "precision": "float16", "memory": efficiency.CUDA_ALLOCATED}


def record(model: str = "sdst", **changes) -> dict:
    made_up = {
        "model": model,
        "size": "paper",
        "device": "Made-up CPU, 1 thread(s)",
        "torch": "2.13.0",
        "precision": "float32",
        "batch": {"samples": 32, "video": [32, 4, 75, 768], "text": [32, 10, 768]},
        "parameters": 4_000_000,
        "iterations_per_s": 0.5,
        "steps": 10,
        "peak_memory_mb": 7654.0,
        "memory": efficiency.RESIDENT,
        "date": "2030-01-02T03:04:05+00:00",
        "code_version": "0123456789ab",
    }
    return {**made_up, **changes}


def cells(page: str, label: str) -> list[list[str]]:
    """The cells of every line of the row `label`: params paper, ours, GPU paper, ours, it/s paper, ours, CPU,
    device, note.
    """
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<tbody>")[2])
    first = next(i for i, row in enumerate(rows) if f">{label}</th>" in row)
    last = next((i for i in range(first + 1, len(rows)) if "</th>" in rows[i]), len(rows))
    return [re.findall(r"<td>(.*?)</td>", row) for row in rows[first:last]]


def page(table: str, *records: dict) -> str:
    return views.table_html(compare(load_paper("sdst"), [], [table])[table], records)


# --- the record


def test_one_line_per_model_device_and_precision(tmp_path):
    path = tmp_path / "results" / "efficiency.jsonl"
    assert efficiency.load(path) == []
    for entry in (
        record(),
        record(precision="bfloat16"),
        record("moment_detr"),
        record(**GPU),
        record(iterations_per_s=9.0),
    ):
        efficiency.save(entry, path)
    kept = efficiency.load(path)
    assert len(kept) == len(path.read_text().splitlines()) == 4
    (replaced,) = [r for r in kept if r["model"] == "sdst" and r["precision"] == "float32"]
    assert replaced["iterations_per_s"] == 9.0
    assert not [other for other in path.parent.iterdir() if other.suffix == ".tmp"]


def test_a_failing_save_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "efficiency.jsonl"
    efficiency.save(record(), path)
    before = path.read_text()
    with pytest.raises(ValueError, match="expected an object with the fields"):
        efficiency.save({"model": "sdst"}, path)
    with pytest.raises(ValueError, match="memory: expected one of"):
        efficiency.save(record(memory="GPU"), path)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(efficiency, "atomic_write", full)
    with pytest.raises(OSError, match="disk full"):
        efficiency.save(record("qd_detr"), path)
    assert path.read_text() == before
    path.write_text(before + "{torn\n")
    with pytest.raises(ValueError, match="line 2: .*vtg bench --record"):
        efficiency.load(path)


# --- measurement


SMALL = {
    "model": "moment_detr",
    "config": {"video_dim": 12, "text_dim": 8, "width": 8, "heads": 1, "hidden": 8},
    "data": {"clips": 8, "semantic_dim": 8, "motion_dim": 4},
    "train": {"batch_size": 4},
}


def test_a_measurement_is_a_whole_record_and_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(efficiency, "SECONDS", 0.0)
    steps = []
    original = Step.__call__
    monkeypatch.setattr(Step, "__call__", lambda self: steps.append(1) or original(self))
    found = efficiency.measure_here(RunSpec.from_dict(SMALL), "cpu")
    efficiency.save(found, tmp_path / "e.jsonl")
    assert efficiency.load(tmp_path / "e.jsonl") == [json.loads(json.dumps(found))]
    assert len(steps) >= efficiency.WARMUP + found["steps"] > efficiency.WARMUP
    assert found["batch"] == {"samples": 4, "video": [4, 8, 12], "text": [4, found["batch"]["text"][1], 8]}
    assert found["iterations_per_s"] > 0 and found["peak_memory_mb"] > 50 and found["size"] == "paper"
    assert found["memory"] in (efficiency.RESIDENT, efficiency.RESIDENT_WHOLE) and "thread" in found["device"]


def test_a_step_changes_the_weights():
    step = Step(RunSpec.from_dict(SMALL), "cpu")
    before = [p.clone() for p in step.model.parameters()]
    step()
    assert any(not (p == q).all() for p, q in zip(step.model.parameters(), before, strict=True))


def test_peak_is_of_this_process_and_can_start_anew():
    if efficiency.forget_peak("cpu") != efficiency.RESIDENT:
        pytest.skip("this system cannot forget a peak")
    block = np.ones(64 * 2**17)  # 64 MiB, touched, which a child does not inherit
    code = (
        "import numpy, vtg_lib.experiments.bench.memory as e\n"
        "large = numpy.ones(64 * 2**17); print(e.peak_mb('cpu'))\n"
        "del large; e.forget_peak('cpu'); print(e.peak_mb('cpu'))\n"
        "large = numpy.ones(32 * 2**17); print(e.peak_mb('cpu'))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    first, forgotten, second = map(float, child.stdout.split())
    assert first - forgotten > 48 and second - forgotten > 24 and len(block)
    assert forgotten < 60 < efficiency.peak_mb("cpu")


def test_measure_asks_a_fresh_process_and_reports_its_failure():
    large = RunSpec.from_dict(SMALL | {"train": {"batch_size": 2, "precision": "float16"}})
    with pytest.raises(ValueError, match="measuring moment_detr on cpu failed: .*CUDA"):
        efficiency.measure(large, "cpu")
    with pytest.raises(ValueError, match="measuring nobody on cpu failed: .*expected one of"):
        efficiency.measure(RunSpec(model="nobody"), "cpu")


def test_bench_record_writes_the_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "efficiency.jsonl"
    asked = []
    monkeypatch.setattr(efficiency, "measure", lambda *arguments: asked.append(arguments) or record())
    monkeypatch.setattr(efficiency.save, "__defaults__", (path,))
    assert main(["bench", "--record", "--model", "sdst", "--precision", "bfloat16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record() and efficiency.load(path) == [record()]
    ((spec, device),) = asked
    assert (spec.model, spec.train.precision, device) == ("sdst", "bfloat16", "cpu")
    assert spec.data["clips"] == 75 and spec.train.batch_size == 32
    assert _bench_spec("sdst", "sim").resolved["config"]["width"] == 48
    for wrong in (["--record", "--size", "sim"], ["--record", "--only", "step"], ["--precision", "float32"]):
        assert main(["bench", *wrong]) == 1 and "--record" in capsys.readouterr().err


# --- display


def test_nothing_measured_is_said_with_the_command():
    empty = page("tabD")
    ((*_, note),) = cells(empty, "Ours")
    assert note == "not measured: <code>vtg bench --record --model sdst</code>"
    ((*_, unknown),) = cells(empty, "HL-CLIP")
    assert unknown == "quoted"
    ((printed, counted, memory, ours, rate, our_rate, *_),) = cells(empty, "Ours")
    assert (printed, memory, ours, rate, our_rate) == ("4.10", "3.40", "", "4.16", "")
    assert float(counted) == pytest.approx(4.1, abs=0.1)
    assert "relative to" not in empty


def test_memory_of_a_cpu_never_stands_under_gpu_memory():
    cpu, gpu = cells(page("tabD", record(), record(**GPU, peak_memory_mb=2000.0)), "Ours")
    assert cpu[3] == "" and cpu[6] == "8.03" and cpu[7] == "Made-up CPU, 1 thread(s), float32"
    assert gpu[3] == "2.10" and gpu[6] == "" and gpu[7] == "Made-up GPU, float16"
    assert cpu[2] == "3.40" and gpu[2] == ""  # the paper's number once
    assert "2030-01-02" in cpu[8] and "batch of 32" in cpu[8]


def test_a_measurement_of_another_model_size_is_out_of_date():
    counted = (
        compare(load_paper("sdst"), [], ["tabD"])["tabD"].row("Ours").counted.summary("#Params (M)").mean
    )
    ((*_, stale),) = cells(page("tabD", record(parameters=123)), "Ours")
    assert "out of date" in stale
    ((*_, fresh),) = cells(page("tabD", record(parameters=round(counted * 1e6))), "Ours")
    assert "out of date" not in fresh


def test_speed_relative_to_the_first_row_is_computed_within_one_device():
    shown = page(
        "tabD", record("moment_detr", iterations_per_s=2.0), record(iterations_per_s=0.5), record(**GPU)
    )
    (line,) = re.findall(r"<li>(Iterations per second relative[^<]*)", shown)
    assert (
        "relative to Moment-DETR on Made-up CPU, 1 thread(s), float32: Ours 0.56 in the paper, 0.25 in ours."
        in line
    )


def test_a_table_without_speed_leaves_it_out():
    shown = page("tabH", record(**GPU))
    assert "Runtime" not in shown and "R1@0.5" not in shown and "relative to" not in shown
    ((printed, ours, memory, allocated, *_),) = cells(shown, "Ours")
    assert (printed, ours, memory, allocated) == ("4.10", "4.00", "3.40", "8.03")


def test_the_chapter_reads_the_record_beside_its_store(tmp_path):
    from vtg_lib.book.parameters import Parameters

    chapter = Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    assert "vtg bench --record --model sdst" in views.efficiency(chapter, "tabD").data
    efficiency.save(record(device="<b>"), tmp_path / "efficiency.jsonl")
    assert (
        "&lt;b&gt;, float32" in views.efficiency(chapter, "tabD").data
        and "<b>" not in views.efficiency(chapter, "tabD").data
    )
