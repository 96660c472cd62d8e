"""Feature sets: every public layout, conversion that survives a kill, gathering, and sets that must not be
mixed.
"""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtg_lib.data import feature_cache, official
from vtg_lib.data.feature_cache import FeatureCache, FeatureWarning, convert
from vtg_lib.data.features import EPSILON, FeatureError, FeatureSpec, read_source, spec_of
from vtg_lib.data.official import official_arrays, official_data
from vtg_lib.experiments.bench.loading import loading_benchmark

FUZZ = int(os.environ.get("VTG_FUZZ", "200"))  # mutated files for each reader
VIDEO = FeatureSpec(name="clip", kind="video", extractor="test", dims=6, clip_length=2.0)
TEXT = FeatureSpec(
    name="text",
    kind="text",
    extractor="test",
    dims=5,
    clip_length=None,
    files=("qid{id}.npz",),
    key="last_hidden_state",
)


def change(spec, **values):
    return dataclasses.replace(spec, **values)


def unit(array):
    return array / (np.linalg.norm(array, axis=-1, keepdims=True) + EPSILON)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def source(tmp_path, rng):
    """Three videos of 4, 7 and 1 clips."""
    folder = tmp_path / "source"
    folder.mkdir()
    arrays = {
        name: rng.standard_normal((length, 6), np.float32) for name, length in (("a", 4), ("b", 7), ("c", 1))
    }
    for name, array in arrays.items():
        np.savez(folder / f"{name}.npz", features=array)
    return folder, arrays


def test_npz_layout_is_normalised(source):
    folder, arrays = source
    got = read_source(folder, "a", VIDEO)
    assert got.shape == (4, 1, 6)
    np.testing.assert_allclose(got[:, 0], unit(arrays["a"]), rtol=1e-6)
    raw = read_source(folder, "a", change(VIDEO, normalise="none"))
    np.testing.assert_array_equal(raw[:, 0], arrays["a"])


def test_text_layouts(tmp_path, rng):
    words, pooled = rng.standard_normal((3, 5)), rng.standard_normal(5)
    np.savez(tmp_path / "qid7.npz", last_hidden_state=words, pooler_output=pooled)
    np.testing.assert_allclose(read_source(tmp_path, "7", TEXT)[:, 0], unit(words), rtol=1e-5)
    np.testing.assert_allclose(
        read_source(tmp_path, "7", change(TEXT, key="pooler_output", axes="d"))[:, 0],
        unit(pooled)[None],
        rtol=1e-5,
    )


def test_joined_npy_files_are_cut_to_the_shorter(tmp_path, rng):
    rgb, flow = rng.standard_normal((5, 2)), rng.standard_normal((4, 4))
    np.save(tmp_path / "v_rgb.npy", rgb)
    np.save(tmp_path / "v_opt.npy", flow)
    spec = change(VIDEO, files=("{id}_rgb.npy", "{id}_opt.npy"), key=None)
    np.testing.assert_allclose(
        read_source(tmp_path, "v", spec)[:, 0], unit(np.concatenate([rgb[:4], flow], 1)), rtol=1e-5
    )


def test_torch_files(tmp_path):
    array = torch.randn(3, 6).half()
    torch.save(array, tmp_path / "v.pt")
    np.testing.assert_allclose(
        read_source(tmp_path, "v", change(VIDEO, files=("{id}.pt",), normalise="none"))[:, 0], array.numpy()
    )


@pytest.mark.parametrize("axes", ["ktd", "tkd", "tkpd"])
def test_levels_end_up_in_one_layout(tmp_path, rng, axes):
    levels = rng.standard_normal((4, 3, 6)).astype(np.float32)  # K, T, D
    tokens = rng.standard_normal((3, 4, 5, 6)).astype(np.float32)  # T, K, P, D
    stored = {"ktd": levels, "tkd": levels.swapaxes(0, 1), "tkpd": tokens}[axes]
    np.save(tmp_path / "v.npy", stored)
    spec = change(
        VIDEO,
        files=("{id}.npy",),
        key=None,
        axes=axes,
        levels=4,
        normalise="none",
        tokens="cls" if axes == "tkpd" else None,
    )
    got = read_source(tmp_path, "v", spec)
    wanted = tokens[:, :, 0] if axes == "tkpd" else levels.swapaxes(0, 1)
    np.testing.assert_array_equal(got, wanted)
    if axes == "tkpd":
        np.testing.assert_allclose(
            read_source(tmp_path, "v", change(spec, tokens="mean")),
            tokens[:, :, 1:].mean(2),
            rtol=1e-4,
            atol=1e-6,
        )
    cache = convert(tmp_path, tmp_path / "cache", ["v"], change(spec, dtype="float32"), progress=False)
    np.testing.assert_array_equal(cache.gather(["v"])[0][0], wanted.swapaxes(0, 1))  # [K, T, D]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"features": np.full((2, 6), np.nan)}, "a.npz: expected finite numbers.*item 0"),
        ({"features": np.zeros((2, 7))}, "a.npz: expected 1 level.* of 6 dimensions.*got 1 of 7"),
        ({"features": np.zeros((0, 6))}, "a.npz: expected .T, D. with at least one item"),
        ({"features": np.zeros(6)}, "a.npz: expected .T, D."),
        ({"other": np.zeros((2, 6))}, "a.npz: expected an array 'features', got .'other'."),
        (b"PK\x03\x04 torn", "a.npz: expected a readable .npz file"),
        (b"<html>quota</html>", "a.npz: expected a readable .npz file"),
        (None, "a.npz: expected a feature file, got none"),
    ],
)
def test_bad_sources_name_the_file(tmp_path, content, expected):
    if isinstance(content, dict):
        np.savez(tmp_path / "a.npz", **content)
    elif content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FeatureError, match=expected) as error:
        read_source(tmp_path, "a", VIDEO)
    assert "Fix:" in str(error.value)


def test_specs_are_checked():
    for values, field in (
        ({"kind": "audio"}, "kind"),
        ({"axes": "tpd"}, "axes"),
        ({"levels": 4}, "levels"),
        ({"tokens": "cls"}, "tokens"),
        ({"clip_length": None}, "clip_length"),
        ({"files": ("x.npz",)}, "files"),
        ({"dtype": "int8"}, "dtype"),
    ):
        with pytest.raises(FeatureError, match=field):
            spec_of(dataclasses.asdict(VIDEO) | values, "index.json")


def test_cache_gathers_padded_and_never_opens_a_source_again(source, tmp_path):
    folder, arrays = source
    cache = convert(folder, tmp_path / "cache", ["a", "b", "c", "b"], VIDEO, progress=False)
    for path in folder.iterdir():
        path.unlink()
    cache = FeatureCache.open(tmp_path / "cache")
    assert cache.ids == ["a", "b", "c"] and list(cache.lengths) == [4, 7, 1]
    got, lengths = cache.gather(["c", "b", "c"])
    assert got.shape == (3, 7, 6) and got.dtype == np.float16 and list(lengths) == [1, 7, 1]
    np.testing.assert_allclose(got[1], unit(arrays["b"]), atol=1e-3)
    np.testing.assert_allclose(got[0, :1], unit(arrays["c"]), atol=1e-3)
    assert not got[0, 1:].any()
    cut, lengths = cache.gather(["a", "b"], max_length=2)
    assert cut.shape == (2, 2, 6) and list(lengths) == [2, 2]
    with pytest.raises(FeatureError, match="got none for 1, the first 'z'"):
        cache.gather(["a", "z"])


def test_existing_cache_is_used_and_another_spec_refused(source, tmp_path):
    folder, _ = source
    first = convert(folder, tmp_path / "cache", ["a", "b"], VIDEO, progress=False)
    stamp = (tmp_path / "cache" / "data.bin").stat().st_mtime_ns
    again = convert(folder, tmp_path / "cache", ["b"], VIDEO, progress=False)
    assert (
        again.fingerprint == first.fingerprint
        and (tmp_path / "cache" / "data.bin").stat().st_mtime_ns == stamp
    )
    with pytest.raises(FeatureError, match="clip_length: expected 1.0, got 2.0.*Fix"):
        convert(folder, tmp_path / "cache", ["a"], change(VIDEO, clip_length=1.0), progress=False)
    other = convert(
        folder, tmp_path / "cache", ["a"], change(VIDEO, clip_length=1.0), overwrite=True, progress=False
    )
    assert other.spec.clip_length == 1.0 and other.fingerprint != first.fingerprint


def test_what_changed_or_is_lacking_is_converted_and_the_rest_taken_over(source, tmp_path, monkeypatch):
    folder, _ = source
    first = convert(folder, tmp_path / "cache", ["a", "b"], VIDEO, progress=False)
    kept = first["b"].copy()
    np.savez(folder / "a.npz", features=np.ones((5, 6), np.float32))
    read = []
    monkeypatch.setattr(
        feature_cache, "read_source", lambda *given: read.append(given[1]) or read_source(*given)
    )
    with pytest.warns(FeatureWarning, match=r"1 changed since it was made \(a\) and 1 not in it \(c\)"):
        second = convert(folder, tmp_path / "cache", ["b", "c"], VIDEO, progress=False)
    assert read == ["a", "c"] and second.ids == ["a", "b", "c"]
    assert len(second["a"]) == 5 and np.array_equal(second["b"], kept)
    assert second.fingerprint != first.fingerprint
    second.verify()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = convert(folder, tmp_path / "cache", ["a"], VIDEO, progress=False)
    assert again.fingerprint == second.fingerprint and read == ["a", "c"]


def test_caches_go_to_the_users_folder_where_the_data_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("VTG_CACHE", str(tmp_path / "own"))
    assert official.cache_folder(tmp_path / "data") == tmp_path / "data" / "features" / "cache"
    (tmp_path / "taken" / "features").mkdir(parents=True)
    (tmp_path / "taken" / "features" / "cache").write_text("in the way")
    with pytest.warns(FeatureWarning, match="converted features go to .*VTG_CACHE moves it"):
        found = official.cache_folder(tmp_path / "taken")
    assert found.parent == tmp_path / "own" / "features"


def test_missing_videos_are_counted_before_anything_is_written(source, tmp_path):
    folder, _ = source
    with pytest.raises(FeatureError, match=r"x.npz.*3 ids, got none for 2"):
        convert(folder, tmp_path / "cache", ["a", "x", "y"], VIDEO, progress=False)
    assert not (tmp_path / "cache").exists() and not (tmp_path / "cache.partial").exists()


def test_damaged_caches_are_refused(source, tmp_path):
    folder, _ = source
    cache = convert(folder, tmp_path / "cache", ["a", "b"], VIDEO, progress=False)
    cache.verify()
    data = tmp_path / "cache" / "data.bin"
    with data.open("r+b") as file:
        file.seek(3)
        file.write(b"\xff")
    with pytest.raises(FeatureError, match="'a' changed"):
        FeatureCache.open(tmp_path / "cache").verify()
    os.truncate(data, 10)
    with pytest.raises(FeatureError, match="data.bin: expected 132 bytes, got 10"):
        FeatureCache.open(tmp_path / "cache")
    with pytest.raises(FeatureError, match="expected a feature cache"):
        FeatureCache.open(tmp_path / "nothing")


def test_killed_conversion_goes_on_where_it_stopped(source, tmp_path, monkeypatch):
    folder, _ = source
    whole = convert(folder, tmp_path / "whole", ["a", "b", "c"], VIDEO, progress=False)
    program = f"""
        import os, signal
        from vtg_lib.data import feature_cache as features
        spec = features.FeatureSpec(**{dataclasses.asdict(VIDEO)!r})
        read = features.read_source
        def dying(folder, item, spec):
            if item == "c":
                os.kill(os.getpid(), signal.SIGKILL)
            return read(folder, item, spec)
        features.read_source = dying
        features.convert({str(folder)!r}, {str(tmp_path / "cache")!r}, ["a", "b", "c"], spec, progress=False)
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=Path.cwd())
    assert died.returncode == -signal.SIGKILL
    assert not (tmp_path / "cache").exists()
    with (tmp_path / "cache.partial" / "journal.jsonl").open("a") as log:
        log.write('[7, "torn')
    with (tmp_path / "cache.partial" / "data.bin").open("ab") as data:
        data.write(b"half an item")
    read = []
    monkeypatch.setattr(
        feature_cache, "read_source", lambda *given: read.append(given[1]) or read_source(*given)
    )
    cache = convert(folder, tmp_path / "cache", ["a", "b", "c"], VIDEO, progress=False)
    assert read == ["c"]
    assert cache.fingerprint == whole.fingerprint
    cache.verify()
    assert (tmp_path / "cache" / "data.bin").read_bytes() == (tmp_path / "whole" / "data.bin").read_bytes()
    assert not (tmp_path / "cache.partial").exists()


def test_leftovers_of_another_conversion_are_not_used(source, tmp_path):
    folder, _ = source
    partial = tmp_path / "cache.partial"
    partial.mkdir()
    (partial / "journal.jsonl").write_text(json.dumps({"format": 0}) + "\n")
    (partial / "data.bin").write_bytes(b"old")
    convert(folder, tmp_path / "cache", ["a"], VIDEO, progress=False).verify()


def test_full_disk_says_so_and_removes_what_it_wrote(source, tmp_path, monkeypatch):
    folder, _ = source

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_cache, "read_source", full)
    with pytest.raises(FeatureError, match="no space left.*Fix: free space"):
        convert(folder, tmp_path / "cache", ["a"], VIDEO, progress=False)
    assert not (tmp_path / "cache.partial").exists() and not (tmp_path / "cache").exists()


@pytest.fixture
def caches(tmp_path, rng):
    """Two video sets (the second a clip shorter for 'a') and words for three queries."""
    made = {}
    for spec, lengths in (
        (change(VIDEO, name="slowfast", dims=4), {"a": 5, "b": 3}),
        (VIDEO, {"a": 4, "b": 3}),
        (TEXT, {"1": 2, "2": 6, "3": 1}),
    ):
        folder = tmp_path / spec.name
        folder.mkdir()
        for name, length in lengths.items():
            np.savez(
                spec.paths(folder, name)[0],
                **{spec.key: rng.standard_normal((length, spec.dims), np.float32)},
            )
        made[spec.name] = convert(
            folder, tmp_path / "caches" / spec.name, list(lengths), spec, progress=False
        )
    return made


ROWS = [
    {"qid": 1, "vid": "b", "duration": 6},
    {"qid": 2, "vid": "a", "duration": 10},
    {"qid": 3, "vid": "b", "duration": 6},
]


def test_official_arrays_join_sets_cut_and_index(caches):
    got = official_arrays(ROWS, [caches["slowfast"], caches["clip"]], caches["text"])
    assert got["video"].shape == (2, 4, 10) and got["text"].shape == (3, 6, 5)
    assert (
        list(got["video_length"]) == [3, 4]
        and list(got["video_index"]) == [0, 1, 0]
        and list(got["text_length"]) == [2, 6, 1]
    )
    np.testing.assert_array_equal(got["video"][1, :, :4], caches["slowfast"]["a"][:4, 0])
    np.testing.assert_array_equal(got["video"][1, :, 4:], caches["clip"]["a"][:, 0])
    assert not got["video"][0, 3:].any()
    short = official_arrays(ROWS, [caches["clip"]], caches["text"], max_clips=2, max_words=3)
    assert (
        short["video"].shape == (2, 2, 6)
        and short["text"].shape == (3, 3, 5)
        and list(short["text_length"]) == [2, 3, 1]
    )


def test_a_video_with_too_few_clips_is_named(tmp_path, rng):
    made = {}
    for spec, lengths in ((VIDEO, {"a": 10, "b": 10, "c": 4}), (TEXT, {"1": 2, "2": 2, "3": 2})):
        folder = tmp_path / spec.name
        folder.mkdir()
        for name, length in lengths.items():
            array = rng.standard_normal((length, spec.dims), np.float32)
            np.savez(spec.paths(folder, name)[0], **{spec.key: array})
        made[spec.name] = convert(folder, tmp_path / "c" / spec.name, list(lengths), spec, progress=False)
    rows = [{"qid": n, "vid": v, "duration": 20.0} for n, v in enumerate("abc", 1)]
    with pytest.raises(FeatureError, match="c: expected about 10 clips of 2 s for 20 s, got 4"):
        official_arrays(rows, [made["clip"]], made["text"])


def test_sets_that_do_not_belong_together_are_refused(caches, tmp_path):
    other = convert(
        tmp_path / "slowfast",
        tmp_path / "other",
        ["a", "b"],
        change(VIDEO, name="one_second", dims=4, clip_length=1.0),
        progress=False,
    )
    with pytest.raises(
        FeatureError, match="clip_length: expected 2.0 as in clip, got 1.0 in one_second.*Fix"
    ):
        official_arrays(ROWS, [caches["clip"], other], caches["text"])
    with pytest.raises(FeatureError, match="got 0.45 of their duration.*about 4.44 s a clip"):
        official_arrays(
            [row | {"duration": 2 * row["duration"]} for row in ROWS], [caches["clip"]], caches["text"]
        )
    longer = [row | {"duration": 2 * row["duration"]} for row in ROWS]
    assert len(official_arrays(longer, [caches["clip"]], caches["text"], duration_unit=None)["video"]) == 2
    with pytest.raises(FeatureError, match="expected text features, got video"):
        official_arrays(ROWS, [caches["clip"]], caches["slowfast"])
    with pytest.raises(FeatureError, match="different video sets"):
        official_arrays(ROWS, [caches["clip"], caches["clip"]], caches["text"])
    with pytest.raises(FeatureError, match="the first 9"):
        official_arrays([*ROWS, {"qid": 9, "vid": "a", "duration": 10}], [caches["clip"]], caches["text"])


def test_loading_benchmark_compares_equal_results(tmp_path):
    found = loading_benchmark(tmp_path, videos=8, batch=4, repeats=1, clips=10, words=4)
    assert set(found) == {"npz_ms", "cache_ms", "speedup", "convert_ms", "max_difference"}
    assert found["max_difference"] < 1e-3 and min(found["npz_ms"], found["cache_ms"]) > 0


def test_official_data_converts_once_and_gives_a_split(tmp_path, rng):
    base = tmp_path / "features" / "qvhighlights_slowfast_clip" / "features"
    rows = {
        split: [
            {
                "qid": 10 * number + i,
                "query": "a dog",
                "duration": 8,
                "vid": f"{split}{i}",
                "relevant_windows": [[2, 6]],
                "relevant_clip_ids": [1, 2],
                "saliency_scores": [[1, 1, 1], [4, 4, 4]],
            }
            for i in range(3)
        ]
        for number, split in enumerate(("train", "val"))
    }
    for row in rows["train"] + rows["val"]:
        for folder, name, key, shape in (
            ("slowfast_features", row["vid"], "features", (4, 2304)),
            ("clip_features", row["vid"], "features", (4, 512)),
            ("clip_text_features", f"qid{row['qid']}", "last_hidden_state", (3, 512)),
        ):
            (base / folder).mkdir(parents=True, exist_ok=True)
            np.savez(base / folder / f"{name}.npz", **{key: rng.standard_normal(shape, np.float32)})
    load = {
        "feature_set": "qvhighlights_slowfast_clip",
        "video_arrays": ("slowfast", "clip"),
        "text_array": "clip_text",
        "progress": False,
    }
    got = official_data("qvhighlights", rows, data_root=tmp_path, **load)
    batch = got["val"].batch(torch.tensor([2, 0]))
    assert batch.video.shape == (2, 4, 2816) and batch.text.shape == (2, 3, 512)
    torch.testing.assert_close(batch.spans[0, 0], torch.tensor([0.5, 0.5]))
    assert batch.saliency[0].tolist() == [0, 3, 12, 0]
    assert got["train"].facts["kind"] == "official" and got["train"].fingerprint != got["val"].fingerprint
    for path in base.rglob("*.npz"):
        path.unlink()
    again = official_data("qvhighlights", rows, data_root=tmp_path, **load)
    assert again["val"].fingerprint == got["val"].fingerprint
    assert torch.equal(again["val"].video, got["val"].video)


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), suffix=st.sampled_from([".npz", ".npy", ".pt"]))
def test_no_feature_file_ends_in_a_fault_of_ours(tmp_path, data, suffix):
    path = tmp_path / f"whole{suffix}"
    array = np.arange(12, dtype=np.float32).reshape(2, 6)
    if not path.exists():
        {
            ".npz": lambda: np.savez(path, features=array),
            ".npy": lambda: np.save(path, array),
            ".pt": lambda: torch.save(torch.from_numpy(array), path),
        }[suffix]()
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        content[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    (tmp_path / f"fuzzed{suffix}").write_bytes(content)
    spec = change(VIDEO, files=(f"{{id}}{suffix}",), key="features" if suffix == ".npz" else None)
    try:
        assert np.isfinite(read_source(tmp_path, "fuzzed", spec)).all()
    except FeatureError as error:
        assert "Fix" in str(error)
