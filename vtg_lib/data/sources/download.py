"""Bringing one address to one path: plain files by pooch (resumable), Google Drive by gdown, Hugging Face
data sets by its hub.

A target path holds either nothing or a complete, verified file: downloads run in `<target>.part` and are
renamed at the end.
"""

from __future__ import annotations

import errno
import re
import shutil
import time
from pathlib import Path
from typing import Any

from vtg_lib.data.sources.archives import HTML_FIX, looks_like_html
from vtg_lib.files import sha256

BLOCK = 1 << 16  # from the network; a break loses at most the block under way
TIMEOUT = (20, 60)  # seconds to connect, seconds without a byte
TRIES = 4
_DRIVE = re.compile(r"https?://drive\.google\.com/(?:file/d/|(?:open|uc)\?(?:.*&)?id=)([\w-]+)")
_HUB = re.compile(r"https?://huggingface\.co/datasets/([\w.-]+/[\w.-]+)/?$")


class FetchError(RuntimeError):
    """A download that failed; the message names the file, the addresses tried with reasons, and a fix."""


class _Attempt(Exception):
    """Why one address did not work."""


def download(
    addresses: tuple[str, ...],
    target: Path,
    *,
    known: str | None = None,
    size: int | None = None,
    progress: bool = True,
) -> tuple[str, str]:
    """Brings the first address that works to `target`; returns that address and the SHA-256 of what came.

    Args:
        addresses: tried in order.
        target: file or, for a Hugging Face data set, folder to make.
        known: SHA-256 that it must have, if known.
        size: bytes that it must have, if known.

    Raises:
        FetchError: none worked. What was received of a file stays in `<target>.part`, and the next call goes
            on from there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for address in addresses:
        try:
            if drive := _DRIVE.match(address):
                digest = _google(drive.group(1), target, known, size, progress)
            elif hub := _HUB.match(address):
                digest = _hub(hub.group(1), target, known, progress)
            else:
                digest = _http(address, target, known, size, progress)
            return address, digest
        except _Attempt as error:
            reasons.append(f"  {address}: {error}")
        except ImportError as error:
            reasons.append(f"  {address}: needs the package {error.name} (pip install '.[data]')")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FetchError(
                    f"{target}: no space left on the device. Fix: free space and fetch again; the "
                    "partial file goes on."
                ) from None
            reasons.append(f"  {address}: {_short(error)}")
    raise FetchError(
        f"{target}: could not be fetched. Tried:\n" + "\n".join(reasons) + "\n"
        "Fix: try again later (a partial download goes on); or download by hand in a browser, put it at "
        f"{target}, and run `vtg data verify`."
    )


def check(path: Path, known: str | None, size: int | None) -> str:
    """SHA-256 of a received file.

    Raises:
        _Attempt: it is a page, has another size, or another hash.
    """
    with path.open("rb") as stream:
        head = stream.read(1024)
    if looks_like_html(head):
        raise _Attempt(f"got an HTML page instead of the file ({HTML_FIX})")
    actual = path.stat().st_size
    if size is not None and actual != size:
        raise _Attempt(f"expected {size:,} bytes, got {actual:,}")
    digest = sha256(path)
    if known is not None and digest != known:
        raise _Attempt(
            f"expected SHA-256 {known}, got {digest}: the file at the source changed or was damaged on "
            "the way"
        )
    return digest


def _http(address: str, target: Path, known: str | None, size: int | None, progress: bool) -> str:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    getter = _Resuming(target, known, size, progress)
    try:
        # Without a hash pooch would keep an existing file unseen; callers ask only for what is not there.
        pooch.retrieve(
            address,
            known_hash=f"sha256:{known}" if known else None,
            fname=target.name,
            path=target.parent,
            downloader=getter,
        )
    except ValueError as error:  # pooch's own verdict on the hash, after ours
        raise _Attempt(str(error)) from None
    return getter.digest


class _Resuming:
    """A downloader for pooch that goes on with `<target>.part` after a break, if the file at the source is
    still the same.
    """

    def __init__(self, target: Path, known: str | None, size: int | None, progress: bool) -> None:
        self.part, self.mark = (
            target.with_name(target.name + ".part"),
            target.with_name(target.name + ".part.etag"),
        )
        self.known, self.size, self.progress, self.digest = known, size, progress, ""

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        import requests

        for attempt in range(TRIES):
            try:
                if self._receive(url):
                    break
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                if attempt == TRIES - 1:
                    raise _Attempt(f"no connection after {TRIES} tries: {_short(error)}") from None
                time.sleep(0.5 * 2**attempt)
            except requests.RequestException as error:
                raise _Attempt(_short(error)) from None
        else:
            raise _Attempt(
                f"the connection ended early {TRIES} times, {self.part.stat().st_size:,} bytes received"
            )
        try:
            self.digest = check(self.part, self.known, self.size)
        except _Attempt:
            self._forget()
            raise
        Path(self.part).replace(output_file)
        self._forget()

    def _receive(self, url: str) -> bool:
        """One request; True if the file is complete."""
        import requests
        from tqdm.auto import tqdm

        start = self.part.stat().st_size if self.part.exists() else 0
        validator = self.mark.read_text(encoding="utf-8") if self.mark.exists() else ""
        if start and not validator and self.known is None:
            start = 0  # nothing would notice two halves of different files
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and validator:
            headers["If-Range"] = validator
        headers["Accept-Encoding"] = "identity"
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
            if reply.status_code == 416 and start:
                self._forget()
                return False
            if reply.status_code >= 500:
                raise requests.ConnectionError(f"HTTP {reply.status_code} {reply.reason}")
            if reply.status_code not in (200, 206):
                raise _Attempt(f"HTTP {reply.status_code} {reply.reason}")
            if reply.status_code == 200:
                start = 0
            length = reply.headers.get("Content-Length")
            total = start + int(length) if length is not None else None
            etag = reply.headers.get("ETag", "")
            self.mark.write_text(
                "" if etag.startswith("W/") else etag or reply.headers.get("Last-Modified", ""),
                encoding="utf-8",
            )
            with (
                self.part.open("ab" if start else "wb") as sink,
                tqdm(
                    total=total,
                    initial=start,
                    unit="B",
                    unit_scale=True,
                    desc=self.part.stem,
                    disable=not self.progress,
                ) as bar,
            ):
                for block in reply.iter_content(BLOCK):
                    sink.write(block)
                    bar.update(len(block))
        return total is None or self.part.stat().st_size >= total

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)


def _google(file_id: str, target: Path, known: str | None, size: int | None, progress: bool) -> str:
    import gdown

    part = target.with_name(target.name + ".part")
    try:
        got = gdown.download(id=file_id, output=str(part), quiet=not progress, resume=True)
    except (
        Exception
    ) as error:  # gdown raises its own, requests' and OS errors: each means this address did not work
        raise _Attempt(_short(error)) from None
    if got is None or not part.exists():
        raise _Attempt("Google Drive gave no file (quota, or access was withdrawn)")
    try:
        digest = check(part, known, size)
    except _Attempt:
        part.unlink()
        raise
    part.replace(target)
    return digest


def _hub(repository: str, target: Path, known: str | None, progress: bool) -> str:
    import huggingface_hub

    part = target.with_name(target.name + ".part")
    if not progress:
        huggingface_hub.utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        huggingface_hub.snapshot_download(repository, repo_type="dataset", local_dir=part)
    except Exception as error:  # the hub's many errors all mean that this address did not work
        raise _Attempt(_short(error)) from None
    shutil.rmtree(part / ".cache", ignore_errors=True)
    digest = sha256(part)
    if known is not None and digest != known:
        raise _Attempt(
            f"expected SHA-256 {known} over the folder, got {digest}: the data set changed; what came is "
            f"in {part}"
        )
    part.replace(target)
    return digest


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
