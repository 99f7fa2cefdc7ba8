"""Images without an answer, kept for people to label, and the manifest of them."""

import asyncio
import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from support import volumes
from support.s3_server import s3_server
from support.studies import known_slices

from brain_ray import jobs
from brain_ray.config.data import DataConfig
from brain_ray.data.phantoms.files import draw
from brain_ray.data.sources.find import list_source
from brain_ray.errors import RunError
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.counts import NoMetrics
from brain_ray.serving.engine import Engine
from brain_ray.serving.review import Record, open_folder, read_records
from brain_ray.serving.review_manifest import UNLABELLED, write_manifest
from brain_ray.serving.routes import make_app

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
Form = list[tuple[str, tuple[str, bytes]]]


class Outcomes(NoMetrics):
    """What came of keeping."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def reviewed(self, outcome: str) -> None:
        self.counted[outcome] += 1


def noise(seed: int = 1, side: int = 90) -> bytes:
    """A picture that is unlike all training images."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def head(index: int = 0) -> bytes:
    """A phantom that the bundle knows."""
    return cv2.imencode(".png", draw("pituitary", 11, 4000 + index))[1].tobytes()


def form(*files: bytes) -> Form:
    return [("file", (f"Doe_Jane_{k}.png", data)) for k, data in enumerate(files)]


def post(
    bundle: Path, requests: Sequence[tuple[str, Form]], **settings: Any
) -> tuple[list[dict[str, Any]], Outcomes]:
    """Send forms to a new replica, one after the other, and wait until what it keeps is written."""
    outcomes = Outcomes()
    engine = Engine(ServingConfig(bundle=str(bundle), **settings), counts=outcomes)

    async def talk() -> list[dict[str, Any]]:
        transport = httpx.ASGITransport(make_app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = [await client.post(path, files=files) for path, files in requests]
            while engine.admission.held_bytes:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        return [answer.raise_for_status().json() for answer in answers]

    return asyncio.run(talk()), outcomes


def test_only_files_without_an_answer_are_kept_as_they_were_sent(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "review"
    requests = [("/v1/predict", form(head(), noise())), ("/v1/explain", form(noise(2)))]
    (first, second), outcomes = post(bundle, requests, review=str(folder))
    assert [one["decision"] for one in (*first["results"], *second["results"])] == [
        "answer",
        "not_mr",
        "not_mr",
    ]
    records, damaged = read_records(str(folder))
    assert (len(records), damaged, outcomes.counted) == (2, 0, {"kept": 2})
    assert {(folder / record.file).read_bytes() for record in records} == {noise(), noise(2)}
    assert len({record.request for record in records}) == 2
    assert folder.stat().st_mode & 0o777 == 0o700
    for record in records:
        (image,) = record.images
        assert (record.file[-4:], image.image, image.decision) == (".png", None, "not_mr")
    assert "Doe" not in "".join(path.name + path.read_text("latin-1") for path in folder.iterdir())

    _, outcomes = post(bundle, requests, review=str(folder))
    assert outcomes.counted == {"known": 2}, "a restarted replica knows what is there"


def test_nothing_is_kept_without_the_setting(bundle: Path) -> None:
    assert Engine(ServingConfig(bundle=str(bundle))).review is None
    _, outcomes = post(bundle, [("/v1/predict", form(noise()))])
    assert not outcomes.counted


def test_the_page_is_told_that_files_are_kept(bundle: Path, tmp_path: Path) -> None:
    for review in (None, str(tmp_path / "review")):
        engine = Engine(ServingConfig(bundle=str(bundle), review=review))

        async def ask(engine: Engine = engine) -> bool:
            transport = httpx.ASGITransport(make_app(engine))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                told: bool = (await client.get("/v1/model")).json()["review"]
                return told

        assert asyncio.run(ask()) is (review is not None)


def test_of_a_study_the_files_are_kept_whose_slices_or_patient_have_no_answer(
    bundle: Path, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (90, 80), dtype=np.uint8)
    strange = volumes.dicom(pixels)
    volume = volumes.nifti(volumes.heads(9, 2))
    review = tmp_path / "review"
    sent = form(*known_slices("pituitary", 3), strange, volume)
    (study,), _ = post(bundle, [("/v1/studies", sent)], review=str(review))
    withheld = {
        study["slices"][i]["result"]["name"]: patient["decision"]
        for patient in study["patients"]
        for i in patient["carried_by"]
        if patient["decision"] != "answer"
    }
    expected = set(withheld) | {
        one["result"]["name"] for one in study["slices"] if one["result"]["decision"] != "answer"
    }
    records, _ = read_records(str(review))
    data = {f"Doe_Jane_{k}.png": file for k, (_, (_, file)) in enumerate(sent)}
    names = {hashlib.sha256(file).hexdigest()[:12]: name for name, file in data.items()}
    found = set()
    for record in records:
        name = names[hashlib.sha256((review / record.file).read_bytes()).hexdigest()[:12]]
        found |= {name if one.image is None else f"{name}[{one.image}]" for one in record.images}
    assert found == expected
    assert "Doe_Jane_3.png" in found
    assert len({record.request for record in records}) == 1
    assert {Path(record.file).suffix for record in records} <= {".dcm", ".gz"}


def test_a_patient_without_an_answer_keeps_the_slices_that_carry_it(bundle: Path, tmp_path: Path) -> None:
    undecided = tmp_path / "undecided"
    shutil.copytree(bundle, undecided)
    info = json.loads((undecided / "bundle.json").read_text())
    info["patients"]["abstain_below"] = 1.01
    (undecided / "bundle.json").write_text(json.dumps(info))
    review = tmp_path / "review"
    sent = form(*known_slices("pituitary", 3))
    (study,), outcomes = post(undecided, [("/v1/studies", sent)], review=str(review))
    assert [patient["decision"] for patient in study["patients"]] == ["abstain"]
    records, _ = read_records(str(review))
    assert len(records) == outcomes.counted["kept"] == 3
    assert {image.patient_decision for record in records for image in record.images} == {"abstain"}


def test_a_folder_that_is_full_or_fails_costs_no_answer(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [("/v1/predict", form(noise(k))) for k in range(4)]
    size = len(noise())
    _, outcomes = post(bundle, requests, review=str(tmp_path / "full"), max_review_mb=2.5 * size / 1e6)
    assert outcomes.counted == {"kept": 2, "no_room": 2}
    taken = sum(path.stat().st_size for path in (tmp_path / "full").iterdir())
    assert taken <= 2.5 * size
    big = form(noise(9, 1600))
    assert len(big[0][1][1]) > 2.5e6
    held = {"max_held_mb": 10, "max_upload_mb": 10, "max_study_mb": 10}
    _, outcomes = post(bundle, [("/v1/predict", big)], review=str(tmp_path / "large"), **held)
    assert outcomes.counted == {"no_room": 1}


def test_a_storage_that_fails_is_said_once_and_costs_no_answer(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = Outcomes()
    folder = tmp_path / "review"
    engine = Engine(ServingConfig(bundle=str(bundle), review=str(folder)), counts=outcomes)

    async def talk() -> None:
        transport = httpx.ASGITransport(make_app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for k, there in enumerate((False, False, True)):
                shutil.rmtree(folder, ignore_errors=True)
                if there:
                    folder.mkdir()
                (await client.post("/v1/predict", files=form(noise(k)))).raise_for_status()
                while sum(outcomes.counted.values()) <= k:
                    await asyncio.sleep(0.01)

    caplog.set_level("INFO", "brain_ray")
    asyncio.run(talk())
    assert outcomes.counted == {"failed": 2, "kept": 1}
    said = [record.getMessage() for record in caplog.records if "review" in record.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("images are not kept for review any more: ")
    assert said[1] == "images are kept for review again"


def test_a_folder_that_cannot_be_written_is_said_before_the_endpoint_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot keep images for review in \S+/file"):
        open_folder(str(tmp_path / "file"))


def test_the_manifest_is_labelled_by_people_and_prepared(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "review"
    post(bundle, [("/v1/predict", form(*map(noise, range(5))))], review=str(folder))
    (folder / "damaged.json").write_text("{")
    assert jobs.run("review", "review.py", [str(folder)]) == 0
    told = capsys.readouterr().out
    assert "5 files, 0 of them labelled\nleft out: 1 files" in told
    assert f"--data.source {folder}/review.csv --data.ignore-labels {UNLABELLED}" in told
    manifest = folder / "review.csv"
    rows = list(csv.DictReader(manifest.open()))
    assert [row["label"] for row in rows] == [UNLABELLED] * 5
    confidences = [float(row["confidence"]) for row in rows]
    assert confidences == sorted(confidences)
    for row, label in zip(rows, (*CLASSES[:2], *CLASSES[:2]), strict=False):
        row["label"] = label
    with manifest.open("w") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    post(bundle, [("/v1/predict", form(noise(8)))], review=str(folder))
    assert write_manifest(str(folder)) == (6, 4, 1)
    data = DataConfig(source=str(manifest), classes=CLASSES[:2], ignore_labels=(UNLABELLED,))
    listing = list_source(str(manifest), data)
    assert sorted(listing.files["class_name"]) == ["glioma", "glioma", "meningioma", "meningioma"]
    out = tmp_path / "elsewhere.csv"
    assert write_manifest(str(folder), str(out)) == (6, 0, 1)


@pytest.mark.parametrize(("made", "why"), [(False, "is no folder"), (True, "nothing is kept")])
def test_a_folder_with_nothing_kept_is_said(
    tmp_path: Path, made: bool, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "review"
    if made:
        folder.mkdir()
    assert jobs.run("review", "review.py", [str(folder)]) == 1
    assert why in capsys.readouterr().err


def test_a_table_of_something_else_is_not_overwritten(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "review"
    post(bundle, [("/v1/predict", form(noise()))], review=str(folder))
    (folder / "review.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="no columns path and label"):
        write_manifest(str(folder))
    assert (folder / "review.csv").read_text() == "a,b\n1,2\n"


def test_the_same_in_a_bucket(bundle: Path, tmp_path: Path) -> None:
    with s3_server("wards") as server:
        location = f"s3://wards/review?{server.query}"
        post(bundle, [("/v1/predict", form(noise(), noise(2), head()))], review=location)
        assert write_manifest(location) == (2, 0, 0)
        objects = [name for name in server.objects("wards") if not name.endswith("/")]
        assert sorted(Path(name).suffix for name in objects) == [".csv", ".json", ".json", ".png", ".png"]
        (record, *_), _ = read_records(location)
        assert isinstance(record, Record)
