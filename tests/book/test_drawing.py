"""Drawings of methods: every module that is called, in letters that are right, and what a baseline lacks."""

import dataclasses
import re

import pytest
import torch
from torch import nn

from tests.test_architecture import BASELINES
from vtg_lib.book import drawing
from vtg_lib.book.chapter import Chapter
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.shapes import choose_sizes, example
from vtg_lib.book.structure import compare, lacking, structure
from vtg_lib.book.views import architecture
from vtg_lib.models import MODELS, baseline, build, count_parameters, resolve
from vtg_lib.models.tr_detr import TRDETR

SMALL = {"video_dim": 26, "text_dim": 22, "width": 32, "heads": 4, "hidden": 40, "text_width": 32}


def small(name: str) -> dict[str, int]:
    """Overrides that make a method small, as far as it has the fields."""
    fields = {field.name for field in dataclasses.fields(resolve(name))}
    return {key: value for key, value in SMALL.items() if key in fields}


def drawn(name: str):
    config = resolve(name, small(name))
    return structure(build(name, small(name)), config)


def called(model: nn.Module, batch) -> set[str]:
    """Children of a model of which a forward pass or the losses call anything."""
    found: set[str] = set()
    for name, child in model.named_children():
        for module in child.modules():
            module.register_forward_hook(lambda *_, name=name: found.add(name))
    with torch.no_grad():
        model.loss(model.train()(batch), batch)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_method_is_drawn_with_all_that_it_calls(name: str) -> None:
    config, model = resolve(name, small(name)), build(name, small(name))
    found = structure(model, config)
    picture = drawing.svg(found, name)
    wanted = called(model, example(config, choose_sizes(config)))
    assert wanted
    for child in wanted:
        assert re.search(rf'class="name">{child}[.<]', picture), child
        assert re.search(rf"[ ;]{child}[.,]", drawing.alt(found, name)), child
    shown = sum(block.parameters for block in found.blocks)
    own = sum(value.numel() for value in model.parameters(recurse=False))
    assert 0.9 * count_parameters(model) < shown + own <= count_parameters(model)
    assert found.losses and ", ".join(found.losses) in re.sub(r"</text>.*?>(?=\w)", "", picture)
    assert found.output["spans"].startswith("[B, ") and found.output["saliency"] == "[B, T]"
    assert found.given["text"] in ("[B, L, Dt]", "[B, K, L, Dt]", "[B, 1, L, Dt]")


def test_shapes_are_told_in_letters() -> None:
    blocks = {block.name: block for block in drawn("sim_detr").walk()}
    assert blocks["project_video"].inputs == ("[B, T, Dv + 2]",)
    assert blocks["project_text"].outputs == ("[B, L, D]",)
    assert blocks["decoder"].outputs == ("[S, B, Q, D]", "[S, B, Q, 2]")
    assert blocks["decoder.layers"].title == "AnchorDecoderLayer × 4"
    assert blocks["encoder"].calls == 2  # TR-DETR goes through it twice
    names = [block.name for block in drawn("sim_detr").blocks]
    assert names[:2] == ["project_video", "project_text"] and names[-1] == "bridge_net"
    levels = {block.name: block for block in drawn("sdst").walk()}
    assert levels["tuners.0.align"].outputs == ("[K, B, T, D]", "[K, B, L, D]")
    concatenated = {block.name: block for block in drawn("moment_detr").walk()}
    assert concatenated["encoder"].outputs == ("[B, T + L, D]",)


def test_a_drawing_leaves_the_model_and_the_random_state_alone() -> None:
    model, state = build("qd_detr", small("qd_detr")).eval(), torch.get_rng_state()
    structure(model, resolve("qd_detr", small("qd_detr")))
    assert not model.training and torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_a_baseline_lacks_is_marked() -> None:
    own, base = drawn("sim_detr"), drawn("tr_detr")
    marks = compare(own, base)
    new = {name for name, instead in marks.items() if not instead}
    assert {"iou_head", "relation", "bridge_net", "bridge_scale", "loss iou", "loss bridge"} <= new
    assert marks["decoder.layers"] == "AnchorDecoderLayer × 2" and "encoder" not in marks
    picture = drawing.svg(own, "Sim-DETR", base, "TR-DETR")
    assert picture.count('class="new"') == 3 and "iou, bridge – not in TR-DETR" in picture
    assert lacking(own, base) == [] and "bridge_net" in lacking(base, own)
    alone = drawing.svg(own, "Sim-DETR", own, "itself")
    assert compare(own, own) == {} and 'class="new"' not in alone and 'class="inside"' not in alone


def test_one_further_module_is_seen() -> None:
    class Further(TRDETR):
        def __init__(self, config) -> None:
            super().__init__(config)
            self.further = nn.Linear(config.width, config.width)
            self.never = nn.Linear(1, 1)

        def encode(self, x, position, mask):
            return self.further(super().encode(x, position, mask))

    config = resolve("tr_detr", small("tr_detr"))
    own = structure(Further(config), config)
    assert compare(own, drawn("tr_detr")) == {"further": ""}
    picture = drawing.svg(own, "further", drawn("tr_detr"), "TR-DETR")
    assert 'class="name">further<' in picture and "never" not in picture


def test_baselines_are_read_off_the_classes() -> None:
    assert {name: baseline(name) for name in BASELINES} == BASELINES
    assert baseline("td_detr") == "qd_detr" and baseline("moment_detr") is None


def test_lines_fit_into_their_boxes() -> None:
    for name in ("sdst", "sg_detr", "sa_qd_detr"):
        picture = drawing.svg(drawn(name), name, drawn("bam_detr"), "a method with a long name")
        for row, text in re.findall(r'y="([\d.]+)" class="line" xml:space="preserve">([^<]*)', picture):
            beside = re.search(rf'y="{re.escape(row)}" class="right"[^>]*>([^<]*)', picture)
            letters = len(text) + (len(beside[1]) + 1 if beside else 0)
            assert letters * drawing.CHARACTER * 12 <= drawing.WIDTH - drawing.PAD, text


def test_a_chapter_draws_its_pair(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("vtg_lib.book.parameters.ROOT", tmp_path)
    chapter = Chapter("sdst", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    pair = {"RDSA": chapter.spec("tab5", "Ours"), "Def. CA": chapter.spec("tab5", "Def. CA")}
    page = architecture.architecture(chapter, pair, "RDSA").data
    assert 'role="img" aria-label="Modules of RDSA' in page and "<figcaption>RDSA, a training step" in page
    assert "Def. CA: QueryDeformableAttention" in page
    swapped = architecture.architecture(chapter, pair).data
    assert 'aria-label="Modules of Def. CA' in swapped


def test_methods_are_drawn_at_their_published_size_on_demand() -> None:
    page = architecture.gallery(["td_detr", "lst"]).data
    assert page.count("<details") == page.count("<svg") == 2
    assert "<code>td_detr</code>, beside <code>qd_detr</code>, which it is built on</summary>" in page
    assert "start_token  [D] – not in qd_detr" in page
    assert f"({count_parameters(build('td_detr')):,} in all)" in page
