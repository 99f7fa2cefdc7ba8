"""The images below a folder, which may hold other files too: outlines, a table of patients."""

from pathlib import Path


def image_files(folder: Path) -> list[Path]:
    """Return the .jpg and .png files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
