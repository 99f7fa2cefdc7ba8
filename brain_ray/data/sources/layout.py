"""Layout of a folder tree: the folders of its splits and classes, and the folders that are left out."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from brain_ray.config import DataConfig
from brain_ray.data.file_names import IMAGE
from brain_ray.data.image_export import EXPORTED
from brain_ray.data.sources.listing import LeftOut
from brain_ray.data.sources.messages import say_classes, say_no_folder
from brain_ray.data.sources.names import split_of
from brain_ray.data.sources.splits import class_folders, find_splits
from brain_ray.data.sources.walk import Tree, join, report
from brain_ray.errors import RunError
from brain_ray.runs import MARKER

SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}

MARKER_FILES = (MARKER, EXPORTED)
"""Files that mark a folder of runs, or of a run's export, which hold no images of the source."""

IGNORED = "named by data.ignore_folders"
NO_CLASS = "none of data.classes"
NO_SPLIT = "neither a split nor a class by their names"
UNLABELLED = "images without labels, which are for jobs/predict.py"
LOOSE = "images in no class's folder"
BESIDE_SPLITS = "beside the folders of the splits"
"""Reasons to leave out what a folder tree holds."""


@dataclass(frozen=True)
class ClassFolder:
    """A folder that holds the images of a class in a split."""

    path: str
    split: str
    label: int
    """Position of the class in `data.classes`."""


@dataclass(frozen=True)
class Layout:
    """Folders of a source that are used, and what lies beside them."""

    splits: dict[str, str]
    """Folder of each split that exists: "train", perhaps "valid" and "test"."""
    class_folders: list[ClassFolder] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: list[str] = field(default_factory=list)


def find_layout(tree: Tree, source: str, data: DataConfig) -> Layout:
    """Returns the layout of a source's folders, without listing those of the classes if these lie in folders
    of splits.

    Raises:
        RunError: no such folder, no training folder or several, a class without a folder in the training or
            validation split, or what seems a renamed class in the test split.
    """
    if not tree.is_folder("."):
        raise RunError(say_no_folder(source))
    ignored = {str(PurePosixPath(name)) for name in data.ignore_folders}
    splits, notes = find_splits(tree, source, data, ignored)
    inner = _inner_splits(tree, splits, data, ignored)
    layout = Layout(inner or splits, notes=notes)
    _Reader(tree, source, data, ignored, splits, layout, is_inner=bool(inner)).read()
    absent = sorted(name for name in ignored if not tree.is_folder(name))
    if absent:
        layout.notes.append(f"data.ignore_folders names folders that are not there: {', '.join(absent)}")
    return layout


@dataclass(frozen=True)
class _Reader:
    """Fills a layout with the folders of the classes, and with what is left out."""

    tree: Tree
    source: str
    data: DataConfig
    ignored: Collection[str]
    splits: dict[str, str]
    layout: Layout
    is_inner: bool
    """Whether the folders of the splits lie in those of the classes."""

    def read(self) -> None:
        """Reads the folders of the splits, and those around them."""
        around = {str(one) for folder in self.splits.values() for one in PurePosixPath(folder).parents}
        names = {folder: split for split, folder in self.splits.items()}
        for folder in sorted({*names, *around}):
            known = class_folders(self.tree, folder, self.data, self.ignored) if folder in names else []
            others = [
                name
                for name in self.tree.folders(folder)
                if name not in known and join(folder, name) not in (*names, *around)
            ]
            unknown = [name for name in others if self._leave_out(folder, name, names.get(folder))]
            self._leave_out_files(folder, LOOSE)
            if folder in names:
                self._use(folder, names[folder], known, unknown)

    def _leave_out(self, folder: str, name: str, split: str | None) -> bool:
        """Leaves out a folder that is neither a class nor a split; returns whether it may be a renamed
        class."""
        path = join(folder, name)
        images = _count_images(self.tree, path)
        if not images:
            return False
        reason = NO_CLASS if split else NO_SPLIT
        other = split_of(name)
        if path in self.ignored:
            reason = IGNORED
        elif other and other not in self.splits:
            inner = [] if self.tree.look(path).files else self.tree.folders(path)
            if len(inner) > 1:
                raise RunError(
                    say_classes(self.source, path, other, [], inner, list(self.data.classes), self.data)
                )
            reason = UNLABELLED
        self.layout.left_out.add(path, reason, files=images)
        return reason == NO_CLASS

    def _leave_out_files(self, folder: str, reason: str) -> None:
        content = self.tree.look(folder)
        report(content, folder, folder, self.layout.left_out)
        for file in content.files:
            name = PurePosixPath(file.path).name
            if IMAGE.search(name):
                self.layout.left_out.add(folder, reason, name)

    def _use(self, folder: str, split: str, known: list[str], unknown: list[str]) -> None:
        """Adds the folders of a split's classes."""
        missing = [name for name in self.data.classes if name not in known]
        free = self.data.external and known  # other classes are left out, and some may be missing
        if missing and not free and (split != "test" or unknown or not known):
            raise RunError(say_classes(self.source, folder, split, known, unknown, missing, self.data))
        if missing:
            self.layout.notes.append(f"the {SPLIT_NAMES[split]} split has no images of {', '.join(missing)}")
        for name in known:
            path, label = join(folder, name), self.data.classes.index(name)
            if self.is_inner:
                self._use_inner(path, label)
            else:
                self.layout.class_folders.append(ClassFolder(path, split, label))

    def _use_inner(self, folder: str, label: int) -> None:
        """Adds the folders of the splits within a class's folder; two names of one split are both used."""
        for name in self.tree.folders(folder):
            path, split = join(folder, name), split_of(name)
            if split and path not in self.ignored:
                self.layout.class_folders.append(ClassFolder(path, split, label))
            elif images := _count_images(self.tree, path):
                reason = IGNORED if path in self.ignored else BESIDE_SPLITS
                self.layout.left_out.add(path, reason, files=images)
        self._leave_out_files(folder, BESIDE_SPLITS)


def _inner_splits(
    tree: Tree, splits: dict[str, str], data: DataConfig, ignored: Collection[str]
) -> dict[str, str]:
    """Returns the splits by patterns, such as `*/train`, if their folders lie in those of the classes."""
    train = splits["train"]
    if split_of(PurePosixPath(train).name) == "train":
        return {}
    found: dict[str, str] = {}
    for name in class_folders(tree, train, data, ignored):
        for inner in tree.folders(join(train, name)):
            split = split_of(inner)
            if split and join(train, name, inner) not in ignored:
                found.setdefault(split, join(train, "*", inner))
    if "train" not in found:
        return {}
    if len(splits) > 1:
        other = splits.get("test") or splits["valid"]
        raise RunError(
            f"the folders of the classes hold folders of splits ({found['train']}), and there is {other}/ "
            "beside them: leave one out by --data.ignore-folders"
        )
    return {split: found[split] for split in ("train", "valid", "test") if split in found}


def _count_images(tree: Tree, folder: str) -> int:
    """Returns the number of files below a folder that are images by their names, or have no suffix, as in
    DICOM; 0 for runs and exports."""
    images = 0
    for file in tree.walk(folder, LeftOut()):
        name = PurePosixPath(file.path).name
        if name in MARKER_FILES:
            return 0
        images += IMAGE.search(name) is not None or "." not in name
    return images
