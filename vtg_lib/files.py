"""Where things lie: the checkout and its stored results."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the checkout
RESULTS = ROOT / "results"  # run stores and records
