"""Stage prepare: scans files, finds duplicates, splits, balances, and writes the data set."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from brain_ray.cluster import capacity
from brain_ray.config import PHANTOMS, Config, DataConfig
from brain_ray.data import similarity
from brain_ray.data.audit import account, as_text
from brain_ray.data.dataset import read_table
from brain_ray.data.duplicates import find_copies
from brain_ray.data.file_names import is_no_image
from brain_ray.data.groups import fold_numbers, join_groups
from brain_ray.data.image_export import begin_export
from brain_ray.data.patients import by_setting, first_known, read_patients
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.recognition import find_known, sum_up_known
from brain_ray.data.rows import SPLITS, rows_digest
from brain_ray.data.scan import FACTS, Scan
from brain_ray.data.sources.find import list_source
from brain_ray.data.sources.listing import Listing, listing_hash
from brain_ray.data.split import assign, balancing_copies
from brain_ray.data.writing import Write
from brain_ray.errors import RunError
from brain_ray.fingerprints import digest
from brain_ray.logs import log
from brain_ray.runs import AUDIT, DATASET, DATASET_IDS, DATASET_MANIFEST, PHANTOM_IMAGES, Run
from brain_ray.storage import resolve
from brain_ray.tracking import prometheus

TRAIN_FOLDER, TEST_FOLDER = "Training", "Testing"
"""Folders of the phantoms, unless settings name others."""

SHOWN = {"ignore_folders", "ignore_labels", "masks", "columns", "root"}
"""Settings of the data that show in the list of files."""

BLOCK_IMAGES = 4096
"""Largest number of images that a task opens; it holds a thumbnail of each. Ray Data pauses between two
tasks."""


def source_of(run: Run, config: Config) -> str:
    """Returns the folder or URI of the images; draws phantoms into the run if they are not there yet."""
    data = config.data
    if data.source != PHANTOMS:
        return resolve(data.source)
    inputs = {"phantoms": data.phantoms.model_dump(), "classes": list(data.classes), "seed": config.seed}
    if run.finished(PHANTOM_IMAGES) != inputs:
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


def inputs_of(run: Run, config: Config) -> dict[str, Any]:
    """Returns the inputs of the prepared data set: settings, seed and the files of the source."""
    listing = list_source(source_of(run, config), config.data)
    data = config.data.model_dump(mode="json", exclude=SHOWN)
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


def prepare(run: Run, config: Config, block_images: int = BLOCK_IMAGES) -> str:
    """Fills the empty `dataset/` of a run; returns a table of its content. Logs a line for each step.

    Writes the rows of each split, manifest.parquet, rejected.parquet, pairs.parquet and audit.json. The
    manifest has a row per file: image_id, the columns of `Listing.files` but mtime_ns, those of `FACTS`,
    patient_from (the source of patient), cluster, cluster_size, group (of patients and copies), split, reason
    and copies (the number of balancing copies); and those of `find_known` if a known set was found.

    Raises:
        RunError: the source is not as expected (see `list_source`), the folder for exported images holds
            other files, too many files cannot be used, leaks with `leaks=fail`, or a class is left empty.
    """
    data = config.data
    if data.export_images:
        data = data.model_copy(update={"export_images": resolve(data.export_images)})
        begin_export(run, str(data.export_images))
    lap = _laps()
    listing = list_source(source_of(run, config), data)
    source, index = listing.root, listing.files.copy()
    index.insert(0, "image_id", range(len(index)))
    told = by_setting(index, data.patients)
    if data.source == PHANTOMS and data.phantoms.slices_per_patient > 1:
        index = _name_phantoms(index, f"{source}/{phantom.PATIENTS}")
    lap(f"listed {len(index)} files")
    for split in SPLITS:
        run.fs.create_dir(run.path(DATASET, split), recursive=True)
    scanned = _scan(index, source, data, block_images)
    facts = scanned.select_columns(list(FACTS)).to_pandas().set_index("image_id").sort_index()
    manifest = index.join(facts, on="image_id").drop(columns="mtime_ns")
    lap("opened them and took their facts")
    _check_rejected(manifest, data)
    usable = manifest["reason"] == ""
    known = None
    if data.registry == "auto" and data.source != PHANTOMS:
        known = find_known(scanned, usable)
        lap(f"looked for images of known sets, {int((known['known_set'] != '').sum())} are of one")
    manifest = _name_patients(manifest, told, known, data)
    pairs, near_misses = find_copies(scanned, manifest[usable], data.copy_similarity)
    lap(f"compared each with each, {len(pairs)} pairs are copies")
    manifest = _join_clusters(manifest, usable, pairs)
    manifest["group"] = join_groups(manifest["cluster"].to_numpy(np.int64), manifest["patient"])
    manifest["split"] = "rejected"
    drawn = assign(manifest[usable], data, config.seed)
    manifest.loc[usable, ["split", "reason"]] = drawn.table[["split", "reason"]]
    if data.folds is not None:
        manifest["fold"] = fold_numbers(manifest, data.folds, config.seed)
    manifest["copies"] = 0
    training = manifest["split"] == "train"
    manifest.loc[training, "copies"] = balancing_copies(manifest[training], data.balance_to)
    _write(scanned, Write(run, source, data, config.seed, _plan(manifest)))
    lap(f"wrote {int((manifest['copies'] + 1)[manifest['split'].isin(SPLITS)].sum())} rows")
    rows = rows_digest(manifest, config.seed, data.model_dump(mode="json"))
    found = {"id": known_id(run, rows), **account(manifest, pairs, near_misses, data, listing, drawn)}
    found["known_sets"] = sum_up_known(manifest)
    for name, table in (("manifest", manifest), ("rejected", _rejected(manifest)), ("pairs", pairs)):
        _write_parquet(run, table, f"{name}.parquet")
    run.write_json(found, *AUDIT)
    prometheus.prepared(run.name, manifest["split"].value_counts().to_dict())
    return as_text(found, drawn)


def _laps() -> Callable[[str], None]:
    """Returns a function that logs a finished step and the seconds since the step before."""
    last = time.monotonic()

    def lap(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        log.info(f"{text}: {now - last:.0f} s")
        last = now

    return lap


def _scan(index: pd.DataFrame, source: str, data: DataConfig, block_images: int) -> ray.data.Dataset:
    size = max(1, min(block_images, -(-len(index) // (4 * capacity.cpus()))))
    files = pa.Table.from_pandas(index[["image_id", "path"]], preserve_index=False)
    blocks = [files.slice(k, size).combine_chunks() for k in range(0, len(files), size)]
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    scan = Scan(source, data)
    dataset = ray.data.from_blocks(blocks)
    return dataset.map_batches(scan, batch_size=None, batch_format="pyarrow").materialize()


def _check_rejected(manifest: pd.DataFrame, data: DataConfig) -> None:
    bad = manifest[manifest["reason"] != ""]
    others = bad["path"].map(is_no_image).astype(bool)
    if (~others).sum() > data.max_rejected * len(manifest):
        first = "\n".join(f"  {row.path}: {row.reason}" for row in bad[~others].head(10).itertuples())
        apart = f" ({others.sum()} of them are no images by their names)" if others.any() else ""
        raise RunError(
            f"{len(bad)} of {len(manifest)} files cannot be used{apart}, more than --data.max-rejected "
            f"{data.max_rejected:g} allows; the first are\n{first}"
        )


def _name_phantoms(index: pd.DataFrame, table: str) -> pd.DataFrame:
    """Returns the phantoms with the patients and sources by which they were drawn."""
    drawn = read_patients(table).set_index("path")[["patient", "source"]].reindex(index["path"]).fillna("")
    return index.assign(patient=drawn["patient"].to_numpy(), source=drawn["source"].to_numpy())


def _name_patients(
    manifest: pd.DataFrame, told: pd.Series, known: pd.DataFrame | None, data: DataConfig
) -> pd.DataFrame:
    """Returns the manifest with the patient of each image and who tells it, and what the registry found.

    Args:
        manifest: one row per file, with patient from the source.
        told: patients by `data.patients`.
        known: the result of `find_known`; None: not looked for.
        data: patients.
    """
    sources = {data.patients.partition(":")[0]: told}
    if data.patients != "none":
        sources["source"] = manifest["patient"]
        if known is not None:
            sources["registry"] = known["patient"]
    named = first_known(manifest.index, sources)
    manifest = manifest.assign(patient=named["patient"], patient_from=named["patient_from"])
    if known is None or not (known["known_set"] != "").any():
        return manifest
    return manifest.join(known.drop(columns="patient"))


def _join_clusters(manifest: pd.DataFrame, usable: pd.Series, pairs: pd.DataFrame) -> pd.DataFrame:
    ids = similarity.cluster(len(manifest), pairs["a"].to_numpy(np.int64), pairs["b"].to_numpy(np.int64))
    manifest["cluster"] = ids
    manifest["cluster_size"] = np.bincount(ids)[ids]
    manifest.loc[~usable, "cluster_size"] = 0
    return manifest


def _plan(manifest: pd.DataFrame) -> pd.DataFrame:
    """Returns the writing plan: indexed by image_id, with split, label, cluster, copies and first_row."""
    plan = manifest[["split", "label", "cluster", "copies"]].copy()
    rows = plan["copies"] + 1
    plan["first_row"] = rows.groupby(plan["split"]).cumsum() - rows
    return plan


def _write(scanned: ray.data.Dataset, write: Write) -> None:
    task = ray.remote(Write.__call__).options(num_cpus=1)
    shared = ray.put(write)
    written = ray.get([task.remote(shared, block) for block in scanned.to_arrow_refs()])
    totals = {split: sum(counts[split] for counts in written) for split in SPLITS}
    rows = write.plan["copies"] + 1
    expected = {split: int(rows[write.plan["split"] == split].sum()) for split in SPLITS}
    if totals != expected:
        where = write.run.uri(DATASET)
        raise RunError(f"{where}: wrote {totals} rows, expected {expected}: prepare again")


def _rejected(manifest: pd.DataFrame) -> pd.DataFrame:
    rows = manifest[manifest["split"] == "rejected"]
    return rows[["path", "class_name", "source_split", "reason"]].reset_index(drop=True)


def _write_parquet(run: Run, table: pd.DataFrame, name: str) -> None:
    with run.fs.open_output_stream(run.path(DATASET, name)) as stream:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), stream)
