"""A sweep's page is complete, self-contained and safe; its JSON is strict; its figures suit every size."""

import io
import json
import re
from dataclasses import replace
from functools import cache

import pytest
from matplotlib.text import Text
from PIL import Image
from support.html_page import Page
from support.sweep_records import (
    COSTS,
    labels_of,
    make_record,
    make_sweep,
    make_trial,
    predictions,
    sweep_of_forty,
    sweep_of_four,
)

from brain_ray.comparison import plots as sweep_plots
from brain_ray.comparison.compare import compare
from brain_ray.comparison.parallel_plot import parallel_coordinates
from brain_ray.comparison.report import TABLE_WIDTH, format_table, write_sweep_report
from brain_ray.comparison.results import Comparison, model_colours, short_names
from brain_ray.evaluation import plots
from brain_ray.tuning.trials import SweepRecord

NASTY = '<script>alert("x")</script>/$a$&b.weights.h5'
CREATED = "2026-01-02 03:04 UTC"


def sweep_of_one(path: str = NASTY) -> SweepRecord:
    labels = labels_of(200)
    trial = make_trial(0, 0, changes={"model.weights": path})
    return make_sweep([make_record(trial, labels, predictions(labels, 4.0, 1))], labels)


SWEEPS = {"one": sweep_of_one, "four": sweep_of_four, "forty": sweep_of_forty}


@cache
def comparison_of(name: str) -> Comparison:
    return compare(SWEEPS[name](), COSTS)


@cache
def written_of(name: str) -> tuple[str, dict]:
    return write_sweep_report(comparison_of(name), CREATED)


@pytest.fixture(scope="module", params=list(SWEEPS))
def name(request) -> str:
    return request.param


@pytest.fixture
def record(name) -> SweepRecord:
    return comparison_of(name).record


@pytest.fixture
def written(name) -> tuple[str, dict]:
    return written_of(name)


def figures_of(comparison: Comparison) -> dict:
    return {
        "curves": sweep_plots.validation_curves(comparison),
        "parallel": parallel_coordinates(comparison),
        "latency": sweep_plots.accuracy_by_latency(comparison),
        "rungs": sweep_plots.rungs(comparison),
    }


def test_page_is_sound_html_and_needs_nothing_else(written):
    page = Page(written[0])
    assert page.open == []
    assert not {"script", "link"} & set(page.tags)
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"url\(|@import", written[0])
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.ids


def test_page_tells_of_every_trial_and_of_the_choice(name, record, written):
    text = Page(written[0]).text
    for one in record.trials:
        assert re.search(rf"\b{one.trial.id}\b", text)
        assert one.reason in text
    comparison = comparison_of(name)
    assert comparison.sentence in text
    assert comparison.rule in text
    assert "optimistic" in text
    assert "No test image was read for the choice" in text


def test_page_has_no_number_that_is_none(written):
    assert not re.search(r"\b(nan|inf|None)\b", Page(written[0]).text, re.IGNORECASE)


def test_values_of_users_are_escaped():
    record = sweep_of_one()
    page = write_sweep_report(compare(record, COSTS), CREATED)[0]
    assert "<script" not in page
    assert NASTY in Page(page).text


def test_page_says_that_one_model_has_no_pair_and_one_repeat_no_spread():
    record = sweep_of_one("imagenet")
    text = Page(write_sweep_report(compare(record, COSTS), CREATED)[0]).text
    assert "nothing to compare it with" in text
    assert "one repeat tells nothing about the noise of the seed" in text


def test_page_marks_trials_that_failed_or_found_nothing():
    text = Page(written_of("forty")[0]).text
    assert "no finite result" in text
    assert "not compared: its variant lacks a repeat" in " ".join(text.split())
    assert "0 of 2" in text
    assert "no such file" in text
    assert "2 attempts" in text


def test_page_stands_without_costs():
    record = sweep_of_four()
    page, content = write_sweep_report(compare(record, {}), CREATED)
    assert "What the models cost to serve is not known." in Page(page).text
    assert content["costs"] == {}


def test_json_is_strict_and_holds_all(record, written):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    content = json.loads(json.dumps(written[1]), parse_constant=refuse)
    assert content == written[1]
    assert {"rule", "choice", "trials", "models", "pairs", "rungs", "costs"} <= content.keys()
    assert {"winner", "changes", "sentence", "criterion", "margin"} <= content["choice"].keys()
    assert [row["trial"] for row in content["trials"]] == [one.trial.id for one in record.trials]
    for row, one in zip(content["trials"], record.trials, strict=True):
        assert row["history"]["epoch"] == [past.epoch for past in one.history]
    assert [rung["epoch"] for rung in content["rungs"]] == [rung.epoch for rung in record.rungs]
    assert content["costs"]["tiny 64x64 gap"]["latency_ms"] == 0.4


def test_table_fits_a_terminal_and_names_the_choice(name):
    comparison = comparison_of(name)
    table = format_table(comparison)
    assert max(map(len, table.splitlines())) <= TABLE_WIDTH
    assert f"trial {comparison.winner}" in table
    assert all(model.model in table for model in comparison.models)
    assert sum(line.startswith("* ") for line in table.splitlines()) == 1


def test_figures_are_drawn_where_there_is_something_to_draw():
    drawn = {
        name: {title for title, figure in figures_of(comparison_of(name)).items() if figure is not None}
        for name in SWEEPS
    }
    assert drawn == {
        "one": {"curves", "latency"},
        "four": {"curves", "parallel", "latency"},
        "forty": {"curves", "parallel", "latency", "rungs"},
    }


@pytest.mark.thorough
def test_figures_are_the_same_each_time():
    first, second = (
        {name: plots.to_png(figure, dpi=40) for name, figure in figures_of(comparison_of("forty")).items()}
        for _ in range(2)
    )
    assert first == second
    assert Image.open(io.BytesIO(first["curves"])).width == round(plots.WIDTH * 40)


def test_names_of_models_on_the_chart_do_not_overlap():
    figure = sweep_plots.accuracy_by_latency(crowded())
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(boxes) == 15
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_a_legend_has_a_limit():
    figure = sweep_plots.validation_curves(crowded())
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) <= sweep_plots.MAX_LEGEND + 4
    assert "and 4 more" in texts


def test_short_names_hold_what_differs():
    names = ["EfficientNetB0 224x224 gap", "EfficientNetB0 224x192 gap"]
    assert list(short_names(names).values()) == ["EfficientNetB0 224", "EfficientNetB0 224×192"]
    assert list(short_names(names[:1]).values()) == ["EfficientNetB0"]
    heads = ["tiny 64x64 gap", "tiny 64x64 seed"]
    assert list(short_names(heads).values()) == ["tiny gap", "tiny seed"]


def test_each_model_of_a_comparison_has_its_name_and_colour_on_charts():
    comparison = crowded()
    names = [model.model for model in comparison.models]
    assert [model.short_name for model in comparison.models] == list(short_names(names).values())
    assert [model.colour for model in comparison.models] == list(model_colours(names).values())
    assert len({model.colour for model in comparison.models}) == 15


def crowd() -> SweepRecord:
    """Fifteen models of almost the same accuracy."""
    labels = labels_of(300)
    records = []
    for i, size in enumerate(range(96, 96 + 15 * 16, 16)):
        trial = make_trial(i, i, backbone="EfficientNetB0", changes={"model.height": size})
        model = trial.config.model.model_copy(update={"height": size, "width": size})
        trial = replace(trial, config=trial.config.model_copy(update={"model": model}))
        records.append(make_record(trial, labels, predictions(labels, 4.0 + 0.05 * i, i)))
    return make_sweep(records, labels, bootstrap=100)


@cache
def crowded() -> Comparison:
    cost, record = COSTS["EfficientNetB0 224x224 gap"], crowd()
    costs = {one.trial.model: replace(cost, latency_ms=10.0 + i) for i, one in enumerate(record.trials)}
    return compare(record, costs)
