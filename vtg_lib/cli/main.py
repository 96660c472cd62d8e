"""`vtg`: everything that needs no notebook, from the shell.

With `--json`, standard output carries one JSON document and nothing else; progress, warnings and errors go to
standard error. Exit codes: 0 done, 1 the request cannot be met (the message says why and what to do), 2 wrong
usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtg_lib import __version__


@dataclass(kw_only=True)
class Reply:
    """What a command answers: `value` for `--json`, `text` for people, and the exit code."""

    value: Any
    text: str
    code: int = 0


def without_nan(value: Any) -> Any:
    """JSON has no NaN: None takes its place, in mappings of any depth."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    module, _, function = options.command.partition(":")
    try:
        # whatever a library prints must not end up in the JSON
        with contextlib.redirect_stdout(sys.stderr):
            reply: Reply = getattr(importlib.import_module(module), function)(options)
        print(json.dumps(reply.value, indent=2, allow_nan=False) if options.json else reply.text)
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
        if options.traceback or not _is_user_error(error):
            raise
        print(f"vtg: error: {error}", file=sys.stderr)
        return 1


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


def build_parser() -> argparse.ArgumentParser:
    """The command line, without importing what the commands need."""
    parser = argparse.ArgumentParser(
        prog="vtg", description="Reproducing video temporal grounding, from the shell."
    )
    parser.add_argument("--version", action="version", version=f"vtg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, function: str, text: str, parent: Any = commands) -> argparse.ArgumentParser:
        command = parent.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
        command.add_argument("--traceback", action="store_true", help="show where an error comes from")
        command.set_defaults(command=f"vtg_lib.cli.{function}")
        return command

    command = add("eval", "data:evaluate", "score a submission by the QVHighlights protocol")
    command.add_argument(
        "--pred", required=True, metavar="P.jsonl", help="predictions in the submission layout"
    )
    command.add_argument("--gt", required=True, metavar="G.jsonl", help="annotations of the same queries")
    command.add_argument(
        "--recall", action="store_true", help="add R1@{0.3,0.5,0.7} and mIoU (Charades-STA, TACoS)"
    )

    add("models", "data:models", "the methods, with their parameters and the published counts")

    command = add("tables", "data:tables", "every table of a paper beside our best numbers")
    command.add_argument("--paper", help="key of one paper; default all")
    command.add_argument("--store", metavar="FILE", help="run store; default results/<chapter>.jsonl")
    _add_data_root(command)

    data = commands.add_parser(
        "data", help="list, fetch and verify data", description="Public data and features."
    )
    actions = data.add_subparsers(required=True, metavar="action")
    _add_data_root(
        add("list", "data:data_list", "what there is, its size and licence, and what is here", actions)
    )
    command = add("fetch", "data:data_fetch", "download sets, verified before they are unpacked", actions)
    command.add_argument("sets", nargs="+", metavar="set", help="names from `vtg data list`")
    command.add_argument("--force", action="store_true", help="download again and replace")
    command.add_argument("--keep-archives", action="store_true", help="keep archives after unpacking")
    _add_data_root(command)
    command = add("verify", "data:data_verify", "hash what is here", actions)
    command.add_argument("sets", nargs="*", metavar="set", help="default: all")
    _add_data_root(command)

    _add_data_root(
        add(
            "record",
            "data:data_record",
            "write what pages show of real files into results/recorded.json",
            actions,
        )
    )
    command = add(
        "render", "data:render", "write a rendered data set to disk, in the layout of public features"
    )
    command.add_argument("--out", required=True, metavar="FOLDER", help="a folder that does not exist yet")
    _add_knobs(command, "data", "e.g. kind=rendered, dataset=qvhighlights, layout=levels, train=1024")
    _add_data_root(command)

    command = add("run", "runs:run", "train one run, or show it if it is stored")
    command.add_argument(
        "--spec", metavar="FILE", help="a run spec as JSON, as in a line of the store under `spec`"
    )
    command.add_argument("--paper", help="take the run from a paper: with --profile, --table and --row")
    command.add_argument("--profile", default="sim")
    command.add_argument("--table")
    command.add_argument("--row", help="label of the row")
    command.add_argument(
        "--dataset", default="qvhighlights", help="of the row's columns (default: %(default)s)"
    )
    command.add_argument("--model")
    command.add_argument("--seed", type=int)
    for name, example in (("config", "width=64"), ("data", "kind=sim"), ("train", "epochs=20")):
        _add_knobs(command, name, f"e.g. {example}; on top of --spec or the row")
    command.add_argument("--store", metavar="FILE", help="where to look and to store; default: nowhere")
    command.add_argument(
        "--predictions", metavar="FILE", help="also write the validation predictions as a submission"
    )
    _add_running(command)

    command = add("sweep", "runs:sweep", "train what a paper's tables lack; resumable")
    command.add_argument("--paper", required=True)
    command.add_argument("--profile", default="sim")
    command.add_argument(
        "--seeds", default="3", help="how many, from 0 (3), or which (0,2,5); default: %(default)s"
    )
    command.add_argument("--tables", help="ids, such as tab5,tab7; default: all")
    command.add_argument(
        "--models", help="names, comma-separated, to leave out the rows of others; default: all"
    )
    command.add_argument(
        "--dose", help="dose-response studies by key, or `all`; with --tables in addition to them"
    )
    command.add_argument(
        "--time-budget", type=float, metavar="SECONDS", help="begin nothing that will not fit"
    )
    command.add_argument(
        "--partial", action="store_true", help="begin it nevertheless; it pauses when the time is up"
    )
    command.add_argument("--workers", type=int, help="processes; default: one a core on a CPU, one on a GPU")
    command.add_argument("--store", metavar="FILE", help="default: results/<chapter>.jsonl")
    command.add_argument("--dry-run", action="store_true", help="only list what would be trained")
    _add_running(command)

    command = add(
        "replay", "runs:replay", "does today's code still make the numbers of stored runs? (on a CPU)"
    )
    command.add_argument("--paper", required=True)
    command.add_argument("--models", help="names, comma-separated; default: all")
    command.add_argument("--workers", type=int, help="processes; default: one a core")
    command.add_argument("--store", metavar="FILE", help="default: results/<chapter>.jsonl")
    command.add_argument("--dry-run", action="store_true", help="only list what would be replayed")
    _add_data_root(command)

    command = add("import-checkpoint", "checkpoints:import_checkpoint", "convert a published checkpoint")
    command.add_argument(
        "source", metavar="THEIRS", help="a file that the authors' code saved; none of its code is run"
    )
    command.add_argument("target", metavar="OURS", help="the safetensors file to write")
    command.add_argument("--model", required=True, help="whose checkpoint it is, a name of `vtg models`")
    _add_knobs(command, "config", "fields that the file does not show or shows wrongly, e.g. heads=8")

    command = add("predict", "checkpoints:predict", "write and score what an imported checkpoint predicts")
    command.add_argument(
        "--model", required=True, metavar="OURS", help="a file that `vtg import-checkpoint` wrote"
    )
    _add_knobs(
        command,
        "data",
        "e.g. kind=official, features=qvhighlights_slowfast_clip, video=[slowfast,clip], text=clip_text",
    )
    command.add_argument("--split", default="val", help="train, val or test (default: %(default)s)")
    command.add_argument("--out", required=True, metavar="P.jsonl", help="the submission to write")
    command.add_argument(
        "--authors-rounding", action="store_true", help="windows to whole clips, as their code does"
    )
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    _add_data_root(command)

    command = add(
        "bench", "runs:bench", "measure this machine: evaluator, loading, training steps, inference"
    )
    command.add_argument(
        "--only", help="parts, comma-separated: evaluator, loading, step, inference (default: all)"
    )
    command.add_argument(
        "--model",
        default="sdst",
        help="names, comma-separated, for the parts that train (default: %(default)s)",
    )
    command.add_argument(
        "--size", choices=("sim", "paper"), help="of model and batch (default: sim; paper with --record)"
    )
    command.add_argument(
        "--record",
        action="store_true",
        help="only measure a training step at paper size, into results/efficiency.jsonl",
    )
    command.add_argument("--precision", help="with --record (default: float16 on a GPU, float32 on a CPU)")
    command.add_argument("--device", default="cpu")
    command.add_argument(
        "--reference", metavar="FOLDER", help="a checkout of jayleicn/moment_detr, to time its evaluator"
    )
    _add_data_root(command)
    return parser


def _add_data_root(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-root", metavar="FOLDER", help="real data; default VTG_DATA_ROOT, else data/")


def _add_knobs(command: argparse.ArgumentParser, name: str, text: str) -> None:
    command.add_argument(f"--{name}", nargs="+", default=[], metavar="KEY=VALUE", action="extend", help=text)


def _add_running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    command.add_argument("--rerun", action="store_true", help="train again what is stored")
    command.add_argument(
        "--checkpoints", metavar="FOLDER", help="default VTG_CACHE, else the user's cache folder"
    )
    _add_data_root(command)


if __name__ == "__main__":
    raise SystemExit(main())
