"""NIfTI: slices of a plane lie as a radiologist sees them, whatever the order of the voxels; one window for
all."""

import gzip

import nibabel
import numpy as np
import pytest
from nibabel.orientations import inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from support.volumes import heads, nifti, windowed

from brain_ray.data.decoding import ImageError, OpenFile, check_file, decode
from brain_ray.input_spec import Plane, ReadSpec

MAX_PIXELS = 4_000_000


def opened(data: bytes, plane: Plane = "axial") -> OpenFile:
    read = ReadSpec(plane=plane)
    return OpenFile(check_file(data, MAX_PIXELS, None, read), MAX_PIXELS, read)


def landmarks() -> NDArray[np.uint8]:
    """A volume, axes right, front, top, with a bright voxel at the patient's right, in front, and on top."""
    volume = np.full((20, 24, 28), 50, np.uint8)
    volume[19, :, :], volume[:, 23, :], volume[:, :, 27] = 150, 200, 250
    return volume


def test_slices_lie_as_a_radiologist_sees_them() -> None:
    axial, coronal, sagittal = (
        opened(nifti(landmarks()), plane) for plane in ("axial", "coronal", "sagittal")
    )
    assert [len(one.positions) for one in (axial, coronal, sagittal)] == [28, 24, 20]
    image = axial.image(0)
    assert image.shape == (24, 20)
    assert (image[0] == 200).all()
    assert (image[1:, 0] == 150).all(), "the patient's right is on the left"
    assert (axial.image(27) == 250).all(), "from below"
    image = coronal.image(0)
    assert image.shape == (28, 20)
    assert (image[0] == 250).all()
    assert (image[1:, 0] == 150).all()
    assert (coronal.image(23)[1:] == 200).all(), "from behind"
    image = sagittal.image(0)
    assert image.shape == (28, 24)
    assert (image[0] == 250).all()
    assert (image[1:, 0] == 200).all(), "the front is on the left"
    assert (sagittal.image(19)[1:, 1:] == 150).all(), "from the patient's left"


@pytest.mark.parametrize("axes", ["RAS", "LPI", "ASL", "SRP", "ILA", "PIR"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_order_of_voxels_makes_no_difference(axes: str, plane: Plane) -> None:
    volume = np.random.default_rng(0).integers(0, 1000, (20, 24, 28)).astype(np.int16)
    there = ornt_transform(io_orientation(np.eye(4)), nibabel.orientations.axcodes2ornt(axes))
    turned = nibabel.orientations.apply_orientation(volume, there)
    affine = inv_ornt_aff(there, volume.shape)
    for order in ("<i2", ">i2"):
        expected, found = opened(nifti(volume), plane), opened(nifti(turned.astype(order), affine), plane)
        assert len(expected.positions) == len(found.positions)
        for number in (0, 7, 19):
            np.testing.assert_array_equal(found.image(number), expected.image(number))


def test_the_window_is_that_of_the_whole_volume_and_hot_voxels_do_not_matter() -> None:
    volume = heads(9, empty=0)
    found = opened(nifti(volume))
    images = [volume[::-1, ::-1, number].T for number in range(9)]
    for number in (0, 4):
        assert np.abs(found.image(number) - windowed(images[number], *images)).max() <= 0.51
    hot = volume.copy()
    hot[:5, 0, 0] = 30_000
    np.testing.assert_array_equal(opened(nifti(hot)).image(4), found.image(4))


def test_kinds_of_voxels() -> None:
    volume = heads(4, empty=0)
    expected = opened(nifti(volume)).image(2)
    lost = volume.astype(np.float32)
    lost[0, 0, :], lost[1, 0, :] = np.nan, np.inf
    image = opened(nifti(lost)).image(2)
    assert image[-1, -1] == image[-1, -2] == 0
    assert np.abs(image.astype(int) - expected)[:-1].max() <= 1
    for kind in (np.float64, np.uint16, np.int32):
        assert np.abs(opened(nifti(volume.astype(kind))).image(2).astype(int) - expected).max() <= 1
    grey = (volume // 8).astype(np.uint8)
    np.testing.assert_array_equal(opened(nifti(grey)).image(2), grey[::-1, ::-1, 2].T)
    colours = np.zeros(grey.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name in "RGB":
        colours[name] = grey
    np.testing.assert_array_equal(opened(nifti(colours)).image(2), grey[::-1, ::-1, 2].T)
    with pytest.raises(ImageError, match="voxels of complex64, which are no grey levels"):
        opened(nifti(volume.astype(np.complex64))).image(0)
    scaled = nibabel.Nifti1Image(volume, np.eye(4))
    scaled.header.set_slope_inter(-2, 100)
    raw = bytearray(scaled.to_bytes())
    raw[112:120] = np.array([-2, 100], "<f4").tobytes()
    falling = opened(bytes(raw)).image(2)
    assert np.corrcoef(falling.ravel(), expected.ravel())[0, 1] < -0.99
    second = nibabel.Nifti2Image(volume, np.eye(4)).to_bytes()
    np.testing.assert_array_equal(opened(second).image(2), expected)
    np.testing.assert_array_equal(opened(gzip.compress(second)).image(2), expected)


def test_pixels_become_square() -> None:
    thick = np.diag([1.0, 1.0, 5.0, 1.0])
    volume = heads(9, empty=0)
    assert opened(nifti(volume, thick)).image(4).shape == (160, 128)
    coronal = opened(nifti(volume, thick), "coronal").image(80)
    assert coronal.shape == (45, 128)
    assert opened(nifti(volume, thick)).positions[2] == pytest.approx(10)


def test_a_single_slice_is_an_image_and_several_volumes_are_none() -> None:
    slice_ = heads(1, empty=0)
    assert decode(nifti(slice_)).shape == (160, 128)
    np.testing.assert_array_equal(decode(nifti(slice_[..., 0])), decode(nifti(slice_)))
    assert len(opened(nifti(slice_), "sagittal").positions) == 1
    np.testing.assert_array_equal(
        opened(nifti(heads(3)[..., None])).image(1), opened(nifti(heads(3))).image(1)
    )
    with pytest.raises(ImageError, match=r"a NIfTI of 128 x 160 x 3 x 2: expected one volume") as caught:
        opened(nifti(np.stack([heads(3)] * 2, axis=-1)))
    assert caught.value.code == "several_images"
    with pytest.raises(ImageError, match=r"^NIfTI with 3 images, expected one$") as caught:
        decode(nifti(heads(3)))
    assert caught.value.code == "several_images"


def test_what_is_damaged_or_something_else_says_so() -> None:
    sound = nifti(heads(3), packed=False)
    for data, code, reason in (
        (sound[:-100], "undecodable", r"cut short: \d+ bytes of NIfTI, \d+ expected"),
        (
            gzip.compress(sound)[: len(gzip.compress(sound)) // 2],
            "undecodable",
            "damaged: what is packed by gzip",
        ),
        (gzip.compress(b"a text, packed"), "not_an_image", "^not an image$"),
        (
            sound.replace(b"n+1\0", b"ni1\0", 1),
            "not_an_image",
            "NIfTI in two files is not read: save it as one",
        ),
    ):
        with pytest.raises(ImageError, match=reason) as caught:
            opened(data).image(0)
        assert caught.value.code == code
