"""ServingConfig: settings of the endpoint, which are also the arguments of the Serve application."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class ServingConfig(BaseModel):
    """One endpoint: what it serves, to whom, and how much of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: str
    """Path or URI of the bundle to serve."""
    challenger: str | None = None
    """Path or URI of a second bundle, on trial beside the first."""
    canary: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the images that the challenger gets."""
    canary_mode: Literal["split", "mirror"] = "split"
    """`split`: the challenger answers its share; `mirror`: the first bundle answers all, and the challenger's
    answers to copies of its share are only counted."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own wants API keys, and TLS in front."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, without a port, by which the endpoint may be addressed (header Host) besides those of this
    machine itself, such as the name of a proxy in front. With none, an endpoint that listens on this
    machine's own address knows localhost, 127.0.0.1 and [::1], and any other takes every name."""
    api_keys_sha256: tuple[str, ...] = ()
    """SHA-256 (hex) of the keys that are let in; none: everybody is. The job fills it in from a file or from
    BRAIN_RAY_API_KEYS, so that no key stands in a config or on a dashboard."""
    max_upload_mb: Annotated[float, Field(gt=0)] = 20
    """Largest body of a request, in 10^6 bytes."""
    max_images: Positive = 32
    """Most images of a request, and most parts of a form."""
    max_pixels: Positive = 40_000_000
    """Most pixels of an image, read from its header."""
    max_request_pixels: Positive = 160_000_000
    """Most pixels of the images of a request together, read from their headers."""
    timeout_s: Seconds = 30
    """Seconds after which a request is given up, with 504. Its answer has as long again to be taken."""
    max_queue: Positive = 128
    """Images that a replica accepts before they are done; more are refused with 503."""
    max_held_mb: Annotated[float, Field(gt=0)] = 200
    """Bytes of requests and answers that a replica holds before it refuses more with 503, in 10^6 bytes. A
    request counts from before it is read, with the length that it announces, else with max_upload_mb; its
    answer counts until it is sent."""
    batch_size: Positive = 4
    """Most images that the model is run on at once; a GPU wants more. Memory grows with it."""
    batch_wait_ms: Annotated[float, Field(ge=0)] = 0
    """How long a batch waits to be filled. While the model runs, the next batch gathers anyway."""
    cpus_per_replica: Annotated[float, Field(gt=0)] = 1
    """CPUs, and threads, of each replica."""
    gpus_per_replica: Annotated[float, Field(ge=0)] = 0
    """GPUs of each replica."""
    min_replicas: Positive = 1
    """Fewest replicas."""
    max_replicas: Positive = 1
    """Most replicas."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 8
    """Requests in flight per replica that autoscaling aims at."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas}, max_replicas {self.max_replicas}: expected no more"
            )
        for least, most in (("max_upload_mb", "max_held_mb"), ("max_pixels", "max_request_pixels")):
            if getattr(self, most) < getattr(self, least):
                raise ValueError(
                    f"{most} is {getattr(self, most):g}, {least} {getattr(self, least):g}: "
                    f"expected at least as much in {most}"
                )
        return self
