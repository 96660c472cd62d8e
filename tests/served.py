"""A local server for what `vtg data fetch` brings, and the public sets at small size.

The sets are those of `data_manifests/`: their names, paths, archives and arrays; only addresses, sizes and
hashes are of the files made here.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vtg_lib.data.manifests import feature_spec, load_manifests
from vtg_lib.files import ROOT

MANIFESTS = ROOT / "data_manifests"
CLIPS, WORDS = 8, 3  # of every video and query
DOMAINS = ("VT", "VU", "GA", "MS", "PK", "PR", "FM", "BK", "BT", "DS")  # of TVSum


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`: bytes are a file, text is an address to go to, a number a status.

    Understands ranges where `server.ranges` is set. The next of `server.stops` is the number of bytes after
    which an answer breaks off.
    """

    server: Any

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        body = self.server.files.get(self.path)
        if isinstance(body, str):
            self.send_response(302)
            self.send_header("Location", body)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if isinstance(body, int) or body is None:
            self.send_error(body or 404)
            return
        tag = '"' + hashlib.sha256(body).hexdigest()[:8] + '"'
        start, asked = 0, self.headers.get("Range")
        if asked and self.server.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        stop = self.server.stops.pop(0) if self.server.stops else None
        self.wfile.write(body[start:] if stop is None else body[start : start + stop])

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Any]:
    """A server at `url` with `files`, `requests`, `stops` and `ranges`, see `Handler`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.files, made.requests, made.stops, made.ranges = {}, [], [], True  # type: ignore[attr-defined]
        made.url = f"http://127.0.0.1:{made.server_port}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def tar(members: Sequence[tuple[str, Any]], mode: Any = "w:gz") -> bytes:
    """`(name, content or TarInfo changes)` as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                for field, value in content.items():
                    setattr(info, field, value)
                archive.addfile(info)
    return buffer.getvalue()


def zipped(members: Sequence[tuple[Any, bytes]]) -> bytes:
    """`(name or ZipInfo, content)` as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def annotations(dataset: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of the data set's layout by split; with four and one videos a domain for TVSum, as it has."""
    rng = np.random.default_rng(7)
    if dataset == "tvsum":

        def video(domain: str, number: int) -> dict[str, Any]:
            name = f"{domain}{number}"
            votes = rng.integers(1, 6, (CLIPS, 20)).astype(float).tolist()
            row = {"qid": name, "query": f"a film of {domain}", "duration": CLIPS, "vid": name}
            return {
                **row,
                "relevant_clip_ids": None,
                "relevant_windows": None,
                "label": votes,
                "domain": domain,
            }

        return {
            "train": [video(domain, n) for domain in DOMAINS for n in range(4)],
            "val": [video(domain, 4) for domain in DOMAINS],
        }
    rows: dict[str, list[dict[str, Any]]] = {}
    for place, (split, videos) in enumerate({"train": 4, "val": 2, "test": 2}.items()):
        rows[split] = []
        for n in range(2 * videos):
            first = int(rng.integers(0, CLIPS - 3))
            row: dict[str, Any] = {
                "qid": f"v{place}-{n // 2}_{n % 2}" if dataset == "tacos" else 100 * place + n,
                "query": "The person gets out a knife.",
                "duration": 2.0 * CLIPS,
                "vid": f"v{place}-{n // 2}",
                "relevant_windows": [[2 * first, 2 * first + 6]],
            }
            if dataset == "qvhighlights":
                row["relevant_clip_ids"] = [first, first + 1, first + 2]
                row["saliency_scores"] = rng.integers(0, 5, (3, 3)).tolist()
            rows[split].append(row)
    return rows


def _archive(name: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], zip_file: bool) -> bytes:
    """The arrays of a feature set in one archive, below a folder of its own as public archives are."""
    data = load_manifests(MANIFESTS)[name]
    rng, members = np.random.default_rng(11), []
    every = [row for part in rows.values() for row in part]
    for array in data.arrays:
        spec = feature_spec(data, array["name"])
        video = spec.kind == "video"
        for item in dict.fromkeys(str(row["vid"] if video else row["qid"]) for row in every):
            for path in spec.paths(Path(str(data.dataset)) / array["folder"], item):
                shape = (CLIPS if video else WORDS, spec.dims // len(spec.files))
                buffer, values = io.BytesIO(), rng.standard_normal(shape, np.float32)
                if path.suffix == ".npz":
                    np.savez_compressed(buffer, **{str(spec.key): values})  # type: ignore[arg-type]
                else:
                    np.save(buffer, values)
                members.append((path.as_posix(), buffer.getvalue()))
    return zipped(members) if zip_file else tar(members)


def public_sets(server: Any, folder: Path, names: Sequence[str]) -> None:
    """Writes the manifest of some sets of `data_manifests/` to `folder`, serves small files in their layout.

    Args:
        server: see `serving`; each file lies at `/<its name>`.
        folder: to make, for `VTG_MANIFESTS`.
        names: of sets of annotations, and of sets of features in one archive.
    """
    sets = {
        entry["name"]: entry
        for path in MANIFESTS.glob("*.yaml")
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["sets"]
    }
    chosen = [sets[name] for name in names]
    for entry in chosen:
        rows = annotations(entry["dataset"])
        for file in entry["files"]:
            name = Path(file["path"]).name
            if entry["kind"] == "annotations":
                split = next(split for split in rows if f"_{split}_" in name)
                body = "".join(json.dumps(row) + "\n" for row in rows[split]).encode()
                file["size"], file["sha256"] = len(body), hashlib.sha256(body).hexdigest()
            else:
                body = _archive(entry["name"], rows, zip_file=name.endswith(".zip"))
            server.files[f"/{name}"] = body
            file["addresses"] = [f"{server.url}/{name}"]
    folder.mkdir()
    (folder / "small.yaml").write_text(yaml.safe_dump({"sets": chosen}), encoding="utf-8")
