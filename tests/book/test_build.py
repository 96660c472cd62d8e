"""Sources are clean, the book renders their executed copies, and what is missing or broken is said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vtg_lib.book import PROVENANCE, checks, contents, parameters, status
from vtg_lib.book import build as book
from vtg_lib.book.contents import CLAIMS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = book.sources()
EXECUTED = sorted((ROOT / "book" / "chapters").glob("*.ipynb"))


def notebook(path: Path, cells: list[dict], **metadata) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def code(source: str, outputs: list[dict] | None = None, tags: list[str] | None = None) -> dict:
    return {
        "cell_type": "code",
        "source": source,
        "outputs": outputs or [],
        "metadata": {"tags": tags or []},
        "id": "a",
        "execution_count": None,
    }


def code_cells(path: Path) -> list[str]:
    """Sources of a notebook's code cells, without the cell that papermill injects."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]


def test_there_are_chapters():
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_sources_are_clean(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    assert "widgets" not in content["metadata"] and "papermill" not in content["metadata"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assigned = parameters.injected_names(["# Parameters\n" + "".join(tagged[0]["source"])])
    assert assigned == list(parameters.DEFAULTS)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_executed_chapter_has_the_code_of_its_source(path):
    executed = ROOT / "book" / "chapters" / path.name
    assert executed.exists(), f"run `make book CHAPTER={path.stem} KEEP=1`"
    assert code_cells(executed) == code_cells(path), (
        f"the source changed: run `make book CHAPTER={path.stem} KEEP=1`"
    )


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_executed_chapters_are_whole_and_say_where_they_come_from(path):
    assert not status.errors(path)
    record = status.provenance(path)
    assert record["profile"] in ("quick", "sim", "rendered", "official")
    assert record["device"] and record["code_version"] and record["versions"] and record["duration_s"]
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and not re.search(r"/(home|root|Users)/\w", text), (
        "a path of the machine it ran on"
    )
    assert not re.search(r'data_root = \\?"/', text), "a folder of the machine it ran on"
    assert path.stat().st_size < 8_000_000


def test_the_data_root_reaches_a_chapter_but_not_its_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("VTG_DATA_ROOT", "elsewhere")
    monkeypatch.setattr(book.contents, "write", lambda: None)
    given = []
    monkeypatch.setattr(book, "build", lambda chapter, parameters, keep: given.append(parameters))
    assert book.main(["build", "--profile", "smoke", "--data-root", str(tmp_path)]) == 0
    assert given == [{"profile": "smoke", "device": "auto"}] and os.environ["VTG_DATA_ROOT"] == str(tmp_path)


@pytest.mark.parametrize("keep", [False, True])
def test_a_build_leaves_the_committed_chapters_alone_unless_told(tmp_path, monkeypatch, keep):
    for folder in ("notebooks", "book/chapters", "_build"):
        (tmp_path / folder).mkdir(parents=True)
    committed, made = tmp_path / "book" / "chapters" / "01_a.ipynb", tmp_path / "_build" / "01_a.ipynb"
    (tmp_path / "notebooks" / "01_a.ipynb").write_text("source")
    committed.write_text("old")
    made.write_text("new")
    monkeypatch.setattr(book, "execute", lambda source, parameters, root: made)
    monkeypatch.setattr(book, "render", lambda root, replacements: replacements["01_a.ipynb"])
    assert book.build("all", {"profile": "quick"}, tmp_path, keep=keep) == made
    assert committed.read_text() == ("new" if keep else "old")


def test_contents_list_every_chapter():
    assert [paper.chapter for paper in contents.papers()] == [path.stem for path in SOURCES]
    files = re.findall(r"file: (\S+)", contents.toc())
    assert len(files) == len(set(files))
    for name in set(files) - {"status"}:
        assert any((ROOT / "book" / f"{name}{end}").exists() for end in (".md", ".ipynb")), name


def test_lists_of_chapters_are_those_that_the_papers_give():
    for path, text in contents.written().items():
        now = path.read_text(encoding="utf-8")
        assert now == text, f"{path.name} is not what papers and run store say: run `make contents`"


def test_lists_of_chapters_stay_between_their_markers():
    page = "a\n{}\n\nold\n{}\nb\n".format(*contents.CHAPTERS)
    assert contents.between_markers(page, "| new |\n") == page.replace("old", "| new |\n")
    with pytest.raises(ValueError, match="expected one part of the page between"):
        contents.between_markers("no markers", "")


def test_chapters_are_named_by_stem(tmp_path):
    notebook(tmp_path / "notebooks" / "01_a.ipynb", [])
    notebook(tmp_path / "notebooks" / "02_b.ipynb", [])
    assert [p.stem for p in book.select("all", tmp_path)] == ["01_a", "02_b"]
    assert [p.stem for p in book.select("02_b, 01_a.ipynb", tmp_path)] == ["02_b", "01_a"]
    with pytest.raises(book.BookError, match="no chapter 03_c; there are: all, 01_a, 02_b"):
        book.select("03_c", tmp_path)


def test_status_page_reads_footers_and_clocks(tmp_path):
    footer = {
        "output_type": "display_data",
        "data": {},
        "metadata": {
            PROVENANCE: {
                "profile": "sim",
                "device": "cpu",
                "code_version": "abc123",
                "versions": {"torch": "2.13.0"},
            }
        },
    }
    clock = {"duration": 71.2, "start_time": "2026-01-02T03:04:05.678"}
    first = notebook(tmp_path / "01_a.ipynb", [code("f()", [footer])], papermill=clock)
    second = notebook(tmp_path / "02_b.ipynb", [code("f()")])
    page = status.status_page([first, second])
    assert (
        "| [01_a](chapters/01_a.ipynb) | sim | 2026-01-02 03:04 | 71 s | cpu | `abc123` | torch 2.13.0 |"
        in page
    )
    assert "| [02_b](chapters/02_b.ipynb) | unknown |" in page


def test_a_failed_or_missing_chapter_is_not_rendered(tmp_path):
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    notebook(tmp_path / "notebooks" / "01_a.ipynb", [])
    with pytest.raises(book.BookError, match="never executed: 01_a"):
        book.stage(tmp_path, {})
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    notebook(tmp_path / "book" / "chapters" / "01_a.ipynb", [code("f()", [failed])])
    with pytest.raises(book.BookError, match="ValueError: no"):
        book.stage(tmp_path, {})


def test_external_files_are_found_and_links_are_not(tmp_path):
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">x</a>'
        '<img src="_images/a.png">'
        '<link rel="stylesheet" href="//fonts.example/y.css"><link rel="canonical" href="https://book.example/">'
    )
    assert checks.external_files(tmp_path) == {"https://cdn.example/x.js", "//fonts.example/y.css"}


TWICE = '<script>const URL = "a"; const b = ".c,.d"</script><script src="x.js"></script>'
TWICE += '<script>const URL = "a"</script>'


def test_constants_that_two_scripts_of_a_page_declare_are_found():
    """The second one stops its script; inside a function, a module or data it would not."""
    assert checks.repeated_constants(TWICE) == ["URL"]
    assert checks.repeated_constants(TWICE.replace("<script>", '<script type="text/javascript">')) == ["URL"]
    apart = """<script>const a = 1; function f() { if (a) { const b = 2 } }</script>
    <script>const c = "const a = 3; }"; // const a = 4
    { let b = 5 }</script><script type="module">const a = 6</script>
    <script type="application/json">{"x": "const a = 7"}</script>"""
    assert checks.repeated_constants(apart) == []


def test_a_page_with_a_constant_twice_is_no_book(tmp_path, monkeypatch):
    def sphinx(command, **options):
        if "jupyter-book" in command[0]:
            page = tmp_path / "_build" / "jupyter-book" / "_build" / "html"
            page.mkdir(parents=True)
            (page / "intro.html").write_text(TWICE)
        return subprocess.CompletedProcess(command, 0, "", "")

    for folder in ("notebooks", "book/chapters"):
        notebook(tmp_path / folder / "01_a.ipynb", [])
    (tmp_path / "book" / "intro.md").write_text("# Book\n\n{}\n\npicture\n\n{}\n".format(*CLAIMS))
    monkeypatch.setattr(book.subprocess, "run", sphinx)
    monkeypatch.setattr(book.assets, "install", lambda root: None)
    with pytest.raises(book.BookError, match=r"intro.html: its scripts declare URL more than once"):
        book.render(tmp_path)
    staged = (tmp_path / "_build" / "src" / "intro.md").read_text()
    assert "picture" not in staged and '<figure class="vtg' in staged
    assert "picture" in (tmp_path / "book" / "intro.md").read_text()


def test_paths_of_the_machine_are_not_recorded(tmp_path):
    path = notebook(
        tmp_path / "_build" / "a.ipynb",
        [],
        papermill={"input_path": str(tmp_path / "notebooks" / "a.ipynb"), "output_path": None},
    )
    book._relative_paths(path, tmp_path)
    assert json.loads(path.read_text())["metadata"]["papermill"]["input_path"] == "notebooks/a.ipynb"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("profile", "fast", "parameters, profile: expected 'smoke', 'quick'"),
        ("sede", "3", "unknown field 'sede'; did you mean 'seeds'?"),
    ],
)
def test_papermill_stops_at_a_bad_parameter(tmp_path, name, value, message):
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(SOURCES[0]),
        str(tmp_path / "out.ipynb"),
        "-p",
        name,
        value,
    ]
    done = subprocess.run([*command, "--no-progress-bar"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "ParameterError" in done.stderr and message in done.stderr
