"""The chapter's object: parts measured or recorded, scores of released predictions, and what is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vtg_lib.book.chapter import Chapter
from vtg_lib.book.figures import Timeline
from vtg_lib.book.foundations.parts import NEEDS, gather, released_score
from vtg_lib.book.parameters import Parameters
from vtg_lib.data.statistics import SETS
from vtg_lib.evaluation import released as recorded
from vtg_lib.evaluation.per_query import METHODS


class Foundations(Chapter):
    """The chapter: nothing is trained, and every profile shows the same.

    Attributes:
        found: every part, see `gather`; now: by part, whether this execution measured it.
        scores: the evaluator's "brief" numbers of every released prediction file, by file name.
    """

    def __init__(self, key: str, parameters: Parameters, *, results: Path | None = None) -> None:
        super().__init__(key, parameters, results=results)
        root = parameters.data_root
        self.found, self.now = gather(root)
        self.scores = {
            name: score
            for method in METHODS
            for split in recorded.GROUND_TRUTH
            if (score := released_score(name := f"{method}_{split}", split, root or Path())) is not None
        }
        lacking = [NEEDS[name] for name, measured in self.now.items() if not measured]
        if lacking:
            parts = ", ".join(title for title, _ in lacking).lower()
            wanted = " ".join(dict.fromkeys(word for _, words in lacking for word in words.split()))
            self.missing = [
                f"Not measured in this execution but taken from the record: {parts}. `vtg data fetch {wanted}` gets the files."
            ]
        files = [recorded.PREDICTIONS.format(name) for name in self.scores]
        files += [file for _, parts in SETS.values() for file in parts] + list(recorded.LOGS.values())
        here = [(root or Path()) / file for file in files if root is not None and (root / file).is_file()]
        for folder in dict.fromkeys(file.parent for file in here):
            members = [recorded.sha256(file) for file in here if file.parent == folder]
            fingerprint = hashlib.sha256("".join(members).encode()).hexdigest()[:12]
            self._used[f"{folder.name} ({len(members)} files)"] = fingerprint

    def _possible(self, profile: str) -> str:
        return profile

    def timelines(self) -> list[Timeline]:
        """The explorer's queries."""
        return [
            Timeline(
                name=f"query {query['qid']}",
                query=query["query"],
                duration=float(query["duration"]),
                windows=query["relevant_windows"],
                predictions={METHODS[name]: windows for name, windows in query["windows"].items()},
                saliency_truth=query["truth"],
                saliency={METHODS[name]: scores for name, scores in query["saliency"].items()},
            )
            for query in self.found["examples"].get("queries", [])
        ]
