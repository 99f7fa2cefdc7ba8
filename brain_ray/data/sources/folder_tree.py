"""Folder trees, `<split>/<class>/...`, as a table of files."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from brain_ray.config import DataConfig
from brain_ray.data.sources.layout import ClassFolder, Layout
from brain_ray.data.sources.listing import MASK, LeftOut, Listing, check_counts, make_table
from brain_ray.data.sources.manifest_names import suffix_of
from brain_ray.data.sources.names import find_masks
from brain_ray.data.sources.walk import File, Tree, below
from brain_ray.errors import list_names

NUM_WALKS = 16
"""Largest number of classes' folders that are listed at a time. Of one, a bucket tells a thousand names in a
tenth of a second."""


def list_tree(
    tree: Tree, layout: Layout, source: str, data: DataConfig, read: Collection[str] = ()
) -> Listing:
    """Lists the files in the classes' folders of a source, at any depth.

    Args:
        tree: the source's folders.
        layout: from `find_layout`; what is left out is added to it.
        source: folder or URI, for messages.
        data: how the source is to be read.
        read: names of tables at the top that the caller reads itself.

    Raises:
        RunError: a class has fewer than two files.
    """
    ignored = {str(PurePosixPath(name)) for name in data.ignore_folders}
    found: list[tuple[File, str, int]] = []
    for folder, files in _walk(tree, layout.class_folders, layout.left_out, ignored):
        masks = set[str]()
        if data.masks == "leave_out":
            masks = find_masks(below(file.path, folder.path) for file in files)
            for name in sorted(masks):
                layout.left_out.add(folder.path, MASK, name)
        images = (file for file in files if below(file.path, folder.path) not in masks)
        found += [(file, folder.split, folder.label) for file in images]
    table = make_table(
        {
            "path": [file.path for file, _, _ in found],
            "source_split": [split for _, split, _ in found],
            "class_name": [data.classes[label] for _, _, label in found],
            "label": [label for _, _, label in found],
            "size": [file.size for file, _, _ in found],
            "mtime_ns": [file.mtime_ns for file, _, _ in found],
        }
    )
    check_counts(table, source, data.classes, layout.splits["train"], external=data.external)
    notes = [_say_splits(layout.splits), *layout.notes]
    tables = [file.path for file in tree.look(".").files if suffix_of(file.path) and file.path not in read]
    if tables:
        notes.append(f"not read: {list_names(sorted(tables))} (to use a list of images: --data.source)")
    if links := layout.left_out.links_out:
        told = [f"{link} -> {target}" for link, target in sorted(links.items())]
        notes.append(f"{len(told)} links lead out of the source, and are followed: {list_names(told)}")
    return Listing(source, table, layout.left_out.table(), tuple(notes), layout.splits)


def _walk(
    tree: Tree, folders: Sequence[ClassFolder], left_out: LeftOut, ignored: Collection[str]
) -> Iterator[tuple[ClassFolder, list[File]]]:
    """Yields each folder with all files below it, in order; some are listed at a time."""

    def walk(folder: ClassFolder) -> tuple[list[File], LeftOut]:
        passed_over = LeftOut()
        return list(tree.walk(folder.path, passed_over, ignored)), passed_over

    with ThreadPoolExecutor(NUM_WALKS) as pool:
        for folder, (files, passed_over) in zip(folders, pool.map(walk, folders), strict=True):
            left_out.add_all(passed_over)
            yield folder, files


def _say_splits(splits: dict[str, str]) -> str:
    told = [
        f"{split} from {'the source itself' if path == '.' else f'{path}/'}" for split, path in splits.items()
    ]
    return f"splits by folders: {', '.join(told)}"
