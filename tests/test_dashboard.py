"""The dashboard and the alerts of docs/grafana: sound files, whose metrics and labels exist."""

import json
import re
from typing import Any

import pytest
from support.prometheus_text import DASHBOARD, EXPRESSIONS, PANELS, RULES, labels_of, metrics_of, own_metrics

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_ids_of_their_own_and_lie_side_by_side() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        assert place["x"] + place["w"] <= 24
        fields = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not fields & taken
        taken |= fields


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_where_from(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == SOURCE
    assert all(target["datasource"] == SOURCE for target in panel["targets"])
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references)) > 0


def test_rows_come_in_order_and_the_page_draws_itself_anew() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Serving", "Training", "Sweep", "Cluster"]
    assert DASHBOARD["refresh"] == "10s"


def test_variables_exist_and_are_used() -> None:
    named = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(PANELS)
    used = set(re.findall(r"\$\{?([a-z]+)\b", text.replace("$__rate_interval", "")))
    assert used == named == {"datasource", "run", "deployment", "model"}


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_own_metrics_exist_with_the_labels_that_are_asked_for(where: str, expression: str) -> None:
    own = own_metrics()
    names = metrics_of(expression)
    assert names, where
    for name in names:
        if name.startswith("ray_brain_ray_"):
            assert name in own, f"{where}: {name}"
    if all(name in own for name in names):
        assert labels_of(expression) <= set().union(*(own[name] for name in names)), where


def test_every_own_metric_is_shown_or_alerts() -> None:
    shown = {name for _, expression in EXPRESSIONS for name in metrics_of(expression)}
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in own_metrics()}
    assert not families - {re.sub("_bucket$", "", name) for name in shown}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_how_bad(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("page", "warning", "info")
