"""`vtg features` from files to files: what is written, kept, refused; against fakes of PyAV and open_clip,
and the encoder against open_clip itself where it is installed.
"""

import json
import sys

import numpy as np
import pytest
import torch
import yaml
from videos import described, fake_packages

from vtg_lib.data import own
from vtg_lib.data.extraction.decode import VideoError
from vtg_lib.data.extraction.encode import Encoder, EncoderError
from vtg_lib.data.extraction.folder import read_folder, read_manifest
from vtg_lib.data.extraction.job import extract
from vtg_lib.data.features import FeatureError, read_source

TENTHS = [n / 10 for n in range(100)]


@pytest.fixture
def fakes(monkeypatch):
    fake_packages(monkeypatch)


@pytest.fixture
def videos(tmp_path):
    """Ten seconds, and a fifth of a second under a name of other letters."""
    short = described(tmp_path / "über ж.mkv", [0.0, 0.1])
    return [described(tmp_path / "dog.mp4", TENTHS), short]


def run(videos, texts, out, encoder=None, **changes):
    return extract(videos, texts, out, encoder or Encoder(), progress=False, **changes)


def test_what_is_written_is_what_the_readers_read(fakes, tmp_path, videos):
    encoder = Encoder()
    found = run(videos, ["A dog.", "the sea"], tmp_path / "f", encoder)
    assert {vid: entry["clips"] for vid, entry in found["videos"].items()} == {"dog": 5, "über ж": 1}
    assert [row["qid"] for row in found["queries"]] == ["dog_0", "dog_1", "über ж_0", "über ж_1"]
    data, manifest = read_folder(tmp_path / "f")
    assert data.video.shape == (2, 5, 512) and data.video_length.tolist() == [5, 1]
    assert data.text_length.tolist() == [8, 9] * 2 and data.clip_length == 2.0
    assert data.annotations[0]["duration"] == 10.0
    # a clip is the network's answer to the frame before the clip's middle, divided by its length
    grey = torch.full((3,), 5 * 29 / 255)
    expected = grey @ encoder._network.image
    shown = data.video[0, 1].float()
    assert torch.nn.functional.cosine_similarity(shown, expected, dim=0) > 0.99
    assert float(shown.norm()) == pytest.approx(1, abs=2e-3)
    words = read_source(tmp_path / "f" / "text", "dog_0", manifest.spec("text"))[:, 0]
    states = encoder._network.token.detach()[torch.tensor([1000, *map(ord, "a dog."), 1001])].numpy()
    assert np.allclose(words, states / np.linalg.norm(states, axis=1, keepdims=True), atol=2e-3)


def test_the_manifest_says_what_the_features_are(fakes, tmp_path, videos):
    first = run(videos, [], tmp_path / "f")
    manifest = read_manifest(tmp_path / "f")
    assert manifest.encoder == Encoder().facts and manifest.encoder.public
    assert manifest.clip_length == 2.0 and manifest.videos["dog"].clips == 5
    assert [manifest.spec(kind).dims for kind in ("video", "text")] == [512, 512]
    assert manifest.fingerprint == first["fingerprint"] and len(manifest.fingerprint) == 16
    again = run(videos, [], tmp_path / "g")["fingerprint"]
    other = run(videos, [], tmp_path / "h", Encoder("ViT-B-16"))["fingerprint"]
    assert again == first["fingerprint"] != other
    assert not (tmp_path / "f" / "queries.jsonl").exists()
    with pytest.raises(FeatureError, match=r"got none with queries\.jsonl"):
        read_folder(tmp_path / "f")
    path = tmp_path / "f" / "features.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "clip_length": "two"}))
    with pytest.raises(FeatureError, match=r"features\.yaml, clip_length: expected a number"):
        read_manifest(tmp_path / "f")


def test_an_interrupted_run_goes_on(fakes, tmp_path, videos, monkeypatch):
    third = described(tmp_path / "last.mp4", TENTHS)
    encoder = Encoder()
    encode, seen = encoder.images, []

    def stop(batch):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(batch))
        return encode(batch)

    monkeypatch.setattr(encoder, "images", stop)
    with pytest.raises(KeyboardInterrupt):
        run([*videos, third], ["A dog."], tmp_path / "f", encoder)
    assert {path.stem for path in (tmp_path / "f" / "video").iterdir()} == {"dog", "über ж"}
    monkeypatch.undo()
    fake_packages(monkeypatch)
    found = run([*videos, third], ["A dog."], tmp_path / "f")
    assert [entry["kept"] for entry in found["videos"].values()] == [True, True, False]
    assert found["fingerprint"] == run([*videos, third], ["A dog."], tmp_path / "g")["fingerprint"]
    assert found["queries"] == run([*videos, third], ["A dog."], tmp_path / "f")["queries"]
    # rows whose words were not written any more get them, whatever is asked for then
    (tmp_path / "f" / "text" / "dog_0.npz").unlink()
    assert run(videos, [], tmp_path / "f")["texts"] == 1 and len(read_folder(tmp_path / "f")[0]) == 3
    # a file that was torn by something else is made again
    (tmp_path / "f" / "video" / "dog.npz").write_bytes(b"PK")
    found = run(videos, [], tmp_path / "f")
    assert [entry["kept"] for entry in found["videos"].values()] == [False, True]


def test_more_texts_and_videos_are_added(fakes, tmp_path, videos):
    run(videos[:1], ["A dog."], tmp_path / "f")
    found = run(videos, ["A cat.", "A dog."], tmp_path / "f")
    assert [row["qid"] for row in found["queries"]] == ["dog_1", "dog_0", "über ж_0", "über ж_1"]
    assert found["texts"] == 3
    assert len((tmp_path / "f" / "queries.jsonl").read_text().splitlines()) == 4
    described(videos[0], TENTHS[:40])  # the video changed
    found = run(videos, [], tmp_path / "f")
    assert [entry["kept"] for entry in found["videos"].values()] == [False, True]
    run(videos, ["A dog."], tmp_path / "f")
    assert read_folder(tmp_path / "f")[0].video_length.tolist() == [2, 1]


def test_memory_holds_a_batch(fakes, tmp_path):
    encoder = Encoder()
    path = described(tmp_path / "long.mp4", [n / 2 for n in range(4 * 50)])
    found = run([path], [], tmp_path / "f", encoder, batch_size=8)
    assert found["videos"]["long"]["clips"] == 50
    assert encoder._network.batches[-7:] == [8] * 6 + [2]


def test_one_bad_video_does_not_stop_the_others(fakes, tmp_path, videos):
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    found = run([tmp_path / "bad.mp4", *videos], ["A dog."], tmp_path / "f")
    assert list(found["videos"]) == ["dog", "über ж"]
    assert "cannot be read as one" in found["failed"][str(tmp_path / "bad.mp4")]
    assert {row["vid"] for row in found["queries"]} == {"dog", "über ж"}


def test_two_videos_of_one_name(fakes, tmp_path, videos):
    (tmp_path / "b").mkdir()
    twin = described(tmp_path / "b" / "dog.avi", TENTHS[:50])
    with pytest.raises(VideoError, match=r"different names.*dog\.mp4 and .*dog\.avi"):
        run([videos[0], twin], [], tmp_path / "f")
    assert not (tmp_path / "f").exists()
    run(videos[:1], [], tmp_path / "f")
    found = run([twin], [], tmp_path / "f")
    assert "another of that name" in found["failed"][str(twin)]
    assert read_manifest(tmp_path / "f").videos["dog"].clips == 5
    assert run([twin], [], tmp_path / "f", overwrite=True)["videos"]["dog"]["clips"] == 3
    moved = tmp_path / "dog.avi"
    twin.rename(moved)
    assert run([moved], [], tmp_path / "f")["videos"]["dog"]["kept"]  # the same file elsewhere


def test_features_of_another_kind_do_not_mix(fakes, tmp_path, videos, capsys):
    run(videos, ["A dog."], tmp_path / "f")
    with pytest.raises(FeatureError, match="one kind in a folder, got clip length 2 s, now 1 s"):
        run(videos, [], tmp_path / "f", clip_length=1.0)
    with pytest.raises(
        FeatureError, match=r"encoder open_clip ViT-B-32-quickgelu, .*, now open_clip ViT-B-16, "
    ):
        run(videos, [], tmp_path / "f", Encoder("ViT-B-16"))
    found = run(videos[:1], ["A cat."], tmp_path / "f", clip_length=1.0, overwrite=True)
    assert "2 videos of clip length 2 s, now 1 s are dropped" in capsys.readouterr().err
    assert found["videos"]["dog"]["clips"] == 10
    assert {path.name for path in (tmp_path / "f").rglob("*.npz")} == {"dog.npz", "dog_0.npz"}
    (tmp_path / "t.jsonl").write_text(json.dumps({"qid": "../x", "query": "q", "vid": "dog", "duration": 10}))
    with pytest.raises(FeatureError, match=r"qid '\.\./x': expected a name for a file"):
        run(videos, [], tmp_path / "g", annotations=[tmp_path / "t.jsonl"])
    for bad in ({"clip_length": 0.0}, {"clip_length": float("nan")}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="expected a positive number"):
            run(videos, [], tmp_path / "f", **bad)


def test_texts(fakes, tmp_path, videos):
    for empty in ("", "  "):
        with pytest.raises(EncoderError, match="text: expected a sentence"):
            run(videos, ["A dog.", empty], tmp_path / "f")
    assert not (tmp_path / "f").exists()
    found = run(videos[:1], ["a very long sentence", "a very long s"], tmp_path / "f")
    assert found["notes"] == ["text 'a very long sentence'…: the encoder reads 16 tokens; cut off: 'ntence'"]


def test_annotations_of_own_videos_train(fakes, tmp_path, videos):
    for number, split in enumerate(("train", "val")):
        row = {"qid": number, "query": f"dog {number}", "vid": "dog", "duration": 10}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({**row, "relevant_windows": [[2, 4]]}))
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "val")}
    run(videos, [], tmp_path / "f", annotations=list(files.values()))
    data, facts = own.add(
        "mine", files, {"clip": tmp_path / "f" / "video"}, tmp_path / "f" / "text", root=tmp_path
    )
    assert (facts["video_dim"], facts["text_dim"], facts["clip_length"]) == (512, 512, 2.0)
    assert data.video[0].spec.extractor == Encoder().facts.extractor
    files["val"].write_text(files["val"].read_text().replace("dog 1", "cat 1"))
    with pytest.raises(FeatureError, match="expected features of 'cat 1', got those of 'dog 1'"):
        run(videos, [], tmp_path / "f", annotations=[files["val"]])


# --- the encoder


def test_an_encoder_that_cannot_be_had(fakes, monkeypatch):
    with pytest.raises(EncoderError, match=r"such as ViT-B-32.*got 'ViT-B32'"):
        Encoder("ViT-B32")
    with pytest.raises(EncoderError, match="one of openai, elsewhere for ViT-B-16, got 'opena'"):
        Encoder("ViT-B-16", "opena")
    with pytest.raises(EncoderError, match=r"cache or a network.*Failed to download.*--pretrained FILE"):
        Encoder("ViT-B-16", "elsewhere")
    with pytest.raises(EncoderError, match="Fix: --model ViT-B-32-quickgelu"):
        Encoder("ViT-B-32", "openai")
    monkeypatch.setattr(sys.modules["open_clip"], "get_tokenizer", lambda model: object())
    with pytest.raises(EncoderError, match="expected CLIP's own text transformer"):
        Encoder("ViT-B-16")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModuleNotFoundError, match=r"expected open_clip.*vtg_lib\[video\]"):
        Encoder()


@pytest.fixture
def tiny(tmp_path):
    """A folder with a small random CLIP of open_clip."""
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.CLIP(
        config["embed_dim"],
        open_clip.CLIPVisionCfg(**config["vision_cfg"]),
        open_clip.CLIPTextCfg(**config["text_cfg"]),
    )
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def test_words_and_frames_are_those_of_the_fields_extractors(tiny):
    """Words: the text transformer run by hand, up to its norm (jayleicn/moment_detr, line/lighthouse)."""
    from PIL import Image

    encoder = Encoder(f"local-dir:{tiny}")
    assert (encoder.facts.video_dim, encoder.facts.text_dim, encoder.facts.context) == (24, 16, 77)
    network = encoder._network
    states, cut = encoder.words("A dog runs on the beach!")
    tokens = encoder._tokenizer(["A dog runs on the beach!"])
    with torch.no_grad():
        x = network.token_embedding(tokens) + network.positional_embedding
        for block in network.transformer.resblocks:
            x = block(x, attn_mask=network.attn_mask)
        x = network.ln_final(x)[0, : int((tokens != 0).sum())].numpy()
    assert states.shape == (9, 16) and cut == ""  # start, seven words and signs, end
    assert np.allclose(states, x, atol=1e-5)
    states, cut = encoder.words("word " * 75 + "and what is beyond")
    assert states.shape == (77, 16) and cut == "and what is beyond"
    image = Image.new("RGB", (64, 48), (200, 30, 90))
    once = encoder.images([encoder.prepare(image)])
    twice = encoder.images([encoder.prepare(image)] * 2)
    assert once.shape == (1, 24) and np.allclose(twice, once, atol=1e-5)
    assert abs(float(np.linalg.norm(once)) - 1) > 1e-3  # as the network gives it


def test_torchvision_of_another_build_is_said(monkeypatch, tmp_path):
    (tmp_path / "open_clip.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderError, match="torchvision and torch of one build, got operator torchvision"):
        Encoder()


def test_weights_of_a_file_may_be_any(fakes, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"")
    assert Encoder("ViT-B-16", str(tmp_path / "w.pt")).facts.public is None
    assert Encoder("ViT-B-16").facts.public is False


def test_other_weights_are_another_extractor(tiny):
    first = Encoder(f"local-dir:{tiny}").facts
    path = tiny / "open_clip_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    state["logit_scale"] += 1
    torch.save(state, path)
    assert Encoder(f"local-dir:{tiny}").facts.extractor != first.extractor
    with pytest.raises(EncoderError, match="expected weights in the user's cache"):
        Encoder(f"local-dir:{tiny}-gone")
