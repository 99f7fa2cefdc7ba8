"""What the answers of cross-validations rest on: of images with outlined tumours, each answered by the
network that did not see its group.

    python benchmarks/evidence.py --outlines figshare/outlines.json runs/plain runs/outlined

Three views, in a table each:

- where the heat map of the answer (Grad-CAM) lies, held against the outline as an evaluation does it
  (`brain_ray/scoring/localisation.py`), and where the centre of the head lies, which knows no network;
- how many answers are still right if the tumour is painted out from its surroundings (OpenCV's inpainting,
  with a margin), and if an area of the same shape is, elsewhere in the head. What is right without the tumour
  rests on something else, though that may be an effect of the tumour on what is around it, or a trace of the
  painting;
- how the answers hang together with those of a linear model that sees nothing of the head
  (`brain_ray/evaluation/shortcuts.py`).

All runs have to be of the same images and folds: those after the first are compared with it image by image.
Intervals (95 %) are over groups of patients and copies.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.bundle.heat_maps import over_image
from brain_ray.bundle.members import Member, members_by_fold
from brain_ray.config import Config
from brain_ray.data.dataset import group_column, read_input_facts, read_inputs
from brain_ray.data.file_names import ALONE, image_name
from brain_ray.data.folds import DEVELOPMENT
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.data.outline_names import match_names
from brain_ray.data.outlines import Outlines, read_outlines
from brain_ray.data.rows import BOX
from brain_ray.data.transforms import Box, to_input
from brain_ray.evaluation.shortcuts import compare_folds_with_shortcuts
from brain_ray.models.alignment import map_shift
from brain_ray.models.keras_import import import_keras
from brain_ray.models.network import build_network
from brain_ray.models.outputs import grad_cam, with_maps
from brain_ray.models.weights import assign_weights
from brain_ray.runs import CONFIG, Run
from brain_ray.scoring.intervals import GroupBootstrap, Interval
from brain_ray.scoring.localisation import centre_map
from brain_ray.scoring.localisation_scores import CENTRE, HEAT, column, mean_of_hits, measure_maps

BATCH = 32
MEASURES = {"pointing": "maximum inside", "near": "inside or near", "energy": "energy inside"}
PAINTED = {"right": "as they are", "elsewhere": "painted elsewhere", "without": "tumour painted out"}
SHARES = {
    "shortcut_accuracy": "it is right",
    "decided": "right too, of what the network got right",
    "accuracy_where_right": "the network, where it is right",
    "accuracy_where_wrong": "the network, where it is wrong",
}
MARGIN, TRIES = 0.02, 200
"""Width of the margin that is painted too, as a share of the side; places that are tried elsewhere."""

DARK = 20
"""Grey level that the mean of an area has to exceed, to be of the head and not of what is around it."""


class Network:
    """A fold's network, with its last map."""

    def __init__(self, config: Config, member: Member) -> None:
        """Builds it."""
        settings = member.model.model_copy(update={"weights": "none"})
        self._network = build_network(settings, len(config.data.classes), config.seed)
        assign_weights(self._network, member.weights)
        self._served = with_maps(self._network, settings.backbone_spec)
        self.shift = map_shift(self._network)

    def __call__(self, inputs: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield for each image the answer and its heat map, (rows, columns)."""
        import tensorflow as tf

        for start in range(0, len(inputs), BATCH):
            batch = tf.constant(inputs[start : start + BATCH], tf.float32)
            probabilities, maps, _ = self._served(batch, training=False)
            answers = tf.argmax(probabilities, axis=1)
            heat = np.asarray(grad_cam(self._network, maps, answers), np.float32)
            yield from zip(np.asarray(answers).tolist(), heat, strict=True)


def paint_out(image: Grey, mask: Grey) -> Grey:
    """Return the image with what the mask covers, and a margin, filled in from around it."""
    margin = 1 + 2 * round(MARGIN * max(image.shape))
    wider = cv2.dilate(mask, np.ones((margin, margin), np.uint8))
    return np.asarray(cv2.inpaint(image, wider, margin, cv2.INPAINT_TELEA), np.uint8)


def elsewhere(image: Grey, mask: Grey, rng: np.random.Generator) -> Grey | None:
    """Return the mask at another place of the head that it does not touch; None: it is empty, or no such
    place was found."""
    if not mask.any():
        return None
    left, top, width, height = cv2.boundingRect(mask)
    part = mask[top : top + height, left : left + width]
    margin = 1 + 2 * round(MARGIN * max(image.shape))
    near = cv2.dilate(mask, np.ones((2 * margin, 2 * margin), np.uint8)) > 0
    for _ in range(TRIES):
        y, x = (int(rng.integers(0, size)) for size in (len(image) - height + 1, image.shape[1] - width + 1))
        moved = np.zeros_like(mask)
        moved[y : y + height, x : x + width] = part
        if not near[moved > 0].any() and image[moved > 0].mean() > DARK:
            return moved
    return None


def look(run: Run, outlines: Outlines) -> pd.DataFrame:
    """Return a row for each outlined image, by its path: its group, each measure of the network's heat map
    and of the centre of the head, `can_move`, whether as much can be painted elsewhere, and `PAINTED`, right
    or not."""
    config = Config.model_validate(run.read_json(*CONFIG)["config"])
    answers = OutOfFold.read(run)
    if answers is None:
        raise SystemExit(f"{run.uri()} is no cross-validation: it has no out-of-fold answers")
    spec, rows = config.model.input_spec, []
    for fold, [member] in members_by_fold(run, config, answers).items():
        held = answers.image_id[answers.fold == fold]
        inputs, labels = read_inputs(run, config, DEVELOPMENT, len(held), held)
        facts = read_input_facts(run, config, DEVELOPMENT, len(held), held)
        groups, network = group_column(facts).to_numpy(), Network(config, member)
        frames = facts["frame"] if "frame" in facts else [ALONE] * len(facts)
        paths = [image_name(path, frame) for path, frame in zip(facts["path"], frames, strict=True)]
        found = list(network(inputs))
        mine, changed = [], []
        for name, place in match_names(outlines.names, paths).images.items():
            one = facts.iloc[place]
            shape, box = (int(one["height"]), int(one["width"])), Box(*(int(one[side]) for side in BOX))
            mask = outlines.load(name).mask(*shape)
            answer, heat = found[place]
            maps = {
                HEAT: over_image(heat, spec, box, shape, network.shift),
                CENTRE: centre_map(shape, (box.rows, box.columns)),
            }
            fitted = to_input(255 * mask.astype(np.uint8), box, replace(spec, background="keep"))[..., 0]
            drawn = np.where(fitted > 127, np.uint8(255), np.uint8(0))
            image = inputs[place][..., 0]
            moved = elsewhere(image, drawn, np.random.default_rng(int(facts.index[place])))
            changed += [paint_out(image, drawn), image if moved is None else paint_out(image, moved)]
            facts_of_image = {"path": paths[place], "group": groups[place], "label": int(labels[place])}
            told = {"right": answer == labels[place], "can_move": moved is not None}
            mine.append(facts_of_image | told | measure_maps(maps, mask))
        again = np.array([answer for answer, _ in network(np.stack(changed)[..., np.newaxis])])
        for row, without, other in zip(mine, again[::2], again[1::2], strict=True):
            row |= {"without": float(without == row["label"]), "elsewhere": float(other == row["label"])}
        rows += mine
        print(f"{run.name}: fold {fold}, {len(rows)} outlined images so far", flush=True)
    return pd.DataFrame(rows).set_index("path").sort_index()


def mean(bootstrap: GroupBootstrap, values: Any, low: float = 0.0, *, hits: bool = True) -> Interval:
    """Return the mean of numbers of `low` to 1: of hits as a share is told, of others as losses are."""
    numbers = np.asarray(values, np.float64)
    if not hits:
        return bootstrap.mean(numbers)
    return mean_of_hits(bootstrap, numbers, low)


def shown(found: Interval, sign: str = "") -> str:
    """Return an interval as text."""
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def show_row(title: str, cells: list[Interval], sign: str = "") -> None:
    """Print a row of a table."""
    print(f"{title[:26]:27}" + "".join(f"{shown(one, sign):>27}" for one in cells))


def compare_maps(runs: list[Run], tables: list[pd.DataFrame]) -> dict[str, Any]:
    """Print where the runs' maps and the centre lie, and what a run has more; return the figures."""
    first, values = tables[0], {}
    bootstrap = GroupBootstrap(first["group"].to_numpy())
    print(f"\n{'heat maps':27}" + "".join(f"{title:>27}" for title in MEASURES.values()))

    def row(title: str, name: str, table: pd.DataFrame, less: tuple[pd.DataFrame, str] | None = None) -> None:
        cells = []
        for measure in MEASURES:
            numbers = table[column(name, measure)]
            if less is not None:
                numbers = numbers - less[0][column(less[1], measure)]
            low = 0.0 if less is None else -1.0
            cells.append(mean(bootstrap, numbers, low, hits=measure != "energy"))
        show_row(title, cells, "+" * bool(less))
        values[title.strip()] = dict(zip(MEASURES, map(asdict, cells), strict=True))

    row("centre of the head", CENTRE, first)
    for run, table in zip(runs, tables, strict=True):
        row(run.name, HEAT, table)
        row(f"  {run.name} - centre", HEAT, table, (table, CENTRE))
        if run is not runs[0]:
            row(f"  {run.name} - {runs[0].name}", HEAT, table, (first, HEAT))
    return values


def compare_painted(runs: list[Run], tables: list[pd.DataFrame]) -> dict[str, Any]:
    """Print the shares of right answers before and after painting; return them."""
    movable = tables[0]["can_move"].to_numpy(bool)
    tables, values = [table[movable] for table in tables], {}
    bootstrap = GroupBootstrap(tables[0]["group"].to_numpy())
    print(f"\nright answers of the {len(tables[0])} images with room to paint as much elsewhere")
    print(f"{'':27}" + "".join(f"{title:>27}" for title in [*PAINTED.values(), "lost by the tumour"]))
    for run, table in zip(runs, tables, strict=True):
        lost = table["elsewhere"] - table["without"]
        cells = [*(mean(bootstrap, table[name]) for name in PAINTED), mean(bootstrap, lost, -1.0)]
        show_row(run.name, cells)
        values[run.name] = dict(zip([*PAINTED, "lost"], map(asdict, cells), strict=True))
        if run is not runs[0]:
            more = [mean(bootstrap, table[name] * 1.0 - tables[0][name], -1.0) for name in PAINTED]
            apart = lost - (tables[0]["elsewhere"] - tables[0]["without"])
            more.append(mean(bootstrap, apart, hits=False))
            show_row(f"  {run.name} - {runs[0].name}", more, "+")
            values[f"{run.name} - {runs[0].name}"] = dict(
                zip([*PAINTED, "lost"], map(asdict, more), strict=True)
            )
    return values


def without_head(run: Run) -> dict[str, Any]:
    """Print how a run's answers hang together with those of a model of what is outside the head."""
    answers = OutOfFold.read(run)
    assert answers is not None
    found = compare_folds_with_shortcuts(run, answers) or {"reason": "an earlier version prepared its images"}
    print(f"\n{run.name}, beside a linear model that sees nothing of the head:")
    if "reason" in found:
        print(f"  no figure, since {found['reason']}")
    else:
        for name, title in SHARES.items():
            print(f"  {title:43}{shown(Interval(**found[name])) if found[name] else '-'}")
    return found


def main() -> None:
    """Print three tables, and last a line of JSON."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    words.add_argument("runs", nargs="+", help="folders of finished cross-validations of the same images")
    words.add_argument("--outlines", required=True, help="of the tumours, as evaluate.outlines takes them")
    given = words.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import_keras()
    outlines = read_outlines(given.outlines)
    runs = [Run(str(Path(name).resolve().parent), Path(name).name) for name in given.runs]
    tables = [look(run, outlines) for run in runs]
    for run, table in zip(runs, tables, strict=True):
        if not table.index.equals(tables[0].index):
            raise SystemExit(
                f"{run.name} has other images than {runs[0].name}: only the same can be compared"
            )
    print(f"\n{len(tables[0])} outlined images of {tables[0]['group'].nunique()} groups")
    values = {"heat maps": compare_maps(runs, tables), "painted": compare_painted(runs, tables)}
    print(json.dumps(values | {"without the head": {run.name: without_head(run) for run in runs}}))


if __name__ == "__main__":
    main()
