"""A study's way through a replica: its files are opened, their slices answered, and put together."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from brain_ray.data.formats import is_volume
from brain_ray.serving.answers import Prepared
from brain_ray.serving.contact_sheet import Picture, draw_sheet
from brain_ray.serving.engine import BATCHES, Engine
from brain_ray.serving.overlay import draw_overlay
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.slices import OpenFile, open_file, prepare_file
from brain_ray.serving.studies import MOST_CARRYING, Found, make_study
from brain_ray.serving.study_schemas import Study
from brain_ray.serving.uploads import Upload, check_uploads

FRAMES = 32
"""Largest number of a volume's slices that are decoded, and held, at a time."""

SHEET_SIDE = 256
"""Longest side of a crop for the contact sheet, in pixels."""


async def run_study(
    engine: Engine, uploads: Sequence[Upload], *, one_patient: bool, sheet: bool
) -> tuple[Study, bytes | None]:
    """Returns the answers to a study, and with `sheet` the contact sheet as a PNG.

    A challenger gets none of it: an answer to a patient is of one model.

    Args:
        engine: the replica's models.
        uploads: the files.
        one_patient: as in `make_study`.
        sheet: whether a contact sheet is drawn.

    Raises:
        ProblemError: `too_many_images`, `too_many_pixels`; or that of the only file.
    """
    start = time.perf_counter()
    opened = await asyncio.gather(*(_open(engine, upload) for upload in uploads))
    if len(opened) == 1 and isinstance(opened[0], Failure):
        problem = opened[0].problem
        raise ProblemError(problem.code, problem.detail)
    _check_limits(engine, [one for one in opened if isinstance(one, OpenFile)])
    crops: dict[int, Prepared] = {}
    room = asyncio.Semaphore(BATCHES * engine.config.batch_size)
    answered = await asyncio.gather(
        *(
            _answer(engine, one, number, start, room, crops if sheet else None)
            for number, one in enumerate(opened)
        )
    )
    predictor = engine.predictors[0]
    study = make_study(
        predictor,
        [found for file in answered for found in file],
        one_patient=one_patient,
        num_empty=sum(one.num_empty for one in opened if isinstance(one, OpenFile)),
    )
    if not sheet:
        return study, None
    return study, await engine.model_runs.run(_draw, engine, study, crops)


def _check_limits(engine: Engine, files: Sequence[OpenFile]) -> None:
    config = engine.config
    slices, pixels = sum(len(file.numbers) for file in files), sum(file.pixels for file in files)
    if slices > config.max_study_images:
        raise ProblemError(
            "too_many_images",
            f"it has {slices} slices; expected at most {config.max_study_images} in a study",
        )
    if pixels > config.max_request_pixels:
        raise ProblemError(
            "too_many_pixels",
            f"its slices have {pixels} pixels; expected at most {config.max_request_pixels}",
        )


async def _open(engine: Engine, upload: Upload) -> OpenFile | Failure:
    config = engine.config

    def work() -> OpenFile:
        file = upload
        if isinstance(upload.data, bytes) and not is_volume(upload.data):  # a picture tells its size here
            (file,) = check_uploads(engine.decoder, [upload], config.max_pixels, config.max_request_pixels)
        return open_file(engine.decoder, engine.predictors[0], file, config.max_pixels)

    try:
        return await engine.decode_study(work)
    except ProblemError as error:
        return Failure(name=upload.name, problem=error.problem)


async def _answer(
    engine: Engine,
    file: OpenFile | Failure,
    number: int,
    start: float,
    room: asyncio.Semaphore,
    crops: dict[int, Prepared] | None,
) -> list[Found]:
    """Returns the results for a file's slices; `crops` gets the prepared images by the ids of their
    answers, and `room` bounds how many slices wait for the model."""
    if isinstance(file, Failure):
        return [Found(file, None, file=number)]
    side = 0 if crops is None else SHEET_SIDE
    found: list[Found] = []
    for first in range(0, len(file.numbers), FRAMES):
        some = replace(
            file,
            numbers=file.numbers[first : first + FRAMES],
            positions=file.positions[first : first + FRAMES],
        )
        prepared = await engine.decode_study(
            prepare_file, engine.decoder, engine.predictors[0], some, engine.config.max_pixels, start, side
        )
        results = await asyncio.gather(*(_classify(engine, each, room, crops) for each in prepared))
        found += [
            Found(result, file.origin, position, number)
            for result, position in zip(results, some.positions, strict=True)
        ]
    return found


async def _classify(
    engine: Engine, prepared: Prepared | Failure, room: asyncio.Semaphore, crops: dict[int, Prepared] | None
) -> Answer | Failure:
    if isinstance(prepared, Failure):
        return prepared
    async with room:
        answer, _ = await engine.classify(prepared)
    if crops is not None:
        crops[id(answer)] = prepared
    return answer


def _draw(engine: Engine, study: Study, crops: dict[int, Prepared]) -> bytes:
    """Draws the contact sheet; the slices that it shows are run once more, for their feature maps."""
    model = engine.predictors[0]
    overlays: dict[int, Picture] = {}
    for patient in study.patients:
        shown = [crops[id(study.slices[i].result)] for i in patient.carried_by]
        if not shown or patient.label is None:
            continue
        maps = model.predict(np.stack([one.input for one in shown])).feature_maps
        heats = model.explain(maps, [model.classes.index(patient.label)] * len(shown))
        for i, one, heat in zip(patient.carried_by, shown, heats, strict=True):
            assert one.crop is not None
            over = draw_overlay(one.crop, heat, model.spec, model.map_shift)[2]
            overlays[i] = np.asarray(cv2.imdecode(np.frombuffer(over, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    return draw_sheet(study, overlays, MOST_CARRYING)
