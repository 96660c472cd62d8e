"""The drawing of a model: its `Structure` as an SVG, in the order of the calls from the top down, and what it
has otherwise than another model marked. Colours are the page's own, so it is legible on light and dark ones.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vtg_lib.book.figures.style import VERMILION
from vtg_lib.book.shapes import LETTERS, OF_BATCH
from vtg_lib.book.structure import Block, Structure, compare, lacking

WIDTH, PAD, LINE, GAP = 480, 10, 16, 13  # of the picture, in a box, of a line, between boxes
SIZES = {"name": 14, "line": 12}  # letters
CHARACTER = 0.53  # mean width of a character, as a share of the letters' size

_STYLE = """
.vtg-drawing text{fill:currentColor;font-family:sans-serif;font-size:12px}
.vtg-drawing .name{font-size:14px;font-weight:600}
.vtg-drawing .kind{font-size:12px;font-weight:400}
.vtg-drawing .right{text-anchor:end}
.vtg-drawing .box{fill:none;stroke:currentColor;stroke-opacity:.55}
.vtg-drawing .new,.vtg-drawing .differs{fill:MARK;stroke:MARK;stroke-width:2}
.vtg-drawing .new{fill-opacity:.22}
.vtg-drawing .differs{fill-opacity:.07;stroke-dasharray:5 3}
.vtg-drawing .way{fill:none;stroke:currentColor;stroke-opacity:.55}
.vtg-drawing .inside{stroke:none;fill:MARK;fill-opacity:.22}
""".replace("MARK", VERMILION).replace("\n", "")


@dataclass
class _Box:
    """A box: a title with something at its right, and lines likewise, of which some are marked."""

    title: str
    kind: str = ""  # beside the title
    right: str = ""
    state: str = "box"
    lines: list[tuple[str, str, bool]] = field(default_factory=list)  # left, right, marked
    way: bool = True  # an arrow leads to it

    @property
    def height(self) -> int:
        return PAD + 18 + LINE * len(self.lines) + PAD // 2

    def say(self, text: str, *, marked: bool = False, right: str = "", indent: str = "") -> None:
        """Add a text in as many lines as it takes."""
        for place, part in enumerate(_wrapped(text, right, indent)):
            self.lines.append((part, "" if place else right, marked))


def _wrapped(text: str, right: str, indent: str) -> list[str]:
    """Lines that fit into the box, broken between shapes, before remarks and after commas; the first beside
    `right`.
    """
    room = int((WIDTH - 2 * PAD) / (CHARACTER * SIZES["line"]))
    lines = [indent]
    for word in re.split(r"(?<=,) (?![^\[]*\])|(?= – )|(?= → )", text):
        beside = len(right) + 2 if len(lines) == 1 and right else 0
        gap = "" if word.startswith(" ") or not lines[-1].strip() else " "
        if lines[-1].strip() and len(lines[-1] + gap + word) > room - beside:
            lines.append(f"{indent}    {word.strip()}")
        else:
            lines[-1] += gap + word
    return lines


def svg(own: Structure, name: str, base: Structure | None = None, base_name: str = "") -> str:
    """The picture of a model `name`; with the model `base` marked what that one lacks or has otherwise."""
    marks = {} if base is None else compare(own, base)
    boxes = _boxes(own, marks, base_name)
    y = 1.0
    parts: list[str] = []
    for box in boxes:
        if parts:
            if box.way:
                middle = WIDTH / 2
                parts.append(
                    f'<path class="way" d="M{middle:g} {y:g}v{GAP - 1}m-4 -5l4 5l4 -5"/>',
                )
            y += GAP
        parts.append(
            f'<rect x="1" y="{y:g}" width="{WIDTH - 2}" height="{box.height}" rx="6" class="{box.state}"/>'
        )
        beside = f'<tspan class="kind" dx="8">{html.escape(box.kind)}</tspan>' if box.kind else ""
        parts.append(
            f'<text x="{PAD}" y="{y + PAD + 10:g}" class="name">{html.escape(box.title)}{beside}</text>'
        )
        parts.append(_text(WIDTH - PAD, y + PAD + 10, box.right, "right"))
        for row, (left, right, marked) in enumerate(box.lines):
            line = y + PAD + 18 + LINE * row + 9
            if marked:
                parts.append(
                    f'<rect x="{PAD - 4}" y="{line - 12:g}" width="{WIDTH - 2 * PAD + 8}" height="{LINE}" '
                    'class="inside"/>'
                )
            parts.append(_text(PAD, line, left, "line"))
            parts.append(_text(WIDTH - PAD, line, right, "right"))
        y += box.height
    told = html.escape(alt(own, name, base, base_name), quote=True)
    return (
        f'<svg class="vtg-drawing" viewBox="0 0 {WIDTH} {y + 1:g}" xmlns="http://www.w3.org/2000/svg" '
        f'role="img" aria-label="{told}" style="width:100%;max-width:34rem;height:auto"><style>{_STYLE}'
        f"</style>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    if not text:
        return ""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" xml:space="preserve">{html.escape(text)}</text>'


def _boxes(own: Structure, marks: Mapping[str, str], base_name: str) -> list[_Box]:
    """What goes in, the learned tensors, every block, what comes out, and the losses."""
    given = _Box("batch")
    given.say(", ".join(f"{name} {shape}" for name, shape in own.given.items()))
    boxes = [given]
    if own.tensors:
        tensors = _Box("learned tensors", way=False)
        for name, shape in own.tensors.items():
            told = f"{name}  {shape if shape != '[]' else 'a number'}{_beside(name, marks, base_name)}"
            tensors.say(told, marked=name in marks)
        boxes.append(tensors)
    boxes += [_box(block, marks, base_name) for block in own.blocks]
    output = _Box("output")
    output.say(", ".join(f"{name} {shape}" for name, shape in own.output.items()))
    losses = _Box("losses, weighted")
    new = [name for name in own.losses if f"loss {name}" in marks]
    losses.say(", ".join(name for name in own.losses if name not in new))
    if new:
        losses.say(f"{', '.join(new)}{_beside(f'loss {new[0]}', marks, base_name)}", marked=True)
    return [*boxes, output, losses]


def _box(block: Block, marks: Mapping[str, str], base_name: str) -> _Box:
    state = "box" if block.name not in marks else "differs" if marks[block.name] else "new"
    told = f"{block.parameters:,}" if block.parameters else ""
    kind = block.title + (f", called {block.calls} times" if block.calls > 1 else "")
    box = _Box(block.name, kind, told, state)
    if block.name in marks:
        box.say(_beside(block.name, marks, base_name).strip(" –"), marked=True)
    if block.inputs or block.outputs:
        box.say(f"{', '.join(block.inputs) or '–'} → {', '.join(block.outputs)}")
    for part in block.parts:
        inner = part.name.removeprefix(f"{block.name}.")
        text = f"{inner}  {part.title}"
        text += _beside(part.name, marks, base_name) if state != "new" else ""
        marked = part.name in marks and state != "new"
        box.say(text, marked=marked, right=f"{part.parameters:,}", indent="   ")
    return box


def _beside(name: str, marks: Mapping[str, str], base_name: str) -> str:
    if name not in marks:
        return ""
    return f" – {base_name}: {marks[name]}" if marks[name] else f" – not in {base_name}"


def legend(own: Structure) -> str:
    """What the letters of a drawing are; those of the config with their numbers."""
    batch = [f"{letter} {what}" for letter, what in OF_BATCH.items() if letter in own.sizes]
    config = [
        f"{letter} {what} ({own.sizes[letter]:,})"
        for letter, (what, _) in LETTERS.items()
        if letter in own.sizes
    ]
    return f"{', '.join(batch)}; {', '.join(config)}"


def alt(own: Structure, name: str, base: Structure | None = None, base_name: str = "") -> str:
    """The same in a sentence or two."""
    blocks = "; ".join(f"{block.name}, {block.title}" for block in own.blocks)
    told = f"Modules of {name} in the order of their calls: {blocks}. Losses: {', '.join(own.losses)}."
    if base is None:
        return told
    marks = compare(own, base)
    new = [key for key, instead in marks.items() if not instead]
    other = [f"{key} ({base_name}: {instead})" for key, instead in marks.items() if instead]
    told += f" Not in {base_name}: {', '.join(_outermost(new)) or 'nothing'}."
    told += f" Otherwise than in {base_name}: {', '.join(other)}." if other else ""
    alone = lacking(own, base)
    return told + (f" In {base_name} alone: {', '.join(alone)}." if alone else "")


def _outermost(names: Sequence[str]) -> list[str]:
    """Without the parts of what is named itself."""
    return [name for name in names if not any(name.startswith(f"{outer}.") for outer in names)]
