"""Check of the upload: the files of a job's working directory, and their size.

Uses Ray's private walk over a working directory (2.60), which alone knows what Ray leaves out. Without it the
size is unknown; the finding says so, and the upload continues.
"""

import logging
import os
from pathlib import Path

from brain_ray.checks.finding import Finding

MB = 10**6

SMALL = 5 * MB
"""Largest size in bytes of an upload that is not worth a warning; brain_ray itself is less than one MB."""

LIMIT = 512 * 1024**2
"""Size in bytes from which on Ray refuses a package (`GCS_STORAGE_MAX_SIZE`, unless RAY_ variables change
it)."""


def upload_files(folder: Path) -> dict[Path, int]:
    """Returns the files that Ray uploads to the cluster, relative to the folder, with their sizes in bytes.

    Ray's own walk finds them; it leaves out what .rayignore, .gitignore and its defaults (.git, .venv) name.
    """
    from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE, get_runtime_env_default_excludes
    from ray._private.runtime_env import packaging

    found: dict[Path, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            found[path.relative_to(folder)] = path.stat().st_size

    packaging._dir_travel(
        folder,
        [packaging._get_excludes(folder, get_runtime_env_default_excludes())],
        note,
        include_gitignore=os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1",
        logger=logging.getLogger("upload"),  # neither ours nor Ray's, which are printed
    )
    return found


def check_upload(folder: Path, limit: int = LIMIT) -> Finding:
    """Checks the size of the upload, which must stay below `limit` bytes.

    If it is large, the finding names the largest parts.
    """
    try:
        files = upload_files(folder)
    except (ImportError, AttributeError, TypeError) as error:
        return Finding("upload", "ok", f"its size is not known with this version of Ray ({error})")
    size = sum(files.values())
    text = f"{size / MB:.1f} MB in {len(files)} files of {folder}"
    if size <= SMALL:
        return Finding("upload", "ok", text)
    largest = sorted(files, key=lambda path: -files[path])[:3]
    text += "; the largest: " + ", ".join(f"{path} ({files[path] / MB:.1f} MB)" for path in largest)
    cure = "name what no job needs in .rayignore, and keep data in a bucket or on a disk of the cluster"
    if size >= limit:
        return Finding("upload", "error", f"{text}; Ray takes less than {limit / MB:.0f} MB", cure)
    return Finding("upload", "warning", text, cure)
