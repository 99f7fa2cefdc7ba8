"""Images that take long are decoded apart, and then as well as ever."""

import asyncio
import time

import numpy as np
import pytest
from support.endpoint import picture
from support.hostile_images import all_costly

from brain_ray.bundle.reference import grey_quantities
from brain_ray.data.decoding import CheckedFile, EndedError
from brain_ray.serving.engine import Engine
from brain_ray.serving.preparing import QUICK_S, Preparing, check_upload, prepare_upload
from brain_ray.serving.problems import ProblemError
from brain_ray.serving.turns import due_at
from brain_ray.serving.uploads import Upload

LIMIT = 40_000_000
"""Largest number of pixels, as it is by default."""

SLOW = "PNG, 620,000 specks"
"""An image within all limits that takes a second or more."""


@pytest.fixture
def preparing() -> Preparing:
    return Preparing(1)


def test_others_pass_an_image_that_takes_long(engine: Engine, preparing: Preparing) -> None:
    predictor = engine.predictors[0]
    ended: list[str] = []

    async def one(name: str, data: bytes, place: int = 0) -> None:
        prepared = await preparing.prepare(
            Upload(name, data), predictor, due_at(place), time.perf_counter(), LIMIT
        )
        assert prepared.grey is not None
        assert prepared.grey == pytest.approx(
            {name: values[0] for name, values in grey_quantities(prepared.input[None]).items()}
        )
        ended.append(prepared.name)

    async def many() -> None:
        slow = [asyncio.create_task(one(f"slow {i}", dict(all_costly())[SLOW])) for i in range(2)]
        await asyncio.sleep(2 * QUICK_S)
        await asyncio.gather(*(one(f"quick {i}", picture(), i) for i in range(5)))
        assert not any(task.done() for task in slow)
        await asyncio.gather(*slow)

    asyncio.run(many())
    assert sorted(ended[:5]) == [f"quick {i}" for i in range(5)], "side by side, in any order"
    assert sorted(ended[5:]) == ["slow 0", "slow 1"]


def test_a_late_image_is_what_it_is_when_it_has_all_the_time(engine: Engine, preparing: Preparing) -> None:
    predictor, upload = engine.predictors[0], Upload("slow", dict(all_costly())[SLOW])
    with pytest.raises(EndedError, match=r"took more than 0.05 s"):
        prepare_upload(preparing.decoder, predictor, upload, LIMIT, 0.0, cpu_s=QUICK_S)
    expected = prepare_upload(preparing.decoder, predictor, upload, LIMIT, 0.0)
    found = asyncio.run(preparing.prepare(upload, predictor, due_at(), 0.0, LIMIT))
    np.testing.assert_array_equal(found.input, expected.input)
    assert found.box == expected.box


def test_a_form_is_checked_image_by_image_and_its_pixels_are_counted(
    preparing: Preparing,
) -> None:
    slow = Upload("slow", dict(all_costly())[SLOW])
    with pytest.raises(EndedError):  # a quick one may be done before the kernel looks
        check_upload(preparing.decoder, slow, LIMIT, cpu_s=1e-6)
    form = [Upload("quick", picture()), slow]
    first, second = asyncio.run(preparing.check(form, LIMIT, LIMIT))
    assert isinstance(first.data, CheckedFile)
    assert second == check_upload(preparing.decoder, slow, LIMIT)
    with pytest.raises(ProblemError, match="its 2 images have"):
        asyncio.run(preparing.check(form, LIMIT, 1000))
