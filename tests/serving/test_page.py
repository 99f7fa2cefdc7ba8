"""The endpoint's page, in a real browser: what a person sees, clicks and copies."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from support.studies import known_slices

from brain_ray.data.phantoms.files import draw

api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")

# The shell has no window to draw, and needs a third of the CPU time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or chrome on the PATH")

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DONE = '.entry[data-state="done"]'
FAILED = '.entry[data-state="failed"]'

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, endpoint: Any) -> Iterator[Open]:
    """Open the page in a fresh window; at the end no script failed, and no other server was asked."""
    contexts, errors, addresses = [], [], []

    def note(message: Any) -> None:
        # A browser logs every status above 399; the tests look at what the page makes of them.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            errors.append(message.text)

    def open_it(prepare: Callable[[Any], None] = lambda page: None, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        context.set_default_timeout(15_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=endpoint.url)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: addresses.append(request.url))
        prepare(page)
        page.goto(endpoint.url + "/")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []
    ours = (endpoint.url + "/", f"blob:{endpoint.url}/", "data:image/png;base64,")
    assert [address for address in addresses if not address.startswith(ours)] == []


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of drawn heads, one of each class; the last is TIFF, which browsers do not show."""
    folder = tmp_path_factory.mktemp("phantoms")
    suffixes = (".png", ".jpg", ".jpg", ".tif")
    paths = [folder / f"slice-{name}{suffix}" for name, suffix in zip(CLASSES, suffixes, strict=True)]
    for i, (name, path) in enumerate(zip(CLASSES, paths, strict=True)):
        cv2.imwrite(str(path), draw(name, 5, i))
    return paths


def send(page: Any, *paths: Path) -> None:
    page.locator("#files").set_input_files([str(path) for path in paths])


def width_of(locator: Any) -> int:
    width: int = locator.evaluate("picture => picture.naturalWidth ?? picture.width")
    return width


def until(page: Any, condition: Callable[[], bool]) -> None:
    """Let the browser work until something has happened on this side."""
    for _ in range(600):
        if condition():
            return
        page.evaluate("new Promise(requestAnimationFrame)")
    raise AssertionError("it did not happen within some ten seconds")


def problem(status: int, code: str, detail: str, retry_after: str = "") -> Callable[[Any], None]:
    """Make a route's answer: an error as the endpoint gives it."""
    body = {"type": f"urn:brain_ray:problem:{code}", "title": code, "status": status, "code": code}
    return lambda route: route.fulfill(
        status=status,
        headers={"Content-Type": "application/problem+json", "Retry-After": retry_after},
        body=json.dumps(body | {"detail": detail}),
    )


def test_an_image_gets_a_class_a_decision_bars_and_an_overlay(open_page: Open, phantoms: list[Path]) -> None:
    page = open_page()
    send(page, phantoms[0])
    entry = page.locator(DONE)
    entry.wait_for()
    assert entry.locator(".name").inner_text() == phantoms[0].name
    assert entry.locator(".label b").get_attribute("data-class") in CLASSES
    assert entry.locator(".confidence").inner_text().endswith("%")
    assert entry.get_attribute("data-decision") in ("answer", "abstain", "not_mr")
    assert len(entry.locator(".answer .decision").inner_text()) > 20
    bars = entry.locator(".bars tr")
    assert bars.locator("th").all_inner_texts() == ["glioma", "meningioma", "no tumour", "pituitary"]
    assert all("the network itself: 0." in (bar.get_attribute("title") or "") for bar in bars.all())
    assert entry.locator(".bars .first").count() == 1
    assert width_of(entry.locator(".crop")) == width_of(entry.locator(".heat")) > 16
    page.locator("#status").get_by_text(f"{phantoms[0].name}: ").wait_for()  # told to screen readers
    assert page.get_by_text("Not for clinical use.").first.is_visible()


def test_results_keep_their_order_and_a_bad_file_says_why(open_page: Open, phantoms: list[Path]) -> None:
    page = open_page()
    bad = phantoms[0].with_name("notes.txt")
    bad.write_text("no picture")
    cut = phantoms[0].with_name("cut.png")
    cut.write_bytes(phantoms[0].read_bytes()[:900])
    files = [phantoms[1], bad, phantoms[3], cut, phantoms[2]]
    send(page, *files)
    page.locator(DONE).nth(2).wait_for()
    page.locator(FAILED).nth(1).wait_for()
    assert page.locator(".entry .name").all_inner_texts() == [path.name for path in files]
    states = [entry.get_attribute("data-state") for entry in page.locator(".entry").all()]
    assert states == ["done", "failed", "done", "failed", "done"]
    failures = page.locator(".failure b").all_inner_texts()
    assert [failures[1], failures[3]] == ["Not an image that can be read.", "The file is damaged."]
    assert all(width_of(thumb) > 16 for thumb in page.locator(f"{DONE} .thumb").all())  # of the TIFF too
    page.get_by_role("button", name="Failed 2").click()
    assert page.locator(".entry:visible").count() == 2
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".entry").count() == 0


def test_each_sample_can_be_sent(open_page: Open) -> None:
    page = open_page()
    samples = page.locator("#samples button")
    samples.nth(3).wait_for()
    assert samples.all_inner_texts() == ["glioma", "meningioma", "no tumour", "pituitary"]
    for i in range(4):
        samples.nth(i).click()
    page.locator(DONE).nth(3).wait_for()


def test_pasted_and_dropped_pictures_are_sent(open_page: Open, phantoms: list[Path]) -> None:
    page = open_page()
    give = """([type, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${type}.png`, {type: "image/png"}));
        const event = type === "paste" ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
            : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
    }"""
    for kind in ("paste", "drop"):
        page.evaluate(give, [kind, list(phantoms[0].read_bytes())])
    page.locator(DONE).nth(1).wait_for()
    assert page.locator(".entry .name").all_inner_texts() == ["drop.png", "paste.png"]  # the newest on top


def test_a_folder_is_read_in_the_order_of_its_slices(open_page: Open, phantoms: list[Path]) -> None:
    folder = phantoms[0].parent / "series"
    folder.mkdir()
    for name in ("im-10.png", "im-2.png", ".hidden"):
        shutil.copy(phantoms[0], folder / name)
    page = open_page()
    page.locator("#folder").set_input_files(str(folder))
    page.locator(DONE).nth(1).wait_for()
    assert page.locator(".entry .name").all_inner_texts() == ["series/im-2.png", "series/im-10.png"]


def test_a_folder_of_dicom_is_answered_by_patient_and_the_keyboard_walks_through_its_slices(
    open_page: Open, phantoms: list[Path], tmp_path: Path
) -> None:
    page = open_page()
    first, second = (
        known_slices("pituitary", 4),
        known_slices("glioma", 3, PatientID="b", SeriesInstanceUID="1.2.3"),
    )
    folder = tmp_path / "study"
    folder.mkdir()
    for k, data in enumerate([*first, *second]):
        (folder / f"im{k}").write_bytes(data)  # as many scanners name them
    shutil.copy(phantoms[0], folder / "a.png")
    page.locator("#folder").set_input_files(str(folder))
    study = page.locator('.study[data-state="done"]')
    study.wait_for()
    assert study.locator(".name").inner_text() == "Study: study"
    patients = study.locator(".patient")
    assert patients.locator(".label b").all_inner_texts() == ["Pituitary", "Glioma"]
    assert patients.locator(".which").all_inner_texts() == [
        "Patient 1: 4 of 4 slices counted",
        "Patient 2: 3 of 3 slices counted",
    ]
    assert page.locator(DONE).locator(".name").all_inner_texts() == ["study/a.png"]  # by itself

    strip = patients.first.locator(".strip")
    assert strip.locator(".cell").count() == 4
    strip.focus()
    page.keyboard.press("Home")
    shown = patients.first.locator(".which-slice")
    assert shown.inner_text().startswith("Slice 1 of 4, series 1: Pituitary")
    before = patients.first.locator(".frame .crop").get_attribute("src")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert shown.inner_text().startswith("Slice 3 of 4")
    assert (
        strip.locator('[aria-selected="true"]').get_attribute("aria-label").startswith("Slice 3: pituitary")
    )
    assert patients.first.locator(".frame .crop").get_attribute("src") != before
    assert width_of(patients.first.locator(".frame .heat")) > 16
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert shown.inner_text().startswith("Slice 4 of 4")
    assert patients.first.locator(".file").inner_text() == "study/im0"  # from below to above

    study.locator(".copy").click()
    told = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert [one["label"] for one in told["patients"]] == ["pituitary", "glioma"]
    assert "crop" not in told["slices"][0]
    study.locator(".remove").click()
    assert page.locator(".study").count() == 0


def test_a_study_over_the_limits_is_not_sent_and_a_damaged_archive_says_why(
    open_page: Open, tmp_path: Path
) -> None:
    page = open_page()
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and nothing else")
    send(page, tmp_path / "broken.zip")
    study = page.locator('.study[data-state="failed"]')
    study.wait_for()
    assert "The zip archive is damaged." in study.locator(".detail").inner_text()
    large = tmp_path / "large.zip"
    with large.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(101_000_000)
    send(page, large)
    page.get_by_text("not sent: it has 101 MB", exact=False).wait_for()


def test_drift_is_said_below_the_models_name_and_nothing_otherwise(open_page: Open) -> None:
    told = {"status": "drifted", "sentence": "<b>The last 300 images</b> differ"}
    page = open_page(lambda page: page.route("**/v1/drift", lambda route: route.fulfill(json=told)))
    page.get_by_text("<b>The last 300 images</b> differ").wait_for()
    told["status"] = "steady"
    page = open_page(lambda page: page.route("**/v1/drift", lambda route: route.fulfill(json=told)))
    page.locator("#samples button").first.wait_for()
    assert page.locator("#drift").is_hidden()


def test_the_page_says_whether_files_are_kept(open_page: Open) -> None:
    def no_review(route: Any) -> None:
        route.fulfill(json=route.fetch().json() | {"review": False})

    for handler, said in (
        (no_review, "Images go to this server only."),
        (None, "This server keeps files without"),
    ):
        page = open_page(lambda page, handler=handler: handler and page.route("**/v1/model", handler))
        page.locator("#samples button").first.wait_for()
        assert page.locator("#kept").inner_text().startswith(said)


def test_the_slider_fades_the_heat_map(open_page: Open, phantoms: list[Path]) -> None:
    page = open_page()
    send(page, phantoms[0])
    slider = page.get_by_role("slider", name=f"Opacity of the heat map of {phantoms[0].name}")
    heat = page.locator(f"{DONE} .heat")
    heat.wait_for()
    shown = []
    for key in ("Home", "ArrowRight", "End"):
        slider.press(key)
        shown.append(heat.evaluate("image => getComputedStyle(image).opacity"))
    assert shown == ["0", "0.05", "1"]
    assert page.locator(f"{DONE} output").inner_text() == "100 %"


def test_the_answer_can_be_copied_as_json(open_page: Open, phantoms: list[Path]) -> None:
    page = open_page()
    send(page, phantoms[0])
    page.get_by_role("button", name=f"Copy JSON of {phantoms[0].name}").click()
    page.get_by_text("Copied", exact=True).wait_for()
    answer = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert answer["name"] == phantoms[0].name
    assert answer["label"] == max(answer["calibrated"], key=answer["calibrated"].get)
    assert not {"crop", "heatmap", "overlay"} & set(answer)
    page.get_by_role("button", name="Copy all as JSON").click()
    page.locator("#copy-all").get_by_text("Copied").wait_for()
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == [answer]


def test_without_a_clipboard_the_json_stands_in_a_field(open_page: Open, phantoms: list[Path]) -> None:
    none = "navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false;"
    page = open_page(lambda page: page.add_init_script(none))
    send(page, phantoms[0])
    page.get_by_role("button", name="Copy JSON of").click()
    field = page.get_by_role("textbox", name="JSON, to copy by hand")
    assert json.loads(field.input_value())["name"] == phantoms[0].name


def test_the_keyboard_alone_is_enough(open_page: Open, phantoms: list[Path]) -> None:
    # Noted from the start on: asked for later, the browser may still open a dialog of its own.
    choosers = []

    def choose(chooser: Any) -> None:
        choosers.append(chooser)
        chooser.set_files(str(phantoms[1]))

    page = open_page(lambda page: page.on("filechooser", choose))
    page.locator("#samples button").nth(3).wait_for()

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            focus = page.locator(":focus")
            if name in (focus.get_attribute("aria-label") or focus.inner_text()):
                assert focus.evaluate("element => getComputedStyle(element).outlineStyle") != "none"
                return
        raise AssertionError(f"Tab does not come to {name!r}")

    tab_to("Choose files")
    page.keyboard.press("Enter")
    page.locator(DONE).wait_for()
    assert len(choosers) == 1
    tab_to("no tumour")
    page.keyboard.press("Enter")
    page.locator(DONE).nth(1).wait_for()
    tab_to("Copy JSON of notumor")
    page.keyboard.press("Enter")
    page.get_by_text("Copied", exact=True).wait_for()
    tab_to("Opacity of the heat map of notumor")
    tab_to("Remove slice-meningioma")
    page.keyboard.press("Enter")
    assert page.locator(".entry").count() == 1


def test_a_phone_shows_all_without_scrolling_sideways(open_page: Open, phantoms: list[Path]) -> None:
    page = open_page(viewport={"width": 360, "height": 740})
    long = phantoms[0].with_name("a-very-long-name-" * 8 + ".txt")
    long.write_text("no picture")
    send(page, phantoms[0], long, phantoms[1])
    page.locator(DONE).nth(1).wait_for()
    page.locator(FAILED).wait_for()
    page.locator("#to-card").click()
    page.locator(f"{DONE} summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.get_by_text("Not for clinical use.").first.is_visible()


def test_the_dark_scheme_is_dark(open_page: Open) -> None:
    grey = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert open_page(color_scheme="light").evaluate(grey) > 200
    assert open_page(color_scheme="dark").evaluate(grey) < 50


def test_the_model_card_is_shown_and_html_in_it_stays_text(open_page: Open, endpoint: Any) -> None:
    def add_html(route: Any) -> None:
        body = route.fetch().json()
        body["models"][0]["card"] += "\n## More\n<img src=x> [a](javascript:alert(1)) [b](https://c.org/)\n"
        route.fulfill(json=body)

    page = open_page(lambda page: page.route("**/v1/model", add_html))
    page.locator("#to-card").click()
    card = page.locator("#card-text")
    card.get_by_role("heading", name="Intended use").wait_for()
    assert card.locator("table th").first.is_visible()
    assert card.locator("pre code").first.is_visible()
    assert "<img src=x> [a](javascript:alert(1)) b" in card.inner_text()
    assert card.locator("img, script").count() == 0
    links = [link.get_attribute("href") for link in card.locator("a").all()]
    assert links[-1] == "https://c.org/"
    assert all(link.startswith("https://") for link in links)
    assert page.get_by_role("link", name="API").get_attribute("href") == "docs"


def test_a_key_is_asked_for_once_and_sent_from_then_on(open_page: Open, phantoms: list[Path]) -> None:
    refuse = problem(401, "unauthorized", "none was sent")

    def guard(route: Any) -> None:
        known = route.request.headers.get("authorization") == "Bearer sesame"
        route.continue_() if known else refuse(route)

    page = open_page(lambda page: page.route("**/v1/**", guard))
    field = page.get_by_label("Key", exact=True)
    field.wait_for()
    assert field.evaluate("element => element === document.activeElement")
    send(page, phantoms[0])
    field.fill("wrong")
    field.press("Enter")
    page.get_by_text("The server does not know this key.").wait_for()
    field.fill("sesame")
    field.press("Enter")
    page.locator(DONE).wait_for()
    assert field.is_hidden()
    assert page.evaluate("sessionStorage.length === 1 && localStorage.length === 0")
    page.reload()
    page.locator("#samples button").first.click()
    page.locator(DONE).wait_for()
    page.get_by_role("button", name="Forget the API key").click()
    page.locator("#samples button").first.click()
    page.get_by_text("Waits for an API key").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_busy_server_is_asked_again_as_it_tells(open_page: Open, phantoms: list[Path]) -> None:
    busy = problem(503, "queue_full", "128 images wait", retry_after="1")
    asked = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        busy(route) if len(asked) < 3 else route.continue_()

    page = open_page(lambda page: page.route("**/v1/explain", answer))
    send(page, phantoms[0])
    page.get_by_text("The server is busy: try 2 of 5 in 1 s").wait_for()
    page.locator(DONE).wait_for()
    assert len(asked) == 3


def test_an_image_that_a_replica_was_lost_with_is_sent_once_more(
    open_page: Open, phantoms: list[Path]
) -> None:
    """It may be what ended the replica: it must not be carried to the next and the next."""
    asked = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        lost(route)

    lost = problem(503, "not_ready", "no replica is ready", retry_after="1")
    soon = "const wait = window.setTimeout; window.setTimeout = (work, ms) => wait(work, Math.min(ms, 200));"

    def prepare(page: Any) -> None:
        page.add_init_script(soon)
        page.route("**/v1/explain", answer)

    page = open_page(prepare)
    send(page, phantoms[0])
    page.locator(FAILED).wait_for()
    assert "the server is not ready" in page.locator(f"{FAILED} .failure").inner_text().lower()
    assert len(asked) == 2
    page.get_by_role("button", name=f"Try {phantoms[0].name} again").click()
    page.locator(FAILED).wait_for()
    until(page, lambda: len(asked) == 4)


@pytest.mark.parametrize(
    ("answer", "text", "again"),
    [
        (problem(413, "too_many_pixels", "it has 9000x9000"), "takes at most 40 megapixels", False),
        (problem(415, "not_an_image", "expected JPEG"), "Send JPEG, PNG", False),
        (problem(422, "too_small", "it has 8x8"), "Too small to show a brain", False),
        (problem(422, "several_images", "it has 3"), "Save each slice as a file of its own", False),
        (problem(403, "forbidden", "of another site"), "does not take requests from this page", True),
        (problem(504, "timeout", "given up after 30 s"), "The answer was not ready in time", True),
        (problem(500, "internal", ""), "tell whoever runs the server (status 500)", True),
        (lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"), "(status 502)", True),
        (lambda route: route.fulfill(status=200, body="{}"), "an answer that this page cannot read", True),
        (lambda route: route.abort(), "The server cannot be reached", True),
    ],
    ids=["413", "415", "422", "several", "403", "504", "500", "502", "nonsense", "no network"],
)
def test_an_error_says_what_to_do(
    answer: Callable[[Any], None], text: str, again: bool, open_page: Open, phantoms: list[Path]
) -> None:
    page = open_page(lambda page: page.route("**/v1/explain", answer))
    send(page, phantoms[0])
    failure = page.locator(f"{FAILED} .failure")
    failure.wait_for()
    assert text.lower() in failure.inner_text().lower()
    button = page.get_by_role("button", name=f"Try {phantoms[0].name} again")
    assert button.is_visible() == again
    if again:
        page.unroute("**/v1/explain")
        button.click()
        page.locator(DONE).wait_for()


def test_what_is_over_the_limits_is_not_sent(open_page: Open, phantoms: list[Path]) -> None:
    def lower(route: Any) -> None:
        body = route.fetch().json()
        body["limits"] |= {"max_pixels": 1000, "max_upload_mb": 0.5}
        route.fulfill(json=body)

    sent = []
    page = open_page(lambda page: page.route("**/v1/model", lower))
    page.on("request", lambda request: sent.extend([request.url] if "explain" in request.url else []))
    big = phantoms[0].with_name("big.tif")
    big.write_bytes(bytes(500_000))
    send(page, phantoms[0], big)
    page.locator(FAILED).nth(1).wait_for()
    assert page.locator(".failure b").all_inner_texts() == ["Too many pixels.", "Too large to be sent."]
    assert sent == []


def test_at_most_four_are_in_flight_and_a_slow_one_holds_up_no_other(
    open_page: Open, phantoms: list[Path]
) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page = open_page(lambda page: page.route("**/v1/explain", hold))
    send(page, *phantoms[:3], *phantoms[:3])
    until(page, lambda: len(held) == 4)
    assert page.locator('.entry[data-state="waiting"]').count() == 2
    for route in held[1:4]:
        route.continue_()
    page.locator(DONE).nth(2).wait_for()
    until(page, lambda: len(held) == 6)
    for route in held[4:]:
        route.continue_()
    page.locator(DONE).nth(4).wait_for()
    assert page.locator('.entry[data-state="sending"]').count() == 1
    held[0].continue_()
    page.locator(DONE).nth(5).wait_for()


def test_an_endpoint_that_cannot_be_reached_is_said_and_tried_again(open_page: Open) -> None:
    page = open_page(lambda page: page.route("**/v1/model", lambda route: route.abort()))
    page.get_by_text("The server cannot be reached. Check the network").wait_for()
    page.unroute("**/v1/model")
    page.locator("#trouble button").click()
    page.locator("#samples button").first.wait_for()
    assert page.locator("#trouble").is_hidden()
