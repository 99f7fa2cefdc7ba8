"""What a job takes to the cluster: the files of its working directory, and how many bytes they are.

Uses Ray's private walk over a working directory (2.60), which alone knows what Ray leaves out. Without it the
size is not known, which is said, and the upload goes on.
"""

import logging
import os
from pathlib import Path

from brain_ray.checks.finding import Finding

MB = 10**6

SMALL = 5 * MB
"""Bytes of an upload that nobody waits for; brain_ray itself is less than one MB."""

LIMIT = 512 * 1024**2
"""Bytes from which on Ray refuses a package (`GCS_STORAGE_MAX_SIZE`, unless RAY_ variables say otherwise)."""


def upload_files(folder: Path) -> dict[Path, int]:
    """Return the files that Ray carries to the cluster, relative to the folder, with their sizes in bytes.

    Found by Ray's own walk, which leaves out what .rayignore, .gitignore and its defaults (.git, .venv) name.
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


def check_upload(folder: Path) -> Finding:
    """Say whether what a job takes with it is small, and if not, what makes it large."""
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
    if size >= LIMIT:
        return Finding("upload", "error", f"{text}; Ray takes less than {LIMIT / MB:.0f} MB", cure)
    return Finding("upload", "warning", text, cure)
