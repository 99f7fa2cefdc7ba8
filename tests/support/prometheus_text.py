"""Names and labels of metrics: in the dashboard and its alerts, in the code, and where Prometheus reads."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from brain_ray.tracking import prometheus

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana"
DASHBOARD = json.loads((GRAFANA / "brain_ray.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [
    rule
    for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
METRIC = re.compile(r"\bray_[a-z_]+")
MATCHERS = re.compile(r"\{([^}]*)\}")
MATCHER = re.compile(r'([a-zA-Z_]+)\s*(?:=~|!~|!=|=)\s*"')
GROUPS = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def expressions() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((rule["alert"], rule["expr"]) for rule in RULES)


EXPRESSIONS = list(expressions())
"""All PromQL, each with the title of its panel or the name of its alert."""


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression names."""
    return set(METRIC.findall(expression))


def labels_of(expression: str) -> set[str]:
    """Return the labels that a PromQL expression selects or groups by."""
    selected = {label for part in MATCHERS.findall(expression) for label in MATCHER.findall(part)}
    return selected | {name.strip() for part in GROUPS.findall(expression) for name in part.split(",")}


@cache
def own_metrics() -> dict[str, set[str]]:
    """Return brain_ray's own metrics as Prometheus sees them, and the labels of each."""
    from ray.util.metrics import Counter, Histogram, Metric

    from brain_ray.serving.metrics import Metrics

    found = {f"ray_{prometheus.PREFIX}{name}": {*labels} for name, (_, labels) in prometheus.GAUGES.items()}
    for metric in filter(lambda value: isinstance(value, Metric), vars(Metrics()).values()):
        name, labels = f"ray_{metric.info['name']}", set(metric.info["tag_keys"])
        if isinstance(metric, Counter):
            found[f"{name}_total"] = labels
        elif isinstance(metric, Histogram):
            found[f"{name}_bucket"] = labels | {"le"}
            found |= {f"{name}_{part}": labels for part in ("sum", "count")}
        else:
            found[name] = labels
    return found


def exposed(text: str) -> dict[str, set[str]]:
    """Return the metrics of a page that Prometheus reads, and the labels of each."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found
