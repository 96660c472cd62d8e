"""`vtg pseudo-label`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vtg_lib.cli.options import Reply, writable


def pseudo_label(
    *,
    captions: Annotated[
        Path,
        typer.Option(metavar="C.jsonl", help="captions of intervals, one a line; InternVid's files, too"),
    ],
    features: Annotated[
        Path,
        typer.Option(metavar="DIR", help="video/ and text/, features of videos and captions in one space"),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="annotations in the QVHighlights layout")],
    threshold: Annotated[
        Literal["mean_minus_sd", "mean", "min"], typer.Option(help="Eq. 17, of the interval's scores")
    ] = "mean_minus_sd",
    extend: Annotated[Literal["video", "near"], typer.Option(help="where moments may lie")] = "video",
    near: Annotated[
        float, typer.Option(metavar="SECONDS", help="from the interval, for --extend near")
    ] = 10.0,
    join: Annotated[
        float, typer.Option(metavar="SECONDS", help="fill gaps between moments up to this")
    ] = 0.0,
    grades: Annotated[Literal["edges", "linear"], typer.Option(help="Eq. 18")] = "edges",
    window: Annotated[
        float, typer.Option(metavar="SECONDS", help="of video kept around the interval, at most")
    ] = 150.0,
    place: Annotated[
        Literal["centre", "drawn"], typer.Option(help="of the interval in a window of a longer video")
    ] = "centre",
    min_words: Annotated[int, typer.Option(help="content words that a caption needs")] = 3,
    repeated: Annotated[
        Literal["video", "file"], typer.Option(help="within what a caption is kept once")
    ] = "video",
    video_out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the features of the rows' videos there")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="leave out, and count, captions with a fault or no features")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what is there")] = False,
) -> Reply:
    """`vtg pseudo-label`."""
    from vtg_lib.data.pseudo.labels import PseudoLabels
    from vtg_lib.data.pseudo.report import qvhighlights, report_text
    from vtg_lib.data.pseudo.stream import Job
    from vtg_lib.data.pseudo.stream import pseudo_label as write

    writable(out, "--out")
    settings = PseudoLabels(
        threshold=threshold,
        extend=extend,
        near=near,
        join=join,
        grades=grades,
        window=window,
        place=place,
        min_words=min_words,
        repeated=repeated,
    )
    job = Job(
        captions=captions,
        features=features,
        out=out,
        settings=settings,
        skip_bad=skip_bad,
        video_out=video_out,
    )
    report, beside = write(job, overwrite=overwrite), qvhighlights()
    lines = [report_text(report, beside), f"written to {out}; the report: {job.report}"]
    if video_out is None and (trimmed := report["notes"].get("trimmed")):
        told = f"{trimmed:,} rows show part of a video and have no feature file of their own"
        lines.append(f"{told}: --video-out DIR writes them")
    return Reply(value={**report, "out": str(out), "qvhighlights": beside}, text="\n".join(lines))
