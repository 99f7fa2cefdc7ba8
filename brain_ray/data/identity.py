"""Identity of a prepared data set: the inputs that it was made of, and the id of its rows."""

import secrets
import tempfile
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from brain_ray.config import PHANTOMS, Config, DataConfig, PhantomConfig
from brain_ray.data.dataset import read_table
from brain_ray.data.patients import name_by_table, read_bytes
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.rows import rows_digest
from brain_ray.data.sources.find import Source
from brain_ray.data.sources.listing import Listing, listing_hash
from brain_ray.fingerprints import digest
from brain_ray.runs import AUDIT, DATASET, DATASET_IDS, DATASET_MANIFEST, PHANTOM_IMAGES, SALT, Run
from brain_ray.storage import resolve

TRAIN_FOLDER, TEST_FOLDER = "Training", "Testing"
"""Folders of the phantoms, unless settings name others."""

SHOWN = {"ignore_folders", "ignore_labels", "masks", "columns", "root"}
"""Settings of the data that show in the list of files."""


def source_of(run: Run, config: Config) -> str:
    """Returns the folder or URI of the images; draws phantoms into the run if they are not there yet."""
    data = config.data
    if data.source != PHANTOMS:
        return resolve(data.source)
    inputs = {"phantoms": data.phantoms.model_dump(), "classes": list(data.classes), "seed": config.seed}
    drawn = run.finished(PHANTOM_IMAGES)
    if drawn is not None:  # settings that came later draw as before by their defaults
        drawn = {**drawn, "phantoms": PhantomConfig().model_dump() | drawn["phantoms"]}
    if drawn != inputs:
        started = time.monotonic()
        run.clear(PHANTOM_IMAGES)
        with tempfile.TemporaryDirectory() as folder:
            phantom.write_tree(
                Path(folder),
                data.phantoms,
                data.classes,
                config.seed,
                train_folder=data.train_folder or TRAIN_FOLDER,
                test_folder=data.test_folder or TEST_FOLDER,
            )
            run.upload(Path(folder), PHANTOM_IMAGES)
        run.finish(PHANTOM_IMAGES, inputs, time.monotonic() - started)
    return run.uri(PHANTOM_IMAGES)


def list_images(run: Run, config: Config, source: Source | None = None) -> Listing:
    """Lists the source of a run's images; for phantoms, with the patients that their table names.

    Args:
        run: the run.
        config: its settings.
        source: the source, if these name one and it was looked at before; its list is handed over.

    Raises:
        RunError: as of `Source.files`.
    """
    data = config.data
    drawn = data.source == PHANTOMS and data.phantoms.slices_per_patient > 1
    source = source or Source(source_of(run, config), data)
    listing = source.files(read=(phantom.PATIENTS,) if drawn else ())
    if drawn:
        table = run.uri(PHANTOM_IMAGES, phantom.PATIENTS)
        listing = replace(listing, files=name_by_table(listing.files, table))
    return listing


def inputs_of(run: Run, config: Config, listing: Listing) -> dict[str, Any]:
    """Returns the inputs of the prepared data set: settings, seed and the listed files of the source."""
    data = config.data.model_dump(mode="json", exclude=SHOWN)
    kind, _, table = config.data.patients.partition(":")
    if kind == "csv":
        data["patients"] = f"csv:{sha256(read_bytes(table)).hexdigest()}"
    return {
        "seed": config.seed,
        "data": data | _folders(listing, config.data),
        "files": listing_hash(listing),
    }


def _folders(listing: Listing, data: DataConfig) -> dict[str, str | None]:
    """Returns the folders of the splits as settings, whether they were set or found.

    Earlier versions found none, and named a folder for the test split whether it was there or not.
    """
    found = listing.folders
    test = found.get("test", data.test_folder or TEST_FOLDER) if found else None
    return {"train_folder": found.get("train"), "valid_folder": found.get("valid"), "test_folder": test}


def salt_of(run: Run) -> str:
    """Returns the secret with which the run hashes the ids of patients, studies and series; makes it once."""
    if not run.exists(*SALT):
        run.write_json({"salt": secrets.token_hex(16)}, *SALT)
    return str(run.read_json(*SALT)["salt"])


def id_of(run: Run) -> str:
    """Returns the id of a run's data set: equal for equal rows, whatever their history.

    A data set of a version that stored no id is identified by its settings and the files' names, sizes and
    times.

    Raises:
        RunError: the data set is not complete.
    """
    inputs = run.require(DATASET, "prepare")
    return str(run.read_json(*AUDIT).get("id", digest(inputs)))


def keep_id(run: Run) -> None:
    """Stores the id of an earlier version's data set before it is prepared again: its rows may be the
    same."""
    inputs, name = run.require(DATASET, "prepare"), id_of(run)
    if name == digest(inputs):
        rows = rows_digest(read_table(run, *DATASET_MANIFEST), inputs["seed"], inputs["data"])
        run.write_json({rows: name}, *DATASET_IDS)


def known_id(run: Run, rows: str) -> str:
    """Returns the id of a data set from its `rows_digest`."""
    return str(run.read_json(*DATASET_IDS).get(rows, rows)) if run.exists(*DATASET_IDS) else rows
