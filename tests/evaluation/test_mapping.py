"""A bundle's classes become those of the set that it is scored on."""

import numpy as np
import pandas as pd
import pytest

from brain_ray.errors import RunError
from brain_ray.evaluation.mapping import map_classes, parse_mapping

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
TUMOUR = ("glioma=tumour", "meningioma=tumour", "pituitary=tumour", "notumor=notumor")


def test_probabilities_of_one_class_are_added() -> None:
    chances = np.random.default_rng(2).dirichlet(np.ones(4), 5)
    table = pd.DataFrame({f"{kind}_{name}": chances[:, k] for k, name in enumerate(CLASSES)
                          for kind in ("probability", "calibrated")})  # fmt: skip
    found = map_classes(table.assign(label=1, candidates="glioma"), parse_mapping(TUMOUR, CLASSES))
    for kind in ("probability", "calibrated"):
        np.testing.assert_allclose(found[f"{kind}_tumour"], 1 - chances[:, 2])
        np.testing.assert_array_equal(found[f"{kind}_notumor"], chances[:, 2])
    assert set(found.columns) == {
        "label",
        "probability_tumour",
        "probability_notumor",
        "calibrated_tumour",
        "calibrated_notumor",
    }


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (("glioma",), "'glioma' is no pair, such as glioma=tumour"),
        (("gliom=tumour",), "no class 'gliom'; did you mean glioma"),
        (TUMOUR[:3], r"says nothing of \['notumor'\]"),
        ((*TUMOUR, "glioma=other"), "glioma is there twice"),
        (tuple(f"{name}=head" for name in CLASSES), "makes one class of all, head"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(pairs: tuple[str, ...], text: str) -> None:
    with pytest.raises(RunError, match=text) as found:
        parse_mapping(pairs, CLASSES)
    assert "\n" not in str(found.value)
