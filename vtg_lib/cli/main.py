"""`vtg`: everything that needs no notebook, from the shell.

With `--json`, standard output carries one JSON document and nothing else; progress, warnings and errors go to
standard error. Exit codes: 0 done, 1 the request cannot be met (the message says why and what to do), 2 wrong
usage, 130 interrupted. Commands import what is heavy when they run, so that `vtg --help` stays fast.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from vtg_lib import __version__
from vtg_lib.cli import bench, captions, chapters, checking, checkpoints, data, diagnose, features, runs
from vtg_lib.cli.options import Command, Group, Json, Reply, Traceback

app = typer.Typer(
    cls=Group,
    help="Reproducing video temporal grounding, from the shell.",
    rich_markup_mode=None,  # rich would double the time of every start
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(cls=Group, help="Public data and features.", rich_markup_mode=None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Raises:
        SystemExit: wrong usage, code 2.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter shows another
            stream.reconfigure(errors="replace")
    try:
        get_command(app).main(arguments, prog_name="vtg")
    except SystemExit as stop:
        if stop.code == 2:
            raise
        return int(stop.code or 0)
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        print(f"vtg {__version__}")
        raise typer.Exit


@app.callback()
def _vtg(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    pass


EXAMPLES = {
    "eval": "vtg eval --pred p.jsonl --gt highlight_val_release.jsonl",
    "models": "vtg models --json",
    "tables": "vtg tables --paper sdst",
    "claims": "vtg claims --paper simdetr",
    "chapter": "vtg chapter 03_sdst --open",
    "list": "vtg data list",
    "fetch": "vtg data fetch qvhighlights released_predictions",
    "add": "vtg data add mine --annotations train=t.jsonl val=v.jsonl --video clip=clip --text words",
    "verify": "vtg data verify qvhighlights",
    "record": "vtg data record --data-root data",
    "features": "vtg features holiday.mp4 --text 'A dog runs on the beach.' --out mine",
    "render": "vtg render --out raw --data kind=sim train=64 val=16",
    "pseudo-label": "vtg pseudo-label --captions c.jsonl --features clip --out train.jsonl",
    "run": "vtg run --paper simdetr --table tab3 --row '+ QGR' --seed 0",
    "sweep": "vtg sweep --paper sdst --claims all --seeds 8 --device cpu",
    "rule": "vtg rule --paper sdst",
    "search": "vtg search --paper simdetr --models tr_detr,sim_detr",
    "replay": "vtg replay --paper simdetr",
    "diagnose": "vtg diagnose masked --model qd_detr",
    "import-checkpoint": "vtg import-checkpoint --model qd_detr model_best.ckpt ours.safetensors",
    "predict": "vtg predict --model ours.safetensors --data kind=own name=mine --out p.jsonl",
    "bench": "vtg bench --only step --model qd_detr",
}


def _command(group: typer.Typer, name: str, body: Callable[..., Reply], help: str) -> None:
    """Adds a command; `--json` and `--traceback`, which all have, are declared here and not in its body."""

    @functools.wraps(body)
    def command(*, as_json: bool, traceback: bool, **options: Any) -> None:
        raise typer.Exit(_answer(functools.partial(body, **options), as_json, traceback))

    own = inspect.signature(body, eval_str=True).parameters.values()
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("as_json", Json), ("traceback", Traceback))
    ]
    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    sentence, example = f"{help[0].upper()}{help[1:]}.", f"Example: {EXAMPLES[name]}"
    group.command(name, cls=Command, help=sentence, short_help=help, epilog=example)(command)


def _answer(body: Callable[[], Reply], as_json: bool, traceback: bool) -> int:
    """Runs the body of a command and prints what it answers; returns the exit code."""
    try:
        # whatever a library prints must not end up in the JSON
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.showwarning = _note
            reply = body()
        print(json.dumps(reply.value, indent=2, allow_nan=False) if as_json else reply.text)
        sys.stdout.flush()
        return reply.code
    except KeyboardInterrupt:
        print(
            "vtg: interrupted; finished runs are stored, others go on from their checkpoint", file=sys.stderr
        )
        return 130
    except BrokenPipeError:  # the reader has seen enough, as in `vtg … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        full = _out_of_memory(error)
        if traceback or not (full or _is_user_error(error)):
            raise
        text = f"out of memory ({error}). Fix: fewer or smaller data, a smaller batch or model"
        print(f"vtg: error: {text if full else error}", file=sys.stderr)
        return 1


def _note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings as people read them."""
    print(f"vtg: note: {message}", file=sys.stderr)


def _out_of_memory(error: Exception) -> bool:
    told = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in told or "not enough memory" in told)
    )


def _is_user_error(error: Exception) -> bool:
    """Errors whose message is written for the user; everything else is a fault of ours and keeps its
    traceback.

    Of the ValueErrors, those that a `raise` in this package raised: others come from numpy, torch or the
    interpreter.
    """
    if isinstance(error, (OSError, ModuleNotFoundError)) or type(error).__module__.startswith("vtg_lib."):
        return True
    innermost = error.__traceback__
    if not isinstance(error, ValueError) or innermost is None:
        return False
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    frame = innermost.tb_frame
    raised = frame.f_code.co_code[innermost.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and frame.f_globals.get("__name__", "").startswith("vtg_lib.")


for _group, _name, _body, _help in (
    (app, "eval", data.evaluate, "score a submission by the QVHighlights protocol"),
    (app, "models", data.models, "the methods, with their parameters and the published counts"),
    (app, "tables", data.tables, "every table of a paper beside our best numbers"),
    (app, "claims", data.claims, "what our runs say of a paper's causal claims"),
    (app, "chapter", chapters.chapter, "run a chapter of the book, render it, say which page to open"),
    (data_app, "list", data.data_list, "what there is, its size and licence, and what is here"),
    (data_app, "fetch", data.data_fetch, "download sets, verified before they are unpacked"),
    (data_app, "add", data.data_add, "make a data set of one's own known by a name"),
    (data_app, "verify", data.data_verify, "hash what is here"),
    (data_app, "record", data.data_record, "write what pages show of real files into results/recorded.json"),
    (app, "features", features.features, "CLIP features of one's own videos and sentences"),
    (app, "render", data.render, "write a rendered data set to disk, in the layout of public features"),
    (app, "pseudo-label", captions.pseudo_label, "training annotations from captioned intervals of videos"),
    (app, "run", runs.run, "train one run, or show it if it is stored"),
    (app, "sweep", runs.sweep, "train what a paper's tables lack; resumable"),
    (app, "rule", checking.rule, "whether the runs of a paper's profile sim have learned"),
    (app, "search", checking.search, "try learning rates on worlds that no table reads"),
    (app, "replay", checking.replay, "does today's code still make the numbers of stored runs? (on a CPU)"),
    (app, "diagnose", diagnose.diagnose, "look into the runs whose weights are kept"),
    (app, "import-checkpoint", checkpoints.import_checkpoint, "convert a published checkpoint"),
    (
        app,
        "predict",
        checkpoints.predict,
        "moments and saliency by a checkpoint, from data or one's own videos",
    ),
    (app, "bench", bench.bench, "measure this machine: evaluator, loading, training steps, inference"),
):
    _command(_group, _name, _body, _help)
app.add_typer(data_app, name="data", short_help="list, fetch, add and verify data")


if __name__ == "__main__":
    raise SystemExit(main())
