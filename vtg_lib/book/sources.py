"""Pages of the library's files that chapters quote: a Sphinx extension, and the link that leads there.

The project has no public address yet, and a page inside the book works offline and holds the code that the
book was rendered with. In JupyterLab the same link opens the file itself.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.files import PACKAGE, ROOT

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_LINK = re.compile(r"\.\./(vtg_lib/[\w/]+\.py)#")  # from a notebook to a file, as JupyterLab reads it


def link(item: Callable[..., Any] | type) -> str:
    """HTML: the file and lines of a function or class of the library, with a link for a notebook's output."""
    item = inspect.unwrap(item)  # `getfile` does not look below decorators
    path = Path(inspect.getfile(item)).resolve().relative_to(PACKAGE.parent).as_posix()
    lines, first = inspect.getsourcelines(item)
    where = f"{path}, lines {first} to {first + len(lines) - 1}"
    return f'<a class="vtg-source" href="../{path}#{escape(item.__qualname__)}">{where}</a>'


def to_pages(notebook: str) -> str:
    """The text of a notebook with its links to files as links to their pages."""
    return _LINK.sub(r"../\1.html#", notebook)


def anchors(code: str) -> dict[int, list[str]]:
    """Line, counted from 1 -> the qualified names of the functions and classes that begin there."""
    found: dict[int, list[str]] = {}

    def visit(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                found.setdefault(first, []).append(outer + child.name)
                visit(child, f"{outer}{child.name}.")

    visit(ast.parse(code), "")
    return found


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for every file that a chapter links to: its name, what the template is given, the template."""
    chapters = sorted(Path(app.srcdir).glob("chapters/*.ipynb"))
    quoted = {
        name
        for path in chapters
        for name in re.findall(r"\.\./(vtg_lib/[\w/]+\.py)\.html#", path.read_text(encoding="utf-8"))
    }
    for name in sorted(quoted):
        yield name, {"title": name, "body": _body(app, name)}, "page.html"


def _body(app: Sphinx, name: str) -> str:
    code = (ROOT / name).read_text(encoding="utf-8")
    builder: Any = app.builder
    before, start, shown = builder.highlighter.highlight_block(code, "python", linenos="inline").rpartition(
        "<pre>"
    )
    lines = shown.split("\n")
    for number, names in anchors(code).items():
        marks = "".join(f'<span id="{escape(name)}"></span>' for name in names)
        lines[number - 1] = marks + lines[number - 1]
    heading = escape(name).replace("/", "/<wbr>")  # it breaks on a narrow screen
    return f"<h1>{heading}</h1>{before}{start}" + "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
