"""What preparation takes, prediction takes: pictures of any suffix, DICOM, NIfTI and MATLAB, also over
HTTP."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import volumes
from support.picture_files import picture_file, saved
from support.volumes import head

from brain_ray.bundle.predictor import Predictor
from brain_ray.data.decoder import Decoder
from brain_ray.data.decoding import CheckedFile, ImageError
from brain_ray.data.formats import FORMATS, media_types
from brain_ray.serving import predict
from brain_ray.serving.client.files import PassedOver
from brain_ray.serving.offline import predict_offline
from brain_ray.serving.preparing import check_upload, prepare_upload
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.uploads import Upload

VOLUMES = Path(__file__).parents[3] / "shared/data/volumes"


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor(bundle, threads=1)


def classified(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the job; return its exit code, its answers and what it says beside them."""
    code = predict.run("", [*words, "--json"])
    heard = capsys.readouterr()
    return code, [json.loads(line) for line in heard.out.splitlines()], heard.err


def test_names_without_a_known_suffix_are_looked_at_by_content(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(
        ("a.jfif", "b.jpe", "c", "d.jpg_large", "e.JPG", "f.jpeg ", "g.JFIF", "h.jpg", "i.nii.gz.part")
    ):
        (tmp_path / name).write_bytes(picture_file(head(number), ".png" if name == "e.JPG" else ".jpg"))
    (tmp_path / "metadata.csv").write_text("path,label\n")
    (tmp_path / "README").write_text("a text")
    (tmp_path / "DICOMDIR").write_bytes(volumes.dicom(head()))
    code, told, said = classified(capsys, "--bundle", str(bundle), str(tmp_path))
    assert code == 0
    assert [one["status"] for one in told] == ["ok"] * 9
    assert said == (
        f"3 files passed over, no images: {tmp_path}/DICOMDIR, {tmp_path}/README, {tmp_path}/metadata.csv\n"
    )
    assert predict.run("", ["--bundle", str(bundle), str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == said.rstrip()


def test_each_format_of_the_table_is_answered(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in media_types():
        row = next(row for row in FORMATS.values() if suffix in row.suffixes)
        if row.name == "NIFTI":
            data = volumes.nifti(head()[::-1, ::-1].T[..., None], packed=suffix == ".nii.gz")
        elif row.name in ("DICOM", "MAT"):
            data = {"DICOM": volumes.dicom, "MAT": volumes.mat}[row.name](head())
        else:
            data = picture_file(head(), suffix)
        (tmp_path / f"x{suffix}").write_bytes(data)
    (tmp_path / "x.avif").write_bytes(saved(Image.fromarray(head()).convert("RGB"), "AVIF"))
    _, told, said = classified(capsys, "--bundle", str(bundle), str(tmp_path), str(tmp_path / "x.avif"))
    assert [one["status"] for one in told] == ["ok"] * len(media_types()) + ["error"]
    assert told[-1]["problem"]["detail"] == "AVIF is not read: save it as PNG"
    assert said.endswith(f"1 file passed over, no images: {tmp_path}/x.avif\n")
    exact = [one for one in told[:-1] if not one["name"].endswith((".pbm", ".jpg", ".jpeg", ".jpe", ".jfif"))]
    assert len({json.dumps(one["calibrated"]) for one in exact}) == 1, "the same pixels, the same answer"


def test_slices_of_volumes_have_answers_of_their_own_and_empty_ones_have_none(
    predictor: Predictor, tmp_path: Path
) -> None:
    made = {
        "v.nii.gz": volumes.nifti(volumes.heads(7, empty=2)),
        "e.nii": volumes.nifti(volumes.heads(4, empty=2), packed=False),
        "m.dcm": volumes.dicom(np.stack([head(k).astype(np.uint16) for k in range(3)])),
        "s": volumes.dicom(head(1).astype(np.uint16)),
        "b.dcm": volumes.dicom(head())[:400],
        "p.png": picture_file(head(2), ".png"),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    passed_over = PassedOver()
    sources = [tmp_path / name for name in made]
    found = list(predict_offline(predictor, sources, batch_size=4, passed_over=passed_over))
    assert [one.name.removeprefix(f"{tmp_path}/") for one in found] == [
        *(f"v.nii.gz[{number}]" for number in (2, 3, 4)),
        "e.nii",
        *(f"m.dcm[{number}]" for number in range(3)),
        *("s", "b.dcm", "p.png"),
    ]
    failures = {
        one.name.removeprefix(f"{tmp_path}/"): one.problem for one in found if isinstance(one, Failure)
    }
    assert {name: problem.code for name, problem in failures.items()} == {
        "e.nii": "no_image",
        "b.dcm": "not_an_image",
    }
    assert failures["e.nii"].detail == "each of its 4 images is empty"
    assert passed_over.slices == {f"{tmp_path}/v.nii.gz": 4}
    assert passed_over.lines() == [f"4 empty slices passed over in {tmp_path}/v.nii.gz"]
    assert volumes.NAME not in "".join(one.model_dump_json() for one in found)


def test_a_real_volume_and_series_have_answers(predictor: Predictor) -> None:
    if not VOLUMES.is_dir():
        pytest.skip(f"no real volumes at ../{VOLUMES.relative_to(Path(__file__).parents[3])}")
    for folder, least in (("dicom-series", 56), ("dicom-files", 40), ("nifti", 170)):
        found = list(predict_offline(predictor, sorted((VOLUMES / folder).iterdir())))
        failed = [one for one in found if isinstance(one, Failure)]
        assert len(found) - len(failed) >= least
        assert [one.name for one in failed] == [str(VOLUMES / folder / "liver_deflate.dcm")] * (least == 40)


# --- over HTTP ----------------------------------------------------------------------------------------------


def test_the_endpoint_answers_files_of_one_image_and_says_so_of_others(predictor: Predictor) -> None:
    deep = head(1).astype(np.uint16) * 12
    several = {
        "m.dcm": (volumes.dicom(np.stack([deep, deep])), "DICOM with 2 images, expected one"),
        "v.nii": (volumes.nifti(volumes.heads(5)), "NIfTI with 5 images, expected one"),
        "a.gif": (stack("GIF"), "a stack of 2 frames: save each as a file of its own"),
        "t.tif": (stack("TIFF"), "a stack of 2 pages: save each as a file of its own"),
    }
    with Decoder(tuple(FORMATS.values())) as decoder:
        for name, (data, reason) in several.items():
            with pytest.raises(ProblemError) as caught:
                prepare_upload(decoder, predictor, Upload(name, data), 4_000_000, 0.0)
            problem = caught.value.problem
            assert (problem.status, problem.code, problem.detail) == (422, "several_images", reason)
        form = [Upload(name, data) for name, (data, _) in several.items()]
        form += [Upload("s.dcm", volumes.dicom(deep)), Upload("s.mat", volumes.mat(deep.astype(np.int16)))]
        checked = [check_upload(decoder, upload, 4_000_000) for upload in form]
        assert [type(upload.data) for upload in checked] == [ImageError] * 4 + [CheckedFile] * 2
        for upload, other in zip(checked[-2:], form[-2:], strict=True):
            one = prepare_upload(decoder, predictor, upload, 4_000_000, 0.0)
            two = prepare_upload(decoder, predictor, other, 4_000_000, 0.0)
            np.testing.assert_array_equal(one.input, two.input)


def stack(form: str) -> bytes:
    buffer = io.BytesIO()
    first, second = (Image.fromarray(head(number)) for number in range(2))
    first.save(buffer, form, save_all=True, append_images=[second])
    return buffer.getvalue()


# --- intensity ----------------------------------------------------------------------------------------------


def answer_of(predictor: Predictor, data: bytes) -> Answer:
    (found,) = predict_offline(predictor, [data])
    assert isinstance(found, Answer), found
    return found


def hot(image: NDArray[Any], number: int, value: float) -> NDArray[Any]:
    changed = image.copy()
    rng = np.random.default_rng(number)
    changed.ravel()[rng.choice(image.size, number, replace=False)] = value
    return changed


@pytest.mark.parametrize(
    "kind", ["dicom", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("png", "tiff", "nifti"))]
)
def test_hot_pixels_change_no_probability(predictor: Predictor, kind: str) -> None:
    def encoded(image: NDArray[Any]) -> bytes:
        if kind == "dicom":
            return volumes.dicom(image.astype(np.uint16))
        if kind == "nifti":
            return volumes.nifti(image[::-1, ::-1].T[..., None].astype(np.float32))
        return picture_file(image.astype(np.float32 if kind == "tiff" else np.uint16), f".{kind}")

    deep = [head(index).astype(np.float64) * 16 for index in range(8)]
    files = [encoded(hot(image, number, 65_535)) for image in deep for number in (0, 1, 10)]
    answers = [found for found in predict_offline(predictor, files) if isinstance(found, Answer)]
    assert len(answers) == len(files)
    assert all(answer.has_box for answer in answers)
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    undisturbed, *disturbed = probabilities.reshape(8, 3, -1).transpose(1, 0, 2)
    for found in disturbed:
        assert np.abs(found - undisturbed).max() < 0.01


def test_the_window_is_the_bundle_s(bundle: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "bundle"
    shutil.copytree(bundle, earlier)
    file = earlier / "bundle.json"
    content = json.loads(file.read_text())
    assert content["input"]["window"] == [0.5, 99.5]
    assert content["volumes"] == {"plane": "axial", "min_content": 0.05}
    del content["input"]["window"], content["volumes"]
    file.write_text(json.dumps(content))
    deep = hot(head(1).astype(np.uint16) * 16, 1, 65_535)
    data = picture_file(deep, ".png")
    now, before = Predictor(bundle, threads=1), Predictor(earlier, threads=1)
    assert before.read_spec.window == (0, 100)
    assert now.prepare(data)[2]
    assert not before.prepare(data)[2], "it goes on as it was made, from the darkest to the brightest pixel"
    assert not answer_of(before, data).has_box
    before.check_canaries()
