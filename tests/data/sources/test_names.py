"""Names of splits and of masks, as public data sets have them."""

import pytest

from brain_ray.data.file_names import local_name, storable
from brain_ray.data.sources.names import find_masks, is_junk, split_of


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ("train", "Training", "TRAIN", "train_set", "trainset", "Training-Data", "images_train")),
        ("valid", ("valid", "val", "Validation", "VAL", "val images", "validation_set")),
        ("test", ("test", "Testing", "TEST", "test data", "test_imgs", "dataset_test")),
        (
            None,
            ("", "tests", "trained", "pred", "value", "testimony", "test2", "no", "evaluation", "contest"),
        ),
    ],
)
def test_names_of_splits(split: str | None, names: tuple[str, ...]) -> None:
    assert {split_of(name) for name in names} == {split}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("benign (1).png", "benign (1)_mask.png"),  # BUSI
        ("benign (100).png", "benign (100)_mask_1.png"),
        ("TCGA_CS_4941_19960909_1.tif", "TCGA_CS_4941_19960909_1_mask.tif"),  # LGG
        ("ISIC_0000.jpg", "ISIC_0000_Segmentation.png"),
        ("x.png", "x_GT.tif"),
        ("x.jpg", "X_Mask.PNG"),
        ("x.jpg", "x.jpg_mask.png"),
        ("x.jpg", "mask_x.png"),
        ("BraTS20_001_t1ce.nii.gz", "BraTS20_001_seg.nii.gz"),
        ("BraTS-GLI-00002-000-t2f.nii.gz", "BraTS-GLI-00002-000-seg.nii.gz"),
        ("image.png", "mask.png"),
        ("p1/0.png", "p1/0-seg.png"),
        ("images/0.png", "masks/0.png"),
        ("images/0.png", "GT/0.png"),
        ("p1/slices/0.png", "p1/annotations/deep/0.txt"),
        ("0.png", "mask/0.png"),
    ],
)
def test_a_mask_is_told_from_its_image(image: str, mask: str) -> None:
    assert find_masks([image, mask, "other.jpg", "p2/0.png"]) == {mask}


@pytest.mark.parametrize(
    "names",
    [
        ("x_mask.png", "y.png"),  # without an image of its own
        ("mask.png", "y.png"),
        ("masks/0.png", "masks/1.png"),  # nothing lies beside them
        ("GT/0.png", "AB/0.png"),  # initials of patients
        ("p1/seg1.png", "p1/1.png"),
        ("unmask.png", "un.png"),
        ("Te-me_0010.jpg", "Te.jpg"),
    ],
)
def test_what_is_no_mask(names: tuple[str, ...]) -> None:
    assert find_masks(names) == set()


def test_what_systems_and_archives_leave() -> None:
    names = (".DS_Store", "._a.jpg", "Thumbs.db", "THUMBS.DB", "desktop.ini", "__MACOSX", "@eaDir", "Icon\r")
    assert all(map(is_junk, names))
    assert not any(map(is_junk, ("a.jpg", "thumbs", "MACOSX", "icon.png", "1.2.840.dcm", "metadata.csv")))


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        (b"a b.jpg", "a b.jpg"),
        ("ä/漢.jpg".encode(), "ä/漢.jpg"),
        (b"caf\xe9.jpg", r"caf\xe9.jpg"),
        (b"a\\b.jpg", "a\\b.jpg"),
        (rb"a\xe9.jpg", r"a\x5cxe9.jpg"),
        (rb"a\xzz" + b"\xff", r"a\x5cxzz\xff"),
    ],
)
def test_a_name_in_any_encoding_can_be_stored_and_found_again(name: bytes, stored: str) -> None:
    found = name.decode("utf-8", "surrogateescape")
    assert storable(found) == stored
    assert local_name(stored) == found
    stored.encode()
