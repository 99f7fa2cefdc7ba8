"""The first import of Keras leaves no trace but a Keras without its optional parts."""

import subprocess
import sys

PROGRAM = """
import gc, sys
import sklearn
from brain_ray.models.keras_import import OPTIONAL, import_keras
import_keras()
print(gc.isenabled(), "tensorflow" in sys.modules, [name for name in OPTIONAL if name in sys.modules])
import matplotlib.pyplot
"""


def test_what_is_hidden_can_be_imported_afterwards_and_what_was_there_stays() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True ['sklearn']"
