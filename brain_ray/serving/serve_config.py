"""What is deployed: the models' versions, a trial of them, and the config file for `serve run`."""

import yaml

from brain_ray.serving.config import ServingConfig
from brain_ray.tracking.mlflow_registry import is_registered, pin


def pin_models(config: ServingConfig) -> ServingConfig:
    """Returns settings with the versions of models that a registry's aliases stand for now: all replicas, the
    later ones too, then open the same.

    Raises:
        RunError: the registry has no such model, or does not answer.
    """
    named = {name: getattr(config, name) or "" for name in ("bundle", "challenger")}
    return config.model_copy(
        update={name: pin(location) for name, location in named.items() if is_registered(location)}
    )


def try_out(config: ServingConfig) -> None:
    """Has each bundle give the expected answers, and opens the folder for review, before anything on the air
    is touched.

    Raises:
        RunError: a bundle that must not be served, or a folder that cannot be written.
    """
    from brain_ray.bundle.predictor import Predictor
    from brain_ray.serving.review import open_folder

    for bundle in filter(None, [config.bundle, config.challenger]):
        Predictor(bundle, gpu=False).check_canaries()
    if config.review:
        open_folder(config.review)


def serve_config(config: ServingConfig) -> str:
    """Returns the Serve config file of an endpoint, in YAML."""
    content = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": config.host, "port": config.port or 8000},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": "brain_ray",
                "route_prefix": "/",
                "import_path": "brain_ray.serving.app:build",
                "args": config.model_dump(mode="json", exclude_defaults=True),
            }
        ],
    }
    text: str = yaml.safe_dump(content, sort_keys=False)
    return (
        "# serve run FILE, or serve deploy FILE on a running cluster. With RAY_SERVE_ENABLE_HA_PROXY=1 and\n"
        "# RAY_SERVE_THROUGHPUT_OPTIMIZED=1, set before Ray starts, it answers several times the requests.\n"
        + text
    )
