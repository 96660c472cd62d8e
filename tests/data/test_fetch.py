"""Fetching from a local server: resuming, verifying, unpacking safely, and errors that say what to do."""

import hashlib
import json
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from served import serving, tar, zipped

pytest.importorskip("pooch")

from vtg_lib.data.sources import download, fetch  # noqa: E402
from vtg_lib.data.sources.archives import ArchiveError, unpack  # noqa: E402
from vtg_lib.data.sources.download import FetchError  # noqa: E402

BODY = bytes(range(256)) * 4000


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with serving() as made:
        yield made


@pytest.fixture
def manifest(tmp_path, monkeypatch, server):
    """Writes a manifest of one set `x` and points the library to it."""

    def write(addresses=("/a",), sha256=None, size=None, unpack=None, path="x/a.bin", more=()):
        files = [
            {
                "path": path,
                "addresses": [server.url + a if a[0] == "/" else a for a in addresses],
                "size": size,
                "sha256": sha256,
            }
        ]
        content = {
            "name": "x", "kind": "features", "dataset": None, "title": "t", "licence": "l",
            "homepage": "https://example.org", "layout": "l", "clip_length": None, "hashes": "recorded",
            "files": files + list(more), "unpack": unpack, "folder": "x",
        }  # fmt: skip
        folder = (
            tmp_path / f"manifests{len(list(tmp_path.iterdir()))}"
        )  # a new folder: manifests are read once
        folder.mkdir()
        (folder / "x.yaml").write_text(yaml.safe_dump({"sets": [content]}))
        monkeypatch.setenv("VTG_MANIFESTS", str(folder))

    return write


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def run(root, **options):
    return fetch.fetch("x", root, progress=False, **options)


def sha(content):
    return hashlib.sha256(content).hexdigest()


def present(root):
    return {row["name"]: row["present"] for row in fetch.list_rows(root)}


def test_fetches_verifies_and_does_not_ask_again(server, manifest, root):
    server.files["/a"] = BODY
    manifest(sha256=sha(BODY), size=len(BODY))
    assert present(root) == {"x": "none"}
    assert [r["status"] for r in fetch.verify("x", root)] == ["missing"]
    assert [r["status"] for r in run(root)] == ["ok"]
    assert (root / "x/a.bin").read_bytes() == BODY and present(root) == {"x": "all"}
    count = len(server.requests)
    assert [r["status"] for r in run(root)] == ["ok"] and len(server.requests) == count
    assert sorted(p.name for p in (root / "x").iterdir()) == ["a.bin"]


def test_broken_download_goes_on_within_a_call(server, manifest, root):
    server.files["/a"], server.stops = BODY, [300_000, 200_000]
    manifest(sha256=sha(BODY))
    run(root)
    assert (root / "x/a.bin").read_bytes() == BODY
    starts = [int(r[6:-1]) if r else 0 for _, r in server.requests]
    assert len(starts) == 3 and starts[0] == 0 < starts[1] < starts[2]


def test_broken_download_goes_on_in_the_next_call(server, manifest, root):
    server.files["/a"], server.stops = BODY, [400_000, 0, 0, 0]
    manifest()
    with pytest.raises(FetchError, match="after 4 tries|ended early"):
        run(root)
    kept = (root / "x/a.bin.part").stat().st_size
    assert 0 < kept <= 400_000 and not (root / "x/a.bin").exists()
    run(root)
    assert server.requests[-1][1] == f"bytes={kept}-" and (root / "x/a.bin").read_bytes() == BODY


def test_changed_source_is_not_spliced(server, manifest, root):
    server.files["/a"], server.stops = BODY, [400_000, 0, 0, 0]
    manifest()
    with pytest.raises(FetchError):
        run(root)
    server.files["/a"] = other = BODY[::-1]
    run(root)
    assert (root / "x/a.bin").read_bytes() == other


def test_server_without_ranges_starts_over(server, manifest, root):
    server.files["/a"], server.stops, server.ranges = BODY, [400_000], False
    manifest(sha256=sha(BODY))
    run(root)
    assert (root / "x/a.bin").read_bytes() == BODY


def test_wrong_hash_or_size_is_never_put_in_place(server, manifest, root):
    server.files["/a"] = BODY
    manifest(sha256="0" * 64)
    with pytest.raises(FetchError, match=f"/a: expected SHA-256 0000.*got {sha(BODY)}"):
        run(root)
    manifest(size=5)
    with pytest.raises(FetchError, match="expected 5 bytes, got 1,024,000"):
        run(root)
    assert not list((root / "x").iterdir())


def test_html_page_is_recognised(server, manifest, root):
    server.files["/a"] = b"\n<!DOCTYPE html><html>Quota exceeded</html>"
    manifest()
    with pytest.raises(FetchError, match="HTML page instead of the file"):
        run(root)
    assert not (root / "x/a.bin").exists()


def test_redirects_are_followed_and_a_broken_download_goes_on_behind_them(server, manifest, root):
    server.files |= {
        "/a": "/hop",
        "/hop": server.url.replace("127.0.0.1", "localhost") + "/file",
        "/file": BODY,
    }
    server.stops = [400_000]
    manifest()
    assert [r["status"] for r in run(root)] == ["recorded"]
    assert (root / "x/a.bin").read_bytes() == BODY
    assert json.loads((root / fetch.LOCK).read_text())["x/a.bin"]["address"] == server.url + "/a"
    starts = [int(asked[6:-1]) for path, asked in server.requests if path == "/file" and asked]
    assert len(starts) == 1 and 0 < starts[0] <= 400_000


def test_redirects_to_a_page_or_to_themselves_are_refused(server, manifest, root):
    server.files |= {"/a": "/login", "/login": b"<html>Sign in</html>", "/round": "/round"}
    manifest(addresses=("/a", "/round"))
    with pytest.raises(FetchError, match=r"/a: got an HTML page instead(.|\n)*/round: TooManyRedirects"):
        run(root)
    assert not (root / "x").exists() or not list((root / "x").iterdir())


def test_dead_addresses_are_all_named_with_what_to_do(server, manifest, root):
    server.files["/gone"] = 410
    manifest(addresses=("/missing", "/gone", "http://127.0.0.1:9/port"))
    with pytest.raises(FetchError) as error:
        run(root)
    message = str(error.value)
    assert str(root / "x/a.bin") in message and "by hand" in message and "vtg data verify" in message
    assert "/missing: HTTP 404" in message and "/gone: HTTP 410" in message
    assert "http://127.0.0.1:9/port: no connection after 4 tries" in message


def test_second_address_serves_when_the_first_is_dead(server, manifest, root):
    server.files["/b"] = BODY
    manifest(addresses=("/missing", "/b"))
    run(root)
    assert json.loads((root / fetch.LOCK).read_text())["x/a.bin"]["address"] == server.url + "/b"


def test_hash_is_recorded_at_first_download_and_checked_ever_after(server, manifest, root):
    server.files["/a"] = BODY
    manifest()
    assert [r["status"] for r in run(root)] == ["recorded"]
    assert [r["status"] for r in fetch.verify("x", root)] == ["ok"]
    (root / "x/a.bin").write_bytes(b"edited")
    row = fetch.verify("x", root)[0]
    assert row["status"] == "wrong" and row["expected"] == sha(BODY) and "the record of" in row["detail"]
    with pytest.raises(FetchError, match="SHA-256 differs.*Fix: delete it"):
        run(root)
    server.files["/a"] = b"another file by now"
    with pytest.raises(FetchError, match=f"expected SHA-256 {sha(BODY)}(.|\n)*recorded from {server.url}/a"):
        run(root, force=True)
    assert (root / "x/a.bin").read_bytes() == b"edited"  # a failed force loses nothing


def test_files_put_there_by_hand_are_verified(manifest, root):
    (root / "x").mkdir(parents=True)
    (root / "x/a.bin").write_bytes(BODY)
    manifest(sha256=sha(BODY), addresses=("http://127.0.0.1:9/dead",))
    assert [r["status"] for r in run(root)] == ["ok"]
    (root / "x/a.bin").write_bytes(b"wrong")
    assert fetch.verify("x", root)[0]["status"] == "wrong"
    manifest(addresses=("http://127.0.0.1:9/dead",))
    assert [r["status"] for r in fetch.verify("x", root)] == ["recorded"]
    assert [r["status"] for r in fetch.verify("x", root)] == ["ok"]


def test_set_without_an_address_says_why(root):
    with pytest.raises(FetchError, match="no address is known.*README only"):
        fetch.fetch("qvhighlights_internvideo2_levels", root)


def test_links_out_of_the_data_root_are_not_followed(server, manifest, root, tmp_path):
    server.files["/a"] = BODY
    manifest()
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match="expected a path inside"):
        run(root)


def test_damaged_lock_file_is_named(manifest, root):
    manifest()
    root.mkdir()
    (root / fetch.LOCK).write_text("{")
    with pytest.raises(FetchError, match="vtg-hashes.json: expected JSON.*Fix"):
        fetch.verify("x", root)


@pytest.mark.parametrize(
    "pack", [tar, lambda m: tar(m, "w"), lambda m: tar(m, "w:xz"), zipped], ids=["gz", "tar", "xz", "zip"]
)
def test_archives_are_verified_unpacked_recorded_and_removed(server, manifest, root, pack):
    server.files["/a"] = body = pack([("deep/clip/v.npz", b"one"), ("deep/w.npz", b"two")])
    manifest(path="x.archive", sha256=sha(body), unpack=[{"archives": ["x.archive"], "to": "x"}])
    assert [(r["path"], r["status"]) for r in run(root)] == [("x.archive", "ok"), ("x", "recorded")]
    assert (root / "x/deep/clip/v.npz").read_bytes() == b"one"
    assert not (root / "x.archive").exists() and present(root) == {"x": "all"}
    assert [(r["path"], r["status"]) for r in fetch.verify("x", root)] == [("x", "ok")]
    assert [r["status"] for r in run(root)] == ["ok"] and len(server.requests) == 1
    (root / "x/deep/w.npz").write_bytes(b"2")
    assert [r["status"] for r in fetch.verify("x", root)] == ["wrong"]
    run(root, force=True)
    assert (root / "x/deep/w.npz").read_bytes() == b"two"


@pytest.mark.parametrize("force", [False, True])
def test_a_damaged_archive_does_not_bar_the_way_to_a_whole_one(server, manifest, root, force):
    whole = zipped([("clip/v.npz", BODY)])
    server.files["/a"] = whole[:-50]
    manifest(path="x.zip", unpack=[{"archives": ["x.zip"], "to": "x"}])
    with pytest.raises(ArchiveError, match="expected a whole zip archive.*Fix: delete it and fetch again"):
        run(root)
    server.files["/a"] = whole
    if not force:
        (root / "x.zip").unlink()
    assert [r["status"] for r in run(root, force=force)] == ["recorded", "recorded"]
    assert (root / "x/clip/v.npz").read_bytes() == BODY


def test_an_archive_that_the_manifest_knows_is_held_to_its_hash(server, manifest, root):
    body = zipped([("../evil", b"1")])
    server.files["/a"] = body
    manifest(path="x.zip", sha256=sha(body), unpack=[{"archives": ["x.zip"], "to": "x"}])
    with pytest.raises(ArchiveError, match="do not trust this archive"):
        run(root)
    assert sorted(p.name for p in root.parent.rglob("evil")) == [] and not (root / "x").exists()


def test_parts_of_one_archive_are_joined(server, manifest, root):
    body = tar([("v.npy", BODY)], "w:gz")
    half = len(body) // 2
    server.files |= {"/a": body[:half], "/b": body[half:]}
    more = [{"path": "x.tar.gz.ab", "addresses": [server.url + "/b"], "size": None, "sha256": None}]
    manifest(path="x.tar.gz.aa", more=more, unpack=[{"archives": ["x.tar.gz.aa", "x.tar.gz.ab"], "to": "x"}])
    run(root)
    assert (root / "x/v.npy").read_bytes() == BODY


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc"}
EVIL = {
    "up": tar([("ok", b"1"), ("../evil", b"2")]),
    "absolute": tar([("/tmp/evil", b"2")]),
    "link": tar([("link", LINK), ("link/evil", b"2")]),
    "hard link": tar([("link", {"type": tarfile.LNKTYPE, "linkname": "../secret"})]),
    "device": tar([("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})]),
    "backslash": zipped([("..\\evil", b"2")]),
    "zip up": zipped([("ok", b"1"), ("a/../../evil", b"2")]),
    "zip absolute": zipped([("/evil", b"2")]),
    "drive": zipped([("C:/evil", b"2")]),
}


@pytest.mark.parametrize("body", EVIL.values(), ids=EVIL)
def test_archives_cannot_leave_their_folder(tmp_path, body):
    (tmp_path / "a").write_bytes(body)
    target = tmp_path / "in" / "x"
    with pytest.raises(ArchiveError, match="do not trust this archive"):
        unpack([tmp_path / "a"], target, progress=False)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "in"]


def test_zip_with_a_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    (tmp_path / "a").write_bytes(zipped([(info, "/etc")]))
    with pytest.raises(ArchiveError, match="link or device"):
        unpack([tmp_path / "a"], tmp_path / "x", progress=False)


@pytest.mark.parametrize(
    "body",
    [
        tar([("v", BODY)])[:-2000],
        tar([("v", BODY)], "w")[:50_000],
        zipped([("v", BODY)])[:-50],
        b"<html>",
        b"nonsense" * 100,
        b"",
    ],
    ids=["gz", "tar", "zip", "html", "nonsense", "empty"],
)
def test_damaged_archives_leave_nothing(tmp_path, body):
    (tmp_path / "a").write_bytes(body)
    with pytest.raises(ArchiveError, match="Fix"):
        unpack([tmp_path / "a"], tmp_path / "x", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_unpacking_needs_room_and_a_free_target(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(tar([("v", BODY)]))
    unpack([tmp_path / "a"], tmp_path / "x", progress=False)
    with pytest.raises(ArchiveError, match="no such folder before"):
        unpack([tmp_path / "a"], tmp_path / "x", progress=False)
    monkeypatch.setattr(
        "vtg_lib.data.sources.archives.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})
    )
    with pytest.raises(ArchiveError, match="expected room for 1,024,000 bytes, got 10 free"):
        unpack([tmp_path / "a"], tmp_path / "y", progress=False)


def test_google_drive_goes_through_gdown(manifest, root, monkeypatch):
    gdown = pytest.importorskip("gdown")
    manifest(addresses=("https://drive.google.com/file/d/AbC-1_2/view",))
    asked = []

    def give(id, output, quiet, resume):
        asked.append((id, resume))
        Path(output).write_bytes(BODY if len(asked) == 1 else b"<html>quota</html>")
        return output

    monkeypatch.setattr(gdown, "download", give)
    assert [r["status"] for r in run(root)] == ["recorded"] and asked == [("AbC-1_2", True)]
    with pytest.raises(FetchError, match="HTML page"):
        run(root, force=True)
    monkeypatch.setattr(gdown, "download", lambda **options: None)
    with pytest.raises(FetchError, match="quota"):
        run(root, force=True)
    assert (root / "x/a.bin").read_bytes() == BODY


def test_hugging_face_data_set_becomes_a_folder(manifest, root, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    manifest(addresses=("https://huggingface.co/datasets/some/set",), path="x/video")

    def give(repository, repo_type, local_dir):
        assert (repository, repo_type) == ("some/set", "dataset")
        (local_dir / ".cache" / "huggingface").mkdir(parents=True)
        (local_dir / "v.pt").write_bytes(b"1")

    monkeypatch.setattr(hub, "snapshot_download", give)
    assert [r["status"] for r in run(root)] == ["recorded"]
    assert [p.name for p in (root / "x/video").iterdir()] == ["v.pt"]
    assert [r["status"] for r in fetch.verify("x", root)] == ["ok"]
    (root / "x/video/w.pt").write_bytes(b"2")
    assert [r["status"] for r in fetch.verify("x", root)] == ["wrong"]


def test_rows_for_the_command_line(root):
    rows = {row["name"]: row for row in fetch.list_rows(root)}
    assert rows["qvhighlights"]["size"] == 5_806_905 and rows["qvhighlights"]["hashed"] == 4
    assert (
        rows["qvhighlights_slowfast_clip"]["size"] is None
        and rows["qvhighlights_slowfast_clip"]["stated_size"]
    )
    assert {row["present"] for row in rows.values()} == {"none"}
    json.dumps(list(rows.values()))


def test_real_data_verifies(data_root):
    rows = [row for row in fetch.verify(None, data_root) if row["status"] != "missing"]
    assert {row["status"] for row in rows} == {"ok"} and len(rows) >= 25
