"""Finds the files of any source: a folder tree or a manifest."""

from collections.abc import Collection
from pathlib import Path

from brain_ray.config import PHANTOMS, DataConfig
from brain_ray.data.sources.folder_tree import list_tree
from brain_ray.data.sources.layout import Layout, find_layout
from brain_ray.data.sources.listing import Listing
from brain_ray.data.sources.manifest import list_manifest, root_of_manifest
from brain_ray.data.sources.manifest_names import suffix_of
from brain_ray.data.sources.stored_tree import open_tree
from brain_ray.data.sources.walk import Tree
from brain_ray.storage import resolve, storage_errors


class Source:
    """A source of images, of which nothing is looked for twice between the checks and the preparation.

    It is of one start of a job: what it was told of the files holds for the moment.
    """

    def __init__(self, location: str, data: DataConfig) -> None:
        """Takes a source, without looking for anything.

        Args:
            location: folder, manifest or URI.
            data: how the source is to be read.
        """
        self._location, self._data = location, data
        self._opened: tuple[Tree, Layout] | None = None
        self._listing: Listing | None = None
        self._splits: set[str] | None = None

    def splits(self) -> set[str]:
        """Returns the splits that it has files for, of "train", "valid" and "test".

        The folders of a tree's classes are not listed if they lie in folders of splits (but for Google's
        buckets, which are listed as a whole); of a manifest, every file is looked for.

        Raises:
            RunError: as of `files`, but for too few files in a class's folder.
        """
        if self._splits is None and is_manifest(self._location):
            self._listing = self.files()
        elif self._splits is None:
            with storage_errors(f"read {self._location}"):
                self._opened = self._open()
            self._splits = set(self._opened[1].splits)
        assert self._splits is not None, "of a manifest they come with its files"
        return self._splits

    def files(self, read: Collection[str] = ()) -> Listing:
        """Lists the files, or hands over the list that `splits` has made: it may be large.

        Args:
            read: names of tables at the top of a folder tree that the caller reads itself.

        Raises:
            RunError: the source is not as `find_layout` or `list_manifest` requires, a class has fewer than
                two files, or a storage refuses or does not answer.
        """
        listing, self._listing = self._listing, None
        if listing is not None:
            return listing
        location, data = self._location, self._data
        with storage_errors(f"read {location}"):
            if is_manifest(location):
                listing = list_manifest(location, data)
                self._splits = set(listing.files["source_split"]) - {""}
            else:
                (tree, layout), self._opened = self._opened or self._open(), None
                listing = list_tree(tree, layout, location, data, read)
                self._splits = set(layout.splits)
        return listing

    def _open(self) -> tuple[Tree, Layout]:
        tree = open_tree(self._location)
        return tree, find_layout(tree, self._location, self._data)


def given_source(data: DataConfig) -> Source | None:
    """Returns the source that settings name; None: phantoms are drawn."""
    return None if data.source == PHANTOMS else Source(resolve(data.source), data)


def list_source(source: str, data: DataConfig) -> Listing:
    """Lists the files of a source; see `Source.files`."""
    return Source(source, data).files()


def root_of(source: str, data: DataConfig) -> str:
    """Returns the folder or URI at which the paths of `list_source` start; lists nothing."""
    return root_of_manifest(source, data) if is_manifest(source) else source


def is_manifest(source: str) -> bool:
    """Returns whether a source is a manifest, by its suffix."""
    return suffix_of(source) != "" and not ("://" not in source and Path(source).is_dir())
