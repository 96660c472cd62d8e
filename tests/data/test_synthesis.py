"""Videos with a dynamic context: where every clip comes from, against the windows and the saliency."""

import dataclasses
import itertools

import pytest
import torch

from vtg_lib.data import load_data
from vtg_lib.data.hooks import Synthesis, hook_options
from vtg_lib.data.partners import pair_similarity, similarity
from vtg_lib.data.synthesis import Synthesizer, assemble, drawn, gap, hull
from vtg_lib.models import build
from vtg_lib.spans import cw_to_se

WORLD = {"train": 48, "val": 8, "clips": 24, "semantic_dim": 16, "motion_dim": 8}
DATA = load_data(WORLD)["train"]
LAYERED = load_data({**WORLD, "layout": "levels"})["train"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made(options, data=DATA, rows=24, seed=0):
    batch = data.batch(torch.arange(rows))
    synthesizer = Synthesizer(options, data)
    partners, plan = synthesizer.plan(batch, generator(seed))
    return batch, partners, plan, assemble(batch, partners, plan), synthesizer


@pytest.mark.parametrize("data", [DATA, LAYERED], ids=["one level", "levels"])
@pytest.mark.parametrize("layout", ["blocks", "mixed", "exchanged"])
def test_every_clip_comes_from_where_the_plan_says(data, layout):
    batch, partners, plan, new, _ = made(Synthesis(layout=layout, originals=0.25), data)
    start, end = hull(batch)
    assert 10 <= plan.made.sum() <= 18
    for row in range(len(batch)):
        length = int(plan.mask[row].sum())
        place = [(bool(plan.foreign[row, i]), int(plan.clip[row, i])) for i in range(length)]
        for i, (foreign, clip) in enumerate(place):
            source = partners.video[plan.partner[row]] if foreign else batch.video[row]
            assert torch.equal(new.video[row, ..., i, :], source[..., clip, :])
            assert new.saliency[row, i] == (0 if foreign else batch.saliency[row, clip])
        own = [clip for foreign, clip in place if not foreign]
        whole = list(range(int(start[row]), int(end[row])))
        first = own.index(whole[0])
        assert own[first : first + len(whole)] == whole  # the hull is whole, once, and nothing is in it
        assert [clip for _, clip in place].count(whole[0]) >= 1 and len(set(whole)) == len(whole)
        at = place.index((False, whole[0]))
        assert place[at : at + len(whole)] == [(False, clip) for clip in whole]
        seconds = cw_to_se(new.spans[row]) * length
        before = cw_to_se(batch.spans[row]) * batch.video_mask[row].sum()
        count = int(batch.span_mask[row].sum())
        torch.testing.assert_close(seconds[:count] - at, before[:count] - whole[0], atol=1e-3, rtol=0)
        if not plan.made[row]:
            assert place == [(False, i) for i in range(int(batch.video_mask[row].sum()))]
            torch.testing.assert_close(new.spans[row], batch.spans[row])
        elif layout == "exchanged":
            assert sorted(own) == list(range(int(batch.video_mask[row].sum()))) and len(own) == length
            assert sum(b < a for a, b in itertools.pairwise(own)) <= 1
        else:
            assert own == sorted(own) and int(plan.partner[row]) != row
            theirs = [clip for foreign, clip in place if foreign]
            assert theirs == sorted(theirs) and len(theirs) > 2
            seams = sum(a[0] != b[0] for a, b in itertools.pairwise(place))
            assert seams == 1 if layout == "blocks" else seams >= 1
    assert not new.video[
        ~(plan.mask if new.video.dim() == 3 else plan.mask[:, None].expand(new.video.shape[:-1]))
    ].any()
    torch.testing.assert_close(new.duration, plan.mask.sum(1) * 2.0)


def test_shares_follow_alpha_and_their_numbers_vary_by_a_fifth():
    free = torch.arange(100) < 60
    wanted, times = drawn(
        free.expand(4000, -1), 0.3, torch.rand(4000, 1, generator=generator()), torch.rand(4000, 100)
    )
    assert set(wanted.tolist()) == {18.0} and not times[:, 60:].any()
    numbers = times.sum(1)
    assert (numbers.min(), numbers.max()) == (14, 21) and abs(numbers.float().mean() - 17.5) < 0.15
    assert (
        set(times.unique().tolist()) == {0, 1, 2}
        and abs(times[:, :60].float().mean(0) - 17.5 / 60).max() < 0.05
    )
    _, every = drawn(free.expand(8, -1), 1.0, torch.full((8, 1), 0.5), torch.rand(8, 100))
    assert torch.equal(every.bool(), free.expand(8, -1))
    _, none = drawn(free.expand(8, -1), 0.0, torch.rand(8, 1), torch.rand(8, 100))
    assert not none.any()
    batch, _, plan, _, _ = made(Synthesis(alpha=0.0, originals=0.0))
    start, end = hull(batch)
    at_edge = (plan.start == 0) | (plan.start + end - start == plan.mask.sum(1))
    assert at_edge[plan.made].all() and plan.made.any()  # without own context the truth touches an end
    _, _, alone, _, _ = made(Synthesis(alpha=1.0, originals=0.0))
    assert alone.made.any() and not alone.foreign.logical_and(alone.mask).any()


def test_gaps_are_everywhere_outside_the_moments():
    context = torch.tensor([[True, True, False, False, False, True]])
    first, last = torch.tensor([2]), torch.tensor([5])
    places = gap(torch.linspace(0, 0.999, 500)[None], first, last, context)
    assert sorted(set(places[0].tolist())) == [-0.5, 0.5, 1.5, 4.5, 5.5]


def test_similarity_is_that_of_a_slow_reading_of_it():
    batch = DATA.batch(torch.arange(5))
    unit = torch.nn.functional.normalize(batch.video, dim=-1)
    for kind, average in (
        ("mean", lambda x: x.mean()),
        ("top50", lambda x: x.flatten().topk(50).values.mean()),
    ):
        slow = torch.stack([torch.stack([average(a @ b.T) for b in unit]) for a in unit])
        torch.testing.assert_close(similarity(batch, kind), slow)
        every = DATA.batch(torch.arange(5).repeat(5))
        torch.testing.assert_close(pair_similarity(batch, every, kind, 5), slow)


def test_partners_are_the_most_and_the_least_similar_and_never_the_video_itself():
    batch = DATA.batch(torch.arange(24))
    score = similarity(batch, "top50")
    itself = torch.eye(24, dtype=torch.bool)
    _, _, alike, _, _ = made(Synthesis(originals=0.0))
    assert torch.equal(alike.partner, score.masked_fill(itself, -2).argmax(1))
    _, _, unlike, _, _ = made(Synthesis(mode="dissim", originals=0.0))
    assert torch.equal(unlike.partner, score.masked_fill(itself, 2).argmin(1))
    _, _, mixed, _, _ = made(Synthesis(mode="mix", originals=0.0))
    assert ((mixed.partner == alike.partner) | (mixed.partner == unlike.partner)).all()
    drawn_rows = torch.cat([made(Synthesis(mode="random"), seed=s)[2].partner for s in range(40)]).view(
        40, 24
    )
    assert not (drawn_rows == torch.arange(24)).any() and len(drawn_rows[:, 0].unique()) > 12
    _, partners, released, _, _ = made(Synthesis(mode="random_as_released", originals=0.0))
    last = DATA.batch(torch.tensor([len(DATA) - 1])).video[0]
    assert torch.equal(partners.video[24], last) and 6 <= (released.partner == 24).sum() <= 18
    ceiled = made(Synthesis(ceiling=-1.0, originals=0.0))[
        2
    ].partner  # nobody is similar: the first that is no self
    assert set(ceiled.tolist()) <= {0, 1}


@pytest.mark.parametrize("mode", ["sim", "dissim", "mix", "random"])
def test_partners_of_the_whole_set(mode):
    batch, partners, plan, new, _ = made(Synthesis(mode=mode, partner="set", originals=0.0))
    assert len(partners) == len(batch) and torch.equal(plan.partner, torch.arange(24))
    assert not (partners.index == batch.index).any() and plan.made.any() and new.video.isfinite().all()
    if mode == "sim":
        everybody = DATA.batch(torch.arange(len(DATA)))
        score = similarity(everybody, "top50").fill_diagonal_(-2)[:24]
        best = score[torch.arange(24), partners.index]
        assert (
            best >= score.topk(3).values[:, -1] - 1e-6
        ).float().mean() > 0.8  # from a shortlist by the mean clip


def test_what_cannot_be_made_stays_and_is_counted():
    batch = DATA.batch(torch.arange(24))
    synthesizer = Synthesizer(Synthesis(originals=0.0), DATA)
    one = DATA.batch(torch.tensor([3]))
    exchanged = Synthesizer(Synthesis(originals=0.0, layout="exchanged"), DATA)
    assert exchanged.plan(one, generator())[1].made.all()  # which needs no partner
    assert exchanged.tallies["negative sentence is the partner's"] == 0
    _, plan = synthesizer.plan(one, generator())
    assert not plan.made.any() and synthesizer.tallies["left alone: no partner"] == 1
    full = DATA.batch(torch.arange(24))
    full.spans[:, 0] = torch.tensor([0.5, 1.0])
    _, plan = synthesizer.plan(full, generator())
    assert not plan.made.any() and synthesizer.tallies["left alone: too little context"] == 24
    full.span_mask[:] = False
    new = synthesizer(full, generator())
    assert synthesizer.tallies["left alone: no moment"] == 24 and torch.equal(new.video, full.video)
    _, _, plan, _, counted = made(Synthesis(originals=1 / 3))
    assert counted.tallies["samples"] == 24 and counted.tallies["made"] == plan.made.sum() <= 16
    same = [Synthesizer(Synthesis(), DATA)(batch, generator(5)).video for _ in range(2)]
    assert torch.equal(*same)


def test_clean_partners_show_nothing_of_the_query_and_have_no_say_in_the_negative_sentence():
    tallies = [made(Synthesis(clean=clean, originals=0.0))[4].tallies for clean in (False, True)]
    assert tallies[0]["partner shows the query"] > 0
    assert tallies[1]["partner shows the query"] == 0 == tallies[1]["negative sentence is the partner's"]


def test_bad_options_say_what_was_expected():
    with pytest.raises(ValueError, match=r"train.hook_options: alpha: expected a share in \[0, 1\], got 1.5"):
        hook_options("synthesis", {"alpha": 1.5})
    with pytest.raises(ValueError, match="mode: expected 'sim', 'dissim', .* got 'nearest'"):
        hook_options("synthesis", {"mode": "nearest"})
    with pytest.raises(ValueError, match="unknown field 'beta'"):
        hook_options("synthesis", {"beta": 0.5})
    lone = load_data({**WORLD, "train": 1})["train"]
    with pytest.raises(ValueError, match="at least two videos"):
        Synthesizer(Synthesis(partner="set"), lone)


def test_a_window_past_the_end_and_data_without_votes():
    batch = DATA.batch(torch.arange(24))
    batch.spans[:, 0] = torch.tensor([0.95, 0.2])  # ends at 1.05 of the video
    batch.span_mask[:, 1:] = False
    none = dataclasses.replace(batch, saliency=torch.zeros_like(batch.saliency))
    synthesizer = Synthesizer(Synthesis(originals=0.0), DATA)
    partners, plan = synthesizer.plan(none, generator())
    new = assemble(none, partners, plan)
    start, end = hull(none)
    assert (end == none.video_mask.sum(1)).all() and (start < end).all()
    assert plan.made.float().mean() > 0.8 and not new.saliency.any()
    edges = cw_to_se(new.spans[:, 0]) * new.video_mask.sum(1)[:, None]
    width = cw_to_se(batch.spans[:, 0]) * batch.video_mask.sum(1)[:, None]
    torch.testing.assert_close(edges.diff(dim=1), width.diff(dim=1), atol=1e-3, rtol=0)  # as long as before


@pytest.mark.parametrize("name", ["qd_detr", "bam_detr", "snag", "sdst", "td_detr"])
def test_any_method_trains_on_what_the_hook_makes(name):
    levels = name == "sdst"
    sizes = {"video_dim": 16 if levels else 24, "text_dim": 16, "width": 16, "heads": 2}
    model, data = build(name, sizes).train(), LAYERED if levels else DATA
    batch = Synthesizer(Synthesis(), data)(data.batch(torch.arange(12)), generator())
    torch.manual_seed(0)
    losses = model.loss(model(batch), batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
