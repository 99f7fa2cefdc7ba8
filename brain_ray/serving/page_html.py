"""The page: its routes, and its HTML with the formats of images filled in."""

from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

from brain_ray.data.formats import FORMATS, Format
from brain_ray.serving.problems import ProblemError

PAGE = Path(__file__).with_name("page")


def fill_page(html: str, formats: Iterable[Format]) -> str:
    """Returns the page's HTML with the formats filled in: in its file dialog and in the text below."""
    rows = list(formats)
    *titles, last = [row.title for row in rows]
    suffixes = [suffix for row in rows for suffix in row.suffixes]
    accept = ",".join(["image/*", *suffixes, ".zip"])  # image/*: phones then offer pictures, and their camera
    return html.replace("{{ accept }}", accept).replace("{{ formats }}", f"{', '.join(titles)} or {last}")


def add_page(app: FastAPI) -> None:
    """Adds the page and its files to an application."""
    start = fill_page((PAGE / "index.html").read_text("utf-8"), FORMATS.values())

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(start, media_type="text/html", headers={"Cache-Control": "no-cache"})

    files = {file.name: file for file in PAGE.iterdir() if file.name != "index.html"}

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> FileResponse:
        if name not in files:
            raise ProblemError("not_found", "no such file")
        return FileResponse(files[name], headers={"Cache-Control": "no-cache"})
