"""A study's way through a replica: its files are opened, their slices answered, and put together."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.data.formats import is_volume
from brain_ray.serving.answers import Prepared
from brain_ray.serving.contact_sheet import Picture, draw_sheet
from brain_ray.serving.engine import BATCHES, Engine
from brain_ray.serving.overlay import draw_overlay, to_base64
from brain_ray.serving.preparing import check_pixels, check_upload
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.review import Review, describe
from brain_ray.serving.schemas import Answer, Failure
from brain_ray.serving.slices import OpenedFile, open_file, prepare_file
from brain_ray.serving.studies import MOST_CARRYING, Found, make_study
from brain_ray.serving.study_schemas import Study
from brain_ray.serving.turns import due_at
from brain_ray.serving.uploads import Upload

FRAMES = 32
"""Largest number of a volume's slices that are decoded, and held, at a time."""

SIDE = 192
"""Longest side of a displayed crop, in pixels."""


@dataclass(frozen=True)
class Wanted:
    """What a study is asked for beside its answers."""

    one_patient: bool = False
    """As in `make_study`."""
    sheet: bool = False
    """The contact sheet."""
    pictures: bool = False
    """Crop and heat map of each slice."""


async def run_study(engine: Engine, uploads: Sequence[Upload], wanted: Wanted) -> tuple[Study, bytes | None]:
    """Returns the answers to a study, and the contact sheet as a PNG if it is wanted.

    A challenger gets none of it: an answer to a patient is of one model.

    Raises:
        ProblemError: `too_many_images`, `too_many_pixels`; or that of the only file.
    """
    return await _Run(engine, wanted).answer(uploads)


class _Run:
    """One study on its way."""

    def __init__(self, engine: Engine, wanted: Wanted) -> None:
        self._engine = engine
        self._wanted = wanted
        self._model = engine.predictors[0]
        self._start = time.perf_counter()
        self._room = asyncio.Semaphore(BATCHES * engine.config.batch_size)
        self._prepared: dict[int, Prepared] = {}  # by the ids of their answers, for the sheet
        self._pictures: dict[int, dict[str, str]] = {}

    async def answer(self, uploads: Sequence[Upload]) -> tuple[Study, bytes | None]:
        opened = await asyncio.gather(*map(self._open, uploads))
        if len(opened) == 1 and isinstance(opened[0], Failure):
            problem = opened[0].problem
            raise ProblemError(problem.code, problem.detail)
        files = [one for one in opened if isinstance(one, OpenedFile)]
        self._check_limits(files)
        found = await asyncio.gather(*(self._answer_file(one, i) for i, one in enumerate(opened)))
        study = make_study(
            self._model,
            [one for file in found for one in file],
            one_patient=self._wanted.one_patient,
            num_empty=sum(one.num_empty for one in files),
        )
        if self._engine.review:
            self._keep_for_review(self._engine.review, uploads, found, study)
        sheet = await self._engine.decode_study(self._draw_sheet, study) if self._wanted.sheet else None
        shown = [one.model_copy(update=self._pictures.get(id(one.result), {})) for one in study.slices]
        return study.model_copy(update={"slices": shown}), sheet

    def _check_limits(self, files: Sequence[OpenedFile]) -> None:
        config = self._engine.config
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

    async def _open(self, upload: Upload) -> OpenedFile | Failure:
        config, decoder = self._engine.config, self._engine.decoder

        def work() -> OpenedFile:
            file = upload
            if isinstance(upload.data, bytes) and not is_volume(upload.data):  # a picture tells its size here
                file = check_upload(decoder, upload, config.max_pixels)
                check_pixels([file], config.max_request_pixels)
            return open_file(decoder, self._model, file, config.max_pixels)

        try:
            return await self._engine.decode_study(work)
        except ProblemError as error:
            return Failure(name=upload.name, problem=error.problem)

    async def _answer_file(self, file: OpenedFile | Failure, number: int) -> list[Found]:
        if isinstance(file, Failure):
            return [Found(file, None, file=number)]
        side = SIDE if self._wanted.sheet or self._wanted.pictures else 0
        limit, decoder = self._engine.config.max_pixels, self._engine.decoder
        found: list[Found] = []
        for first in range(0, len(file.numbers), FRAMES):
            numbers = file.numbers[first : first + FRAMES]
            some = replace(file, numbers=numbers)
            prepared = await self._engine.decode_study(
                prepare_file, decoder, self._model, some, limit, self._start, side
            )
            results = await asyncio.gather(*(self._classify(one, i) for i, one in enumerate(prepared)))
            places = file.positions[first : first + FRAMES]
            found += [
                Found(result, file.origin, position, number, None if file.alone else image)
                for result, position, image in zip(results, places, numbers, strict=True)
            ]
        return found

    async def _classify(self, prepared: Prepared | Failure, place: int) -> Answer | Failure:
        if isinstance(prepared, Failure):
            return prepared
        async with self._room:
            answer, (prediction, i) = await self._engine.classify(prepared, due_at(place))
            if self._wanted.pictures:
                maps = prediction.feature_maps[i : i + 1]
                crop, heat, _ = await self._engine.decode_study(self._draw, prepared, maps, answer.label)
                self._pictures[id(answer)] = {"crop": to_base64(crop), "heatmap": to_base64(heat)}
        if self._wanted.sheet:
            self._prepared[id(answer)] = prepared
        return answer

    def _keep_for_review(
        self, review: Review, uploads: Sequence[Upload], found: Sequence[Sequence[Found]], study: Study
    ) -> None:
        """Keeps the files with an image that has no answer, or that carries a patient's who has none."""
        withheld = {
            id(study.slices[i].result): patient.decision
            for patient in study.patients
            if patient.decision != "answer"
            for i in patient.carried_by
        }
        for upload, results in zip(uploads, found, strict=True):
            images = [
                describe(one.result, one.image, withheld.get(id(one.result)))
                for one in results
                if isinstance(one.result, Answer)
                and (one.result.decision != "answer" or id(one.result) in withheld)
            ]
            if images:
                review.keep(upload, self._model.id, images)

    def _draw(self, prepared: Prepared, maps: NDArray[np.float32], label: str) -> tuple[bytes, bytes, bytes]:
        """Returns crop, heat map and overlay of a slice, PNG."""
        assert prepared.crop is not None
        heat = self._model.explain(maps, [self._model.classes.index(label)])
        return draw_overlay(prepared.crop, heat[0], self._model.spec, self._model.map_shift)

    def _draw_sheet(self, study: Study) -> bytes:
        """Draws the contact sheet; its slices are run once more, for the maps of their patient's label."""
        overlays: dict[int, Picture] = {}
        for patient in study.patients:
            for i in patient.carried_by:
                assert patient.label is not None, "nothing carries no answer"
                prepared = self._prepared[id(study.slices[i].result)]
                maps = self._model.predict(prepared.input[None]).feature_maps
                over = self._draw(prepared, maps, patient.label)[2]
                overlays[i] = np.asarray(
                    cv2.imdecode(np.frombuffer(over, np.uint8), cv2.IMREAD_COLOR), np.uint8
                )
        return draw_sheet(study, overlays, MOST_CARRYING)
