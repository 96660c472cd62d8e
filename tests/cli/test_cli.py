"""The command line: JSON and nothing else on standard output, exit codes, messages without tracebacks."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import typer

from vtg_lib.cli import checkpoints, runs
from vtg_lib.cli import data as commands
from vtg_lib.cli import main as cli
from vtg_lib.cli.bench import _bench_spec
from vtg_lib.cli.main import EXAMPLES, main
from vtg_lib.cli.options import Reply
from vtg_lib.experiments import bench
from vtg_lib.experiments.bench import steps as bench_steps
from vtg_lib.experiments.store import Store
from vtg_lib.papers import load_paper

SMALL = [
    *("--config", "video_dim=12", "text_dim=8", "width=8", "heads=1", "hidden=8", "queries=2"),
    *("--data", "train=16", "val=8", "clips=8", "semantic_dim=8", "motion_dim=4"),
    *("--train", "epochs=1", "batch_size=8", "learning_rate=1e-3", "--device", "cpu"),
]


@pytest.fixture
def submission(tmp_path: Path) -> tuple[str, str]:
    """A generated submission and its annotations, as files."""
    names = []
    for name, rows in zip(("p.jsonl", "g.jsonl"), bench.generated_submission(20), strict=True):
        names.append(str(tmp_path / name))
        Path(names[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return names[0], names[1]


def read(capsys: pytest.CaptureFixture[str]):
    return json.loads(capsys.readouterr().out)


def test_eval_prints_the_nested_result(submission, capsys):
    pred, gt = submission
    assert main(["eval", "--pred", pred, "--gt", gt, "--json", "--recall"]) == 0
    nested = read(capsys)
    assert {"brief", "full", "short", "middle", "long", "HL-min-VeryGood", "recall"} <= set(nested)
    assert main(["eval", "--pred", pred, "--gt", gt]) == 0
    assert f"{nested['brief']['MR-full-mAP']:.2f}" in capsys.readouterr().out


def test_a_malformed_submission_is_refused_without_a_traceback(submission, capsys):
    pred, gt = submission
    lines = Path(pred).read_text().splitlines()
    Path(pred).write_text("\n".join([*lines[:4], '{"qid": 4, "pred_relevant_windows": "none"}', *lines[5:]]))
    assert main(["eval", "--pred", pred, "--gt", gt, "--json"]) == 1
    out, error = capsys.readouterr()
    assert (
        out == ""
        and error.startswith("vtg: error:")
        and "line 5" in error
        and "pred_relevant_windows" in error
    )
    assert main(["eval", "--pred", "nowhere.jsonl", "--gt", gt]) == 1
    assert "nowhere.jsonl" in capsys.readouterr().err


GT = [
    {
        "qid": n, "query": f"query {n}", "vid": f"v{n}", "duration": 20, "relevant_windows": [[4, 8]],
        "relevant_clip_ids": [2, 3], "saliency_scores": [[1, 2, 3], [4, 4, 4]],
    }
    for n in range(3)
]  # fmt: skip


def _score(tmp_path: Path, rows) -> int:
    truth, predictions = tmp_path / "g.jsonl", tmp_path / "p.jsonl"
    truth.write_text("\n".join(json.dumps(row) for row in rows))
    predictions.write_text(
        "\n".join(json.dumps({"qid": n, "pred_relevant_windows": [[4, 8, 0.5]]}) for n in range(3))
    )
    return main(["eval", "--pred", str(predictions), "--gt", str(truth), "--recall"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"qid": ...}, "field 'qid': expected an integer or a non-empty string, got no such field among"),
        ({"qid": 0}, "field 'qid': expected a qid used once, got 0 (also on line 1)"),
        ({"duration": "20"}, "field 'duration': expected a positive number of seconds, got \"20\""),
        ({"duration": ..., "pred_relevant_windows": []}, "expected annotations, got predictions"),
        ({"vid": "v0", "duration": 22}, "expected 20 as on line 1 for the same video, got 22"),
        ({"relevant_windows": [[0, "x"]]}, 'expected [start, end] in seconds, finite numbers, got [0, "x"]'),
        ({"relevant_windows": [[0, float("nan")]]}, "finite numbers, got [0, NaN]"),
        ({"relevant_windows": [[8, 4]]}, "expected start < end"),
        ({"relevant_windows": [[0, 120]]}, "expected a window within 0 and 20 s"),
        ({"relevant_windows": None}, "expected labels as on line 1"),
        ({"relevant_clip_ids": ...}, "field 'relevant_clip_ids': expected a list of integers, got no such"),
        ({"saliency_scores": [[1, 2, True], [1, 2, 3]]}, "expected three scores (annotators) in 0..4"),
        (
            {"saliency_scores": [[1, 2, float("nan")], [1, 2, 3]]},
            "expected three scores (annotators) in 0..4",
        ),
    ],
)
def test_ground_truth_is_checked_before_anything_is_scored(tmp_path, capsys, change, expected):
    wrong = {name: value for name, value in (GT[1] | change).items() if value is not ...}
    assert _score(tmp_path, [GT[0], wrong, GT[2]]) == 1
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(f"vtg: error: {tmp_path}/g.jsonl, line 2: ") and expected in error


def test_all_problems_of_a_ground_truth_are_told_together(tmp_path, capsys):
    assert _score(tmp_path, [row | {"duration": None} for row in GT * 4]) == 1
    error = capsys.readouterr().err
    assert [f"line {n}:" in error for n in range(1, 13)] == [True] * 10 + [False] * 2
    assert "… and 2 more problems." in error


def test_what_ground_truths_may_lack_and_how_far_windows_may_reach(tmp_path, capsys):
    moments = [{name: row[name] for name in ("qid", "duration", "relevant_windows")} for row in GT]
    assert _score(tmp_path, moments) == 0
    out, error = capsys.readouterr()
    assert "MR-full-R1@0.5               100.00" in out and "HL-" not in out
    assert "note: highlights are not scored: the predictions have no pred_saliency_scores" in error
    assert _score(tmp_path, [*moments[:2], moments[2] | {"relevant_windows": [[4, 20.8]]}]) == 0
    assert "window past the end in 1 row(s), first at line 3" in capsys.readouterr().err


def test_every_published_ground_truth_scores_without_a_word(data_root, tmp_path, capsys):
    for name in (
        "qvhighlights/highlight_val_release.jsonl",
        "qvhighlights/highlight_test_with_gt.jsonl",
        "charades_sta/charades_test_release.jsonl",
        "tacos/tacos_test_release.jsonl",
        "tacos/tacos_val_release.jsonl",
    ):
        rows = [json.loads(line) for line in (data_root / name).read_text().splitlines()]
        predictions = tmp_path / "p.jsonl"
        predictions.write_text(
            "\n".join(
                json.dumps({"qid": row["qid"], "pred_relevant_windows": [[*row["relevant_windows"][0], 1.0]]})
                for row in rows
            )
        )
        assert main(["eval", "--pred", str(predictions), "--gt", str(data_root / name), "--json"]) == 0
        out, error = capsys.readouterr()
        expected = ("vtg: note: highlights are not scored: the predictions", "vtg: note: MR-", "vtg: note: 1")
        assert all(line.startswith(expected) for line in error.splitlines())
        assert json.loads(out)["brief"]["MR-full-R1@0.7"] == 100


@pytest.mark.parametrize("dataset", ["qvhighlights", "charades_sta", "tacos"])
def test_what_a_model_predicts_can_be_scored(dataset, tmp_path, capsys):
    from vtg_lib.data import load_data
    from vtg_lib.evaluation.submission import write_submission
    from vtg_lib.models import build
    from vtg_lib.models.inference import predict

    sizes = {"train": 4, "val": 6, "test": 4, "semantic_dim": 6, "motion_dim": 4}
    data = load_data({"kind": "sim", "dataset": dataset, **sizes})["val"]
    config = {"video_dim": 10, "text_dim": 6, "width": 8, "heads": 2, "hidden": 8, "queries": 3}
    write_submission(tmp_path / "p.jsonl", predict(build("moment_detr", config), data))
    (tmp_path / "g.jsonl").write_text("\n".join(map(json.dumps, data.annotations)))
    files = ["--pred", str(tmp_path / "p.jsonl"), "--gt", str(tmp_path / "g.jsonl")]
    assert main(["eval", *files, "--recall", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recall"]["mIoU"] >= 0 and ("HL-min-Fair" in found) == (dataset == "qvhighlights")


@pytest.mark.parametrize(("dataset", "protocol"), [("tvsum", "tvsum"), ("youtube_highlights", "youtube")])
def test_highlight_protocols(dataset, protocol, tmp_path, capsys):
    from vtg_lib.data import load_data
    from vtg_lib.evaluation.highlights import highlight_map

    data = load_data({"kind": "sim", "dataset": dataset, "test": 0, "semantic_dim": 6, "motion_dim": 4})[
        "val"
    ]
    rows = [
        {"qid": row["qid"], "pred_saliency_scores": [n % 5 for n in range(len(row["label"]))]}
        for row in data.annotations
    ]
    for name, lines in (("p", rows), ("g", data.annotations)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    files = ["--pred", str(tmp_path / "p.jsonl"), "--gt", str(tmp_path / "g.jsonl")]
    found = {}
    for ties in ("in time", "won", "lost"):
        assert main(["eval", *files, "--protocol", protocol, "--ties", ties, "--json"]) == 0
        found[ties] = json.loads(capsys.readouterr().out)["brief"]
        top_k = 5 if protocol == "tvsum" else None
        expected = highlight_map(rows, data.annotations, top_k=top_k, ties=ties)
        key = "HL-top5-mAP" if protocol == "tvsum" else "HL-mAP"
        assert found[ties][f"{key}, mean of videos"] == expected["mAP"]
        assert all(found[ties][f"{key} {name}"] == value for name, value in expected["domains"].items())
    means = [found[ties][f"{key}, mean of domains"] for ties in ("lost", "in time", "won")]
    assert means[0] < means[1] < means[2] and found["won"][f"{key}, ties lost"] == means[0]
    other = "youtube" if protocol == "tvsum" else "tvsum"
    assert main(["eval", *files, "--protocol", other]) == 1
    assert f"by the protocol {protocol}" in capsys.readouterr().err


def test_eval_needs_neither_torch_nor_pydantic(submission):
    pred, gt = submission
    script = (
        "import sys; from vtg_lib.cli.main import main; "
        f"main(['eval', '--pred', {pred!r}, '--gt', {gt!r}]); "
        "assert not {'torch', 'pydantic', 'rich'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize(
    "arguments", [[], ["eval"], ["nonsense"], ["data"], ["sweep"], ["eval", "--pred", "x"]]
)
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["evla"], "eval"),
        (["data", "lst"], "list"),
        (["eval", "--recal"], "--recall"),
        (["sweep", "--paper", "sdst", "--time-buget", "3"], "--time-budget"),
    ],
)
def test_misspelt_names_are_answered_with_the_nearest(arguments, hint, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and hint in capsys.readouterr().err


def _given(monkeypatch, name, *arguments):
    """The values that a command's body receives."""
    received = {}

    def body(**options):
        received.update(options)
        return Reply(value=None, text="")

    group = typer.Typer()
    group.callback()(lambda: None)
    original = {"run": runs.run, "import-checkpoint": checkpoints.import_checkpoint}[name]
    monkeypatch.setattr(body, "__signature__", inspect.signature(original, eval_str=True), raising=False)
    cli._command(group, name, body, "x")
    monkeypatch.setattr(cli, "app", group)
    assert main([name, *arguments]) == 0
    return received


def test_an_option_takes_several_values_and_options_come_in_any_order(monkeypatch):
    found = _given(
        monkeypatch, "run",
        "--config", "a=1", "b=2", "--seed", "3", "--data", "c=3", "--config", "d=-4", "--rerun",
        "--train", "e=5",
    )  # fmt: skip
    assert (found["config"], found["data"], found["train"]) == (["a=1", "b=2", "d=-4"], ["c=3"], ["e=5"])
    assert found["seed"] == 3 and found["rerun"]
    assert _given(monkeypatch, "run", "--config=a=1", "--json")["config"] == ["a=1"]
    for words in (
        ["--config", "heads=4", "width=8", "c.pt", "--model", "m", "o.safetensors"],
        ["c.pt", "o.safetensors", "--config", "heads=4", "--model=m", "--config", "width=8"],
        ["--model", "m", "c.pt", "--config", "heads=4", "width=8", "--", "o.safetensors"],
    ):
        found = _given(monkeypatch, "import-checkpoint", *words)
        assert found["config"] == ["heads=4", "width=8"]
        assert [str(found["source"]), str(found["target"])] == ["c.pt", "o.safetensors"]


def test_a_stray_word_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["models", "--json", "sdst"])
    assert stopped.value.code == 2 and "sdst" in capsys.readouterr().err


def test_shells_can_complete(capsys, monkeypatch):
    monkeypatch.setenv("_VTG_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "vtg import")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert main([]) == 0
    assert capsys.readouterr().out.split() == ["import-checkpoint"]


def test_an_interrupted_command_exits_with_130(monkeypatch, capsys):
    def interrupted(entry):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_presets", interrupted)
    assert main(["models"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_models_lists_counts_in_the_same_unit(capsys):
    assert main(["models", "--json"]) == 0
    rows = {(row["model"], row["preset"]): row for row in read(capsys)}
    for name in ("moment_detr", "qd_detr", "sdst"):
        row = rows[name, "qvhighlights"]
        assert set(row) == {"model", "preset", "parameters", "published_parameters"}
        assert row["parameters"] == pytest.approx(row["published_parameters"], rel=0.03)


def test_tables_as_json_and_text(tmp_path: Path, capsys):
    arguments = [
        "tables",
        "--paper",
        "sdst",
        "--store",
        str(tmp_path / "s.jsonl"),
        "--data-root",
        str(tmp_path),
    ]
    assert main([*arguments, "--json"]) == 0
    found = read(capsys)
    assert {"tab1", "tab5", "tabP"} <= {table["table"] for table in found}
    for table in found:
        assert {"paper", "table", "caption", "columns", "rows"} <= set(table)
        for row in table["rows"]:
            assert row["source"] in ("run", "released", "quoted") and {"evidence", "mean", "sd", "n"} <= set(
                row["best"]
            )
    assert main(arguments) == 0
    assert "[not run]" in capsys.readouterr().out
    assert main(["tables", "--paper", "nobody"]) == 1


def test_data_list_and_verify(tmp_path: Path, capsys):
    assert main(["data", "list", "--json", "--data-root", str(tmp_path)]) == 0
    names = {row["name"] for row in read(capsys)}
    assert "qvhighlights" in names
    assert main(["data", "verify", "qvhighlights", "--json", "--data-root", str(tmp_path)]) == 0
    assert {row["status"] for row in read(capsys)} == {"missing"}
    assert main(["data", "fetch", "nothing", "--data-root", str(tmp_path)]) == 1
    assert "nothing" in capsys.readouterr().err


def test_render_writes_the_public_layout(tmp_path: Path, capsys):
    out = tmp_path / "world"
    knobs = ["train=6", "val=4", "clips=8", "semantic_dim=8", "motion_dim=4"]
    assert main(["render", "--out", str(out), "--data", *knobs, "--json"]) == 0
    summary = read(capsys)
    assert summary["splits"]["train"]["queries"] == 6 and summary["splits"]["val"]["video"] == [8, 12]
    row = json.loads((out / "val.jsonl").read_text().splitlines()[0])
    assert np.load(out / "val" / "video" / f"{row['vid']}.npz")["features"].shape[1] == 12
    assert np.load(out / "val" / "text" / f"qid{row['qid']}.npz")["last_hidden_state"].shape[1] == 8
    assert main(["render", "--out", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_render_writes_moments_in_foreign_contexts(tmp_path: Path, capsys):
    out = tmp_path / "dynamic"
    knobs = ["train=6", "val=4", "clips=8", "semantic_dim=8", "motion_dim=4"]
    assert main(["render", "--out", str(out), "--dynamic-context", "--data", *knobs, "--json"]) == 0
    summary = read(capsys)
    assert list(summary["splits"]) == ["val"] and summary["spec"]["view"] == "dynamic context"
    assert summary["splits"]["val"]["videos"] == 4
    truth = [json.loads(line) for line in (out / "val.jsonl").read_text().splitlines()]
    submission = tmp_path / "answers.jsonl"
    submission.write_text(
        "".join(
            json.dumps(
                {
                    "qid": row["qid"],
                    "pred_relevant_windows": [[*window, 1.0] for window in row["relevant_windows"]],
                    "pred_saliency_scores": [0.0] * 8,
                }
            )
            + "\n"
            for row in truth
        )
    )
    assert main(["eval", "--pred", str(submission), "--gt", str(out / "val.jsonl"), "--json"]) == 0
    assert read(capsys)["brief"]["MR-full-mAP"] == 100


def test_run_trains_stores_and_writes_predictions(tmp_path: Path, capsys):
    store, predictions = tmp_path / "s.jsonl", tmp_path / "p.jsonl"
    common = ["--store", str(store), "--checkpoints", str(tmp_path), "--json"]
    assert main(["run", "--model", "moment_detr", *SMALL, *common, "--predictions", str(predictions)]) == 0
    first = read(capsys)
    assert first["spec"]["train"]["learning_rate"] == 1e-3 and len(predictions.read_text().splitlines()) == 8
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(first["spec"]))
    assert main(["run", "--spec", str(spec), *common, "--device", "cpu"]) == 0
    assert read(capsys) == first and len(Store(store)) == 1
    # predictions of a stored run whose weights are gone: trained again, and its line left alone
    shutil.rmtree(tmp_path / "runs")
    predictions.unlink()
    assert (
        main(["run", "--spec", str(spec), *common, "--device", "cpu", "--predictions", str(predictions)]) == 0
    )
    assert read(capsys) == first and len(predictions.read_text().splitlines()) == 8
    assert len(store.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "give one of --spec"),
        (["run", "--model", "qd_detr", "--keep"], "--keep: expected --store"),
        (["run", "--model", "nobody"], "nobody"),
        (["run", "--model", "moment_detr", "--config", "width"], "KEY=VALUE"),
        (["run", "--model", "moment_detr", "--config", "width=[1"], "KEY=VALUE with a YAML value"),
        (
            [
                "run",
                "--model",
                "moment_detr",
                "--device",
                "cpu",
                "--data",
                "train=4",
                "val=4",
                "layout=levels",
            ],
            "layout=clips",
        ),
        (["run", "--model", "moment_detr", "--train", "epoch=1"], "epoch"),
        (["run", "--paper", "sdst"], "--table and --row"),
        (["run", "--paper", "sdst", "--table", "tab5", "--row", "x"], "tab5 has no row 'x'"),
        (["sweep", "--paper", "sdst", "--seeds", "many"], "how many"),
        (["sweep", "--paper", "sdst", "--tables", "tab99"], "tab99"),
        (["sweep", "--paper", "sdst", "--models", "sdst,nobody"], "unknown nobody"),
        (["sweep", "--paper", "sdst", "--profile", "smoke"], "--store"),
        (["run", "--model", "moment_detr", "--device", "cpuu"], "expected auto, cpu or cuda, got 'cpuu'"),
        (["bench", "--only", "nothing"], "unknown part"),
        (["bench", "--only", "step", "--model", "nobody"], "nobody"),
    ],
)
def test_user_errors_say_what_to_do(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VTG_CACHE", str(tmp_path))
    assert main([*arguments, "--json"]) == 1
    out, error = capsys.readouterr()
    last = error.splitlines()[-1]
    assert out == "" and last.startswith("vtg: error:") and message in last and "Traceback" not in error


def _ours(entry):
    raise KeyError("a bug")


def _numpy(entry):
    return np.zeros(2) + np.zeros(3)  # raised in C, below a line of the package


def _interpreter(entry):
    return int("x")


def _library(entry):
    return json.loads("{")  # raised by Python code elsewhere


@pytest.mark.parametrize("broken", [_ours, _numpy, _interpreter, _library])
def test_faults_of_ours_keep_their_traceback(monkeypatch, broken):
    in_package = types.FunctionType(broken.__code__, {**globals(), "__name__": "vtg_lib.cli.data"})
    monkeypatch.setattr(commands, "_presets", in_package)
    with pytest.raises((KeyError, ValueError)):
        main(["models"])


def test_sweep_dry_run_lists_the_runs(tmp_path: Path, capsys):
    arguments = [
        "sweep",
        "--paper",
        "sdst",
        "--profile",
        "sim",
        "--tables",
        "tab5",
        "--store",
        str(tmp_path / "s.jsonl"),
    ]
    assert main([*arguments, "--seeds", "2", "--dry-run", "--json"]) == 0
    rows = read(capsys)
    assert [row["seed"] for row in rows] == sorted(
        row["seed"] for row in rows
    )  # a whole table of one seed first
    assert {row["seed"] for row in rows} == {0, 1} and not any(row["stored"] for row in rows)
    assert main([*arguments, "--seeds", "1,", "--dry-run", "--json"]) == 0
    assert {row["seed"] for row in read(capsys)} == {1}
    assert main([*arguments, "--dose", "all", "--seeds", "1", "--dry-run", "--json"]) == 0
    assert len(read(capsys)) > len(rows) / 2
    assert main([*arguments, "--dose", "all", "--models", "qd_detr", "--dry-run", "--json"]) == 0
    assert read(capsys) == []


def test_sweep_trains_what_all_or_some_claims_need(tmp_path: Path, capsys):
    arguments = [
        "sweep",
        "--paper",
        "sdst",
        "--store",
        str(tmp_path / "s.jsonl"),
        "--seeds",
        "1",
        "--dry-run",
    ]
    assert main([*arguments, "--claims", "all", "--json"]) == 0
    every = read(capsys)
    keys = [claim.key for claim in load_paper("sdst").claims][:2]
    assert main([*arguments, "--claims", ",".join(keys), "--json"]) == 0
    some = read(capsys)
    assert some and len(some) < len(every)
    assert {row["hash"] for row in some} < {row["hash"] for row in every}
    assert main([*arguments, "--claims", "no_such", "--json"]) == 1
    assert f"claims: 'no_such'; expected one of {keys[0]}" in capsys.readouterr().err


def test_search_dry_run_lists_every_rate_in_every_tuning_world(tmp_path: Path, capsys):
    arguments = ["search", "--paper", "sdst", "--store", str(tmp_path / "s.jsonl"), "--dry-run", "--json"]
    assert main([*arguments, "--models", "sdst,lst", "--rates", "1e-3,2e-3", "--worlds", "2"]) == 0
    rows = read(capsys)
    assert [row["seed"] for row in rows] == [1000] * 4 + [1001] * 4
    assert len({row["hash"] for row in rows}) == 8 and not any(row["stored"] for row in rows)
    assert not (tmp_path / "s.jsonl").exists()


def test_module_runs_and_json_is_alone_on_stdout(tmp_path: Path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "vtg_lib", "run", "--model", "moment_detr", *SMALL, "--json",
         "--checkpoints", str(tmp_path)],
        cwd=root, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "MR-full-mAP" in json.loads(done.stdout)["metrics"]["val"]
    light = (
        "import sys, vtg_lib.cli.main as c; c.get_command(c.app); "
        "assert not {'torch', 'numpy', 'pandas', 'rich', 'pydantic'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", light], cwd=root).returncode == 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_has_an_example_of_options_that_it_has(name, capsys):
    words = shlex.split(EXAMPLES[name])[1:]
    command = [word for word in words[:2] if word in ("data", name)]
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example: vtg" in text
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{word}\b", text.split("Example:")[0]), word


def _elsewhere(*words, code="", **variables):
    """A command in a process of its own."""
    run = "import runpy, sys; {}sys.argv = {!r}; runpy.run_module('vtg_lib', run_name='__main__')"
    script = run.format(code, ["vtg", *words])
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=environment, text=True, errors="replace"
    )


def test_without_fcntl_and_in_a_locale_without_letters():
    ran = _elsewhere("claims", "--paper", "simdetr", "--json", code="sys.modules['fcntl'] = None; ")
    assert ran.returncode == 0 and json.loads(ran.stdout)
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ran = _elsewhere("tables", "--paper", "03_sdst", **plain)  # a chapter's name means its paper
    assert ran.returncode == 0, ran.stderr
    assert "SG-DETR?" in ran.stdout  # what the terminal cannot show is replaced


def test_predict_looks_before_it_computes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vtg_lib.models.imported.load_imported", None)  # loading would fail
    ask = ["predict", "--model", "ours.safetensors", "--device", "cpu"]
    assert main([*ask, "--out", str(tmp_path / "p.jsonl")]) == 1
    assert "--data: expected the features to predict from" in capsys.readouterr().err
    assert main([*ask, "--data", "kind=sim", "--out", str(tmp_path)]) == 1
    assert f"--out: expected a file, got the folder {tmp_path}" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*ask, "--data", "kind=sim", "--out", str(tmp_path / "file" / "p.jsonl")]) == 1
    assert f"{tmp_path / 'file'} is a file" in capsys.readouterr().err


# --- bench


def test_bench_evaluator_and_description(tmp_path: Path):
    found = bench.evaluator(tmp_path)
    assert found["file"] == "generated" and "times_faster" not in found and found["ours_s"] > 0
    assert "reference_recorded_s" in bench.describe({"evaluator": found})


def test_a_method_is_timed_at_the_size_that_its_own_paper_gives_it() -> None:
    profile = load_paper("simdetr").profiles["sim"].overrides("sim_detr", "qvhighlights")
    timed = bench_steps.Step(_bench_spec("sim_detr", "sim"), "cpu")
    assert timed.model.config.width == profile.config["width"]


def test_a_method_is_timed_on_features_as_wide_as_published() -> None:
    step = bench_steps.Step(_bench_spec("r2_tuning", "paper"), "cpu")
    assert (step.data.video.shape[-1], step.data.text.shape[-1]) == (768, 512)


def test_a_step_is_timed_with_what_a_hook_does_to_its_batch() -> None:
    step = bench_steps.Step(_bench_spec("qd_detr", "sim", hook="synthesis"), "cpu")
    step()
    assert list(step.parts)[:2] == ["batch", "hook"] and step.hook.tallies["made"] > 0


def test_bench_splits_the_steps_of_several_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from vtg_lib.experiments.spec import RunSpec

    value = {
        "config": {"video_dim": 12, "text_dim": 8, "width": 8, "heads": 1, "hidden": 8},
        "data": {"clips": 8, "semantic_dim": 8, "motion_dim": 4},
        "train": {"batch_size": 4},
    }
    monkeypatch.setattr(
        "vtg_lib.cli.bench._bench_spec",
        lambda model, size, hook: RunSpec.from_dict(value | {"model": model}),
    )
    monkeypatch.setattr(bench_steps, "REPEATS", 3)
    monkeypatch.setattr(bench_steps, "precisions", lambda device: ("float32", "bfloat16"))
    ask = ["bench", "--only", "step,inference", "--model", "moment_detr,qd_detr"]
    assert main([*ask, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["step"]
    assert [(row["model"], row["precision"]) for row in rows] == [
        (model, precision) for model in ("moment_detr", "qd_detr") for precision in ("float32", "bfloat16")
    ]
    for row in rows:
        names = ("batch", "forward", "matching", "loss", "backward", "optimizer")
        assert row["step_ms"] == pytest.approx(sum(row[f"{name}_ms"] for name in names))
        assert row["matching_ms"] > 0 and row["loss_ms"] > 0 and 0 < row["matching_and_loss_share"] < 1
    assert [row["predict_ms_per_query"] > 0 for row in found["inference"]] == [True, True]
    text = bench.describe(found).splitlines()
    assert sum(line.split()[:1] == ["qd_detr"] for line in text) == 3  # two precisions, and inference


def test_diagnose_looks_into_kept_weights_and_trains_nothing(tmp_path, monkeypatch, capsys):
    from vtg_lib import files
    from vtg_lib.experiments.config import TrainConfig
    from vtg_lib.experiments.run import run
    from vtg_lib.experiments.spec import RunSpec

    monkeypatch.setattr(files, "RESULTS", tmp_path)
    sizes = {"video_dim": 12, "text_dim": 8, "width": 8, "heads": 1, "hidden": 8, "queries": 2}
    world = {"train": 16, "val": 8, "clips": 8, "semantic_dim": 8, "motion_dim": 4}
    train = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3)
    spec = RunSpec(model="qd_detr", config=sizes, data=world, train=train, keep=True)
    stored = run(spec, Store(tmp_path / "01_a.jsonl"))
    monkeypatch.setattr("vtg_lib.experiments.training.train", None)  # training would fail
    assert main(["diagnose", "masked", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["model"], found["hash"]) == ("qd_detr", spec.hash)
    rounded = found["masked"]["standard"]["map"]  # of weights in half precision
    assert rounded == pytest.approx(stored.metrics["val"]["MR-full-mAP"], abs=1)
    assert main(["diagnose", "masked", "--model", "tr_detr"]) == 1
    assert "expected stored runs of tr_detr with weights, found none" in capsys.readouterr().err
    assert main(["diagnose", "maksed"]) == 1
    assert "did you mean 'masked'" in capsys.readouterr().err
    assert main(["diagnose", "list"]) == 0
    assert "masked" in capsys.readouterr().out
