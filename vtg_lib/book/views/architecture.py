"""A method drawn from its own modules."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vtg_lib.book import drawing
from vtg_lib.book.shapes import choose_sizes
from vtg_lib.book.structure import Structure, lacking, structure
from vtg_lib.book.tables import folded

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.experiments.spec import RunSpec


def architecture(chapter: Chapter, pair: Mapping[str, RunSpec], name: str | None = None) -> HTML:
    """The model of a run as a drawing, with what another run's model lacks or has otherwise marked.

    Args:
        pair: by name the two runs, such as a chapter's headline comparison; of more, the first two count.
        name: which of them is drawn; the last of the two by default.
    """
    from vtg_lib.models import resolve

    names = list(pair)[:2]
    name = names[-1] if name is None else name
    (base,) = (other for other in names if other != name)
    configs = {one: resolve(pair[one].model, pair[one].config) for one in names}
    sizes = choose_sizes(*configs.values())
    found = {
        one: structure(chapter.untrained(pair[one]).cpu(), config, sizes) for one, config in configs.items()
    }
    return shown(name, found[name], base, found[base])


def method(name: str) -> HTML:
    """A method of the registry at its published size, beside the method that it is built on, if any."""
    from vtg_lib.models import baseline, build, resolve

    base = baseline(name)
    names = [name] if base is None else [name, base]
    sizes = choose_sizes(*map(resolve, names))
    found = [structure(build(one), resolve(one), sizes) for one in names]
    return shown(name, found[0], base or "", found[1] if base else None)


def gallery(names: Iterable[str] | None = None) -> HTML:
    """`method` of each name, of the whole registry by default, on demand."""
    from IPython.display import HTML

    from vtg_lib.models import MODELS, baseline

    parts = []
    for name in MODELS if names is None else names:
        base = baseline(name)
        heading = f"`{name}`, beside `{base}`, which it is built on" if base else f"`{name}`"
        parts.append(folded(heading, method(name).data))
    return HTML("".join(parts))


def shown(name: str, own: Structure, base_name: str = "", base: Structure | None = None) -> HTML:
    """The drawing with its caption."""
    from IPython.display import HTML

    told = (
        f"{name}, a training step from the top down: modules with their class, shapes in → out, and what is "
        f"in them. At the right: learnable parameters ({own.parameters:,} in all); of what is in a module of "
        f"several, those of one. {drawing.legend(own)}."
    )
    if base is not None:
        told += f" Filled: {base_name} has none. Dashed: {base_name} has another, of {base.parameters:,}"
        told += " parameters in all."
        alone = lacking(own, base)
        told += f" In {base_name} alone: {', '.join(alone)}." if alone else ""
    picture = drawing.svg(own, name, base, base_name)
    return HTML(f'<figure class="vtg">{picture}<figcaption>{html.escape(told)}</figcaption></figure>')
