"""Copies and contradicting labels as a report shows them, and a plate of pairs of copies."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from brain_ray.arrays import Grey
from brain_ray.data.copies.placement import TRANSFORMS, turn
from brain_ray.evaluation.copy_choice import ChosenCluster
from brain_ray.evaluation.image_plates import new_panels, note, show
from brain_ray.evaluation.plots import INK, MUTED, WIDTH, new_figure, plain


@dataclass(frozen=True)
class Picture:
    """An image as the report shows it: beside others, turned as the first of them lies.

    path: of its file, with its number if the file has several; split: the source's, "" if it gives none;
    image: (height, width) uint8, shrunk; transform: of `TRANSFORMS`, that was applied to it.
    """

    path: str
    class_name: str
    split: str
    image: Grey
    transform: str = "identity"


@dataclass(frozen=True)
class CopyPair:
    """Two images that count as copies, and what pairs.parquet says of them.

    second: as it is; view: "" in an earlier version's table; moved: shift, angle and zoom as a text, "" if
    they are small or not known; is_chain: whether the pair belongs to a chain.
    """

    first: Picture
    second: Picture
    similarity: float
    transform: str
    kind: str
    view: str = ""
    moved: str = ""
    is_chain: bool = False

    @property
    def facts(self) -> str:
        """Says how alike the images are, and how the second one lies on the first."""
        seen = {"whole": "whole images alike", "head": "heads alike", "aligned": "alike after alignment"}
        told = [seen.get(self.view, ""), self.moved, "of a chain" if self.is_chain else ""]
        return ", ".join([f"{self.kind}, similarity {self.similarity:.4f}", *filter(None, told)])

    @property
    def turned_back(self) -> Grey:
        """The second image, turned as the first one lies: (height, width) uint8."""
        return turn(self.second.image, TRANSFORMS.index(self.transform))


@dataclass(frozen=True)
class ClusterRow:
    """A cluster of copies and those of its images that are shown."""

    cluster: ChosenCluster
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class LabelDispute:
    """An image whose label contradicts a published set's, and copies of it that have the set's label.

    title: of the set; published: the label there.
    """

    picture: Picture
    title: str
    published: str
    beside: Sequence[Picture]


def pair_plate(pairs: Sequence[CopyPair], limit: int = 6) -> Figure:
    """Draws the first pairs of copies: both images, and the second one turned back to look like the first."""
    shown = pairs[:limit]
    figure = new_figure(WIDTH, 0.2 + 2.35 * max(1, len(shown)))
    panels = new_panels(figure, max(1, len(shown)), 4, widths=(1, 1, 1, 1.25))
    if not shown:
        note(figure, "no copies were found")
    for row, pair in zip(panels, shown, strict=False):
        first, second, back = pair.first, pair.second, pair.turned_back
        titles = ("first", "second", "second, as it is")
        if pair.transform != "identity":
            titles = ("first", "second", "second, turned back")
        for axes, picture, title in zip(row, (first.image, second.image, back), titles, strict=False):
            show(axes, picture)
            axes.set_title(title, fontsize=8.5, color=MUTED, loc="left")
        lines = [pair.transform, *pair.facts.split(", "), "", _labelled(first), "", _labelled(second)]
        text = plain("\n".join(lines))
        row[3].text(0, 1, text, va="top", fontsize=8.5, color=INK, transform=row[3].transAxes)
    return figure


def _labelled(picture: Picture) -> str:
    return f"{', '.join(filter(None, (picture.split, picture.class_name)))}\n{_wrapped(picture.path)}"


def _wrapped(path: str, width: int = 34) -> str:
    return "\n".join(path[i : i + width] for i in range(0, len(path), width))
