"""How many copies of a model score."""

import pytest

from brain_ray.config import EvaluateConfig
from brain_ray.evaluation.scoring_actors import ROWS_FOR_A_COPY, copies

HEAD, CPU, GPU = {"CPU": 6.0}, {"CPU": 16.0}, {"CPU": 4.0, "GPU": 1.0}
SETTINGS = EvaluateConfig(cpus_per_actor=2, num_actors=1)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (300, 2),  # what the head holds beside reading
        (5 * ROWS_FOR_A_COPY, 5),
        (10**6, 2 + 2 * 8),  # what two further nodes hold too
    ],
)
def test_many_images_start_nodes_without_gpus(rows: int, expected: int) -> None:
    assert copies(SETTINGS, [HEAD], [GPU, GPU, CPU, CPU], rows) == expected


def test_nodes_with_gpus_come_for_copies_that_want_them_only() -> None:
    assert copies(SETTINGS, [HEAD], [GPU] * 4, 10**6) == 2
    on_gpus = SETTINGS.model_copy(update={"gpus_per_actor": 1.0})
    assert copies(on_gpus, [HEAD, GPU], [GPU] * 3, 10**6) == 4
    assert copies(on_gpus, [HEAD, GPU], [GPU] * 3, 300) == 1


def test_what_was_asked_for_is_the_fewest() -> None:
    assert copies(SETTINGS.model_copy(update={"num_actors": 9}), [HEAD], (), 300) == 9
