"""Train, compare and serve brain-tumour MR image classifiers on a Ray cluster."""

import logging
import os

__version__ = "0.1.0"

# ONNX Runtime's telemetry is on by default, and queues this machine's facts, process titles and paths for its
# makers. Set here, since every process that imports onnxruntime imports this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Without a home folder that can be written, Matplotlib takes a temporary one, and says so in two lines.
logging.getLogger("matplotlib").addFilter(lambda record: record.funcName != "_get_config_or_cache_dir")
