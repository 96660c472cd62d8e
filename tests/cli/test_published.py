"""Published rows from the download to the comparison, on public layouts at small size from a local server."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess

import pytest
from served import DOMAINS, public_sets, serving

pytest.importorskip("pooch")

from vtg_lib import papers  # noqa: E402
from vtg_lib.cli.main import main  # noqa: E402
from vtg_lib.cli.options import knobs  # noqa: E402
from vtg_lib.data import load_data  # noqa: E402
from vtg_lib.data.feature_cache import FeatureCache  # noqa: E402
from vtg_lib.data.sources import download  # noqa: E402
from vtg_lib.experiments import run as runs  # noqa: E402
from vtg_lib.files import ANNOTATIONS, RESULTS, ROOT  # noqa: E402

PAGE = (ROOT / "book" / "published_rows.md").read_text(encoding="utf-8")
TINY = ("width=8", "heads=1", "hidden=8", "queries=2")
SELECT = "select=HL-top5-mAP, mean of domains"
SHORT = ("--device", "cpu", "--train", "epochs=1", "batch_size=8", "learning_rate=1e-3")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a data root and a server; `place(*names)` serves sets, and gives the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    for name, folder in (("DATA_ROOT", "data"), ("CACHE", "cache"), ("MANIFESTS", "manifests")):
        monkeypatch.setenv(f"VTG_{name}", str(tmp_path / folder))
    with serving() as server:

        def prepare(*names):
            public_sets(server, tmp_path / "manifests", names)
            return server

        yield prepare


def command(*words):
    """The exit code of a command that, as one of its own process, finds no data in memory."""
    runs._load_data.cache_clear()
    return main([*words])


def vtg(capsys, *words, code=0):
    """The JSON that a command answers."""
    assert command(*words, "--json") == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def fetched(capsys, *names):
    """Fetches and verifies sets; returns the states that `fetch` and `verify` give of their paths."""
    states = (
        {row["path"]: row["status"] for row in vtg(capsys, "data", verb, *names)}
        for verb in ("fetch", "verify")
    )
    return tuple(states)


def test_tvsum_from_the_download_to_the_score(place, capsys, tmp_path):
    server = place("tvsum", "tvsum_umt")
    server.files["/moved.zip"] = server.files["/tvsum_umt.zip"]
    server.files["/tvsum_umt.zip"] = "/moved.zip"
    server.stops = [None, None, 100_000]  # the two annotation files come whole, the archive does not
    got, verified = fetched(capsys, "tvsum", "tvsum_umt")
    archive, folder = "features/tvsum_umt.zip", "features/tvsum_umt"
    assert got[archive] == got[folder] == "recorded" and archive not in verified
    assert set(verified.values()) == {"ok"} and len(verified) == 3
    assert [asked for path, asked in server.requests if path == "/moved.zip"][1].startswith("bytes=")
    assert (tmp_path / "data" / folder / "tvsum" / "video_features" / "VT0_opt.npy").exists()

    highlights = ["highlights_only=true", "video_dim=2048"]
    run = ["run", "--model", "qd_detr", "--config", *TINY, *highlights, *SHORT, SELECT]
    data = ["--data", "kind=official", "dataset=tvsum", "features=tvsum_umt", "video=[i3d]", "text=clip_text"]
    truth = {split: str(tmp_path / "data" / path) for split, path in ANNOTATIONS["tvsum"].items()}
    ran = vtg(capsys, *run, *data, "--predictions", "p.jsonl")
    scored = vtg(capsys, "eval", "--pred", "p.jsonl", "--gt", truth["val"])["brief"]
    assert {"HL-top5-mAP, mean of domains", *(f"HL-top5-mAP {name}" for name in DOMAINS)} <= set(scored)
    # Kept weights are of half precision: that may change places of two clips that score nearly the same.
    moved = [scored[name] - ran["metrics"]["val"][name] for name in (f"HL-top5-mAP {d}" for d in DOMAINS)]
    assert sum(abs(change) > 0.01 for change in moved) <= 3

    vtg(capsys, *run, *data, "fold=2", "--predictions", "fold.jsonl")
    left_out = [json.loads(line)["qid"] for line in (tmp_path / "fold.jsonl").read_text().splitlines()]
    assert sorted(left_out) == sorted(f"{domain}1" for domain in DOMAINS)  # training videos as released
    found = vtg(capsys, "eval", "--pred", "fold.jsonl", "--gt", truth["train"], "--allow-missing")
    assert (
        set(found["domains"]) == set(DOMAINS)
        and "10 of 40 videos of the annotations are scored" in found["notes"]
    )
    alone = load_data({**knobs(data[1:]), "domain": "BK", "fold": 2})
    assert [row["vid"] for row in alone["val"].annotations] == ["BK1"] and len(alone["train"]) == 4
    assert alone["val"].video.shape[-1] == 2048
    single = vtg(capsys, *run, *data, "domain=BK")  # one validation video: no sentences to swap
    assert "swapped" not in single["metrics"] and set(single["metrics"]["val"]) >= {"HL-top5-mAP BK"}

    cache = FeatureCache.open(tmp_path / "data" / "features" / "cache" / "tvsum_umt" / "i3d")
    assert len(cache) == 50 and cache.spec.dims == 2048
    for path in (tmp_path / "data" / folder).rglob("*.np?"):
        path.unlink()
    again = vtg(capsys, *run, *data)  # from the cache alone
    assert again["metrics"] == ran["metrics"]
    states = {row["path"]: row["status"] for row in vtg(capsys, "data", "verify", "tvsum_umt", code=1)}
    assert states == {folder: "wrong"}


def test_tacos_from_the_download_to_the_score(place, capsys, tmp_path):
    server = place("tacos", "tacos_cg_detr")
    server.ranges, server.stops = False, [None, None, None, 50_000]
    got, verified = fetched(capsys, "tacos", "tacos_cg_detr")
    assert list(got.values()) == ["ok"] * 3 + ["recorded"] * 2 and set(verified.values()) == {"ok"}
    assert [path for path, _ in server.requests].count("/tacos_cg_detr.archive") == 2  # broken, and whole

    words = ["run", "--paper", "simdetr", "--profile", "official", "--table", "tab2", "--row", "CG-DETR"]
    small = ["--config", *TINY, "encoder_layers=1", "decoder_layers=1", "dummies=3", "prompts=2"]
    run = [*words, "--dataset", "tacos", *small, *SHORT, "--store", "mine.jsonl", "--predictions", "p.jsonl"]
    ran = vtg(capsys, *run)
    assert {"MR-full-mAP", "MR-full-R1@0.5"} <= set(ran["metrics"]["val"]) and "test" in ran["metrics"]
    nested = vtg(
        *(capsys, "eval", "--recall", "--pred", "p.jsonl"),
        *("--gt", str(tmp_path / "data" / ANNOTATIONS["tacos"]["val"])),
    )
    assert nested["brief"]["MR-full-mAP"] == pytest.approx(ran["metrics"]["val"]["MR-full-mAP"], abs=0.01)
    assert nested["recall"]
    assert vtg(capsys, *run)["provenance"] == ran["provenance"]  # stored: not trained again


def test_what_is_no_file_ends_in_words(place, capsys, tmp_path):
    server = place("tvsum", "tvsum_umt")
    server.files["/tvsum_umt.zip"] = b"<!DOCTYPE html><html>Too many downloads</html>"
    server.files["/tvsum_val_release.jsonl"] += b"\n"
    assert command("data", "fetch", "tvsum_umt") == 1
    error = capsys.readouterr().err
    assert "vtg: error: " in error and "HTML page instead of the file" in error and "Fix: " in error
    assert command("data", "fetch", "tvsum") == 1
    assert "tvsum_val_release.jsonl: expected " in capsys.readouterr().err
    assert not list((tmp_path / "data").rglob("*val_release*"))
    data = ["--data", "kind=official", "dataset=tvsum", "features=tvsum_umt", "video=[i3d]", "text=clip_text"]
    run = ["run", "--model", "qd_detr", "--config", "highlights_only=true", "video_dim=2048", *data, *SHORT]
    assert command(*run) == 1
    assert "`vtg data fetch tvsum`" in capsys.readouterr().err


def run_in_shell(script, body):
    """Runs a shell script in which `vtg WORDS` is `body(words)`, in this process; returns the exit code."""
    (asked, ask), (answered, answer) = os.pipe(), os.pipe()
    vtg = f"vtg() {{ {{ printf '%q ' \"$@\"; echo; }} >&{ask}; read -r code <&{answered}; return $code; }}"
    shell = subprocess.Popen(["bash", "-ec", f"{vtg}\n{script}"], pass_fds=(ask, answered))
    os.close(ask), os.close(answered)
    with os.fdopen(asked) as words, os.fdopen(answer, "w") as codes:
        for line in words:  # ends with the shell
            print(body(shlex.split(line)), file=codes, flush=True)
    return shell.wait()


def test_every_command_of_the_page_runs(place, capsys, monkeypatch):
    """Small networks and one epoch in place of the published ones; all else as it stands on the page."""
    place("qvhighlights", "qvhighlights_slowfast_clip", "tacos", "tacos_cg_detr", "tvsum", "tvsum_umt")
    read = papers.load_paper

    def small(key):
        paper = read(key)
        official = paper.profiles["official"]
        config, train = {**official.config, **knobs(TINY)}, {**official.train, "epochs": 1}
        found = dataclasses.replace(official, config=config, train=train)
        return dataclasses.replace(paper, profiles={**paper.profiles, "official": found})

    monkeypatch.setattr(papers, "load_paper", lambda key: small(key) if key == "simdetr" else read(key))
    answers = []

    def answer(words):
        if words[0] == "bench":  # of minutes; its options are read
            words = [*words, "--help"]
        if "--model" in words and words[0] == "run":
            words = [*words, "--config", *TINY, "--train", "epochs=1", "--device", "cpu"]
        code = command(*words)
        answers.append((words, capsys.readouterr().out))
        return code

    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert run_in_shell("\n".join(blocks), answer) == 0, answers[-1]
    assert len(answers) == PAGE.count("\nvtg ")
    tables = [out for words, out in answers if words[:3] == ["tables", "--paper", "simdetr"]]
    assert re.search(r"QD-DETR +\[official, n = 1\].*test mAP 39\.86 \| \d", tables[0])
    assert re.search(r"CG-DETR +\[official, n = 1\].*TACoS mIoU 36\.48 \| \d", tables[1])
    scores = [out for words, out in answers if words[0] == "eval"]
    assert ["mIoU" in out for out in scores] == [False, True, False]
    assert "HL-top5-mAP, mean of domains" in scores[2]


def test_numbers_of_the_page_are_those_of_the_papers_and_of_the_store():
    def printed(paper, table, label, column):
        return next(row for row in papers.load_paper(paper).table(table).rows if row.label == label).paper[
            column
        ]

    rows = re.findall(r"^\| (\S+), \w+ \| .*? \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert {name: float(number) for name, number in rows} == {
        "QD-DETR": printed("simdetr", "tab1", "QD-DETR", "test mAP"),
        "CG-DETR": printed("simdetr", "tab2", "CG-DETR", "TACoS mIoU"),
        "TR-DETR": printed("sgdetr", "tab6", "TR-DETR", "TVSum Avg."),
    }
    measured = []
    for line in (RESULTS / "efficiency.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if "2 thread(s)" in one["device"] and one["size"] == "paper":
            measured.append((one["model"], f"{one['iterations_per_s']:.2f}", f"{one['peak_memory_mb']:.0f}"))
    table = re.findall(r"^\| (\S+) \| ([\d.]+) \| (\d+) MB \|", PAGE, re.MULTILINE)
    assert table and {(name.lower().replace("-", "_"), *rest) for name, *rest in table} <= {*measured}
