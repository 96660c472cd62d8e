"""The run store: a JSON-lines file that only ever grows, safe against crashes and against other processes."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vtg_lib.files import locked


class StoreError(RuntimeError):
    """The run store could not be written."""


class Store:
    """`path`, one run a line, indexed by the run's hash; the last line of a hash counts.

    Reading never fails because of a bad line: it is skipped, and reported once in `problems` and as a
    warning. Lines that other processes add are seen by the next look-up, which reads only what is new.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self._records: dict[str, dict[str, Any]] = {}
        self._rehashed: dict[str, str | None] = {}  # hash in the file -> by today's rules
        self._offset, self._line, self._inode = 0, 0, -1
        self._bad: set[int] = set()

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._forget()
            return
        if status.st_ino != self._inode or status.st_size < self._offset:  # replaced, by git for instance
            self._forget()
            self._inode = status.st_ino
        if status.st_size == self._offset:
            return
        content = self._new()
        if not content.endswith(b"\n"):  # torn, or somebody is in the middle of a line
            with contextlib.suppress(OSError), locked(self.path):
                content = self._new()
        *lines, rest = content.split(b"\n")
        for number, line in enumerate(lines, self._line + 1):
            if line.strip():
                self._add(line, number)
        self._line += len(lines)
        self._offset += len(content) - len(rest)
        if rest and self._add(rest, self._line + 1):  # whole, only its line end is missing
            self._offset += len(rest)

    def _new(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            return file.read()

    def _add(self, line: bytes, number: int) -> bool:
        try:
            record = json.loads(line)
            key = record["hash"]
            if not isinstance(key, str):
                raise TypeError(f"hash is {key!r}")
        except (ValueError, TypeError, KeyError) as error:
            if number not in self._bad:
                self._bad.add(number)
                message = (
                    f"{self.path}, line {number} is not a whole run ({type(error).__name__}: {error}), as "
                    "after a process was killed while it wrote; the line is skipped, all others are used"
                )
                self.problems.append(message)
                warnings.warn(message, stacklevel=4)
            return False
        self._rehashed.pop(key, None)
        self._records.pop(key, None)  # the last line of a hash also comes last in iteration
        self._records[key] = record
        return True

    def get(self, key: str) -> dict[str, Any] | None:
        """The record with hash `key`, or None."""
        self._refresh()
        return self._records.get(key)

    def get_alias(self, key: str, rehash: Callable[[Mapping[str, Any]], str | None]) -> dict[str, Any] | None:
        """The record whose spec hashes to `key` by today's rules (`rehash`), whatever hash it was stored
        under.
        """
        self._refresh()
        found = None
        for old, record in self._records.items():
            if old not in self._rehashed:
                self._rehashed[old] = rehash(record)
            if self._rehashed[old] == key:
                found = record
        return found

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        self._refresh()
        return len(self._records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._refresh()
        return iter(list(self._records.values()))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line, whole or not at all; a torn line before it is closed off first.

        Raises:
            StoreError: the disk is full, or the folder cannot be written; the file is as it was.
        """
        line = json.dumps(record, sort_keys=True, separators=(", ", ": "), allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path), self.path.open("ab+", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":
                        line = b"\n" + line
                try:
                    written = file.write(line)
                    if written != len(line):
                        raise OSError(
                            f"only {written} of {len(line)} bytes could be written: is the disk full?"
                        )
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise StoreError(
                f"could not add run {record.get('hash')} to {self.path}: {error}. The file is as it was; its "
                "checkpoint is kept, so that asking for the run again costs little once there is space."
            ) from error
