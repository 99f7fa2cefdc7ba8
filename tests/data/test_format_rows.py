"""Formats are rows: what a row says is what decoding goes by, and a file is looked at once."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import volumes
from support.made_up_format import MADE_UP, write
from support.picture_files import picture_file

from brain_ray.config import CropConfig
from brain_ray.data.decoder import Decoder
from brain_ray.data.decoding import CheckedFile, ImageError, check_file, decode, decode_checked
from brain_ray.data.file_names import IMAGE
from brain_ray.data.formats import FORMATS, HEAD_BYTES, PictureFormat, format_of, format_of_name, media_types
from brain_ray.input_spec import InputSpec
from brain_ray.serving.client.files import find_images
from brain_ray.serving.openapi import BODY
from brain_ray.serving.page_html import fill_page
from brain_ray.serving.preparing import check_pixels, check_upload
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.uploads import Upload

CROP, SPEC = CropConfig(), InputSpec(64, 48)
RAMP = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
ROWS = [*FORMATS.values(), MADE_UP]


def as_nifti(suffix: str) -> bytes:
    return volumes.nifti(RAMP[::-1, ::-1].T[..., None], packed=suffix != ".nii")


VOLUMES = {"DICOM": volumes.dicom(RAMP), "NIFTI": as_nifti(".nii"), "MAT": volumes.mat(RAMP)}


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_row_is_found_by_its_signature_and_decodes(name: str) -> None:
    row = FORMATS[name]
    for suffix in row.suffixes:
        image = ((RAMP > 40) * np.uint8(255)) if suffix == ".pbm" else RAMP
        data = VOLUMES[name] if name in VOLUMES else picture_file(image, suffix)
        data = as_nifti(suffix) if name == "NIFTI" else data
        assert isinstance(row, PictureFormat) == (name not in VOLUMES)
        assert format_of(data[:HEAD_BYTES], FORMATS.values()) is row
        assert format_of_name(f"folder/X{suffix.upper()}") is row
        assert [other.name for other in FORMATS.values() if format_of(data, [other])] == [name]
        checked = check_file(data, 4000)
        assert (checked.format, checked.width, checked.height, checked.num_images) == (row, 60, 40, 1)
        assert np.abs(decode_checked(checked, 4000).astype(int) - image).max() <= (8 if name == "JPEG" else 0)
        assert media_types()[suffix] == row.media_type
        assert IMAGE.search(f"x{suffix.upper()}")


def test_a_made_up_row_is_decoded_as_the_others_are(tmp_path: Path) -> None:
    data = write(RAMP, tmp_path / "notes")
    np.testing.assert_array_equal(decode(data, formats=ROWS), RAMP)
    assert (tmp_path / "notes").read_text().split() == ["check", "header", "decode"]
    for changed, formats, reason in (
        (data, None, "not an image"),
        (data, [FORMATS["PNG"], FORMATS["JPEG"]], "not an image: expected one of PNG, JPEG"),
        (data[:-1], ROWS, "damaged: some pixels are missing"),
        (data + b"more", ROWS, ""),
        (write(RAMP[:8], tmp_path / "notes"), ROWS, "too small: 60x8 px, a side needs 16"),
        (data.replace(b"60", b"6000", 1), ROWS, "too large: 6000x40 px, more than 100000 pixels"),
        (data.replace(b"60", b"60000", 1), ROWS, "refused: made for 60000x40 px"),
    ):
        if not reason:
            np.testing.assert_array_equal(decode(changed, 100_000, formats), RAMP)
            continue
        with pytest.raises(ImageError, match=f"^{re.escape(reason)}$"):
            decode(changed, 100_000, formats)


def test_a_decoders_processes_look_at_a_file_once(tmp_path: Path) -> None:
    data = write(RAMP, tmp_path / "notes")
    png = cv2.imencode(".png", RAMP)[1].tobytes()
    with Decoder(ROWS) as decoder:
        alone = decoder.prepare(data, 4000, CROP, SPEC)
        assert (tmp_path / "notes").read_text().split() == ["check", "header", "decode"]
        (tmp_path / "notes").unlink()
        names = ["a", "b", "c", "d", "e"]
        sent = [data + b"more", png, b"a text", data, b""]
        form = [Upload(name, each) for name, each in zip(names, sent, strict=True)]
        uploads = [check_upload(decoder, each, 4000) for each in form]
        check_pixels(uploads, 3 * 2400)
        assert [upload.name for upload in uploads] == names
        first, second, third, fourth, fifth = (upload.data for upload in uploads)
        assert first == fourth == CheckedFile(data, MADE_UP, 60, 40)
        assert second == check_file(png, 4000)
        assert isinstance(third, ImageError)
        assert str(third) == f"not an image: expected one of {', '.join(FORMATS)}, GREY"
        assert isinstance(fifth, ImageError)
        assert (tmp_path / "notes").read_text().split() == ["check", "header"] * 2
        found = decoder.prepare(first, 4000, CROP, SPEC)
        assert np.array_equal(found.input, alone.input)
        assert (tmp_path / "notes").read_text().split() == ["check", "header"] * 2 + ["decode"]
        with pytest.raises(ProblemError, match="its 5 images have 7200 pixels") as caught:
            check_pixels(uploads, 3 * 2400 - 1)
        assert caught.value.problem.code == "too_many_pixels"
        with pytest.raises(ImageError, match="too large: 60x40 px"):
            decoder.prepare(first, 2399, CROP, SPEC)


def test_what_people_are_told_of_formats_is_what_the_rows_say(tmp_path: Path) -> None:
    content = BODY["requestBody"]["content"]
    assert list(content) == [
        "multipart/form-data",
        "application/json",
        *(row.media_type for row in FORMATS.values()),
    ]
    titles = ", ".join(row.title for row in FORMATS.values())
    html = fill_page('<input accept="{{ accept }}"><p data-formats="{{ formats }}">{{ formats }}.', ROWS)
    assert html == (
        f'<input accept="image/*,{",".join(media_types())},.grey,.zip">'
        f'<p data-formats="{titles} or Grey">{titles} or Grey.'
    )
    for suffix in [*media_types(), ".grey", ".txt"]:
        (tmp_path / f"x{suffix}").touch()
    found = {path.name.removeprefix("x") for path in find_images([str(tmp_path)])}
    assert found == set(media_types())


def test_the_rows_need_no_image_library() -> None:
    code = (
        "import sys, brain_ray.data.formats, brain_ray.serving.client\n"
        "assert not {'cv2', 'PIL', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
