"""Train, compare and serve brain-tumour MR image classifiers on a Ray cluster."""

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brain_ray.bundle.bundle import load_bundle
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.serving.client import AsyncClient, Client
else:

    def __getattr__(name: str) -> object:
        """Imports a name of `__all__` when it is first used (PEP 562): what is behind it takes a second."""
        from importlib import import_module

        homes = {
            "AsyncClient": "brain_ray.serving.client",
            "Client": "brain_ray.serving.client",
            "Predictor": "brain_ray.bundle.predictor",
            "load_bundle": "brain_ray.bundle.bundle",
        }
        if name not in homes:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(homes[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["AsyncClient", "Client", "Predictor", "load_bundle"]

__version__ = "0.1.0"

# ONNX Runtime's telemetry is on by default, and queues this machine's facts, process titles and paths for its
# makers. Set here, since every process that imports onnxruntime imports this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Without a home folder that can be written, Matplotlib takes a temporary one, and says so in two lines.
logging.getLogger("matplotlib").addFilter(lambda record: record.funcName != "_get_config_or_cache_dir")
