"""A reproducibility book for video temporal grounding: the library behind its chapters."""

__version__ = "0.1.0"
