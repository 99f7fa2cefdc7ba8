"""What is said of a source that holds images of a known set."""

import numpy as np
import pandas as pd
import pytest

from brain_ray.data.registry.store import Registry
from brain_ray.data.registry.summary import as_text, describe, sum_up

ABOUT = {"name": "made-up", "title": "a set", "authors": "A. Nonym", "source": "doi:1", "licence": "CC0"}


def registry() -> Registry:
    """Six slices of three persons, one of whom has two numbers."""
    entries = pd.DataFrame(
        {
            "file": [f"{k}.png" for k in range(6)],
            "label": ["glioma", "glioma", "meningioma", "meningioma", "pituitary", "pituitary"],
            "patient": ["p1", "p2", "p3", "p3", "p4", "p4"],
            "person": ["q1", "q1", "q2", "q2", "q3", "q3"],
            "fold": np.array([1, 1, 2, 2, 3, 3], np.int8),
            "set": "made-up",
        }
    )
    return Registry(entries, np.zeros((6, 24, 24), np.uint8), {"made-up": ABOUT})


def files(*rows: tuple[str, str, str, int]) -> pd.DataFrame:
    """Give a listing of path, class, split and known entry, with what the registry tells of each."""
    table = pd.DataFrame(rows, columns=["path", "class_name", "source_split", "known"])
    table.index += 100
    table["known_orientation"] = ["" if k < 0 else "identity" for k in table["known"]]
    return table.join(describe(table["known"], registry()))


def test_each_file_gets_the_patient_label_and_fold_of_the_image_that_it_shows() -> None:
    table = describe(pd.Series([3, -1, 1], index=[7, 8, 9]), registry())
    assert table.loc[7].to_dict() == {
        "known_set": "made-up",
        "known_file": "3.png",
        "known_label": "meningioma",
        "known_patient": "p3",
        "patient": "made-up:q2",
        "known_fold": 2,
    }
    assert table.loc[8].tolist() == ["", "", "", "", "", 0]
    assert table.loc[9, ["known_patient", "patient"]].tolist() == ["p2", "made-up:q1"]


def test_patients_and_splits_are_counted() -> None:
    table = files(
        ("Tr/a", "glioma", "train", 0),
        ("Te/b", "glioma", "test", 1),
        ("Te/c", "glioma", "test", 1),
        ("Va/d", "meningioma", "valid", 2),
        ("Te/e", "pituitary", "test", 4),
        ("Te/f", "notumor", "test", -1),
    )
    (found,) = sum_up(table, registry())
    assert found.items() >= ABOUT.items()
    assert (found["images"], found["slices"], found["of_slices"]) == (5, 4, 6)
    assert (found["patients"], found["of_patients"]) == (3, 3)
    assert found["by_split"] == {"test": 3, "train": 1, "valid": 1}
    assert found["patients_in_several_splits"] == 1
    assert (found["test_images"], found["test_images_of_training_patients"]) == (3, 2)
    assert found["contradictions"] == []
    first, second = as_text(found)
    assert first == (
        "known set: a set (A. Nonym, CC0, doi:1): 5 images, which show 4 of its 6 slices and 3 of its 3 "
        "patients"
    )
    assert second == (
        "its patients in more than one split of the source: 1; test images of patients who are in training "
        "or validation too: 2 of 3"
    )


def test_without_known_images_nothing_is_said() -> None:
    assert sum_up(files(("Tr/a", "glioma", "train", -1)), registry()) == []


def test_without_a_test_split_nothing_is_said_of_splits() -> None:
    (found,) = sum_up(files(("Tr/a", "glioma", "train", 0), ("Tr/b", "glioma", "train", 1)), registry())
    (line,) = as_text(found)
    assert line.endswith("2 images, which show 2 of its 6 slices and 1 of its 3 patients")


@pytest.mark.parametrize(
    "given", ["glioma", "Glioma", "GLIOMA", "glioma_tumor", "Glioma Tumour", "glioma-tumors"]
)
def test_a_label_may_be_spelt_otherwise(given: str) -> None:
    (found,) = sum_up(files(("Tr/a", given, "train", 0), ("Tr/b", given, "train", 3)), registry())
    assert found["contradictions"] == [{"path": "Tr/b", "given": given, "source": "meningioma"}]
    assert as_text(found)[1] == "labels that contradict its own: 1: Tr/b (meningioma)"


@pytest.mark.parametrize("given", ["notumor", "no_tumor", "glioblastoma", "no glioma", "tumor"])
def test_a_class_that_the_set_does_not_have_contradicts_nothing_and_is_told(given: str) -> None:
    (found,) = sum_up(files(("Tr/a", given, "train", 0), ("Tr/b", "glioma", "train", 1)), registry())
    assert found["contradictions"] == []
    assert found["other_classes"] == {given: 1}
    assert as_text(found)[1] == f"its images in classes that it does not have: 1 in {given}"
