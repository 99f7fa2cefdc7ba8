"""Phantom data set: images like brain MR slices, with and without a tumour, drawn without a download.

Every phantom is a function of (seed, index) and its class, or, if its head has several slices, of (seed,
patient, number) and its class. Head, pose, contrast and noise come from random streams separate from the
tumour's: the same numbers under two classes are the same scan of the same head with another tumour, so that
nothing but the tumour distinguishes the classes.

Slices of one patient share head, pose, tumour and scanner, and change with their level; their noise is their
own. Scanners ("sources") differ in contrast, noise and size.

The pictures are invented, no patient's. They exercise the pipeline; a score on them says nothing on patients.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from brain_ray.config import PhantomConfig
from brain_ray.data.phantoms.heads import draw_head
from brain_ray.data.phantoms.plants import (
    Planted,
    encode,
    plant_conflict,
    plant_copy,
    plant_fault,
    plant_slice,
)
from brain_ray.data.phantoms.scanner import Pose, draw_pose, scan
from brain_ray.data.phantoms.shapes import Floats, Image, Level
from brain_ray.data.phantoms.tumours import TUMOURS
from brain_ray.errors import RunError

PATIENTS = "patients.csv"
"""File beside the folders of a tree with several slices per patient: each file's path, patient and source."""

OUTLINES = "outlines.json"
"""File beside the folders of a tree: outlines of the tumours, as `evaluate.outlines` takes them, of all files
but the planted ones."""

SPACING = 0.8
"""Distance of two neighbouring slices of a patient, as a difference of `Level.height`."""


def draw(label_name: str, seed: int, index: int) -> Image:
    """Draws one phantom: (height, width), or (height, width, 3) with equal channels; uint8, sides 128..512.

    Raises:
        RunError: there is no phantom of that class.
    """
    return draw_outlined(label_name, seed, index).image


@dataclass(frozen=True)
class Phantom:
    """A phantom and its tumour."""

    image: Image
    """(height, width), or (height, width, 3) with equal channels; uint8, sides 128..512."""
    tumour: Floats
    """Share of each pixel of the head's picture that is tumour, before it was posed: (SIDE, SIDE)."""
    pose: Pose

    def outlines(self) -> list[list[list[float]]]:
        """Returns the outlines of the tumour, without oedema: x, y of each point in pixels of the image; none
        without a tumour."""
        return self.pose.outline(self.tumour)


def draw_outlined(label_name: str, seed: int, index: int) -> Phantom:
    """Draws a phantom like `draw`, which see, and says where its tumour is."""
    _check([label_name])
    head_rng = np.random.default_rng([seed, index, 0])
    head = draw_head(head_rng, head_rng, Level())
    tumour = TUMOURS[label_name](head, np.random.default_rng([seed, index, 1]))
    scan_rng = np.random.default_rng([seed, index, 2])
    pose = draw_pose(scan_rng, scan_rng)
    return Phantom(scan(head.picture, pose, scan_rng, scan_rng, scan_rng), tumour, pose)


def draw_slice(label_name: str, seed: int, patient: int, number: int, phantoms: PhantomConfig) -> Image:
    """Draws a slice of a patient, like `draw`.

    Args:
        label_name: class, which gives the tumour.
        seed: seed of all patients and scanners.
        patient: number of the patient, who was scanned by source `patient % phantoms.sources`.
        number: number of the slice, from below: 0 to `phantoms.slices_per_patient` - 1, or outside of these.
        phantoms: slices_per_patient and sources.

    Raises:
        RunError: there is no phantom of that class.
    """
    return draw_slice_outlined(label_name, seed, patient, number, phantoms).image


def draw_slice_outlined(
    label_name: str, seed: int, patient: int, number: int, phantoms: PhantomConfig
) -> Phantom:
    """Draws a slice like `draw_slice`, which see, and says where its tumour is."""
    _check([label_name])
    height = (number - (phantoms.slices_per_patient - 1) / 2) * SPACING
    source = patient % phantoms.sources

    def stream(*numbers: int) -> np.random.Generator:
        return np.random.default_rng([seed, *numbers])

    head = draw_head(stream(patient, 0), stream(source, 4), Level(height, (seed, patient, 5)))
    tumour = TUMOURS[label_name](head, stream(patient, 1))
    scanner, own = stream(source, 6), stream(patient, 2)
    pose = draw_pose(scanner, own)
    return Phantom(scan(head.picture, pose, scanner, own, stream(patient, 7, number)), tumour, pose)


@dataclass(frozen=True)
class _Place:
    """A phantom of a tree: class, path without its suffix, and what it is drawn from."""

    label_name: str
    stem: str
    patient: int
    number: int


def write_tree(
    folder: Path,
    phantoms: PhantomConfig,
    classes: Sequence[str],
    seed: int,
    train_folder: str = "Training",
    test_folder: str = "Testing",
) -> list[Planted]:
    """Writes phantoms as `<train or test folder>/<class>/<name>`, mostly JPEG; a seed fixes their bytes.

    Processors with other vector instructions may round a few pixels otherwise: 2 of 32 files had other
    bytes on another machine.

    Planted files come on top of the counts in `phantoms` and are named by their kind: copies of training
    images among the test images, copies under another class's training folder (the same bytes), slices of
    test patients and faults among the training images. No image is the original of two plants.

    With several slices per patient, only plants show a patient of another folder, and `PATIENTS` gives the
    patient and the source of each file; those of faults are empty. `OUTLINES` gives the tumours' outlines.

    Raises:
        RunError: a class without phantoms, more copies and conflicts than training images, or more shared
            patients than test patients.
    """
    _check(classes)
    _check_counts(phantoms, len(classes))
    places = _places(phantoms, classes, train_folder, test_folder)
    for top in (train_folder, test_folder):
        for name in classes:
            (folder / top / name).mkdir(parents=True, exist_ok=True)

    def draw_place(place: _Place) -> Phantom:
        if phantoms.slices_per_patient > 1:
            return draw_slice_outlined(place.label_name, seed, place.patient, place.number, phantoms)
        return draw_outlined(place.label_name, seed, place.patient)

    def write(index: int) -> tuple[str, list[list[list[float]]]]:
        suffix = ".png" if index % 32 == 31 else ".jpg"  # real data sets seldom have one format only
        path = places[index].stem + suffix
        drawn = draw_place(places[index])
        (folder / path).write_bytes(encode(drawn.image, suffix))
        return path, drawn.outlines()

    with ThreadPoolExecutor() as pool:
        written = list(pool.map(write, range(len(places))))
    paths = [path for path, _ in written]
    (folder / OUTLINES).write_text(json.dumps({path: outlines for path, outlines in written if outlines}))
    total = len(classes) * phantoms.train_per_class
    rng = np.random.default_rng([seed, 0, 3])
    origins = [paths[i] for i in rng.permutation(total)]
    planted = [plant_copy(folder, k, origins[k], test_folder) for k in range(phantoms.copies)]
    planted += [
        plant_conflict(folder, k, origins[phantoms.copies + k], classes) for k in range(phantoms.conflicts)
    ]
    if phantoms.slices_per_patient > 1:
        tested = [i for i in range(total, len(places)) if places[i].number == 0]
        chosen = np.random.default_rng([seed, 0, 8]).permutation(tested)[: phantoms.shared_patients]
        for k, i in enumerate(chosen.tolist()):
            beyond = draw_place(replace(places[i], number=phantoms.slices_per_patient)).image
            planted.append(plant_slice(folder, k, paths[i], train_folder, beyond))
    for k in range(phantoms.faults):
        name = classes[k % len(classes)]
        spare = draw_place(_Place(name, "", places[-1].patient + 1 + k, 0)).image
        planted.append(plant_fault(folder, k, f"{train_folder}/{name}", spare, rng))
    if phantoms.slices_per_patient > 1:
        patients = {path: place.patient for path, place in zip(paths, places, strict=True)}
        _write_patients(folder / PATIENTS, patients, planted, phantoms.sources)
    return planted


def _places(
    phantoms: PhantomConfig, classes: Sequence[str], train_folder: str, test_folder: str
) -> list[_Place]:
    """Returns the phantoms of a tree without what is planted; each class of each folder has its patients."""
    places: list[_Place] = []
    for top, prefix, count in (
        (train_folder, "Tr", phantoms.train_per_class),
        (test_folder, "Te", phantoms.test_per_class),
    ):
        for name in classes:
            first = places[-1].patient + 1 if places else 0
            for i in range(count):
                patient, number = divmod(i, phantoms.slices_per_patient)
                stem = f"{top}/{name}/{prefix}-{name[:2]}_{i:05d}"
                places.append(_Place(name, stem, first + patient, number))
    return places


def _write_patients(file: Path, patients: dict[str, int], planted: Sequence[Planted], sources: int) -> None:
    rows = {path: f"p{number:05d},s{number % sources}" for path, number in patients.items()}
    rows |= {plant.path: "," if plant.of is None else rows[plant.of] for plant in planted}
    lines = [f"{path},{rows[path]}" for path in sorted(rows)]
    file.write_text("\n".join(["path,patient,source", *lines, ""]))


def _check_counts(phantoms: PhantomConfig, classes: int) -> None:
    total = classes * phantoms.train_per_class
    if phantoms.copies + phantoms.conflicts > total:
        raise RunError(
            f"{phantoms.copies} copies and {phantoms.conflicts} conflicts were asked of {total} training "
            "phantoms: lower --data.phantoms.copies or raise --data.phantoms.train-per-class"
        )
    patients = classes * -(-phantoms.test_per_class // phantoms.slices_per_patient)
    if phantoms.slices_per_patient > 1 and phantoms.shared_patients > patients:
        raise RunError(
            f"{phantoms.shared_patients} shared patients were asked of {patients} test patients: lower "
            "--data.phantoms.shared-patients or raise --data.phantoms.test-per-class"
        )


def _check(classes: Sequence[str]) -> None:
    for name in classes:
        if name not in TUMOURS:
            raise RunError(
                f"there is no phantom of class {name!r}: expected one of {list(TUMOURS)}; "
                "set --data.classes to these, or --data.source to a folder with images"
            )
