"""One generated sample: its video is the one that was rendered, and its numbers are the evaluator's."""

import re

import pytest
import torch

from vtg_lib.book.foundations import sample
from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views.world import similarity
from vtg_lib.data import load_data
from vtg_lib.data.batches import Output
from vtg_lib.evaluation.protocol import evaluate

DATA = {"kind": "sim", "semantic_dim": 16, "motion_dim": 8, "train": 1, "val": 40, "clips": 24}


class Half(torch.nn.Module):
    """Answers with the first true moment, a wrong one, and the second a little too long."""

    def __init__(self, data) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.data = data

    def forward(self, batch) -> Output:
        truth = self.data.spans[batch.index][:, [0, 0, 1]].clone()
        truth[:, 1] = torch.tensor([0.99, 0.01])
        truth[:, 2, 1] *= 1.4
        scores = torch.tensor([0.9, 0.6, 0.3]).expand(len(truth), -1)
        return Output(spans=truth, scores=scores, saliency=batch.saliency + 0.1)


@pytest.fixture(scope="module")
def made() -> sample.Sample:
    data = load_data(DATA)["val"]
    return sample.make(Half(data), data, DATA, "half")


def test_timelines_are_those_that_were_rendered() -> None:
    data = load_data(DATA)["val"]
    timelines, vocabulary = sample.generated_timelines(DATA)
    for row, (annotation, timeline) in enumerate(zip(data.annotations, timelines, strict=True)):
        concepts = set(vocabulary.concepts(annotation["query"]))
        whole = {(event.start, event.end) for event in timeline.events if concepts <= set(event.concepts)}
        assert {tuple(window) for window in annotation["relevant_windows"]} <= whole, row
        assert timeline.vid == annotation["vid"] and timeline.duration == annotation["duration"]


def test_the_numbers_are_the_evaluators(made) -> None:
    data = load_data(DATA)["val"]
    row = next(n for n, one in enumerate(data.annotations) if one["qid"] == made.worked["qid"])
    annotation = data.annotations[row]
    windows = [[step["start"], step["end"], step["score"]] for step in made.worked["steps"]]
    answer = {"qid": annotation["qid"], "pred_relevant_windows": windows}
    scored = evaluate([answer], [annotation])
    assert made.scores["full"] == scored["full"]
    told = " ".join(sample.scores_told(made))
    at = scored["full"]["MR-mAP"]
    assert [float(n) for n in re.findall(r"([\d.]+) at 0\.\d+", told)] == list(at.values())[:-1]
    assert f"their mean is {at['average']:.2f}." in told
    assert f"the mean of ten such areas, {at['average']:.2f}." in told
    assert f"AP at IoU 0.5 {scored['brief']['MR-full-mAP@0.5']:.2f}" in told
    for level in ("0.5", "0.7"):
        assert f"R1@{level} {scored['brief'][f'MR-full-R1@{level}']:.2f}" in told
    assert made.similarity == pytest.approx(similarity(data, row)[1][-1])


def test_every_prediction_is_shown_with_its_best_moment(made) -> None:
    first, wrong, second = sample.ranks(made)
    windows = made.worked["relevant_windows"]
    assert first["IoU"] == pytest.approx(1, abs=1e-5) and first["takes it at 0.5"] == "yes"
    assert first["best moment"] == sample._spans([windows[0]])
    assert wrong["IoU"] < 0.5 and wrong["takes it at 0.5"] == ""
    assert second["best moment"] == sample._spans([windows[1]])
    assert second["IoU"] == pytest.approx(1 / 1.4, abs=0.05) and second["recall"] == 1
    assert (first["precision"], wrong["precision"], second["precision"]) == (1, 0.5, pytest.approx(2 / 3))
    named = {made.word(concept) for concept in made.concepts}
    assert named <= set(first["event there"].split(", "))


def test_the_picture_tells_what_it_shows(made) -> None:
    page = sample.video_shown(made).data
    alt = re.search(r'alt="([^"]*)"', page)[1]
    assert all(made.word(concept) in alt for concept in made.concepts) and made.worked["query"] in page
    inside, outside = map(
        float, re.search(r"sentence: (-?[\d.]+) inside the moments, (-?[\d.]+)", alt).groups()
    )
    assert inside > outside
    axes = sample.video_figure(made).axes
    lanes = [label.get_text() for label in axes[0].get_yticklabels()]
    assert lanes == [*map(made.word, made.concepts), "other words"]


def test_without_weights_the_page_names_the_command(tmp_path) -> None:
    chapter = Foundations("foundations", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)
    for view in (sample.video, sample.answers, sample.scores):
        assert "<code>vtg sweep --paper simdetr --profile sim --tables tab3</code>" in view(chapter).data


def test_stored_weights_answer() -> None:
    chapter = Foundations("foundations", Parameters.parse(profile="quick", device="cpu"))
    found = sample.sample(chapter)
    if found is None:
        pytest.skip("the store has no weights of this row")
    assert found.worked["method"] == "TR-DETR" and "sim val" in chapter.provenance()["data"]
    assert sample.answers(chapter).data.count("<tr>") == 1 + len(found.worked["steps"])
