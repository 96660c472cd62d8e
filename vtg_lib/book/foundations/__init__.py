"""The chapter on task, data, evaluator and released predictions.

`parts` has its numbers (evidence `released`), `chapter` the chapter's object, and `data`, `evaluator`, `rows`
and `predictions` are what its notebook displays. Nothing is trained.
"""

from __future__ import annotations

from vtg_lib.book.foundations.parts import gather, measure

__all__ = ["gather", "measure"]
