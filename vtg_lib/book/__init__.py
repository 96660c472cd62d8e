"""The book: chapters, their tables and figures, and what renders them."""

PROVENANCE = "vtg_provenance"  # the key of a chapter footer's record in the metadata of its output
