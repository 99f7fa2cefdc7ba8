"""Studies: one answer for each series and patient, by the endpoint and offline."""

import asyncio
import base64
import csv
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from pydicom.uid import generate_uid
from support import volumes
from support.endpoint import Ask, picture
from support.studies import archive
from support.studies import known_slices as slices

from brain_ray.bundle.predictor import Predictor
from brain_ray.serving import predict
from brain_ray.serving.client import Client, EndpointError
from brain_ray.serving.engine import Engine
from brain_ray.serving.offline import predict_study
from brain_ray.serving.routes import make_app
from brain_ray.serving.study_schemas import Study

SECRETS = (
    volumes.NAME,
    "Doe",
    "Jane",
    volumes.PATIENT,
    volumes.DATE,
    volumes.STUDY,
    volumes.SERIES,
    "ACC-98765",
)


def form(files: Sequence[bytes], prefix: str = "s") -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{prefix}{k}.dcm", data)) for k, data in enumerate(files)]


def study_of(response: httpx.Response) -> Study:
    assert response.status_code == 200, response.text
    return Study.model_validate_json(response.content)


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return str(response.json()["code"])


def test_a_series_has_one_answer_by_the_bundles_rule_and_nothing_of_its_header_gets_out(
    ask: Ask, bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    response = ask("POST", "/v1/studies", files=form(slices("pituitary")))
    study = study_of(response)
    (patient,), (series,) = study.patients, study.series
    assert (patient.number, patient.series, series.number, series.patient) == (1, [1], 1, 1)
    assert series.modality == "MR"
    assert [one.result.name for one in study.slices] == [f"s{k}.dcm" for k in (4, 3, 2, 1, 0)]  # from below
    assert patient.num_slices == patient.num_counted == 5
    predictor = Predictor(bundle)
    rule = predictor.info["patients"]
    assert study.rule == rule["rule"]
    rows = np.array([list(one.result.calibrated.values()) for one in study.slices])  # type: ignore[union-attr]
    expected = predictor.answer_patient(rows)
    assert patient.calibrated is not None
    np.testing.assert_allclose(list(patient.calibrated.values()), expected.calibrated, atol=1e-6)
    assert patient.label == "pituitary"
    assert patient.decision == expected.decision == "answer"
    assert patient.confidence == max(patient.calibrated.values()) >= rule["abstain_below"]
    assert patient.candidates is not None
    assert "pituitary" in patient.candidates
    most = max(range(5), key=lambda i: study.slices[i].result.calibrated["pituitary"])  # type: ignore[union-attr]
    assert patient.carried_by[0] == most
    assert sorted(patient.carried_by) == [0, 1, 2, 3, 4]
    told = response.text + "".join(capfd.readouterr())
    assert not [secret for secret in SECRETS if secret in told]


def test_offline_gives_the_endpoints_answers(ask: Ask, bundle: Path, tmp_path: Path) -> None:
    files = [*slices("glioma", 3), *slices("notumor", 2, PatientID="other", SeriesInstanceUID=generate_uid())]
    files += [volumes.nifti(volumes.heads(9, 2)), picture()]
    names = [f"{k}.img" for k in range(len(files))]
    for name, data in zip(names, files, strict=True):
        (tmp_path / name).write_bytes(data)
    form_ = [("file", (str(tmp_path / name), data)) for name, data in zip(names, files, strict=True)]
    served = study_of(ask("POST", "/v1/studies", files=form_))
    offline = predict_study(Predictor(bundle, threads=1), [tmp_path / name for name in names], batch_size=3)
    assert [patient.num_slices for patient in served.patients] == [3, 2, 5]
    assert served.empty_slices == offline.empty_slices == 4
    assert [failure.problem.code for failure in served.unassigned] == ["no_patient"]

    def plain(study: Study) -> Any:
        found = json.loads(study.model_dump_json(exclude={"milliseconds"}))
        for one in found["slices"]:
            del one["result"]["milliseconds"]
        return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))

    assert plain(served) == plain(offline)


def test_slices_are_grouped_by_patient_study_and_series(ask: Ask) -> None:
    one, two = generate_uid(), generate_uid()
    files = [
        *slices("glioma", 2, SeriesInstanceUID=one),
        *slices("glioma", 2, SeriesInstanceUID=two),
        *slices("pituitary", 2, SeriesInstanceUID=two, PatientID="somebody else"),  # mixed into a series
        *slices("notumor", 1, PatientID="", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4"),
        *slices("notumor", 1, PatientID="", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.5"),
    ]
    study = study_of(ask("POST", "/v1/studies", files=form(files)))
    assert [patient.series for patient in study.patients] == [[1, 2], [3], [4, 5]]
    assert [patient.label for patient in study.patients] == ["glioma", "pituitary", "notumor"]
    assert [one.patient for one in study.series] == [1, 1, 2, 3, 3]
    assert len(study.notes) == 1
    assert "2 patients have the same series number" in study.notes[0]
    together = study_of(ask("POST", "/v1/studies?one_patient=true", files=form(files)))
    assert [patient.num_slices for patient in together.patients] == [8]


def test_pictures_are_answered_if_they_are_said_to_be_of_one_patient(ask: Ask) -> None:
    files = [("file", (f"{k}.png", picture("glioma", k))) for k in range(3)]
    refused = study_of(ask("POST", "/v1/studies", files=files))
    assert refused.patients == []
    assert {failure.problem.code for failure in refused.unassigned} == {"no_patient"}
    study = study_of(ask("POST", "/v1/studies?one_patient=true", files=files))
    assert [(patient.label, patient.num_slices) for patient in study.patients] == [("glioma", 3)]
    assert [one.result.name for one in study.slices] == ["0.png", "1.png", "2.png"]


def test_other_modalities_and_slices_unlike_training_are_not_counted(ask: Ask) -> None:
    scan = slices("glioma", 3, Modality="CT")
    study = study_of(ask("POST", "/v1/studies", files=form(scan)))
    assert [(one.decision, one.label, one.num_counted) for one in study.patients] == [("not_mr", None, 0)]
    assert "CT" in study.notes[0]
    noise = np.random.default_rng(0).integers(0, 255, (4, 200, 200), dtype=np.uint8)
    mostly = [*slices("glioma", 3), *(volumes.dicom(one) for one in noise)]
    study = study_of(ask("POST", "/v1/studies", files=form(mostly)))
    (patient,) = study.patients
    assert (patient.num_slices, patient.num_counted, patient.decision) == (7, 3, "not_mr")
    assert study.notes == ["not counted of patient 1's 7 slices: 4 unlike the training images"]
    dark = [*slices("glioma", 1), *(volumes.dicom(np.eye(64, dtype=np.uint8) * 200) for _ in range(3))]
    study = study_of(ask("POST", "/v1/studies", files=form(dark)))
    assert study.notes == ["not counted of patient 1's 4 slices: 3 in which no head was found"]
    few = [*slices("glioma", 3), volumes.dicom(noise[0])]
    (patient,) = study_of(ask("POST", "/v1/studies", files=form(few))).patients
    assert (patient.num_slices, patient.num_counted, patient.label) == (4, 3, "glioma")


def test_a_damaged_slice_costs_itself_alone(ask: Ask) -> None:
    files = slices("glioma", 4)
    files[1] = files[1][:-5000]
    study = study_of(ask("POST", "/v1/studies", files=[*form(files), ("file", ("x.txt", b"no image"))]))
    (patient,) = study.patients
    assert (patient.num_slices, patient.num_counted) == (4, 3)
    (broken,) = [one.result for one in study.slices if one.result.status == "error"]
    assert (broken.name, broken.problem.code) == ("s1.dcm", "undecodable")  # type: ignore[union-attr]
    assert [(one.name, one.problem.code) for one in study.unassigned] == [("x.txt", "not_an_image")]
    alone = ask("POST", "/v1/studies", content=b"nothing", headers={"content-type": "application/dicom"})
    assert (alone.status_code, code_of(alone)) == (415, "not_an_image")


def test_a_study_comes_as_form_archive_dicomweb_request_or_volume(ask: Ask) -> None:
    files = slices("notumor", 4)
    sent = study_of(ask("POST", "/v1/studies", files=form(files)))

    packed = archive(
        {f"PAT/SER/s{k}.dcm": data for k, data in enumerate(files)} | {"DICOMDIR": b"x", "a/": b""}
    )
    as_body = ask("POST", "/v1/studies", content=packed, headers={"content-type": "application/zip"})
    in_form = ask("POST", "/v1/studies", files={"file": ("study.zip", packed)})

    def related(line: bytes) -> bytes:
        head = b"Content-Type: application/dicom" + line + line
        return b"".join(b"--b1" + line + head + data + line for data in files) + b"--b1--" + line

    kind = {"content-type": 'multipart/related; type="application/dicom"; boundary=b1'}
    as_stow = ask("POST", "/v1/studies", content=related(b"\r\n"), headers=kind)
    for response in (as_body, in_form, as_stow):
        study = study_of(response)
        assert [one.model_dump() for one in study.patients] == [one.model_dump() for one in sent.patients]
        assert study.unassigned == []
    assert study_of(as_body).slices[0].result.name == "PAT/SER/s3.dcm"
    assert study_of(as_stow).slices[0].result.name == "part 4"

    volume = ask("POST", "/v1/studies", content=volumes.nifti(volumes.heads(9, 2)))
    study = study_of(volume)
    assert [(one.num_slices, one.number) for one in study.patients] == [(5, 1)]
    assert study.empty_slices == 4
    assert [one.result.name for one in study.slices] == [f"image[{k}]" for k in range(2, 7)]


def test_the_contact_sheet_shows_each_patient_with_heat_maps(ask: Ask) -> None:
    files = form([*slices("glioma", 3), *slices("pituitary", 8, PatientID="b")])
    response = ask("POST", "/v1/studies", files=files, headers={"accept": "image/png"})
    assert response.headers["content-type"] == "image/png"
    sheet = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    lines, tiles, space, columns = 2 * 28, 2 * 192, 2 * 6, 6
    assert sheet.shape == (lines + tiles + space, 6 + columns * (192 + 6), 3)
    coloured = (np.ptp(sheet.astype(int), axis=2) > 30).mean()
    assert coloured > 0.02  # heat maps; slices themselves are grey
    first_row = sheet[28 : 28 + 192]
    assert first_row[:, : 6 + 3 * 198].mean() > 5
    assert first_row[:, 6 + 3 * 198 :].max() == 0  # three slices only
    told = ask("POST", "/v1/studies?contact_sheet=true", files=files).json()
    assert len(told["contact_sheet"]) > 1000
    assert study_of(ask("POST", "/v1/studies", files=files)).contact_sheet is None


def test_each_slice_has_its_pictures_if_they_are_asked_for(ask: Ask) -> None:
    files = form([*slices("glioma", 2), *slices("glioma", 1)[:1]])
    told = ask("POST", "/v1/studies?pictures=true", files=files).json()["slices"]
    explained = ask("POST", "/v1/explain", files=files).json()["results"]
    by_name = {one["name"]: one for one in explained}
    for one in told:
        large = by_name[one["result"]["name"]]
        for name in ("crop", "heatmap"):
            shown, expected = (
                cv2.imdecode(np.frombuffer(base64.b64decode(of[name]), np.uint8), cv2.IMREAD_UNCHANGED)
                for of in (one, large)
            )
            assert shown is not None
            assert expected is not None
            height, width = shown.shape[:2]
            assert max(height, width) <= 192
            small = cv2.resize(expected, (width, height), interpolation=cv2.INTER_AREA)
            assert np.abs(small.astype(float) - shown).mean() < 6
    plain = ask("POST", "/v1/studies", files=files).json()["slices"]
    assert {one["crop"] for one in plain} == {one["heatmap"] for one in plain} == {None}


def test_a_bundle_of_an_earlier_version_takes_the_mean_and_abstains(bundle: Path, tmp_path: Path) -> None:
    earlier = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    info = json.loads((earlier / "bundle.json").read_text())
    del info["patients"]
    (earlier / "bundle.json").write_text(json.dumps(info))
    study = predict_study(Predictor(earlier, threads=1), slices("glioma", 3))
    (patient,) = study.patients
    assert (study.rule, patient.label, patient.decision) == ("mean", "glioma", "abstain")
    assert patient.candidates is None


def lying(data: bytes, size: int) -> bytes:
    """An archive of one file whose list states another size."""
    made = bytearray(data)
    for place, offset in ((made.find(b"PK\x01\x02"), 24), (0, 22)):
        made[place + offset : place + offset + 4] = size.to_bytes(4, "little")
    return bytes(made)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (archive({"a.dcm": bytes(200_000_000)}), "too_large"),
        (archive({f"{k}.dcm": bytes(1_000_000) for k in range(150)}), "too_large"),
        (archive({f"{k}.dcm": b"x" for k in range(400)}, zipfile.ZIP_STORED), "too_many_images"),
        (archive({f"{k}.txt": b"x" for k in range(2000)}, zipfile.ZIP_STORED), "too_many_images"),
        (archive({"a.dcm": bytes(1000)}, zipfile.ZIP_LZMA), "bad_request"),
        (archive({"a.dcm": bytes(1000)})[:-30], "bad_request"),
        (lying(archive({"a.dcm": bytes(50_000_000)}), 100), "bad_request"),
        (archive({"readme.txt": b"x"}), "no_image"),
        (archive({"inner.zip": archive({"a.dcm": bytes(1000)})}), "not_an_image"),
        (b"PK\x03\x04 and nothing else", "bad_request"),
    ],
    ids=["bomb", "many", "files", "texts", "lzma", "cut", "lies", "empty", "nested", "head"],
)  # fmt: skip
def test_archives_that_cannot_be_used_are_refused(ask: Ask, body: bytes, code: str) -> None:
    response = ask("POST", "/v1/studies", content=body, headers={"content-type": "application/zip"})
    assert code_of(response) == code, response.text


def test_an_archive_for_which_there_is_no_room_is_refused_before_it_is_unpacked(
    ask: Ask, engine: Engine
) -> None:
    study = lying(archive({"a.dcm": slices("glioma", 1)[0]}), 60_000_000)  # it has less than it states
    with engine.admission.hold(150_000_000):
        response = ask("POST", "/v1/studies", content=study)
    assert code_of(response) == "queue_full"
    assert ask("POST", "/v1/studies", content=study).status_code == 200


def test_an_encrypted_archive_is_refused(ask: Ask) -> None:
    made = bytearray(archive({"a.dcm": bytes(1000)}))
    for place, offset in ((made.find(b"PK\x01\x02"), 8), (0, 6)):
        made[place + offset] |= 1
    response = ask("POST", "/v1/studies", content=bytes(made))
    assert code_of(response) == "bad_request"
    assert "encrypted" in response.json()["detail"]


def test_a_studys_limits_are_told_and_held(ask: Ask) -> None:
    limits = ask("GET", "/v1/model").json()["limits"]
    assert (limits["max_study_mb"], limits["max_study_images"]) == (100, 300)
    files = form(slices("glioma", 4))
    assert (
        code_of(ask("POST", "/v1/studies", files=files, settings={"max_study_images": 3}))
        == "too_many_images"
    )
    volume = volumes.nifti(volumes.heads(9, 2))
    assert (
        code_of(ask("POST", "/v1/studies", content=volume, settings={"max_study_images": 3}))
        == "too_many_images"
    )
    few = {"max_request_pixels": 100_000}
    assert code_of(ask("POST", "/v1/studies", files=files, settings=few)) == "too_many_pixels"
    assert code_of(ask("POST", "/v1/studies", files=files, settings={"max_study_mb": 0.01})) == "too_large"
    assert code_of(ask("POST", "/v1/studies", content=b"")) == "no_image"


def save(folder: Path, files: Sequence[bytes]) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{k}.dcm" for k in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return paths


@pytest.fixture
def make_client(engine: Engine) -> Callable[..., Client]:
    """Give a function that returns a client whose requests go to an engine in this process."""

    class Transport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            inner = httpx.ASGITransport(make_app(engine))

            async def talk() -> httpx.Response:
                async with httpx.AsyncClient(transport=inner, base_url="http://localhost") as http:
                    found = await http.request(
                        request.method, request.url, headers=request.headers, content=request.read()
                    )
                    return httpx.Response(found.status_code, headers=found.headers, content=found.content)

            return asyncio.run(talk())

    return lambda *_, **__: Client("http://localhost", transport=Transport())


def test_the_client_sends_a_study(make_client: Callable[..., Client], tmp_path: Path) -> None:
    client = make_client()
    paths = save(tmp_path / "s", slices("pituitary", 3))
    study = client.study([*paths, tmp_path / "missing.dcm"], contact_sheet=True)
    assert [(one.label, one.num_slices) for one in study.patients] == [("pituitary", 3)]
    assert study.slices[0].result.name == str(paths[2])
    assert [one.problem.code for one in study.unassigned] == ["unreadable"]
    assert study.contact_sheet
    pictures = client.study([picture(), picture("glioma", 1)], one_patient=True)
    assert [(one.label, one.num_slices) for one in pictures.patients] == [("glioma", 2)]
    with pytest.raises(EndpointError, match="not_an_image"):
        client.study([b"nothing"])


def test_the_job_tells_patients_in_each_form_by_bundle_and_by_endpoint(
    bundle: Path, make_client: Callable[..., Client], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "a", slices("pituitary", 3))
    save(tmp_path / "b", slices("glioma", 2, PatientID="b", SeriesInstanceUID=generate_uid()))
    (tmp_path / "c.png").write_bytes(picture())

    def said(*words: str) -> str:
        assert predict.run("", [*words, str(tmp_path)], make_client=make_client) == 1  # c.png
        return capsys.readouterr().out

    by = {"bundle": ("--bundle", str(bundle)), "endpoint": ("--url", "localhost")}
    for words in by.values():
        table = said(*words, "--per", "patient").splitlines()
        assert table[1].split()[:4] == ["patient", "1", "3/3", "pituitary"]
        assert table[2].split()[:4] == ["patient", "2", "2/2", "glioma"]
        assert "6 images" in table[-1]
        rows = list(csv.DictReader(io.StringIO(said(*words, "--per", "series", "--csv"))))
        assert [(row["series"], row["patient"], row["label"]) for row in rows[:2]] == [
            ("1", "1", "pituitary"),
            ("2", "2", "glioma"),
        ]
        assert rows[2]["error"].startswith("no_patient")
        assert float(rows[1]["calibrated glioma"]) == float(rows[1]["confidence"])
        lines = [json.loads(line) for line in said(*words, "--per", "patient", "--json").splitlines()]
        assert [line.get("label") for line in lines] == ["pituitary", "glioma", None]
        assert lines[1]["first_file"] == str(tmp_path / "b" / "1.dcm")
        assert set(lines[1]["carried_by"]) == {str(tmp_path / "b" / f"{k}.dcm") for k in range(2)}
    assert predict.run("", [*by["bundle"], str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "patient 1         3/3  pituitary" in table
    assert predict.run("", [*by["bundle"], "--csv", str(tmp_path)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["label"] for row in rows].count("pituitary") == 3
    (tmp_path / "empty").mkdir()
    for words in by.values():
        assert (
            predict.run("", [*words, "--per", "patient", str(tmp_path / "empty")], make_client=make_client)
            == 1
        )
        assert capsys.readouterr().err == f"error: no image in {tmp_path / 'empty'}\n"
    together = ["--per", "patient", "--one-patient", "--json"]
    assert predict.run("", [*by["bundle"], *together, str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["num_slices"] == 6
