"""Environment variables of all tests and of what they start: imported before whatever reads them."""

import os

os.environ.update(
    OPENBLAS_NUM_THREADS="1",  # more would spin between two small products, and tests run side by side
    RAY_worker_niceness="0",  # or workers wait for the tests that run beside theirs
    LOG_NAME_UPDATE_INTERVAL_S="5",  # what Ray's own processes do twice a second, and every 2.5 seconds
    REPORTER_UPDATE_INTERVAL_MS="10000",
)
