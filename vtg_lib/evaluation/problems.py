"""What can be wrong with a submission, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SHOWN = 10  # problems that one error lists


class SubmissionWarning(UserWarning):
    """Something odd about a submission that can be scored all the same."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a submission. `place` is a line of a file, or an index of a list."""

    place: str = ""
    field: str = ""
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.place, self.field) if part)
        return f"{where + ': ' if where else ''}expected {self.expected}, got {self.got}. Fix: {self.fix}."


class SubmissionError(ValueError):
    """A submission that cannot be scored. `problems` lists everything found, the message the first ten."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"… and {len(self.problems) - SHOWN} more problems.")
        super().__init__("\n".join(lines))

    @classmethod
    def single(cls, **fields: str) -> SubmissionError:
        """The error for one `Problem` with these fields."""
        return cls([Problem(**fields)])


def some(qids: Sequence[Any], most: int = 5) -> str:
    """The first qids."""
    return ", ".join(map(repr, qids[:most])) + (", …" if len(qids) > most else "")


def show(value: Any, most: int = 60) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
