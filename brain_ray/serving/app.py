"""Ray Serve application: replicas that hold the models and answer HTTP requests."""

from collections.abc import Mapping
from typing import Any

from ray import serve

from brain_ray.serving.config import ServingConfig
from brain_ray.serving.engine import Engine
from brain_ray.serving.haproxy import FRONT
from brain_ray.serving.metrics import Metrics
from brain_ray.serving.routes import make_app
from brain_ray.tracking.mlflow_registry import registry_environment

NAME = "brain_ray"
"""Name of the application and of its deployment."""

SHUTDOWN_S = 10
"""Seconds beyond a request's time-out that a replica gets to finish accepted requests."""


@serve.ingress()
class Endpoint:
    """A replica."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Opens the bundles; a bundle that fails its canary images is never served."""
        config = ServingConfig.model_validate(settings)
        self._metrics = Metrics()
        self._engine = Engine(config, self._metrics)
        self._keys = config.api_keys_sha256

    def __serve_build_asgi_app__(self) -> Any:
        """Returns the ASGI application; called by Ray Serve."""
        return make_app(self._engine, self._metrics.seen)

    def check_health(self) -> None:
        """Fails if the model hangs; called by Ray Serve, which replaces the replica after three failures."""
        self._metrics.flush(self._engine.admission.images)
        self._engine.model_runs.check_progress()

    def list_keys(self) -> tuple[str, ...]:
        """Returns the SHA-256 of each API key; called before another version is deployed."""
        return self._keys


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
