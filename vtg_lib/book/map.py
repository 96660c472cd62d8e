"""The map of the house on the page "Architecture", drawn from the imports whenever the book is rendered."""

from __future__ import annotations

import ast
import html
import math
from collections import Counter

from vtg_lib.files import PACKAGE

LEVELS = (  # a room imports from the rooms below it: (name, what it holds) by level, from the top
    (("cli", "the command line, `vtg`"),),
    (("book", "chapters: tables, figures, views, widgets, build"),),
    (("papers", "a paper as data; evidence, verdicts, doses"),),
    (("experiments", "spec, training, run, store, sweep, replay"),),
    (("diagnostics", "measure(model, data) gives JSON, a file a topic"),),
    (("models", "a file a method; shared parts; authors' weights"),),
    (("losses", "matching, sets of spans, saliency, points"),),
    (("layers", "attention, decoders, positions, suppression"),),
    (("data", "annotations, worlds, features"), ("evaluation", "the protocol, statistics")),
    (("spans", "span geometry"), ("files", "roots, locks, writes")),
)
WAYS = {  # the rooms that a way passes, in order; the page tells what happens at each
    "batch": (
        "data",
        "data",
        "experiments",
        "models",
        "layers",
        "losses",
        "losses",
        "experiments",
        "models",
        "evaluation",
    ),
    "number": ("papers", "papers", "experiments", "experiments", "experiments", "papers", "papers", "book"),
}
COLOURS = {"batch": "#0072b2", "number": "#d55e00"}
WIDTH, ROW, LEFT, BOX = 700, 60, 140, 44


def arrows() -> Counter[tuple[str, str]]:
    """(room, room that it imports from) -> number of import statements, lazy ones too."""
    found: Counter[tuple[str, str]] = Counter()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vtg_lib"):
                names = (
                    [alias.name for alias in node.names]
                    if node.module == "vtg_lib"
                    else [str(node.module)[8:]]
                )
                found.update((room, name.split(".")[0]) for name in names)
    rooms = {name for level in LEVELS for name, _ in level}
    return Counter({pair: n for pair, n in found.items() if set(pair) <= rooms and pair[0] != pair[1]})


def svg() -> str:
    """Rooms as boxes from the top down, an arc for each import, numbers in circles for the two ways."""
    places: dict[str, tuple[float, float, float]] = {}  # left edge, middle, width
    boxes = []
    for row, level in enumerate(LEVELS):
        width = (WIDTH - LEFT - 10 * (len(level) - 1)) / len(level)
        for column, (name, what) in enumerate(level):
            x, y = LEFT + column * (width + 10), ROW * row + ROW / 2
            places[name] = x, y, width
            text = html.escape(what.replace("`", ""))
            boxes.append(
                f'<rect x="{x:g}" y="{y - BOX / 2:g}" width="{width:g}" height="{BOX}" rx="6" class="room"/>'
                f'<text x="{x + 12:g}" y="{y - 3:g}" class="name">{name}</text>'
                f'<text x="{x + 12:g}" y="{y + 14:g}" class="what">{text}</text>'
            )
    arcs = []
    for (above, below), number in sorted(arrows().items()):
        (_, y, _), (_, end, _) = places[above], places[below]
        bend = f"{LEFT - 22 - 0.2 * (end - y):g}"
        arcs.append(
            f'<path d="M {LEFT} {y:g} C {bend} {y:g} {bend} {end:g} {LEFT} {end:g}" class="arc" '
            f'stroke-width="{math.sqrt(number) / 2:.2f}">'
            f"<title>{above} imports {below}: {number}</title></path>"
        )
    stops = []
    left = Counter(room for rooms in WAYS.values() for room in rooms)
    for way, rooms in WAYS.items():
        for number, room in enumerate(rooms, 1):
            x, y, width = places[room]
            x += width + 6 - 24 * left[room]
            left[room] -= 1
            stops.append(
                f'<circle cx="{x:g}" cy="{y - 8:g}" r="10" fill="{COLOURS[way]}"/>'
                f'<text x="{x:g}" y="{y - 4:g}" class="stop">{number}</text>'
            )
    style = (
        ".room{fill:none;stroke:currentColor;stroke-width:1.2}.arc{fill:none;stroke:currentColor;opacity:.5}"
        "text{fill:currentColor;font-family:sans-serif}.name{font-size:15px;font-weight:600}.what{font-size:12px}"
        ".map .stop{fill:#fff;font-size:11px;font-weight:600;text-anchor:middle}"
    )
    told = "Map of vtg_lib: twelve rooms from the command line to span geometry; every import runs downward."
    size = f"0 0 {WIDTH + 6} {ROW * len(LEVELS)}"
    return (
        f'<svg class="map" viewBox="{size}" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{told}" style="max-width:100%;height:auto"><style>{style}</style>'
        f"{''.join(arcs)}{''.join(boxes)}{''.join(stops)}</svg>\n"
    )
