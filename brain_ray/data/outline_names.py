"""Names of outlines: which image of a data set each belongs to."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Matched:
    """Images by their outlines."""

    images: dict[str, int]
    """Number of the image of each name of an outline that belongs to one."""
    ambiguous: list[str]
    """Names of outlines that could belong to several images, or share one with another outline."""
    unknown: list[str]
    """Names of outlines that belong to no image."""


def match_names(names: Sequence[str], paths: Sequence[str]) -> Matched:
    """Finds the image of each outline.

    The two belong together if their names are equal; else if one is the end of the other, in whole folders
    (`glioma/1.jpg` and `images/glioma/1.jpg`); else if that is so without the suffix (`1.png` and
    `glioma/1.jpg`). The first rule by which a name has an image decides. A name is ambiguous if that gives it
    several images; so are two names of one image by the same rule.

    Args:
        names: of outlines.
        paths: of all images of the data set, not only of those that need an outline: a name that fits two
            images is ambiguous though only one of these is a test image.
    """
    tables = [_Ends([_parts(path, suffix) for path in paths]) for suffix in (True, False)]
    exact = {"/".join(_parts(path, True)): k for k, path in enumerate(paths)}
    found: dict[str, tuple[int, int]] = {}
    ambiguous, unknown = [], []
    for name in names:
        whole = _parts(name, True)
        candidates = [
            [exact["/".join(whole)]] if "/".join(whole) in exact else [],
            tables[0].find(whole),
            tables[1].find(_parts(name, False)),
        ]
        rule = next((k for k, images in enumerate(candidates) if images), None)
        if rule is None:
            unknown.append(name)
        elif len(candidates[rule]) > 1:
            ambiguous.append(name)
        else:
            found[name] = candidates[rule][0], rule
    best: dict[int, int] = {}
    for image, rule in found.values():
        best[image] = min(rule, best.get(image, rule))
    claims = Counter(place for place in found.values())
    images = {}
    for name, (image, rule) in found.items():
        if rule == best[image] and claims[image, rule] == 1:
            images[name] = image
        else:
            ambiguous.append(name)
    return Matched(images, ambiguous, unknown)


class _Ends:
    """Names of images, found by another name that is an end of theirs, or of which theirs is an end."""

    def __init__(self, names: Sequence[tuple[str, ...]]) -> None:
        self._by_end: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._whole: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for k, parts in enumerate(names):
            self._whole[parts].append(k)
            for start in range(len(parts)):
                self._by_end[parts[start:]].append(k)

    def find(self, parts: tuple[str, ...]) -> list[int]:
        images = set(self._by_end.get(parts, ()))
        for start in range(1, len(parts)):
            images.update(self._whole.get(parts[start:], ()))
        return sorted(images)


def _parts(name: str, suffix: bool) -> tuple[str, ...]:
    """Returns the folders and the file of a name, with or without its suffix."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = tuple(part for part in path.parts if part not in ("/", "."))
    return parts if suffix else (*parts[:-1], path.stem)
