"""Stage prepare: scans files, finds duplicates, splits, balances, and writes the data set."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import ray
import ray.data

from brain_ray.cluster import capacity
from brain_ray.cluster.cpu_work import bound_executions, most_cpus
from brain_ray.cluster.tasks import run_tasks
from brain_ray.config import PHANTOMS, Config, DataConfig
from brain_ray.data.audit import account, as_text
from brain_ray.data.copies import clusters
from brain_ray.data.copies.find import find_copies
from brain_ray.data.dataset import write_table
from brain_ray.data.expansion import expand_files
from brain_ray.data.file_names import is_no_image
from brain_ray.data.groups import fold_numbers, join_groups
from brain_ray.data.identity import known_id, list_images, salt_of
from brain_ray.data.image_export import begin_export
from brain_ray.data.patients import by_setting, name_patients
from brain_ray.data.recognition import find_known, sum_up_known
from brain_ray.data.rows import SPLITS, rows_digest
from brain_ray.data.scan import FACTS, Scan
from brain_ray.data.shortcuts.preparation import start_measuring
from brain_ray.data.sources.listing import Listing
from brain_ray.data.split import assign, balancing_copies
from brain_ray.data.writing import Write, Written
from brain_ray.errors import RunError, list_names
from brain_ray.logs import log
from brain_ray.runs import AUDIT, DATASET, DATASET_PARTS, Run
from brain_ray.storage import resolve
from brain_ray.storage_retries import patiently
from brain_ray.tracking import prometheus

ALL = 1e6
"""Share of the object stores that the scanned images may take: no bound."""

BLOCK_IMAGES = 4096
"""Largest number of images that a task opens; it holds views of each. Ray Data pauses between two
tasks."""


def prepare(
    run: Run, config: Config, block_images: int = BLOCK_IMAGES, listing: Listing | None = None
) -> str:
    """Fills the empty `dataset/` of a run; returns a table of its content. Logs a line for each step.

    Writes the rows of each split, parts.parquet (a row for each of their files: see `Written`),
    manifest.parquet, rejected.parquet, pairs.parquet, shortcuts.parquet and audit.json. The manifest has a
    row per image: image_id, the columns of `Listing.files` but mtime_ns, `FRAME_COLUMNS`, those of `FACTS`,
    patient_from (the source of patient), cluster, cluster_size, chain, group (of patients and copies), split,
    reason and copies (the number of balancing copies); and those of `find_known` if a known set was found.

    Args:
        run: where it is written.
        config: its settings.
        block_images: largest number of images that a task opens.
        listing: from `list_images`; None: it is listed here.

    Raises:
        RunError: the source is not as expected (see `list_source`), the folder for exported images holds
            other files, too many files cannot be used, leaks with `leaks=fail`, or a class is left empty.
    """
    data = config.data
    if data.export_images:
        data = data.model_copy(update={"export_images": resolve(data.export_images)})
        begin_export(run, str(data.export_images))
    lap = _laps()
    listing, index, empty = _expand(run, data, listing or list_images(run, config))
    source = listing.root
    files = listing.files["path"].nunique()
    lap(f"listed {files} files" + (f" with {len(index)} images" if len(index) != files else ""))
    for split in SPLITS:
        patiently()(run.fs.create_dir, run.path(DATASET, split), recursive=True)
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
    manifest = name_patients(manifest, known, data.patients)
    pairs, near_misses = find_copies(scanned, manifest[usable], data.copy_similarity)
    lap(f"compared each with each, {len(pairs)} pairs are copies")
    manifest = _join_clusters(manifest, usable, pairs)
    who = [manifest[name] for name in ("patient", "study", "series") if name in manifest]
    who += [] if known is None else [known["patient"]]
    manifest["group"] = join_groups(manifest["cluster"].to_numpy(np.int64), *who)
    manifest["split"] = "rejected"
    assigned = assign(manifest[usable], data, config.seed)
    manifest.loc[usable, ["split", "reason"]] = assigned.table[["split", "reason"]]
    if data.folds is not None:
        manifest["fold"] = fold_numbers(manifest, data.folds, config.seed)
    manifest["copies"] = 0
    training = manifest["split"] == "train"
    manifest.loc[training, "copies"] = balancing_copies(manifest[training], data.balance_to)
    measured = start_measuring(run, scanned, manifest, config.seed)
    _write(scanned, Write(run, source, data, config.seed, _plan(manifest)))
    lap(f"wrote {int((manifest['copies'] + 1)[manifest['split'].isin(SPLITS)].sum())} rows")
    rows = rows_digest(manifest, config.seed, data.model_dump(mode="json"))
    found = {"id": known_id(run, rows), **account(manifest, pairs, near_misses, data, listing, assigned)}
    if "frame" in listing.files:
        found["empty_images"] = empty  # named by the source, and left out
    found["known_sets"] = sum_up_known(manifest)
    found["shortcuts"] = measured()
    lap("measured how well the classes are told without the head")
    for name, table in (("manifest", manifest), ("rejected", _rejected(manifest)), ("pairs", pairs)):
        write_table(run, table, DATASET, f"{name}.parquet")
    run.write_json(found, *AUDIT)
    prometheus.prepared(run.name, manifest["split"].value_counts().to_dict())
    return as_text(found, assigned)


def _expand(
    run: Run, data: DataConfig, listing: Listing
) -> tuple[Listing, pd.DataFrame, dict[str, list[int]]]:
    """Returns the listing, with a note of what is empty; a row for each image: image_id, the columns of
    `Listing.files` (with stated in place of patient), told (the patient by `data.patients`) and
    `FRAME_COLUMNS`; and the numbers of the empty slices that were left out, by path."""
    files = listing.files.rename(columns={"patient": "stated"})
    files = files.assign(told=by_setting(listing.files, data.patients))
    index, empty = expand_files(files, listing.root, data, salt_of(run))
    index.insert(0, "image_id", range(len(index)))
    if empty:
        text = f"empty slices left out: {sum(map(len, empty.values()))} of {list_names(list(empty))}"
        listing = replace(listing, notes=(*listing.notes, text))
    return listing, index, empty


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
    files = pa.Table.from_pandas(index[["image_id", "path", "frame"]], preserve_index=False)
    blocks = [files.slice(k, size).combine_chunks() for k in range(0, len(files), size)]
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    bound_executions(most_cpus())
    scan = Scan(source, data)
    dataset = ray.data.from_blocks(blocks)
    # Once half of the object stores is full, Ray Data runs a task at a time in the whole cluster: elsewhere,
    # later stages would make room meanwhile. Here, all is to be held; what has no room goes to the disks.
    dataset.context.override_object_store_memory_limit_fraction = ALL
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


def _join_clusters(manifest: pd.DataFrame, usable: pd.Series, pairs: pd.DataFrame) -> pd.DataFrame:
    ids = clusters.cluster(len(manifest), pairs["a"].to_numpy(np.int64), pairs["b"].to_numpy(np.int64))
    manifest["cluster"] = ids
    manifest["cluster_size"] = np.bincount(ids)[ids]
    manifest.loc[~usable, "cluster_size"] = 0
    manifest["chain"] = np.isin(ids, ids[pairs.loc[pairs["chain"], "a"].to_numpy(np.int64)])
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
    found = run_tasks(lambda block: task.remote(shared, block), scanned.to_arrow_refs())
    written = pd.DataFrame([file for _, files in found for file in files], columns=Written._fields)
    totals = {split: int(written["num_rows"][written["split"] == split].sum()) for split in SPLITS}
    rows = write.plan["copies"] + 1
    expected = {split: int(rows[write.plan["split"] == split].sum()) for split in SPLITS}
    if totals != expected:
        where = write.run.uri(DATASET)
        raise RunError(f"{where}: wrote {totals} rows, expected {expected}: prepare again")
    write_table(write.run, written.sort_values(["split", "file"]), *DATASET_PARTS)


def _rejected(manifest: pd.DataFrame) -> pd.DataFrame:
    rows = manifest[manifest["split"] == "rejected"]
    return rows[["path", "class_name", "source_split", "reason"]].reset_index(drop=True)
