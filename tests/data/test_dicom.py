"""DICOM: what is shown of stored values, whose they are, and where; and that no text of a header gets out."""

import logging
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from support import volumes
from support.volumes import dicom

from brain_ray.data.decoding import ImageError, OpenFile, check_file, decode
from brain_ray.input_spec import ReadSpec

RAMP = np.add.outer(np.arange(40) * 20, np.arange(60) * 5).astype(np.uint16)


def opened(data: bytes) -> OpenFile:
    return OpenFile(check_file(data, 4_000_000), 4_000_000, ReadSpec())


def windowed(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


CODINGS = (
    *(ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless),
    *(JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1),
)


@pytest.mark.parametrize("syntax", CODINGS)
def test_codings_without_loss_give_the_same_pixels(syntax: str) -> None:
    np.testing.assert_array_equal(decode(dicom(RAMP, syntax)), decode(dicom(RAMP)))
    several = np.stack([RAMP, RAMP[::-1], RAMP * 2])
    plain, packed = opened(dicom(several)), opened(dicom(several, syntax))
    for number in range(3):
        np.testing.assert_array_equal(packed.image(number), plain.image(number))


def test_a_file_s_own_window_comes_before_percentiles() -> None:
    hot = RAMP.copy()
    hot[0, 0] = 60_000
    own = {"WindowCenter": 500, "WindowWidth": 801}
    np.testing.assert_array_equal(decode(dicom(hot, **own)), windowed(hot, 99.5, 899.5))
    exact = decode(dicom(hot, **own, VOILUTFunction="LINEAR_EXACT"))
    np.testing.assert_array_equal(exact, windowed(hot, 99.5, 900.5))
    curve = decode(dicom(hot, **own, VOILUTFunction="SIGMOID"))
    assert abs(int(curve[hot == 500][0]) - 128) <= 1
    assert (np.diff(curve[5].astype(int)) >= 0).all()
    several = decode(dicom(hot, WindowCenter=[500, 40], WindowWidth=[801, 80]))
    np.testing.assert_array_equal(several, windowed(hot, 99.5, 899.5))
    for none in ({"WindowCenter": 500, "WindowWidth": 0}, {"WindowCenter": "", "WindowWidth": ""}):
        np.testing.assert_array_equal(decode(dicom(hot, **none)), decode(dicom(hot)))


def test_a_window_is_in_rescaled_values() -> None:
    data = dicom(RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=1001)
    np.testing.assert_array_equal(decode(data), windowed(RAMP * 2.0 - 1000, -500.5, 499.5))
    signed = RAMP.astype(np.int16) - 500
    np.testing.assert_array_equal(decode(dicom(signed)), decode(dicom(RAMP)))
    # Another sign turns dark into bright, with or without a window.
    falling = decode(dicom(RAMP, RescaleSlope=-1, RescaleIntercept=0))
    np.testing.assert_array_equal(falling, decode(dicom(RAMP[::-1, ::-1]))[::-1, ::-1][::-1, ::-1])


def test_a_table_of_grey_levels_stands_for_a_window() -> None:
    item = Dataset()
    item.LUTDescriptor = [1100, 0, 16]
    item.LUTData = (np.minimum(255, np.arange(1100) // 2) * 257).astype(np.uint16).tobytes()
    np.testing.assert_array_equal(decode(dicom(RAMP, VOILUTSequence=[item])), np.minimum(255, RAMP // 2))


def test_white_for_zero_is_inverted_and_padding_is_background() -> None:
    padded = RAMP.astype(np.int16)
    padded[:4] = -2000
    own = {"WindowCenter": 500, "WindowWidth": 1001}
    for more in ({}, own):
        plain = decode(dicom(RAMP, **more))
        inverted = decode(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **more))
        assert np.abs(255 - inverted.astype(int) - plain).max() <= 2
        found = decode(dicom(padded, PixelPaddingValue=-2000, **more))
        assert not found[:4].any()
        assert np.abs(found[4:].astype(int) - decode(dicom(RAMP[4:], **more))).max() <= 2, "it does not count"
        found = decode(
            dicom(padded, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1", **more)
        )
        assert not found[:4].any()
        assert found[4].mean() > found[-1].mean()
    between = decode(dicom(padded, PixelPaddingValue=-3000, PixelPaddingRangeLimit=-1500))
    assert not between[:4].any()


def test_eight_bits_stay_as_they_are_and_unused_bits_are_left_out() -> None:
    grey = (RAMP // 5).astype(np.uint8)
    np.testing.assert_array_equal(decode(dicom(grey)), grey)
    overlaid = RAMP | 0xF000  # an overlay in the high bits
    np.testing.assert_array_equal(
        decode(dicom(overlaid.astype(np.uint16), BitsStored=12, HighBit=11)), decode(dicom(RAMP))
    )


def test_colours_become_luma_also_by_a_palette() -> None:
    grey = (RAMP // 5).astype(np.uint8)
    np.testing.assert_array_equal(decode(dicom(np.stack([grey] * 3, axis=-1))), grey)
    deep = decode(dicom(np.stack([RAMP] * 3, axis=-1)))
    assert np.abs(deep.astype(int) - decode(dicom(RAMP))).max() <= 1
    table = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    values = (np.arange(255, -1, -1) * 257).astype("<u2").tobytes()
    table |= {f"{c}PaletteColorLookupTableData": values for c in ("Red", "Green", "Blue")}
    found = decode(dicom(grey, PhotometricInterpretation="PALETTE COLOR", **table))
    assert found[0, 0] == 255 > found[-1, -1]


def test_frames_of_an_enhanced_object_have_values_and_places_of_their_own() -> None:
    frames = np.stack([RAMP, RAMP, RAMP])
    shared = volumes.groups("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    per_frame = [volumes.groups("PlanePositionSequence", ImagePositionPatient=[0, 0, z]) for z in (9, -3, 3)]
    for item, slope in zip(per_frame, (1, 2, 4), strict=True):
        inner = volumes.groups("PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=0)
        item.PixelValueTransformationSequence = inner.PixelValueTransformationSequence
    several = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": per_frame}
    found = opened(dicom(frames, **several))
    assert list(found.positions) == [9, -3, 3]
    rescaled = [RAMP * slope for slope in (1, 2, 4)]
    for number in range(3):
        expected = volumes.windowed(rescaled[number], *rescaled)
        assert np.abs(found.image(number) - expected).max() <= 0.51, "one window for all"
    for item in per_frame:
        own = volumes.groups("FrameVOILUTSequence", WindowCenter=500, WindowWidth=1001)
        item.FrameVOILUTSequence = own.FrameVOILUTSequence
    windows = opened(dicom(frames, **several))
    np.testing.assert_array_equal(windows.image(1), windowed(RAMP * 2.0, -0.5, 999.5))
    with pytest.raises(ImageError, match="no image 3: DICOM with 3 images"):
        windows.image(3)


def test_of_several_images_none_is_taken_for_one() -> None:
    with pytest.raises(ImageError, match=r"^DICOM with 3 images, expected one$") as caught:
        decode(dicom(np.stack([RAMP] * 3)))
    assert caught.value.code == "several_images"


def test_the_position_is_along_the_normal_or_the_number_in_the_series() -> None:
    plane = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}  # sagittal
    found = [opened(dicom(RAMP, ImagePositionPatient=[x, 7, 8], **plane)).positions[0] for x in (5, -3)]
    assert found == [-5, 3]
    assert list(opened(dicom(RAMP, InstanceNumber=17)).positions) == [17]
    assert list(opened(dicom(RAMP, InstanceNumber=None)).positions) == [0]


def test_what_it_is_and_whose_is_told() -> None:
    facts = opened(dicom(RAMP)).facts
    assert (facts.patient, facts.study, facts.series) == (volumes.PATIENT, volumes.STUDY, volumes.SERIES)
    assert facts.modality == "MR"
    for modality, told in (("CT", "CT"), ("Doe^Jane", "other"), ("", "other")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert opened(dicom(RAMP, Modality=modality)).facts.modality == told


SECRETS = (volumes.NAME, volumes.PATIENT, volumes.DATE, volumes.STUDY, volumes.SERIES, "ACC-98765", "Jane")


def damaged() -> list[bytes]:
    """Files with a name where a number or a code should be."""
    sound = dicom(RAMP)
    made = [
        dicom(RAMP, **{name: "1234567890"}).replace(b"1234567890", volumes.NAME.encode())
        for name in ("WindowCenter", "RescaleSlope", "InstanceNumber", "NumberOfFrames")
    ]
    made.append(sound.replace(b"MONOCHROME2 ", b"Doe^Jane Q  "))
    made.append(sound.replace(b"1.2.840.10008.1.2.1\0", b"1.2.3.4711.196912\0\0\0"))
    made.append(sound[:-500])
    return made


def test_no_text_of_a_header_gets_into_a_reason_or_a_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    reasons = []
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG, "brain_ray"):
        for data in damaged():
            try:
                opened(data).image(0)
            except ImageError as error:
                reasons.append(str(error))
    assert len(reasons) >= 4
    told = "\n".join([*reasons, *(str(one.message) for one in warned), *capfd.readouterr(), caplog.text])
    for secret in SECRETS:
        assert secret not in told


def test_what_is_no_image_says_so() -> None:
    for data, code, reason in (
        (dicom(RAMP, PixelData=None), "not_an_image", "a DICOM file without pixels"),
        (dicom(RAMP)[:-200], "undecodable", "damaged DICOM: its pixels cannot be decoded"),
        (bytes(128) + b"DICM" + bytes(50), "not_an_image", "without pixels"),
        (dicom(RAMP, Rows=0), "undecodable", "an image without pixels"),
        (dicom(RAMP[:8]), "too_small", "60x8 px"),
    ):
        with pytest.raises(ImageError, match=reason) as caught:
            decode(data)
        assert caught.value.code == code
