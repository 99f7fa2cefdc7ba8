"""Finds the files of any source: a folder tree or a manifest."""

from collections.abc import Collection
from pathlib import Path

from brain_ray.config import DataConfig
from brain_ray.data.sources.folder_tree import list_tree
from brain_ray.data.sources.layout import find_layout
from brain_ray.data.sources.listing import Listing
from brain_ray.data.sources.manifest import list_manifest, root_of_manifest
from brain_ray.data.sources.manifest_names import suffix_of
from brain_ray.data.sources.walk import open_tree
from brain_ray.storage import storage_errors


def list_source(source: str, data: DataConfig, read: Collection[str] = ()) -> Listing:
    """Lists the files of a source.

    Args:
        source: folder, manifest or URI.
        data: how the source is to be read.
        read: names of tables at the top of a folder tree that the caller reads itself.

    Raises:
        RunError: the source is not as `list_tree` or `list_manifest` requires, or a storage refuses or does
            not answer.
    """
    with storage_errors(f"read {source}"):
        return list_manifest(source, data) if is_manifest(source) else list_tree(source, data, read)


def check_source(source: str, data: DataConfig) -> set[str]:
    """Returns the splits that a source has files for, of "train", "valid" and "test".

    The folders of a tree's classes are not listed if they lie in folders of splits (but for Google's
    buckets, which are listed as a whole); of a manifest, every file is looked for.

    Raises:
        RunError: as of `list_source`, but for too few files in a class's folder.
    """
    if is_manifest(source):
        return set(list_source(source, data).files["source_split"]) - {""}
    with storage_errors(f"read {source}"):
        return set(find_layout(open_tree(source), source, data).splits)


def root_of(source: str, data: DataConfig) -> str:
    """Returns the folder or URI at which the paths of `list_source` start; lists nothing."""
    return root_of_manifest(source, data) if is_manifest(source) else source


def is_manifest(source: str) -> bool:
    """Returns whether a source is a manifest, by its suffix."""
    return suffix_of(source) != "" and not ("://" not in source and Path(source).is_dir())
