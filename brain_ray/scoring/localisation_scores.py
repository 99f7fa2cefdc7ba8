"""Localisation scores: heat maps and both baselines, each with its interval over groups of images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.decisions import wrap
from brain_ray.scoring.intervals import GroupBootstrap, Interval, ratio
from brain_ray.scoring.localisation import MEASURES, THRESHOLDS, TOLERANCE, Map, Mask, localise

HEAT, CENTRE, BRIGHTEST = MAPS = ("heat", "centre", "brightest")
"""Names of the maps: the network's, and the baselines `centre_map` and `brightness_map`."""

TITLES = {
    "pointing": "maximum inside",
    "near": "maximum inside or near",
    "energy": "energy inside",
    "iou": "best IoU",
}
"""Words for the measures."""


@dataclass(frozen=True)
class Compared:
    """Means over images of one measure, and the paired differences from the baselines."""

    heat: Interval
    centre: Interval
    brightest: Interval
    over_centre: Interval
    """Heat map less `centre`, of the same images; likewise `over_brightest`."""
    over_brightest: Interval


@dataclass(frozen=True)
class Part:
    """Localisation on some of the images."""

    title: str
    images: int
    groups: int
    """Number of groups of these images: patients, or clusters of copies where patients are not known."""
    blank: int
    """Number of images whose heat map is 0 everywhere: they count as 0 in every measure."""
    area: float
    """Mean share of the head's box that the outline covers: the energy inside, if a map were even."""
    measures: dict[str, Compared]
    """By the names of `MEASURES`."""


@dataclass(frozen=True)
class OutlineCounts:
    """What became of the outlines, and of the test images with a tumour."""

    outlines: int
    scored: int
    """Outlines of test images with a tumour: those that are compared with heat maps."""
    other_splits: int
    """Outlines of images that are not in the test split."""
    no_tumour: int
    """Outlines of test images whose class is without a tumour by its name."""
    ambiguous: int
    """Outlines whose name fits several images, or whose image another outline claims as well."""
    unknown: int
    """Outlines whose name fits no image."""
    without: int
    """Test images with a tumour, but without an outline."""


@dataclass(frozen=True)
class LocalisationScores:
    """Localisation on all images with an outline, by class, and by whether the answer was right."""

    outlines: str
    """Path or URI of the outlines."""
    counts: OutlineCounts
    parts: list[Part]
    tolerance: float = TOLERANCE
    thresholds: tuple[float, ...] = tuple(THRESHOLDS.tolist())


def column(name: str, measure: str) -> str:
    """Returns the name of the column that holds a measure of one of `MAPS`."""
    return f"{name}_{measure}"


def measure_maps(maps: Mapping[str, Map], mask: Mask) -> dict[str, float]:
    """Compares maps, by their names, with an outline's mask, all (height, width); returns the columns of
    their measures."""
    return {
        column(name, measure): value
        for name, one in maps.items()
        for measure, value in asdict(localise(one, mask)).items()
    }


COLUMNS = tuple(column(name, measure) for name in MAPS for measure in MEASURES)
"""Columns of all measures."""


def score_parts(
    figures: Mapping[str, ArrayLike],
    labels: ArrayLike,
    answers: ArrayLike,
    groups: ArrayLike,
    classes: Sequence[str],
) -> list[Part]:
    """Sums up the localisation of n images: all, each class that has some, and right and wrong answers.

    Args:
        figures: (n,) each: the columns `COLUMNS`, 0..1; `blank`, whether the heat map is 0 everywhere; and
            `area`, the share of the head's box that the outline covers.
        labels: (n,) integers, true classes as indices into `classes`.
        answers: (n,) integers, the classes that the heat maps explain.
        groups: (n,) of any kind that can be sorted; images of one group are no independent observations.
        classes: k names.
    """
    truth, right = np.asarray(labels), np.asarray(answers) == np.asarray(labels)
    kinds = {name: truth == k for k, name in enumerate(classes)}
    chosen = {"all": np.ones(len(truth), bool), **kinds, "right answers": right, "wrong answers": ~right}
    names = np.asarray(groups)
    return [
        _part(title, {name: np.asarray(values)[where] for name, values in figures.items()}, names[where])
        for title, where in chosen.items()
        if where.any()
    ]


def _part(title: str, figures: Mapping[str, NDArray[np.generic]], groups: NDArray[np.generic]) -> Part:
    bootstrap = GroupBootstrap(groups)
    return Part(
        title=title,
        images=len(groups),
        groups=bootstrap.num_groups,
        blank=int(np.count_nonzero(figures["blank"])),
        area=float(np.mean(np.asarray(figures["area"], np.float64))),
        measures={measure: _compare(measure, figures, bootstrap) for measure in MEASURES},
    )


def _compare(measure: str, figures: Mapping[str, NDArray[np.generic]], bootstrap: GroupBootstrap) -> Compared:
    values = {name: np.asarray(figures[column(name, measure)], np.float64) for name in MAPS}
    is_share = measure in ("pointing", "near")

    def interval(numbers: NDArray[np.float64], low: float) -> Interval:
        found = mean_of_hits(bootstrap, numbers, low) if is_share else _mean(bootstrap, numbers)
        # One group tells nothing of how groups differ.
        return found if bootstrap.num_groups > 1 else Interval(found.value, np.nan, np.nan)

    means = {name: interval(numbers, 0.0) for name, numbers in values.items()}
    over = {f"over_{name}": interval(values[HEAT] - values[name], -1.0) for name in MAPS if name != HEAT}
    return Compared(**means, **over)


def mean_of_hits(bootstrap: GroupBootstrap, numbers: NDArray[np.float64], low: float) -> Interval:
    """Returns the mean of numbers of `low` to 1, which nearly all are hits, misses or their differences."""
    found = bootstrap.share((numbers - low) / (1 - low))
    return Interval(*(low + (1 - low) * end for end in (found.value, found.low, found.high)))


def _mean(bootstrap: GroupBootstrap, numbers: NDArray[np.float64]) -> Interval:
    """Returns the mean of bounded numbers, by percentiles: few groups make the bootstrap-t's ends fly off."""
    return bootstrap.statistic(
        lambda sums: ratio(sums[..., 0], sums[..., 1]), np.stack([numbers, np.ones_like(numbers)], axis=1)
    )


def count_sentence(scores: LocalisationScores) -> str:
    """Returns what became of the outlines and of the test images, as a sentence."""
    counts = scores.counts
    others = {
        "of other splits": counts.other_splits,
        "of test images without a tumour": counts.no_tumour,
        "ambiguous by their names": counts.ambiguous,
        "of no image by their names": counts.unknown,
    }
    left = ", ".join(f"{n:,} {what}" for what, n in others.items() if n)
    return (
        f"{counts.scored:,} of {counts.scored + counts.without:,} test images with a tumour have an outline "
        f"in {scores.outlines}" + (f"; its other outlines are not used: {left}" if left else "") + "."
    )


def interval_text(found: Interval, sign: bool = False) -> str:
    """Returns an interval as text, such as `0.61 (0.50 to 0.70)`; without its ends where they are unknown."""
    form = "+.2f" if sign else ".2f"
    if not np.isfinite(found.value):
        return "–"
    text = format(found.value, form)
    if not (np.isfinite(found.low) and np.isfinite(found.high)):
        return text
    return f"{text} ({found.low:{form}} to {found.high:{form}})"


ROWS = (
    ("heat", "heat map", False),
    ("centre", "centre of head", False),
    ("brightest", "brightest place", False),
    ("over_centre", "map − centre", True),
    ("over_brightest", "map − brightest", True),
)
"""Field of `Compared`, its words, and whether it is a difference."""


def table_rows(part: Part, measures: Sequence[str] = MEASURES) -> list[tuple[str, list[str]]]:
    """Returns a part's table: the words of a row, and a cell for each measure."""
    return [
        (words, [interval_text(getattr(part.measures[name], field), sign) for name in measures])
        for field, words, sign in ROWS
    ]


def format_localisation(scores: LocalisationScores) -> str:
    """Returns localisation scores as a text table, for a terminal."""
    shown = ("pointing", "energy", "iou")
    width = max(len(part.title) for part in scores.parts)
    lines = [
        "heat maps of the answers against outlines (95 % intervals over groups)",
        wrap(count_sentence(scores)),
        "",
        f"{'':{width}}  images  {'':15}" + "".join(f"  {TITLES[name]:22}" for name in shown),
    ]
    for part in scores.parts:
        start = f"{part.title:{width}}  {part.images:6d}"
        for words, cells in table_rows(part, shown):
            lines.append(f"{start:{width + 8}}  {words:15}" + "".join(f"  {cell:22}" for cell in cells))
            start = ""
    return "\n".join(line.rstrip() for line in lines)
