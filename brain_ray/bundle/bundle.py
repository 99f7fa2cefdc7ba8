"""Bundle on a storage: opened, verified and written, with its model card."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from brain_ray.bundle.schema import BundleInfo
from brain_ray.data.copies.recall import describe_recall
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.scoring.decisions import describe_promise
from brain_ray.scoring.scores import score_rows
from brain_ray.storage import resolve
from brain_ray.tracking import mlflow_registry

if TYPE_CHECKING:
    import jinja2

KERAS_FILE = "model.keras"
ONNX_FILE = "model.onnx"
EXPLAIN_FILE = "explain.onnx"
UNLIKENESS_FILE = "unlikeness.npz"
REFERENCE_FILE = "reference.npz"
"""Not there in bundles of earlier versions."""
INFO_FILE = "bundle.json"
CARD_FILE = "MODEL_CARD.md"
CANARY_FOLDER = "canaries"

FILE_NAME = re.compile(rf"({CANARY_FOLDER}/)?[A-Za-z0-9][A-Za-z0-9._-]*")
"""Pattern of a bundle's file names: no name leads out of its folder, whoever wrote bundle.json."""

FORMAT = 2
"""Version of bundle.json that this code writes and reads."""


class BundleError(RunError):
    """A bundle that cannot be made, or must not be used; its text says what was found and what to do."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Its files are read and verified on request."""

    folder: Run
    info: BundleInfo

    @property
    def id(self) -> str:
        """The model's name and the first digits of its SHA-256."""
        return f"{self.info.name}-{self.info.files[ONNX_FILE][:12]}"

    def read(self, name: str) -> bytes:
        """Returns a listed file's content.

        Raises:
            BundleError: the file is missing, or is not the exported one.
        """
        expected = self.info.files.get(name)
        where = self.folder.uri(name)
        if expected is None:
            raise BundleError(f"{where} is not listed in {INFO_FILE}, which has {sorted(self.info.files)}")
        try:
            data = self.folder.read_bytes(name)
        except OSError as error:
            raise BundleError(f"cannot read {where}: {error}; copy or export the bundle again") from error
        found = sha256(data)
        if found != expected:
            raise BundleError(
                f"{where} was changed or is incomplete: its SHA-256 is {found}, {INFO_FILE} says {expected}; "
                "copy or export the bundle again"
            )
        return data

    def verify(self) -> None:
        """Verifies all listed files against their hashes.

        Raises:
            BundleError: a file is missing, or is not the exported one.
        """
        for name in self.info.files:
            self.read(name)

    def copy_to(self, destination: Path) -> None:
        """Writes its files into a local folder; each is verified as it is read.

        Raises:
            BundleError: a file is missing, or is not the exported one.
        """
        for name in self.info.files:
            file = destination / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.read(name))
        for name in (INFO_FILE, CARD_FILE):
            (destination / name).write_bytes(self.folder.read_bytes(name))


def load_bundle(location: str | Path) -> Bundle:
    """Opens the bundle in a folder, given by path or URI; reads only bundle.json.

    Of MLflow's registry, `models:/NAME/VERSION` and `models:/NAME@ALIAS` are locations too.

    Raises:
        RunError: no such model in the registry.
        BundleError: no bundle there, a format that this version does not read, or file names that no export
            writes, such as names outside of its folder.
    """
    folder = _folder(str(location))
    where = folder.uri(INFO_FILE)
    try:
        content = json.loads(folder.read_bytes(INFO_FILE))
    except FileNotFoundError as error:
        inner = f"; did you mean {folder.uri('bundle')}?" if folder.exists("bundle", INFO_FILE) else ""
        raise BundleError(
            f"no bundle at {folder.uri()}: expected a folder with {INFO_FILE}{inner}"
        ) from error
    except OSError as error:
        raise BundleError(
            f"no bundle at {folder.uri()}: {error}; expected a folder with {INFO_FILE}"
        ) from error
    except ValueError as error:
        raise BundleError(f"{where} is not JSON: {error}; copy or export the bundle again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"{where} has the format {found!r}, this version of brain_ray reads {FORMAT}: use the version "
            "that made it, or export the model again"
        )
    try:
        info = BundleInfo.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise BundleError(f"{where}: {field}: {first['msg']}; export the bundle again") from error
    for name in (*info.files, *(f"{CANARY_FOLDER}/{canary}" for canary in info.canaries)):
        if not FILE_NAME.fullmatch(name):
            raise BundleError(
                f"{where} names a file {name!r}: expected letters, digits, dots, dashes and underscores, in "
                f"the bundle's folder or in {CANARY_FOLDER}/; export the bundle again"
            )
    return Bundle(folder, info)


def write_info(location: str, info: BundleInfo) -> None:
    """Writes bundle.json and, from it, MODEL_CARD.md; each of the two completely or not at all."""
    folder = _folder(location)
    folder.write_json(info.model_dump(mode="json"), INFO_FILE)
    folder.write_bytes(render_card(info).encode(), CARD_FILE)


def add_scores(location: str, test_scores: Mapping[str, Any]) -> None:
    """Adds the evaluation's scores to bundle.json and MODEL_CARD.md; the models do not change.

    Args:
        location: path or URI of the bundle's folder.
        test_scores: strict JSON: `official` and, if any, `leak_free` and `ledger`, as in the report's
            metrics.json.

    Raises:
        BundleError: no readable bundle there.
        ValueError: the scores hold NaN or infinity.
    """
    info = load_bundle(location).info
    json.dumps(dict(test_scores), allow_nan=False)
    scores = info.scores.model_copy(update={"test": dict(test_scores)})
    write_info(location, info.model_copy(update={"scores": scores}))


def render_card(info: BundleInfo) -> str:
    """Returns the model card in Markdown (Mitchell et al. 2019, arxiv.org/abs/1810.03993)."""
    return _environment().get_template("model_card.md.jinja").render(info.model_dump(mode="json"))


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def _folder(location: str) -> Run:
    if mlflow_registry.is_registered(location):
        location = mlflow_registry.locate(location)
    base, mark, query = resolve(location).partition("?")
    storage, _, name = base.rstrip("/").rpartition("/")
    return Run((storage or "/") + mark + query, name)


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brain_ray.bundle", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; all values come from our own bundle.json
    )
    environment.filters |= {
        "score_rows": score_rows,
        "describe_recall": describe_recall,
        "describe_promise": describe_promise,
        "zip": zip,
    }
    return environment
