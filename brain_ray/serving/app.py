"""Ray Serve application: replicas that hold the models and answer HTTP requests."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.util.metrics import Counter, Gauge, Histogram

from brain_ray.bundle.reference import QUANTITIES
from brain_ray.scoring.shift import LEAST, Shift
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.engine import BATCHES, Engine, Found, Item
from brain_ray.serving.haproxy import FRONT
from brain_ray.serving.routes import make_app
from brain_ray.serving.schemas import Answer
from brain_ray.tracking.mlflow_registry import registry_environment

NAME = "brain_ray"
"""Name of the application and of its deployment, and prefix of its metrics."""

SHUTDOWN_S = 10
"""Seconds beyond a request's time-out that a replica gets to finish accepted requests."""

DRIFT = ("model", "quantity")
"""Labels of the metrics of drift."""

LATENCIES = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
"""Bounds of the histograms of time, in seconds."""


class Metrics:
    """Prometheus metrics of a replica, on the metrics port of its node, beside Ray's own `serve_...`."""

    def __init__(self) -> None:
        self._requests = Counter(f"{NAME}_requests", "Requests", ("route", "status"))
        self._errors = Counter(f"{NAME}_errors", "Requests with an error, by its code", ("route", "code"))
        self._seconds = Histogram(f"{NAME}_request_seconds", "Latency", LATENCIES, ("route",))
        self._batches = Histogram(f"{NAME}_batch_size", "Images of a batch", [1, 2, 4, 8, 16, 32, 64])
        self._images = Counter(f"{NAME}_images", "Images", ("model", "role", "label", "decision"))
        self._unsure = Counter(
            f"{NAME}_low_confidence",
            "Images without an answer: unsure, or unlike training",
            ("model", "role"),
        )
        self._distance = Gauge(f"{NAME}_drift_distance", "Distance of late images from validation's", DRIFT)
        self._limit = Gauge(f"{NAME}_drift_limit", "The distance that chance hardly exceeds", DRIFT)
        self._review = Counter(
            f"{NAME}_review", "Files without an answer, by what came of keeping them", ("outcome",)
        )
        self._drifts: dict[str, tuple[float, float]] = {}
        self._quantities: dict[str, Histogram] = {}

    def batch(self, size: int) -> None:
        """Records the number of images in one run of the model."""
        self._batches.observe(size)

    def answer(self, answer: Answer, role: str) -> None:
        """Records an answer of a model."""
        model = {"model": answer.model.id, "role": role}
        self._images.inc(tags={**model, "label": answer.label, "decision": answer.decision})
        if answer.decision != "answer":
            self._unsure.inc(tags=model)

    def watch(self, model: str, boundaries: Mapping[str, Sequence[float]]) -> None:
        """Makes a histogram of each quantity, with the deciles of the reference as bounds."""
        self._model = model
        self._quantities = {
            name: Histogram(
                f"{NAME}_image_{name}", f"Of images: {QUANTITIES[name]}", list(bounds), ("model",)
            )
            for name, bounds in boundaries.items()
        }
        # There before the first comparison, so that an alert can be tried.
        self._drifts = dict.fromkeys(boundaries, (0.0, 1.0))
        self.repeat()

    def quantities(self, values: Mapping[str, float]) -> None:
        """Records the quantities of an image."""
        for name, histogram in self._quantities.items():
            histogram.observe(values[name], tags={"model": self._model})

    def drift(self, shift: Shift) -> None:
        """Records distances and limits; where none of the two is large enough to matter, the larger limit."""
        for name, found in shift.quantities.items():
            self._drifts[name] = (found.distance, max(found.by_chance, LEAST))
        self.repeat()

    def repeat(self) -> None:
        """Records the last comparison once more: Ray forgets a gauge that nobody sets for some time."""
        for name, (distance, limit) in self._drifts.items():
            tags = {"model": self._model, "quantity": name}
            self._distance.set(distance, tags=tags)
            self._limit.set(limit, tags=tags)

    def reviewed(self, outcome: str) -> None:
        """Records what came of keeping a file for review: kept, known, no_room or failed."""
        self._review.inc(tags={"outcome": outcome})

    def seen(self, route: str, status: int, seconds: float, code: str) -> None:
        """Records a response to a request."""
        self._requests.inc(tags={"route": route, "status": str(status)})
        if code:
            self._errors.inc(tags={"route": route, "code": code})
        else:
            self._seconds.observe(seconds, tags={"route": route})


@serve.ingress()
class Endpoint:
    """A replica."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Opens the bundles; a bundle that fails its canary images is never served."""
        config = ServingConfig.model_validate(settings)
        self._metrics = Metrics()
        self._engine = Engine(config, self._gather, self._metrics)
        self._keys = config.api_keys_sha256
        self._gather.set_max_batch_size(config.batch_size)
        self._gather.set_batch_wait_timeout_s(config.batch_wait_ms / 1000)

    def __serve_build_asgi_app__(self) -> Any:
        """Returns the ASGI application; called by Ray Serve."""
        return make_app(self._engine, self._metrics.seen)

    def check_health(self) -> None:
        """Fails if the model hangs; called by Ray Serve, which replaces the replica after three failures."""
        self._metrics.repeat()
        self._engine.model_runs.check_progress()

    def list_keys(self) -> tuple[str, ...]:
        """Returns the SHA-256 of each API key; called before another version is deployed."""
        return self._keys

    @serve.batch(max_concurrent_batches=BATCHES)  # type: ignore[untyped-decorator]
    async def _gather(self, items: list[Item]) -> list[Found]:
        return await self._engine.run_batch(items)


def build(settings: Mapping[str, Any]) -> serve.Application:
    """Returns the application for some settings: `brain_ray.serving.app:build` in a Serve config file.

    Raises:
        pydantic.ValidationError: an unknown setting, or a value that is not allowed.
    """
    config = ServingConfig.model_validate(dict(settings))
    replicas: dict[str, Any] = {"num_replicas": config.min_replicas}
    if config.max_replicas > config.min_replicas:
        replicas = {
            "autoscaling_config": {
                "min_replicas": config.min_replicas,
                "max_replicas": config.max_replicas,
                "target_ongoing_requests": config.target_ongoing_requests,
                "upscale_delay_s": 5,  # a replica starts within seconds, on a node that is there
                "look_back_period_s": 10,
            }
        }
    deployment = serve.deployment(
        Endpoint,
        name=NAME,
        ray_actor_options={
            "num_cpus": config.cpus_per_replica,
            "num_gpus": config.gpus_per_replica,
            "runtime_env": {
                "env_vars": {
                    # Read when OpenCV is imported: a second limit behind the check of the header, without a
                    # log line for each damaged file.
                    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2 * config.max_pixels),
                    "OPENCV_LOG_LEVEL": "FATAL",
                    # Large bodies and pictures are returned to the system after use; by default, the C
                    # library keeps blocks of sizes that it has seen before.
                    "MALLOC_MMAP_THRESHOLD_": "1000000",
                    "MALLOC_TRIM_THRESHOLD_": "1000000",
                    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": FRONT,
                    **registry_environment((config.bundle, config.challenger)),
                }
            },
        },
        # The replica itself refuses excess requests, with a problem; these limits only cover what it does not
        # see.
        max_ongoing_requests=4 * config.max_queue,
        max_queued_requests=config.max_queue,
        backpressure_config={"status_code": 503, "retry_after_s": 1},
        graceful_shutdown_timeout_s=config.timeout_s + SHUTDOWN_S,
        health_check_period_s=5,
        # A new version's replica starts beside the old one, which stops when the new one is ready.
        max_surge_percent=100,
        logging_config={"enable_access_log": False},
        **replicas,
    )
    return deployment.bind(config.model_dump(mode="json"))
