"""The bundle: it reads back, is refused once it was touched, and explains itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.models import FACTS, SWEEP

from brain_ray.bundle.bundle import BundleError, add_scores, load_bundle, render_card
from brain_ray.bundle.schema import BundleInfo
from brain_ray.config import Config
from brain_ray.scoring.decisions import count_decisions
from brain_ray.scoring.scores import score_rows
from brain_ray.scoring.selection import sum_up_choice

SCORES = {
    "images": 41,
    "correct": 33,
    "accuracy": 0.8049,
    "accuracy_low": 0.6599,
    "accuracy_high": 0.8977,
    "per_class": {
        "a": {"precision": 0.7123, "recall": 0.8, "f1": 0.7536, "support": 17},
        "b": {"precision": None, "recall": None, "f1": None, "support": 0},
    },
    "log_loss": 0.4321,
    "ece": 0.0987,
    "calibrated": {"log_loss": 0.4211, "brier": 0.2, "ece": 0.0456},
}
TEST = {"official": SCORES, "leak_free": SCORES | {"images": 23, "accuracy": 0.6087}}


def test_what_was_exported_reads_back(exported: tuple[Path, BundleInfo], config: Config) -> None:
    folder, info = exported
    opened = load_bundle(str(folder))
    opened.verify()
    assert opened.info == info
    assert load_bundle(folder.as_uri()).info == info  # by URI as well
    assert opened.info.classes == ("a", "b", "c")
    assert opened.info.data.model_dump() == FACTS["data"]
    assert opened.info.training.model_dump(exclude={"setups", "members", "models"}) == FACTS["training"]
    assert Config.model_validate(opened.info.config) == config
    assert opened.info.check.images == 24
    assert 0 <= opened.info.check.largest_difference < 1e-4
    assert opened.info.scores.test is None
    assert set(opened.info.versions) >= {"brain_ray", "python", "ray", "tensorflow", "keras", "onnxruntime"}
    listed = {
        "model.keras",
        "model.onnx",
        "explain.onnx",
        "reference.npz",
        "unlikeness.npz",
        *(f"canaries/{kind}.png" for kind in ("glioma", "meningioma", "notumor", "pituitary")),
    }
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == listed | {"bundle.json", "MODEL_CARD.md"}
    assert set(opened.info.files) == listed


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "model.keras", "explain.onnx", "unlikeness.npz", "reference.npz", "canaries/glioma.png"],
)
def test_a_changed_file_is_refused(bundle: Path, name: str) -> None:
    file = bundle / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(
        BundleError, match=f"{name} was changed or is incomplete: its SHA-256 is [0-9a-f]{{64}}"
    ):
        load_bundle(str(bundle)).verify()


def test_a_missing_model_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"cannot read .*model\.onnx"):
        load_bundle(str(bundle)).read("model.onnx")
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md is not listed"):
        load_bundle(str(bundle)).read("MODEL_CARD.md")


def test_other_folders_and_formats_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere.*expected a folder with bundle\.json"):
        load_bundle(str(tmp_path / "nowhere"))
    file = bundle / "bundle.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"format": 1}))
    with pytest.raises(BundleError, match=r"has the format 1, this version of brain_ray reads 2"):
        load_bundle(str(bundle))
    file.write_text(json.dumps(content | {"temperature": -1}))
    with pytest.raises(BundleError, match=r"bundle\.json: temperature: "):
        load_bundle(str(bundle))
    file.write_text("[]")
    with pytest.raises(BundleError, match="has the format None"):
        load_bundle(str(bundle))
    file.write_text(json.dumps(content)[:100])
    with pytest.raises(BundleError, match="is not JSON"):
        load_bundle(str(bundle))


def test_scores_of_the_evaluation_join_the_bundle(bundle: Path) -> None:
    before = load_bundle(str(bundle)).info
    assert "has not been evaluated" in (bundle / "MODEL_CARD.md").read_text()
    add_scores(str(bundle), TEST)
    after = load_bundle(str(bundle))
    after.verify()
    assert after.info.scores.test == TEST
    assert after.info.model_copy(update={"scores": before.scores}) == before
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "has not been evaluated" not in card
    for number in ("80.49 %", "65.99 %", "89.77 %", "60.87 %", "0.4321", "0.0456", "0.7123", "(23 images)"):
        assert number in card
    assert "| b | - | - | - | 0 |" in card
    for label, text in score_rows(SCORES):
        assert f"\n- {label}: {text}\n" in card
    assert (
        "no copy found in training or validation, nor another image of a patient known to be there**" in card
    )
    assert "** (23 images)" in card
    assert not list(bundle.glob("*.partial"))


def test_served_decisions_on_the_test_images_stand_beside_the_threshold(bundle: Path) -> None:
    labels, answers = np.zeros(319, int), np.where(np.arange(319) < 10, 1, 0)
    kinds, exported = np.full(319, "answer"), {"max_error": 0.01, "error": 0.0094, "answered": 0.98}
    found = count_decisions(labels, answers, kinds, np.arange(319) // 2, ("a", "b", "c"), exported)
    scores = SCORES | {"decisions": found.model_dump(mode="json")}
    add_scores(str(bundle), {"official": SCORES, "leak_free": scores})
    card = (bundle / "MODEL_CARD.md").read_text()
    section = card.partition("## When it does not answer\n")[2].partition("\n## ")[0]
    assert found.sentence in section
    assert "| a: 319 | 319 | 309 | 10 | 3.13 % (1.23 % to 6.80 %) | 0 (0) | 0 (0) |" in section
    assert "| b: 0 | 0 | 0 | 0 | - | 0 (0) | 0 (0) |" in section
    assert "| all: 319 |" in section
    assert "\n\n\n" not in card


def test_the_card_tells_how_often_the_test_split_was_scored(bundle: Path) -> None:
    add_scores(str(bundle), {"official": SCORES, "leak_free": SCORES})
    assert "how often it was scored before" in (bundle / "MODEL_CARD.md").read_text()
    counted = sum_up_choice(2, 2, 0.9, 0.94)
    add_scores(str(bundle), {"official": SCORES, "leak_free": SCORES, "ledger": counted})
    card = (bundle / "MODEL_CARD.md").read_text()
    assert counted["sentence"] in card
    assert "how often it was scored before" not in card
    assert "\n\n\n" not in card


def test_scores_that_are_not_json_leave_the_bundle_as_it_was(bundle: Path) -> None:
    before = {file.name: file.read_bytes() for file in bundle.iterdir() if file.is_file()}
    with pytest.raises(ValueError, match="JSON compliant"):
        add_scores(str(bundle), {"official": SCORES | {"ece": float("nan")}})
    assert {file.name: file.read_bytes() for file in bundle.iterdir() if file.is_file()} == before


def test_the_card_tells_the_bundles_numbers_and_limits(exported: tuple[Path, BundleInfo]) -> None:
    folder, info = exported
    card = (folder / "MODEL_CARD.md").read_text()
    assert card == render_card(info)
    assert card.startswith("# trial\n")
    validation = info.scores.validation
    for text in (
        "Not for clinical use",
        "a, b or c",
        "48 x 40 pixels",
        "best of 7 epochs: 6",
        f"{validation.log_loss:.4f}",
        f"{info.temperature:.4f}",
        f"{info.check.largest_difference:.1e}",
        f"below {info.decision.abstain_below:.4f} is withheld",
        f"Of the validation images {100 * info.decision.kept:.2f} %",
        "measured from 40 training images",
        "second copies: 31",
        "test images: 13",
        "| training | 12 | 16 | `abababababababab` |",
        "drawn phantoms",
        "No external validation",
        "Patients are not known to this data set",
        "misses most copies that were shifted",
        f"calibration error {validation.ece:.4f} of the raw probabilities; with the temperature "
        f"{validation.log_loss_calibrated:.4f} and {validation.ece_calibrated:.4f}, each half of the groups "
        "calibrated by the other",
        "on drawn inputs (noise, black, white, checkerboard, gradient), in batches of",
        f"logits to {info.check.outputs['logits'].largest:.1e} nats",
        "Source bias",
        'Predictor("bundle")',
        f"keras: {info.versions['keras']}",
    ):
        assert text in card, text
    assert "\n\n\n" not in card
    for text in ("public data set", "without a copy", "leak-free", "notumor"):
        assert text not in card, text
    card = render_card(info.model_copy(update={"classes": ("glioma", "notumor", "pituitary")}))
    assert "`notumor` means none of glioma, pituitary. It does not mean healthy" in card
    real = info.model_copy(
        update={"config": info.config | {"data": info.config["data"] | {"source": "scans"}}}
    )
    assert "phantoms" not in render_card(real)


def test_a_bundle_whose_export_compared_probabilities_only_says_so(bundle: Path) -> None:
    file = bundle / "bundle.json"
    content = json.loads(file.read_text())
    check = content["check"]
    content["check"] = {name: check[name] for name in ("images", "largest_difference")}
    del content["scores"]["validation"]["ece_calibrated"]
    file.write_text(json.dumps(content))
    info = load_bundle(str(bundle)).info
    card = render_card(info)
    assert f"differ by {check['largest_difference']:.1e} at most. Nothing else was compared." in card
    assert f"{info.scores.validation.log_loss_calibrated:.4f}.\n" in card
    assert "\n\n\n" not in card


def test_the_card_tells_how_a_sweep_chose_the_model(exported: tuple[Path, BundleInfo]) -> None:
    info = exported[1]
    assert info.sweep is None
    assert "How it was chosen" not in render_card(info)
    card = render_card(info.model_copy(update={"sweep": SWEEP}))
    _, _, section = card.partition("## How it was chosen\n")
    section, _, _ = section.partition("\n## ")
    for text in (
        "By a sweep of 6 trials (4 finished, 2 stopped), by the rule `cheapest within noise`.",
        SWEEP["sentence"],
        "| EfficientNetB0 48x40 gap | 001 | 1 | 0.0912 | 97.07 % (94.11 % to 98.93 %) | 8.1 ms | 4,054,695 | "
        "0.801 | yes |",
        "| **tiny 48x40 gap** | 003 | 2 | 0.0956 ± 0.0123 | 96.95 % (93.96 % to 98.86 %) | 0.3 ms | 98,355 | "
        "0.004 | yes |",
        SWEEP["noise"],
        "better on them than it is",
        "was not read for the choice",
    ):
        assert text in section, text
    assert "\n\n\n" not in card
    unknown = dict.fromkeys(("accuracy", "accuracy_low", "latency_ms", "parameters", "gflops"))
    rows = [SWEEP["contenders"][0] | unknown]
    card = render_card(info.model_copy(update={"sweep": SWEEP | {"contenders": rows}}))
    assert "| EfficientNetB0 48x40 gap | 001 | 1 | 0.0912 | - | - | - | - | yes |" in card


def test_a_sweep_is_kept_and_a_bundle_from_before_it_stays_readable(bundle: Path) -> None:
    file = bundle / "bundle.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"sweep": SWEEP}))
    assert load_bundle(str(bundle)).info.sweep == SWEEP
    add_scores(str(bundle), TEST)
    assert load_bundle(str(bundle)).info.sweep == SWEEP
    assert "How it was chosen" in (bundle / "MODEL_CARD.md").read_text()
    del content["sweep"]
    file.write_text(json.dumps(content))
    assert load_bundle(str(bundle)).info.sweep is None


def test_the_card_names_no_choice_of_the_epoch_where_the_last_one_is_kept(
    exported: tuple[Path, BundleInfo],
) -> None:
    _, info = exported
    assert "best of 7 epochs: 6." in render_card(info)
    assert "which also chose the epoch and the temperature)" in render_card(info)
    train = {**info.config["train"], "keep_epoch": "last"}
    card = render_card(info.model_copy(update={"config": {**info.config, "train": train}}))
    assert "last of 7 epochs: 6." in card
    assert "which also chose the temperature)" in card
    assert "they chose the epoch all the same" not in card
