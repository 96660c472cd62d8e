"""Published rows from the download to the comparison, on public layouts at small size from a local server."""

from __future__ import annotations

import json

import pytest
from served import DOMAINS, public_sets, serving

pytest.importorskip("pooch")

from vtg_lib.cli.main import main  # noqa: E402
from vtg_lib.data.feature_cache import FeatureCache  # noqa: E402
from vtg_lib.data.sources import download  # noqa: E402
from vtg_lib.files import ANNOTATIONS  # noqa: E402

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


def vtg(capsys, *words, code=0):
    """The JSON that a command answers."""
    assert main([*words, "--json"]) == code, capsys.readouterr().err
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

    run = [
        "run",
        "--model",
        "qd_detr",
        "--config",
        *TINY,
        "highlights_only=true",
        "video_dim=2048",
        *SHORT,
        SELECT,
    ]
    data = ["--data", "kind=official", "dataset=tvsum", "features=tvsum_umt", "video=[i3d]", "text=clip_text"]
    truth = {split: str(tmp_path / "data" / path) for split, path in ANNOTATIONS["tvsum"].items()}
    ran = vtg(capsys, *run, *data, "--predictions", "p.jsonl")
    scored = vtg(capsys, "eval", "--pred", "p.jsonl", "--gt", truth["val"])["brief"]
    assert {"HL-top5-mAP, mean of domains", *(f"HL-top5-mAP {name}" for name in DOMAINS)} <= set(scored)
    for name, value in scored.items():
        assert value == pytest.approx(ran["metrics"]["val"][name], abs=0.01), name

    vtg(capsys, *run, *data, "fold=2", "domain=BK", "--predictions", "fold.jsonl")
    (only,) = map(json.loads, (tmp_path / "fold.jsonl").read_text().splitlines())
    assert only["qid"] == "BK1"  # the second of the domain's videos, which is a training video as released
    vtg(capsys, "eval", "--pred", "fold.jsonl", "--gt", truth["train"], "--allow-missing")

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
    assert main(["data", "fetch", "tvsum_umt"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("vtg: error: ") and "HTML page instead of the file" in error and "Fix: " in error
    assert main(["data", "fetch", "tvsum"]) == 1
    assert "tvsum_val_release.jsonl: expected " in capsys.readouterr().err
    assert not list((tmp_path / "data").rglob("*val_release*"))
    data = ["--data", "kind=official", "dataset=tvsum", "features=tvsum_umt", "video=[i3d]", "text=clip_text"]
    assert (
        main(
            ["run", "--model", "qd_detr", "--config", "highlights_only=true", "video_dim=2048", *data, *SHORT]
        )
        == 1
    )
    assert "`vtg data fetch tvsum`" in capsys.readouterr().err
