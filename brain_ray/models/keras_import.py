"""The first import of Keras and TensorFlow in a process, without what is slow and not used here."""

import gc
import sys
from typing import Any

OPTIONAL = ("matplotlib", "sklearn")
"""What Keras imports where it is installed: for `keras.visualization` and for `keras.wrappers`."""


def import_keras() -> Any:
    """Imports Keras and TensorFlow for later `import keras` and `import tensorflow` in this process.

    Meanwhile Python's garbage collector rests, which would search the growing modules time and again and
    find nothing. And the packages of `OPTIONAL` are hidden, unless something else has imported them: Keras'
    parts that need them do not work in this process, the packages themselves do.

    Returns:
        the module `keras`.
    """
    hidden = [name for name in OPTIONAL if name not in sys.modules]
    collects = gc.isenabled()
    gc.disable()
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python refuses to import it then
    try:
        import keras
        import tensorflow as tf  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
        if collects:
            gc.enable()
    return keras
