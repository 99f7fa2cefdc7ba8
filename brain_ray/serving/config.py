"""ServingConfig: settings of the endpoint, which are also the arguments of the Serve application."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]


class ServingConfig(BaseModel):
    """Settings of one endpoint: what it serves, to whom, and its limits."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: str
    """Path or URI of the bundle to serve."""
    challenger: str | None = None
    """Path or URI of a second bundle, to try out beside the first; None: no second bundle."""
    canary: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the images, 0 to 1, that the challenger gets."""
    canary_mode: Literal["split", "mirror"] = "split"
    """`split`: the challenger answers its share of the images. `mirror`: the first bundle answers all images;
    the challenger gets copies of its share, and its answers are only counted."""
    host: str = "127.0.0.1"
    """Address to listen on. If other machines can reach it, use API keys, and TLS in front."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port to listen on."""
    allowed_hosts: tuple[str, ...] = ()
    """Further host names, without a port, by which the endpoint may be addressed (header Host), such as the
    name of a proxy in front. With none, an endpoint on this machine's own address accepts only localhost,
    127.0.0.1 and [::1], and an endpoint on another address accepts every name."""
    allowed_origins: tuple[Origin, ...] = ()
    """Origins, such as https://ward.example or http://localhost:3000, whose pages may call the endpoint from
    a browser (CORS); `*`: those of every site. A key, if there is one, is needed all the same."""
    root_path: Annotated[str, Field(pattern=r"^(/[\w.~-]+)*$")] = ""
    """Path, such as /brain, below which a proxy in front offers the endpoint, whether or not it takes the
    path away from what it passes on."""
    api_keys_sha256: tuple[str, ...] = ()
    """SHA-256 (hex) of the API keys that have access; with none, everybody has access. The job sets it from a
    file or from BRAIN_RAY_API_KEYS, so that no key is in a config or on a dashboard."""
    max_upload_mb: Annotated[float, Field(gt=0)] = 20
    """Largest size of a request's body, in 10^6 bytes."""
    max_images: Positive = 32
    """Largest number of images in a request, and of parts in a form."""
    max_pixels: Positive = 40_000_000
    """Largest number of pixels of an image, read from its header."""
    max_request_pixels: Positive = 160_000_000
    """Largest number of pixels of all images of a request together, read from their headers."""
    max_study_mb: Annotated[float, Field(gt=0)] = 100
    """Largest size of a study's body, and of what an archive unpacks to, in 10^6 bytes."""
    max_study_images: Positive = 300
    """Largest number of files, and of slices, in a study. Their pixels count in `max_request_pixels`."""
    review: str | None = None
    """Path or URI of a folder in which images without an answer are kept, as they were sent, for people to
    label them (the job `review`); None: nothing is kept."""
    max_review_mb: Annotated[float, Field(gt=0)] = 1000
    """Largest size of that folder, in 10^6 bytes; what would exceed it is not kept."""
    timeout_s: Seconds = 30
    """Seconds after which a request ends with 504. The client has the same time again to read an answer."""
    max_queue: Positive = 128
    """Largest number of unfinished images in a replica; more are refused with 503."""
    max_held_mb: Annotated[float, Field(gt=0)] = 200
    """Largest size of requests and answers held by a replica, in 10^6 bytes; beyond it, it refuses with 503.
    A request counts from before it is read, with the length that it announces, else with max_upload_mb; its
    answer counts until it is sent."""
    batch_size: Positive = 4
    """Largest number of images in one run of the model. Use more on a GPU; memory grows with it."""
    batch_wait_ms: Annotated[float, Field(ge=0)] = 0
    """Milliseconds for which a batch waits for more images. While the model runs, the next batch gathers
    anyway."""
    cpus_per_replica: Annotated[float, Field(gt=0)] = 1
    """Number of CPUs, and of threads, of each replica."""
    gpus_per_replica: Annotated[float, Field(ge=0)] = 0
    """Number of GPUs of each replica."""
    min_replicas: Positive = 1
    """Smallest number of replicas."""
    max_replicas: Positive = 1
    """Largest number of replicas; above `min_replicas`, autoscaling chooses the number."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 8
    """Number of unfinished requests per replica that autoscaling aims at."""

    @field_validator("review")
    @classmethod
    def _same_in_each_process(cls, location: str | None) -> str | None:
        from brain_ray.storage import resolve

        return location and resolve(location)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas}, max_replicas {self.max_replicas}: expected no more"
            )
        for least, most in (
            ("max_upload_mb", "max_held_mb"),
            ("max_study_mb", "max_held_mb"),
            ("max_pixels", "max_request_pixels"),
        ):
            if getattr(self, most) < getattr(self, least):
                raise ValueError(
                    f"{most} is {getattr(self, most):g}, {least} {getattr(self, least):g}: "
                    f"expected at least as much in {most}"
                )
        return self
