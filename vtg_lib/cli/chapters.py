"""The command of `vtg` that runs a chapter of the book; the command line itself is `vtg_lib.cli.main`."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from vtg_lib.cli.options import DataRoot, Device, Reply, Rerun


def chapter(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="of a notebook, such as 03_sdst")],
    profile: Annotated[str, typer.Option(help="smoke, quick, sim, rendered or official")] = "quick",
    device: Device = "auto",
    seeds: Annotated[str | None, typer.Option(metavar="LIST", help="0,1,2; default: the profile's")] = None,
    data_root: DataRoot = None,
    rerun: Rerun = False,
    browse: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
) -> Reply:
    """Run a notebook by papermill, with a progress bar on a terminal, and render the book with it; what the
    repository tracks stays as it is.
    """
    from vtg_lib.book import build
    from vtg_lib.book.parameters import Parameters

    options = {"profile": profile, "device": device, "seeds": seeds, "rerun": rerun, "data_root": data_root}
    Parameters.parse(**options | {"data_root": str(data_root or "")})  # before a kernel is started
    (source,) = build.select(name)[:1]
    index = build.build(source.stem, build.parameters_of(options))
    executed = build.executed_path(source)
    page = index.parent / "chapters" / f"{source.stem}.html"
    if browse:
        webbrowser.open(page.as_uri())
    value = {"chapter": source.stem, "executed": str(executed), "page": str(page)}
    return Reply(value=value, text=f"notebook {executed}\nopen {page}")
