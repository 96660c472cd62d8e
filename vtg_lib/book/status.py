"""How each chapter was last executed, read from the executed notebooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtg_lib.book import PROVENANCE
from vtg_lib.book.contents import markdown


def read(path: Path) -> dict[str, Any]:
    """A notebook's content."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _outputs(path: Path) -> list[dict[str, Any]]:
    return [output for cell in read(path)["cells"] for output in cell.get("outputs", [])]


def provenance(path: Path) -> dict[str, Any]:
    """What an executed notebook says about its run: the chapter's footer and papermill's clock. Empty where
    absent.
    """
    footers = [footer for out in _outputs(path) if (footer := out.get("metadata", {}).get(PROVENANCE))]
    clock = read(path)["metadata"].get("papermill", {})
    times = {"duration_s": clock.get("duration"), "started": clock.get("start_time")}
    return (footers[-1] if footers else {}) | times


def errors(path: Path) -> list[str]:
    """Error outputs in an executed notebook, as ``name: value``."""
    return [f"{out['ename']}: {out['evalue']}" for out in _outputs(path) if out["output_type"] == "error"]


def status_page(chapters: Sequence[Path]) -> str:
    """The status page (Markdown): profile, run time, device and versions of every executed chapter."""
    rows = []
    for path in chapters:
        record = provenance(path)
        versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
        duration = record["duration_s"]
        rows.append(
            {
                "chapter": f"[{path.stem}](chapters/{path.stem}.ipynb)",
                "profile": record.get("profile", "unknown"),
                "executed (UTC)": (record["started"] or "unknown")[:16].replace("T", " "),
                "run time": "unknown" if duration is None else f"{duration:.0f} s",
                "device": record.get("device", "unknown"),
                "code": f"`{record.get('code_version', 'unknown')}`",
                "versions": versions or "unknown",
            }
        )
    return (
        "# Status\n\nHow each chapter of this book was last executed. The page is written from the executed "
        "notebooks when the book is rendered; rendering itself runs no code.\n\n" + markdown(rows)
    )
