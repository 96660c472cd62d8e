"""Own videos from the command line: the page's commands, features, predictions, and what is refused."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from test_imported import golden, noise, public_state, save
from videos import FAKES, described, encoded, fake_packages

from vtg_lib.cli.main import main
from vtg_lib.data.extraction.folder import read_manifest
from vtg_lib.files import ROOT

PAGE = ROOT / "book" / "your_videos.md"
TENTHS = [n / 10 for n in range(100)]
OPTIONS = {"clip_length": 2, "v_feat_dirs": ["features/clip_features"], "max_v_l": 75}


def checkpoint(path, video_dim=512, **options):
    """A small Moment-DETR as its authors' code saves it, trained on CLIP alone; its weights are noise."""
    state = public_state("moment_detr")
    inputs = {"vid": golden("moment_detr")["tensors"]["input_vid_proj.0.net.1.weight"][1]}
    inputs["txt"] = golden("moment_detr")["tensors"]["input_txt_proj.0.net.1.weight"][1]
    channels = {"vid": video_dim + 2, "txt": 512}
    for name, tensor in state.items():
        for kind, width in channels.items():
            if name.startswith(f"input_{kind}_proj.0.") and inputs[kind] == tensor.shape[-1]:
                if name.endswith("LayerNorm.weight") or name.endswith("LayerNorm.bias"):
                    state[name] = noise(name, (width,), 0.3) + name.endswith("weight")
                elif name.endswith("net.1.weight"):
                    state[name] = noise(name, (tensor.shape[0], width), width**-0.5)
    return save(path, state, **{**OPTIONS, **options})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with two videos and a public checkpoint; PyAV and open_clip are fakes."""
    fake_packages(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTG_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("VTG_CACHE", str(tmp_path / "cache"))
    described(tmp_path / "holiday.mp4", TENTHS, duration=10_000_000)
    described(tmp_path / "short.mkv", [0.0, 0.1])
    checkpoint(tmp_path / "theirs.ckpt")
    return tmp_path


def vtg(*words, code=0):
    assert main([*words]) == code


FEATURES = ("features", "holiday.mp4", "short.mkv", "--out", "mine", "--device", "cpu")
PREDICT = (
    "predict",
    "--model",
    "ours.safetensors",
    "--features",
    "mine",
    "--out",
    "p.jsonl",
    "--device",
    "cpu",
)


def test_every_command_of_the_page_runs(tmp_path):
    """With the fake of open_clip, as nobody downloads weights in a test, and PyAV where it is installed."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    try:
        import av  # noqa: F401

        make, fakes = encoded, tmp_path / "fakes"
        (fakes).mkdir()
        (fakes / "open_clip").symlink_to(FAKES / "open_clip")
    except ModuleNotFoundError:
        make, fakes = described, FAKES
    make(tmp_path / "holiday.mp4", TENTHS)
    make(tmp_path / "our dog.mkv", TENTHS[:40])
    (tmp_path / "videos").mkdir()
    for number in range(8):
        make(tmp_path / "videos" / f"v{number}.mp4", TENTHS)
        row = {"qid": number, "query": f"dog {number}", "vid": f"v{number}", "duration": 10}
        with open(tmp_path / ("train.jsonl" if number < 6 else "val.jsonl"), "a") as file:
            file.write(json.dumps({**row, "relevant_windows": [[2, 6]]}) + "\n")
    checkpoint(tmp_path / "model_best.ckpt")
    script = "\n".join(["set -e", f'vtg() {{ "{sys.executable}" -m vtg_lib "$@"; }}', *blocks])
    paths = {"VTG_DATA_ROOT": str(tmp_path / "data"), "VTG_CACHE": str(tmp_path / "cache")}
    search = os.pathsep.join(map(str, (fakes, ROOT)))
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1", "PYTHONPATH": search}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "holiday: 5 clips of 2 s" in ran.stdout and "our dog: 2 clips of 2 s" in ran.stdout
    assert ran.stdout.count("4 predictions written to p.jsonl") == 2  # imported, and of the run
    assert ran.stdout.count("our dog: Somebody cuts a cake.") == 2
    assert "train 6 queries of 6 videos, val 2 queries of 2 videos; clips of 2 s" in ran.stdout


def test_from_videos_to_moments(folder, capsys):
    vtg(*FEATURES, "--text", "A dog.", "--text", "x=1")
    told = capsys.readouterr().out
    assert "holiday: 5 clips of 2 s, 10.0 s" in told and "4 queries: vtg predict" in told
    vtg("import-checkpoint", "--model", "moment_detr", "theirs.ckpt", "ours.safetensors")
    capsys.readouterr()
    vtg(*PREDICT, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["queries"] == 4 and "metrics" not in found
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    assert [row["qid"] for row in rows] == ["holiday_0", "holiday_1", "short_0", "short_1"]
    assert [len(row["pred_saliency_scores"]) for row in rows] == [5, 5, 1, 1]
    assert all(0 <= start <= end <= 0.2001 for start, end, _ in rows[2]["pred_relevant_windows"])
    best = rows[0]["pred_relevant_windows"][0]
    assert found["moments"][0]["windows"][0] == best
    scores = rows[0]["pred_saliency_scores"]
    assert found["moments"][0]["highlight"] == 2.0 * scores.index(max(scores))
    vtg(*PREDICT)
    text = capsys.readouterr().out
    assert f"holiday: A dog.\n  0:{best[0]:04.1f} - 0:{best[1]:04.1f}  {best[2]:.2f}\n" in text
    # sentences and videos that came later are predicted, too
    described(folder / "new.mp4", TENTHS[:50])
    vtg("features", "new.mp4", "--text", "A cat.", "--out", "mine", "--device", "cpu")
    vtg(*PREDICT)
    assert len((folder / "p.jsonl").read_text().splitlines()) == 5


def test_json_of_features_and_a_bad_video(folder, capsys):
    (folder / "bad.mp4").write_bytes(b"nothing")
    vtg(*FEATURES, "bad.mp4", "--text", "a text far too long for it", "--json", code=1)
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert list(found["videos"]) == ["holiday", "short"] and list(found["failed"]) == ["bad.mp4"]
    assert found["fingerprint"] == read_manifest(folder / "mine").fingerprint
    assert "vtg: note: text" in told.err and "vtg: error: bad.mp4: expected a video" in told.err
    vtg("features", "--text", "A dog.", "is=a.mp4", code=1)  # a file, and no second sentence
    assert "is=a.mp4: expected a video file, got none" in capsys.readouterr().err
    vtg("features", "nowhere.mp4", code=1)
    assert "nowhere.mp4: expected a video file, got none" in capsys.readouterr().err


def test_features_of_another_kind_than_the_checkpoints_are_refused(folder, capsys):
    vtg(*FEATURES, "--text", "A dog.")

    def refused(**options):
        checkpoint(folder / "theirs.ckpt", **options)
        vtg("import-checkpoint", "--model", "moment_detr", "theirs.ckpt", "ours.safetensors")
        capsys.readouterr()
        vtg(*PREDICT, code=1)
        assert not (folder / "p.jsonl").exists()
        return capsys.readouterr().err

    both = ["features/slowfast_features", "features/clip_features"]
    told = refused(video_dim=2816, v_feat_dirs=both)
    assert "expected features with 2816 channels of video and 512 of text" in told
    assert "(slowfast_features, clip_features), got 512 and 512. Fix: a checkpoint trained on" in told
    told = refused(clip_length=1)
    assert "clips of (seconds): expected 1, as the checkpoint was trained on, got 2.0" in told
    other = ("features", "holiday.mp4", "--out", "mine", "--overwrite", "--model", "ViT-B-16")
    vtg(*other, "--text", "A dog.", "--device", "cpu")
    told = refused()
    assert (
        "frames encoded by: expected CLIP ViT-B/32 of OpenAI" in told
        and "got open_clip ViT-B-16, weights" in told
    )
    vtg(*FEATURES, "--text", "A dog.", "--overwrite")
    checkpoint(folder / "theirs.ckpt", max_v_l=4)
    vtg("import-checkpoint", "--model", "moment_detr", "theirs.ckpt", "ours.safetensors")
    vtg(*PREDICT)
    assert "a video has 5 clips; the checkpoint was trained on at most 4" in capsys.readouterr().err


def test_weights_of_a_run_predict_where_their_features_fit(folder, capsys):
    described(folder / "short.mkv", TENTHS[:40])
    for number, vid in enumerate(("holiday", "short") * 2):
        row = {"qid": number, "query": f"dog {number}", "vid": vid, "duration": {"short": 4}.get(vid, 10)}
        with open(folder / ("train.jsonl" if number < 2 else "val.jsonl"), "a") as file:
            file.write(json.dumps({**row, "relevant_windows": [[2, 4]]}) + "\n")
    files = ("--annotations", "train.jsonl", "--annotations", "val.jsonl")
    vtg(*FEATURES, "--text", "A dog.", *files)
    parts = ("--annotations", "train=train.jsonl", "val=val.jsonl", "--video", "clip=mine/video")
    vtg("data", "add", "beach", *parts, "--text", "mine/text")
    size = ("--config", "video_dim=512", "text_dim=512", "width=8", "heads=1", "hidden=8")
    train = ("--train", "epochs=1", "batch_size=1", "--device", "cpu", "--store", "runs/s.jsonl")
    model = ("run", "--model", "moment_detr", *size, *train, "--predictions", "v.jsonl")
    vtg(*model, "--data", "kind=own", "name=beach")
    (weights,) = (folder / "runs" / "weights").glob("*.safetensors")
    ask = ("predict", "--model", str(weights), "--features", "mine", "--out", "p.jsonl", "--device", "cpu")
    vtg(*ask)
    assert "holiday: A dog." in capsys.readouterr().out
    vtg(*FEATURES[:3], "--out", "other", "--model", "ViT-B-16", "--text", "A dog.", "--device", "cpu")
    vtg(*(word.replace("mine", "other") for word in ask), code=1)
    told = capsys.readouterr().err
    assert (
        "frames encoded by: expected open_clip ViT-B-32-quickgelu" in told
        and "got open_clip ViT-B-16" in told
    )
    weights.rename(folder / "elsewhere.safetensors")
    vtg("predict", "--model", "elsewhere.safetensors", *ask[3:], code=1)
    assert "in a run store beside its folder" in capsys.readouterr().err


def test_data_or_features_and_not_both(folder, capsys):
    vtg("predict", "--model", "x", "--out", "p.jsonl", "--features", "mine", "--data", "kind=sim", code=1)
    assert "or --features DIR, own videos; got both" in capsys.readouterr().err
    vtg("import-checkpoint", "--model", "moment_detr", "theirs.ckpt", "ours.safetensors")
    vtg(*PREDICT, code=1)
    assert "mine: expected a folder that `vtg features` wrote" in capsys.readouterr().err


def test_the_packages_are_asked_for_by_name(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    vtg(*FEATURES, code=1)
    assert "expected PyAV, got no module 'av'. Fix: pip install 'vtg_lib[video]'" in capsys.readouterr().err
    assert not (folder / "mine").exists()


def test_the_real_packages_together(tmp_path, monkeypatch, capsys):
    pytest.importorskip("av")
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 1},
    }
    (tmp_path / "tiny").mkdir()
    facts = json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    (tmp_path / "tiny" / "open_clip_config.json").write_text(facts)
    torch.manual_seed(0)
    vision, text = (open_clip.CLIPVisionCfg, open_clip.CLIPTextCfg)
    model = open_clip.CLIP(512, vision(**config["vision_cfg"]), text(**config["text_cfg"]))
    torch.save(model.state_dict(), tmp_path / "tiny" / "open_clip_pytorch_model.bin")
    encoded(tmp_path / "ferien ü.mp4", TENTHS)
    checkpoint(tmp_path / "theirs.ckpt")
    monkeypatch.chdir(tmp_path)
    encoder = ("--model", "local-dir:tiny", "--device", "cpu", "--out", "mine")
    vtg("features", "ferien ü.mp4", "--text", "A dog.", *encoder)
    vtg("import-checkpoint", "--model", "moment_detr", "theirs.ckpt", "ours.safetensors")
    vtg(*PREDICT)
    told = capsys.readouterr()
    assert "ferien ü: A dog." in told.out and "whether open_clip local-dir:tiny, weights" in told.err
