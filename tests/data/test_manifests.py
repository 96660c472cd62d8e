"""The manifests: all of them are valid, tell what they must, and bad ones are refused by name and field."""

import hashlib

import pytest
import yaml

from vtg_lib.data.manifests import ManifestError, array_folder, feature_spec, get, load_manifests

SETS = load_manifests()
ANNOTATIONS = {"qvhighlights", "charades_sta", "tacos", "tvsum", "youtube_highlights"}


def test_the_sets_that_the_book_needs_are_there():
    assert ANNOTATIONS | {"released_predictions", "released_logs"} <= set(SETS)
    features = {s.dataset for s in SETS.values() if s.kind == "features"}
    assert features == ANNOTATIONS
    assert list(SETS)[:5] == sorted(ANNOTATIONS)


@pytest.mark.parametrize("data", SETS.values(), ids=list(SETS))
def test_every_set_says_what_it_must(data):
    assert data.title and data.licence and data.layout and data.homepage.startswith("https://")
    if data.kind in ("annotations", "predictions", "logs"):
        assert all(f.sha256 and f.size for f in data.files)
    assert bool(data.files) != bool(data.unknown)
    if data.kind == "features":
        assert data.folder == f"features/{data.name}" and data.arrays
        for array in data.arrays:
            if array["dims"] is not None:
                assert feature_spec(data, array["name"]).dims == array["dims"]
            assert (array["clip_length"] is None) == (array["kind"] == "text")


def test_specs_of_the_common_features():
    data = get("qvhighlights_slowfast_clip")
    specs = {name: feature_spec(data, name) for name in ("slowfast", "clip", "clip_text")}
    assert specs["slowfast"].dims + specs["clip"].dims == 2816 and specs["clip"].clip_length == 2
    assert specs["clip_text"].key == "last_hidden_state" and specs["clip_text"].files == ("qid{id}.npz",)
    levels = feature_spec(get("qvhighlights_r2_tuning"), "clip_levels")
    assert (levels.axes, levels.levels, levels.dims, levels.tokens) == ("tkpd", 4, 768, "cls")


def test_unknown_names_and_dimensions_are_refused():
    with pytest.raises(ManifestError, match="expected one of charades_sta.*got 'qvh'"):
        get("qvh")
    with pytest.raises(ManifestError, match="slowfast.*got 'blip'"):
        feature_spec(get("qvhighlights_slowfast_clip"), "blip")
    with pytest.raises(ManifestError, match="dims are unknown"):
        feature_spec(get("qvhighlights_internvideo2_1b"), "internvideo2_1b")


def test_folders_are_found_wherever_the_archive_put_them(tmp_path):
    data = get("qvhighlights_slowfast_clip")
    deep = tmp_path / data.folder / "features" / "clip_features"
    deep.mkdir(parents=True)
    assert array_folder(data, "clip", tmp_path) == deep
    with pytest.raises(
        ManifestError,
        match="one folder 'slowfast_features'.*got 0.*vtg data fetch qvhighlights_slowfast_clip",
    ):
        array_folder(data, "slowfast", tmp_path)


GOOD = {
    "name": "x",
    "kind": "annotations",
    "dataset": "x",
    "title": "t",
    "licence": "l",
    "homepage": "https://example.org",
    "layout": "l",
    "clip_length": None,
    "files": [{"path": "x/a.jsonl", "addresses": ["https://example.org/a"], "size": 1, "sha256": "0" * 64}],
}
FILE = GOOD["files"][0]
ARRAY = {"name": "a", "kind": "video", "folder": "a", "extractor": "e", "dims": None, "clip_length": 2.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "video"}, "item 1 .'x'., kind: expected 'annotations'"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"licence": ...}, "expected field 'licence'"),
        ({"files": [FILE | {"path": "../a"}]}, "path: expected a path under the data root"),
        ({"files": [FILE | {"path": "/a"}]}, "path: expected a path under the data root"),
        ({"files": [FILE | {"addresses": []}]}, "addresses: expected at least one"),
        ({"files": [FILE | {"addresses": ["ftp://a"]}]}, "addresses, item 1: expected an http"),
        ({"files": [FILE | {"sha256": "abc"}]}, "sha256: expected 64 hex digits"),
        ({"files": [FILE | {"sha256": None}]}, "hashes: expected a reason"),
        ({"files": [FILE | {"size": -1}]}, "size: expected bytes"),
        ({"files": []}, "unknown: expected a reason"),
        ({"unpack": [{"archives": ["y"], "to": "z"}]}, "unpack: expected archives that are among files"),
        ({"arrays": [{"name": "a"}]}, "arrays: expected a folder"),
        ({"arrays": [ARRAY | {"kind": "audio"}]}, "arrays, a, kind: expected 'video' or 'text'"),
        ({"arrays": [ARRAY | {"levels": 4}]}, "arrays, a: levels: expected 1, or axes with k"),
        ({"arrays": [{k: v for k, v in ARRAY.items() if k != "extractor"}]}, "expected field 'extractor'"),
    ],
)
def test_bad_manifests_are_refused(tmp_path, change, expected):
    content = {k: v for k, v in (GOOD | change).items() if v is not ...}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"sets": [content]}))
    with pytest.raises(ManifestError, match=expected) as error:
        load_manifests(tmp_path)
    assert "x.yaml" in str(error.value)


def test_names_and_targets_are_unique(tmp_path):
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"sets": [GOOD, GOOD]}))
    with pytest.raises(ManifestError, match="one set called 'x', got two"):
        load_manifests(tmp_path)


def test_hashes_are_those_of_the_real_files(data_root):
    checked = 0
    for data in SETS.values():
        for file in data.files:
            if file.sha256 and (data_root / file.path).exists():
                content = (data_root / file.path).read_bytes()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256), (
                    file.path
                )
                checked += 1
    assert checked == 25
