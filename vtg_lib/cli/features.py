"""`vtg features`; the command line itself is `vtg_lib.cli.main`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vtg_lib.cli.options import Device, Reply, device_of


def features(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="files that ffmpeg can read")],
    *,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="SENTENCE", help="what to look for in each of the videos; several: repeat it"),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="the folder to write, or to add to")] = Path(
        "features"
    ),
    annotations: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="also the words of these annotations' queries, for `vtg data add`"),
    ] = None,
    clip_length: Annotated[
        float, typer.Option(metavar="SECONDS", help="of a clip; QVHighlights' models take 2")
    ] = 2.0,
    model: Annotated[
        str, typer.Option(help="of open_clip; the default is the CLIP of the public features")
    ] = "ViT-B-32-quickgelu",
    pretrained: Annotated[
        str, typer.Option(metavar="TAG|FILE", help="its weights, from the user's cache or the network")
    ] = "openai",
    batch_size: Annotated[int, typer.Option(metavar="N", help="frames encoded at once")] = 32,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="make anew what is there")] = False,
    device: Device = "auto",
) -> Reply:
    """`vtg features`: exit code 1 if a video could not be read; the others are done then."""
    from vtg_lib.data.extraction.decode import import_av
    from vtg_lib.data.extraction.encode import Encoder
    from vtg_lib.data.extraction.job import check_videos, extract

    check_videos(videos)
    import_av()
    found = extract(
        videos,
        text or [],
        out,
        Encoder(model, pretrained, device_of(device)),
        annotations=annotations or [],
        clip_length=clip_length,
        batch_size=batch_size,
        overwrite=overwrite,
    )
    for note in found["notes"]:
        print(f"vtg: note: {note}", file=sys.stderr)
    for why in found["failed"].values():
        print(f"vtg: error: {why}", file=sys.stderr)
    lines = [
        f"{vid}: {entry['clips']} clip{'s' * (entry['clips'] != 1)} of {clip_length:g} s, "
        f"{entry['duration']:.1f} s"
        f"{' (was there)' if entry['kept'] else ''}"
        for vid, entry in found["videos"].items()
    ]
    if found["failed"]:
        lines.append(f"{len(found['failed'])} of {len(found['videos']) + len(found['failed'])} videos failed")
    lines.append(f"written to {out}; what it is: {out / 'features.yaml'}")
    if found["queries"]:
        lines.append(
            f"{len(found['queries'])} queries: vtg predict --model OURS --features {out} --out p.jsonl"
        )
    return Reply(value={**found, "out": str(out)}, text="\n".join(lines), code=int(bool(found["failed"])))
