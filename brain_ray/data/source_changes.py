"""Changes of a source since its data set was prepared, found by contents if times differ."""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pandas as pd
import ray

from brain_ray.cluster import capacity
from brain_ray.cluster.tasks import run_tasks
from brain_ray.data.dataset import read_table
from brain_ray.data.file_names import ALONE, image_name, is_no_image
from brain_ray.data.prepare import BLOCK_IMAGES
from brain_ray.data.scan import hash_files
from brain_ray.data.sources.listing import Listing, listing_hash
from brain_ray.errors import RunError, list_names
from brain_ray.fingerprints import differences
from brain_ray.logs import log
from brain_ray.runs import AUDIT, DATASET, DATASET_MANIFEST, LISTINGS, Run

UNREAD = sha256(b"").hexdigest()
"""`file_sha256` of a file that could not be read when it was scanned."""


def find_changes(run: Run, before: Mapping[str, Any], now: Mapping[str, Any], listing: Listing) -> list[str]:
    """Returns a line for each difference from the inputs of a finished data set; no line if it is still
    valid.

    Names, sizes and times are compared first. If they differ, and no setting does, the contents decide; equal
    contents are logged and stored, so that they are not read again.

    Args:
        run: a run with a finished data set.
        before: the result of `identity.inputs_of` then, flattened.
        now: the current result, flattened.
        listing: the source's files now, from `identity.list_images`.

    Raises:
        RunError: a file that was readable then cannot be read.
    """
    there = ("files", "data.source")
    settings = differences(*({k: v for k, v in each.items() if k not in there} for each in (before, now)))
    place = differences({"data.source": before["data.source"]}, {"data.source": now["data.source"]})
    known = run.read_json(*LISTINGS) if run.exists(*LISTINGS) else {}
    listings = {before["data.source"]: before["files"], **known}
    if settings:
        files_differ = [] if now["files"] in listings.values() else ["files: other names, sizes or times"]
        return [*settings, *place, *files_differ]
    if "units" not in run.read_json(*AUDIT):
        log.info(
            "the data set was prepared by an earlier version, which knew no patients: its splits may share "
            "some; with another --name it is prepared anew"
        )
    if listings.get(now["data.source"]) == now["files"]:
        return []
    started = time.monotonic()
    changed = compare_files(run, listing)
    if changed:
        return [f"files: {', '.join(changed)}", *place]
    run.write_json({**known, now["data.source"]: listing_hash(listing)}, *LISTINGS)
    same = "have new times and the same contents"
    if place:
        same = f"have the same contents as those of {before['data.source']}"
    count = listing.files["path"].nunique()
    log.info(
        f"{count} files in {now['data.source']} {same}, by their SHA-256: {time.monotonic() - started:.0f} s"
    )
    return []


def compare_files(run: Run, listing: Listing) -> list[str]:
    """Returns how a source's files differ from a data set's manifest, as lines: how many, and the first by
    name.

    Files are read only if none is new, gone or of another size. Files that are no images by their names, and
    were not used, are ignored.

    Args:
        run: a run with a finished data set.
        listing: the source's files now.

    Raises:
        RunError: a file that was readable then cannot be read.
    """
    files, keys = listing.files, ["path", "source_split", "label"]
    manifest = read_table(run, *DATASET_MANIFEST)
    if "size" not in manifest:  # of an earlier version's data set
        manifest["size"] = -1
    if "frame" in files:  # of files whose images are all meant, the manifest has a row for each
        keys.append("frame")
        empty: dict[str, list[int]] = run.read_json(*AUDIT).get("empty_images", {})
        named = zip(files["path"], files["frame"], strict=True)
        files = files[[frame not in empty.get(path, ()) for path, frame in named]]
        whole = files.loc[files["frame"] == ALONE, "path"]
        manifest["frame"] = manifest.get("frame", ALONE)  # not there in an earlier version's data set
        manifest["frame"] = manifest["frame"].replace(ALONE, 0)  # of a file's only image
        manifest.loc[manifest["path"].isin(whole), "frame"] = ALONE
    stated = [name for name in listing.given if name not in (*keys, "class_name")]
    if "patient" in stated:
        stated.remove("patient")
        stated += _patients_to_compare(run, files, manifest)
    manifest = manifest.reindex(columns=[*keys, "split", "size", "file_sha256", *stated])
    both = files[[*keys, "size", *stated]].merge(
        manifest, "outer", keys, suffixes=("", "_before"), indicator="side"
    )
    unused = both["split"].isna() | (both["split"] == "rejected")
    both = both[~(unused & both["path"].map(is_no_image).astype(bool))]
    resized = (both["size"] != both["size_before"]) & (both["size_before"] >= 0)
    kinds = {
        "new": both["side"] == "left_only",
        "gone": both["side"] == "right_only",
        "of another size": (both["side"] == "both") & resized,
    }
    for name in stated:
        kinds[f"with another {name}"] = (both["side"] == "both") & _differ(both[name], both[f"{name}_before"])
    frames = both["frame"] if "frame" in keys else pd.Series(ALONE, index=both.index)
    names = pd.Series(list(map(image_name, both["path"], frames)), index=both.index, dtype="str")
    changed = {kind: names[rows].tolist() for kind, rows in kinds.items()}
    if not any(changed.values()):
        changed = {"with other contents": read_and_compare(listing.root, both)}
    return [f"{len(paths)} {kind} ({list_names(paths)})" for kind, paths in changed.items() if paths]


def _patients_to_compare(run: Run, files: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """Sets the patients of a data set's manifest to what its source had stated, and returns the columns to
    compare: none if a setting has passed over what the source states."""
    inputs = run.finished(DATASET) or {}
    if inputs.get("data", {}).get("patients") == "none":
        return []
    if "patient_from" in manifest:  # not there in an earlier version's data set
        by_setting = ~manifest["patient_from"].isin(["source", "header", "registry", ""])
        manifest["patient"] = manifest["patient"].where(manifest["patient_from"] == "source", "")
        listed = files.drop_duplicates("path").set_index("path")["patient"]
        told = manifest.loc[by_setting, "path"]
        manifest.loc[by_setting, "patient"] = told.map(listed).fillna("")
    return ["patient"]


def _differ(now: pd.Series, before: pd.Series) -> pd.Series:
    if now.dtype == object:  # lists and the like, which a manifest of JSON may have
        now, before = now.map(str), before.map(str)
    return (now != before) & ~(now.isna() & before.isna())


def read_and_compare(source: str, files: pd.DataFrame) -> list[str]:
    """Returns the sorted paths of files whose SHA-256 is not their `file_sha256`; tasks read a block each."""
    read = ray.remote(hash_files).options(num_cpus=1)
    size = max(1, min(BLOCK_IMAGES, -(-len(files) // (4 * capacity.cpus()))))
    blocks = (files.iloc[k : k + size] for k in range(0, len(files), size))
    changed = []
    for block, found in run_tasks(lambda block: read.remote(source, block["path"].tolist()), blocks):
        for path, expected, (actual, error) in zip(block["path"], block["file_sha256"], found, strict=True):
            if error and expected != UNREAD:
                raise RunError(f"cannot read {path} in {source}, to see whether it has changed: {error}")
            if actual != expected:
                changed.append(path)
    return sorted(changed)
