"""The chapter's object, and what its views share: sentences, where numbers come from, and what is said where
they are lacking.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.book.chapter import Chapter
from vtg_lib.book.foundations.record import NEEDS, gather, released_score
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views.common import code
from vtg_lib.data.statistics import SETS
from vtg_lib.evaluation.per_query import METHODS
from vtg_lib.evaluation.released import LOGS, PREDICTIONS
from vtg_lib.files import sha256

if TYPE_CHECKING:
    from IPython.display import HTML


class Foundations(Chapter):
    """The chapter: nothing is trained, and every profile shows the same.

    Attributes:
        found: every part, see `record.gather`; now: by part, whether this execution measured it.
        scores: the evaluator's "brief" numbers of every released prediction file, by file name.
    """

    def __init__(self, key: str, parameters: Parameters, *, results: Path | None = None) -> None:
        super().__init__(key, parameters, results=results)
        root = parameters.data_root
        self.found, self.now = gather(root)
        splits = {f"{method}_{split}": split for method in METHODS for split in ("val", "test")}
        scores = {name: released_score(name, split, root or Path()) for name, split in splits.items()}
        self.scores = {name: score for name, score in scores.items() if score is not None}
        if lacking := [NEEDS[name] for name, measured in self.now.items() if not measured]:
            parts = ", ".join(title for title, _ in lacking).lower()
            wanted = " ".join(dict.fromkeys(word for _, words in lacking for word in words.split()))
            self.missing = [
                f"Not measured in this execution but taken from the record: {parts}. `vtg data fetch"
                f" {wanted}` gets the files."
            ]
        files = [PREDICTIONS.format(name) for name in self.scores]
        files += [file for _, parts in SETS.values() for file in parts] + list(LOGS.values())
        here = [root / file for file in files if root is not None and (root / file).is_file()]
        for folder in dict.fromkeys(file.parent for file in here):
            members = [sha256(file) for file in here if file.parent == folder]
            fingerprint = hashlib.sha256("".join(members).encode()).hexdigest()[:12]
            self._used[f"{folder.name} ({len(members)} files)"] = fingerprint

    def _possible(self, profile: str) -> str:
        return profile

    def source(self, name: str) -> str:
        """The line that says where a part's numbers come from."""
        where = "measured here" if self.now[name] else "from the record"
        return f"Evidence: released (QVHighlights val), {where}."


View = Callable[[Foundations], Any]


def part(name: str) -> Callable[[View], View]:
    """A view of one part: where the part is neither measured nor recorded, a line that says how to get it."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def shown(chapter: Foundations) -> Any:
            if chapter.found[name]:
                return view(chapter)
            title, wanted = NEEDS[name]
            gets = f"`vtg data fetch {wanted}` gets the files."
            return page(f"{title}: neither the files nor the record were found. {gets}")

        return shown

    return decorate


def page(*elements: str | list[str] | HTML) -> HTML:
    """Elements one below the other: a string as a paragraph, strings as a list; what stands in backticks is
    set as code, between double asterisks in bold.
    """
    from IPython.display import HTML

    shown = []
    for element in elements:
        if isinstance(element, str):
            shown.append(f"<p>{code(element)}</p>")
        elif isinstance(element, list):
            lines = element or ["Nothing to show: neither the files nor the record were found."]
            shown.append(f"<ul>{''.join(f'<li>{code(line)}</li>' for line in lines)}</ul>")
        else:
            shown.append(str(element.data))
    return HTML(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", "".join(shown)))


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
