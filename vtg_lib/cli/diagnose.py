"""`vtg diagnose`; the command line itself is `vtg_lib.cli.main`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vtg_lib.cli.options import DataRoot, Device, Reply, device_of


def diagnose(
    topic: Annotated[str, typer.Argument(help="such as masked, matching or offsets; `list` names all")],
    *,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="of this method alone; default: all that have weights")
    ] = None,
    split: Annotated[str, typer.Option(help="val or test")] = "val",
    device: Device = "auto",
    data_root: DataRoot = None,
) -> Reply:
    """`vtg diagnose`: measures runs whose weights the book keeps, so nothing is trained."""
    from vtg_lib.data.forms import unknown
    from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.origin import watched
    from vtg_lib.experiments.run import initial_parameters, load_data, trained_model
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store
    from vtg_lib.experiments.weights import weights_path
    from vtg_lib.files import RESULTS

    if topic == "list":
        titles = {name: view.title for name, view in VIEWS.items()}
        return Reply(value=titles, text="\n".join(f"{name:16} {title}" for name, title in titles.items()))
    if topic not in DIAGNOSTICS:
        raise ValueError(f"diagnose: {unknown(topic, DIAGNOSTICS)}")
    found: list[dict[str, Any]] = []
    for path in sorted(RESULTS.glob("[0-9]*.jsonl")):
        store = Store(path)
        for record in store:
            if not weights_path(store, record["hash"]).exists():
                continue
            if model is not None and record["spec"]["model"] != model:
                continue
            spec = RunSpec.from_dict(record["spec"])
            splits = load_data(spec, data_root)
            if split not in splits:
                raise ValueError(f"--split: {unknown(split, splits)}")
            machine = Machine(device=str(device_of(device)), data_root=data_root)
            measured = DIAGNOSTICS[topic](
                trained_model(spec, store, machine),
                watched(spec, splits[split], initial_parameters(spec, store, machine), store, data_root),
            )
            found.append({"chapter": path.stem, "hash": record["hash"], "model": spec.model, topic: measured})
    if not found:
        raise ValueError(
            f"diagnose: expected stored runs{f' of {model}' if model else ''} with weights, found none; rows "
            "that have diagnostics keep theirs: vtg sweep"
        )
    number = VIEWS[topic].number
    lines = [
        f"{one['chapter']} {one['hash']} {one['model']:12} "
        + (f"{number(one[topic]):8.2f}" if number is not None and one[topic] else "      –")
        for one in found
    ]
    return Reply(value=found, text="\n".join([f"{VIEWS[topic].title}, {split}", *lines]))
