"""Engine: a replica's models, and the path of an image through them; independent of Ray and HTTP."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.bundle.predictor import Prediction, Predictor
from brain_ray.serving.admission import Admission
from brain_ray.serving.answers import Prepared, make_answer
from brain_ray.serving.batching import Batches
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.counts import Counts, NoMetrics
from brain_ray.serving.drift import DriftWatch
from brain_ray.serving.model_runs import ModelRuns, open_predictors, run_in
from brain_ray.serving.overlay import MAX_SIDE, draw_overlay, to_base64
from brain_ray.serving.preparing import Preparing
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.review import Review, describe
from brain_ray.serving.schemas import Answer, Explanation
from brain_ray.serving.turns import Turns, due_at
from brain_ray.serving.uploads import Upload

log = logging.getLogger(__name__)

BATCHES = 2
"""Number of batches computed at a time, each with its share of the threads.

Threads that share a batch meet at each operation, and wait for any that the machine has suspended; with two
batches, one continues while the other ends.
"""

STUCK = 2
"""Number of time-outs of a request after which a run of a model counts as stuck."""

CANARY_INTERVAL_S = 1.0
"""Least seconds between two runs of the canary images, however many requests ask for them."""

Found = tuple[Prediction, int]
"""A prediction for some images, and the index of one of them."""

T = TypeVar("T")


class Engine:
    """The models of a replica. Threads beside the models' own decode and prepare the images."""

    def __init__(self, config: ServingConfig, counts: Counts | None = None) -> None:
        """Opens the bundles and checks each with its canary images.

        Args:
            config: settings of the endpoint.
            counts: metrics; None: none are recorded.

        Raises:
            BundleError: no bundle, a file that is not the exported one, unexpected answers to the canary
                images, or no GPU although `gpus_per_replica` asks for one.
        """
        self.config = config
        self.counts = counts or NoMetrics()
        cv2.setNumThreads(1)  # images are processed in parallel instead
        threads = max(1, math.ceil(config.cpus_per_replica))
        self._preparing = Preparing(threads)
        self.decoder = self._preparing.decoder
        batches = 1 if config.gpus_per_replica > 0 else min(BATCHES, threads)
        self.predictors = open_predictors(config, threads, batches)
        self.decoder.wait()
        self._studies = ThreadPoolExecutor(1, "studies")  # so that they keep no other request waiting
        self.model_runs = ModelRuns(batches, STUCK * config.timeout_s)
        """Runs of the models, in threads of their own."""
        size, wait_s, turns = config.batch_size, config.batch_wait_ms / 1000, Turns(batches)
        self._batches = [  # of each model its own: a trial must not cost anybody's answer
            Batches(partial(self._run_batch, one), size, turns, wait_s) for one in self.predictors
        ]
        self.drift = DriftWatch(self.predictors[0])
        """What the main model's images of late are like."""
        self.counts.watch(self.predictors[0].id, self.drift.boundaries())
        self.admission = Admission(config.max_queue, config.max_held_mb * 1e6)
        self.review = Review(config, self.admission.hold, self.counts) if config.review else None
        self._draws = random.Random()
        self._checked = -math.inf
        self._background: set[asyncio.Task[None]] = set()

    async def parse(self, work: Callable[[], T], num_bytes: int) -> T:
        """Runs the parsing of a body of so many bytes, when that is due."""
        return await self._preparing.parse(due_at(num_bytes=num_bytes), work)

    async def check_uploads(self, uploads: list[Upload]) -> list[Upload]:
        """Checks the images of a form, each once; returns uploads that are decoded without a further check.

        Raises:
            ProblemError: `too_many_pixels`, all images together.
        """
        return await self._preparing.check(uploads, self.config.max_pixels, self.config.max_request_pixels)

    async def predict(self, upload: Upload, place: int = 0) -> Answer:
        """Classifies one image; `place` is that of the image in its request.

        Raises:
            ProblemError: the image cannot be used.
        """
        return (await self._classify(upload, due_at(place, upload.num_bytes)))[0]

    async def classify(self, prepared: Prepared, due: float, number: int = 0) -> tuple[Answer, Found]:
        """Runs a model, by its number, on a prepared image, when that is due."""
        prediction, i = await self._batches[number].put(prepared.input, due)
        answer = make_answer(self.predictors[number], prediction, i, prepared)
        self.counts.answer(answer, "challenger" if number else "main")
        if number == 0:
            values, shift = self.drift.add(prepared, answer)
            self.counts.quantities(values)
            if shift is not None:
                self.counts.drift(shift)
        return answer, (prediction, i)

    async def decode_study(self, work: Callable[..., T], /, *args: object) -> T:
        """Runs some work in the one thread of studies: to unpack, decode and draw them."""
        return await run_in(self._studies, work, *args)

    async def explain(self, upload: Upload, place: int = 0) -> tuple[Explanation, bytes]:
        """Classifies one image and computes its heat map; also returns the overlay as a PNG file. `place` is
        that of the image in its request.

        Raises:
            ProblemError: the image cannot be used.
        """
        due = due_at(place, upload.num_bytes)
        answer, prepared, number, (prediction, i) = await self._classify(upload, due, MAX_SIDE)

        def draw() -> tuple[bytes, bytes, bytes]:
            model = self.predictors[number]
            label = np.array([model.classes.index(answer.label)])
            heat = model.explain(prediction.feature_maps[i : i + 1], label)
            assert prepared.crop is not None
            return draw_overlay(prepared.crop, heat[0], model.spec, model.map_shift)

        crop, heatmap, overlay = await self._preparing.draw(due, draw)
        shown = {"crop": to_base64(crop), "heatmap": to_base64(heatmap), "overlay": to_base64(overlay)}
        return Explanation.model_validate(answer.model_dump() | shown), overlay

    async def check(self) -> list[str]:
        """Runs the canary images of all models, unless that was just done; returns the models' ids.

        Raises:
            BundleError: an unexpected answer.
        """
        if time.monotonic() - self._checked > CANARY_INTERVAL_S:
            for predictor in self.predictors:
                await self.model_runs.run(predictor.check_canaries)
            self._checked = time.monotonic()
        return [predictor.id for predictor in self.predictors]

    async def _classify(
        self, upload: Upload, due: float, side: int = 0
    ) -> tuple[Answer, Prepared, int, Found]:
        drawn = len(self.predictors) > 1 and self._draws.random() < self.config.canary
        mirrored = drawn and self.config.canary_mode == "mirror"
        number = int(drawn and not mirrored)
        # A trial must not cost anybody's answer.
        if mirrored and self.admission.images * 2 < self.config.max_queue:
            task = asyncio.create_task(self._mirror(upload, due))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        found = await self._answer(upload, due, number, side)
        if self.review and found[0].decision != "answer":
            self.review.keep(upload, found[0].model.id, [describe(found[0])])
        return found

    async def _mirror(self, upload: Upload, due: float) -> None:
        try:
            await self._answer(upload, due, 1)
        except ProblemError:
            pass  # the main model's answer reports it
        except Exception as error:
            log.warning(f"the challenger {self.predictors[1].id} failed on an image: {error!r}")

    async def _answer(
        self, upload: Upload, due: float, number: int, side: int = 0
    ) -> tuple[Answer, Prepared, int, Found]:
        start = time.perf_counter()
        predictor, limit = self.predictors[number], self.config.max_pixels
        prepared = await self._preparing.prepare(upload, predictor, due, start, limit, side)
        answer, found = await self.classify(prepared, due, number)
        return answer, prepared, number, found

    async def _run_batch(self, predictor: Predictor, inputs: list[NDArray[np.uint8]]) -> list[Found]:
        self.counts.batch(len(inputs))
        alone = self.admission.images <= 1  # then no other batch needs threads
        prediction = await self.model_runs.run(predictor.predict, np.stack(inputs), alone)
        return [(prediction, i) for i in range(len(inputs))]
