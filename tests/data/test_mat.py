"""Figshare's MATLAB files: image, class, patient and tumour; nothing from another file."""

import numpy as np
import pytest
from support.hostile_volumes import worst_mat
from support.volumes import PATIENT, head, mat, windowed

from brain_ray.data.decoding import ImageError, OpenFile, check_file, decode
from brain_ray.input_spec import ReadSpec

IMAGE = head().astype(np.int16) * 7


def opened(data: bytes) -> OpenFile:
    return OpenFile(check_file(data, 4_000_000), 4_000_000, ReadSpec())


def test_a_file_of_the_set_is_an_image_with_class_patient_and_tumour() -> None:
    mask = np.zeros(IMAGE.shape, np.uint8)
    mask[30:40, 50:70] = 1
    found = opened(mat(IMAGE, 2, mask=mask))
    assert np.abs(found.image(0) - windowed(IMAGE)).max() <= 0.51
    assert (found.facts.class_name, found.facts.patient) == ("glioma", PATIENT)
    assert found.facts.tumour == (30, 40, 50, 70)
    assert [opened(mat(IMAGE, label)).facts.class_name for label in (1, 2, 3, 9)] == [
        "meningioma",
        "glioma",
        "pituitary",
        "",
    ]
    assert opened(mat(IMAGE)).facts.tumour is None
    np.testing.assert_array_equal(decode(mat(IMAGE, packing="gzip")), found.image(0))


def test_other_files_are_refused_with_a_reason() -> None:
    for name, data in worst_mat():
        if name != "a chunk of a gigabyte":
            with pytest.raises(ImageError, match=r"MATLAB|refused"):
                decode(data)
    old = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128) + bytes(500)
    with pytest.raises(ImageError, match=r"MATLAB before 7\.3 is not read: save it with -v7\.3"):
        decode(old)
    with pytest.raises(ImageError, match="damaged: a MATLAB file that HDF5 cannot open"):
        decode(mat(IMAGE)[:600])
