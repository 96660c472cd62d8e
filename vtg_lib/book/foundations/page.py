"""What the views of this chapter share: sentences, lists, where numbers come from, and what is said where
they are lacking.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.foundations.parts import NEEDS

if TYPE_CHECKING:
    from IPython.display import HTML

P = ParamSpec("P")
View = Callable[Concatenate[Foundations, P], "HTML"]


def part(name: str) -> Callable[[View[P]], View[P]]:
    """A view of one part: where the part is neither measured nor recorded, a line that says how to get it."""

    def decorate(view: View[P]) -> View[P]:
        @functools.wraps(view)
        def shown(chapter: Foundations, *arguments: P.args, **keywords: P.kwargs) -> HTML:
            if chapter.found[name]:
                return view(chapter, *arguments, **keywords)
            title, wanted = NEEDS[name]
            return paragraph(
                f"{title}: neither the files nor the record were found. `vtg data fetch {wanted}` gets the files."
            )

        return shown

    return decorate


def paragraph(text: str) -> HTML:
    """A paragraph; what stands in backticks is set as code, between asterisks in bold."""
    return items([text], tag="p")


def items(lines: list[str], tag: str = "li") -> HTML:
    """A list of sentences (or paragraphs); what stands in backticks is set as code, between double asterisks
    in bold.
    """
    from IPython.display import HTML

    lines = lines or ["Nothing to show: neither the files nor the record were found."]
    marked = [
        re.sub(
            r"\*\*([^*]+)\*\*",
            r"<strong>\1</strong>",
            re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(line)),
        )
        for line in lines
    ]
    body = "".join(f"<{tag}>{line}</{tag}>" for line in marked)
    return HTML(f"<ul>{body}</ul>" if tag == "li" else body)


def source(chapter: Foundations, name: str, what: str = "QVHighlights val") -> str:
    """The line that says where a figure's numbers come from."""
    return f"Evidence: released ({what}), {'measured here' if chapter.now[name] else 'from the record'}."


def percent(share: float | None, digits: int = 0) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def joined(*elements: HTML) -> HTML:
    """Elements one below the other."""
    from IPython.display import HTML

    return HTML("".join(str(element.data) for element in elements))


def wrapped(before: str, element: HTML, after: str) -> HTML:
    """An element between two pieces of markup."""
    from IPython.display import HTML

    return HTML(f"{before}{element.data}{after}")
