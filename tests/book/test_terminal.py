"""Running a chapter on a terminal, as the README says."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
from pathlib import Path

from vtg_lib.book import build as book
from vtg_lib.book.status import errors
from vtg_lib.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]


def on_a_terminal(arguments: list[str], cwd: Path) -> tuple[int, str]:
    """Exit status and all that is written, with a pseudo-terminal for the three standard streams."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says that the other side is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(), written.decode(errors="replace")


def documented() -> list[str]:
    """The README's papermill command."""
    (line,) = re.findall(r"^papermill notebooks/.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    return shlex.split(line)


def test_the_documented_command_executes_a_chapter(tmp_path):
    """With the chapter that trains least, at smoke; continuous integration executes all of them."""
    program, source, target, *options = documented()
    assert (ROOT / source).is_file() and options[:3] == ["-p", "profile", "sim"]
    source = book.sources()[0]
    before = source.read_bytes()
    arguments = [program, str(source), str(tmp_path / target), "-p", "profile", "smoke", *options[3:]]
    status, text = on_a_terminal(arguments, ROOT)
    assert status == 0, text
    assert not errors(tmp_path / target) and source.read_bytes() == before
    assert "Executing:" in text and "100%" in text  # the progress bar
    assert '"cell_type"' not in text and len(text) < 20_000


def test_without_an_output_papermill_stops_on_a_terminal_and_touches_nothing():
    program, source, _, *options = documented()
    before = (ROOT / source).read_bytes()
    status, text = on_a_terminal([program, source, *options], ROOT)
    assert status == 2 and "Missing argument 'OUTPUT_PATH'" in text, text
    assert (ROOT / source).read_bytes() == before


def test_vtg_chapter_needs_no_path_and_leaves_tracked_files_alone(tmp_path, monkeypatch, capsys):
    source = book.sources()[0]
    executed = tmp_path / source.name
    given, opened = [], []

    def execute(path, parameters, root):
        given.append(dict(parameters))
        executed.write_text(json.dumps({"cells": []}))
        return executed

    copied = []
    monkeypatch.setattr(book, "execute", execute)
    monkeypatch.setattr(
        book, "render", lambda root, replacements: copied.append(replacements) or tmp_path / "index.html"
    )
    monkeypatch.setattr("webbrowser.open", opened.append)
    kept = (ROOT / "book" / "chapters" / source.name).read_bytes()
    assert cli.main(["chapter", source.stem, "--device", "cpu", "--seeds", "0,1", "--open", "--json"]) == 0
    assert given == [{"profile": "quick", "device": "cpu", "seeds": "0,1"}]
    assert copied == [{source.name: executed}]
    page = tmp_path / "chapters" / f"{source.stem}.html"
    assert json.loads(capsys.readouterr().out)["page"] == str(page) and opened == [page.as_uri()]
    assert (ROOT / "book" / "chapters" / source.name).read_bytes() == kept


def test_vtg_chapter_says_what_is_wrong_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr(book, "build", None)
    assert (
        cli.main(["chapter", "09_none"]) == 1
        and "no chapter 09_none; there are: all" in capsys.readouterr().err
    )
    assert cli.main(["chapter", book.sources()[0].stem, "--profile", "fast"]) == 1
    assert "expected 'smoke', 'quick'" in capsys.readouterr().err
