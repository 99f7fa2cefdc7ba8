"""The page is complete, self-contained, and safe whatever its files are called."""

import dataclasses
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
from support.html_page import Page

from brain_ray.config import Config, DataConfig, TrainConfig
from brain_ray.evaluation.copy_choice import ChosenCluster
from brain_ray.evaluation.copy_pictures import CopyPictures
from brain_ray.evaluation.copy_plates import ClusterRow, CopyPair, LabelDispute, Picture
from brain_ray.evaluation.image_plates import LabelledImage, Misclassified
from brain_ray.evaluation.report import render_page, write_report
from brain_ray.evaluation.report_data import ReportData, first_epoch_on_images
from brain_ray.evaluation.score_predictions import score_predictions
from brain_ray.scoring.decisions import count_decisions
from brain_ray.scoring.localisation_scores import (
    COLUMNS,
    LocalisationScores,
    OutlineCounts,
    interval_text,
    score_parts,
)
from brain_ray.scoring.metrics import score
from brain_ray.scoring.scores import Scores, Subgroup
from brain_ray.scoring.selection import sum_up_choice
from brain_ray.scoring.shift import compare_with

CLASSES = DataConfig().classes
NASTY = 'Testing/<script>alert("x")</script>/a&b.jpg'
DECISION = {"max_error": 0.01, "error": 0.0, "answered": 0.9, "abstain_below": 0.8765, "kept": 0.99}


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 36), dtype=np.uint8)


def make_audit() -> dict:
    per_class = dict.fromkeys(CLASSES, 6)
    return {
        "files": 80, "used": 72, "rejected": 2, "dropped": 6, "no_contour": 1,
        "splits": {"train": per_class, "valid": per_class, "test": per_class},
        "balanced_train": dict.fromkeys(CLASSES, 9),
        "copies": {
            "pairs": 1234, "clusters": 5, "images_in_clusters": 11, "second_copies": 6, "largest_cluster": 3,
            "by_transform": {"identity": 2, "mirrored": 5}, "by_kind": {"same bytes": 1, "near": 6},
            "across_splits": {"pairs": 3, "test_images": 3, "train_images": 3},
            "label_conflicts": [{"cluster": 4, "classes": ["glioma", "notumor"], "paths": [NASTY, "b.jpg"]}],
            "near_misses": 2,
        },
        "leaks": {"policy": "drop", "dropped_from_train": 3, "conflict_dropped": 0},
    }  # fmt: skip


def scored(labels: np.ndarray, chances: np.ndarray) -> Scores:
    """Score predictions of which all answers are given, but for one withheld and one refused."""
    kinds = np.array(["abstain", "not_mr"] + ["answer"] * (len(labels) - 2))
    decisions = count_decisions(
        labels, chances.argmax(axis=1), kinds, np.arange(len(labels)) // 2, CLASSES, DECISION
    )
    return score(labels, chances, CLASSES, chances).model_copy(update={"decisions": decisions})


def make_history() -> pd.DataFrame:
    rows = {
        "epoch": [1, 2],
        "loss": [1.0, 0.5],
        "cross_entropy": [0.9, 0.4],
        "accuracy": [0.5, 0.7],
        "val_loss": [0.9, 0.8],
    }
    rows |= {"val_cross_entropy": [0.8, 0.7], "val_accuracy": [0.6, 0.7], "learning_rate": [1e-3, 4e-4]}
    rows |= {"best": [1, 1], "rolled_back": [0, 0], "seconds": [10.0, 9.0], "images_per_second": [70.0, 71.0]}
    return pd.DataFrame(rows)


def make_pair(split_b: str = "test", transform: str = "mirrored", view: str = "") -> CopyPair:
    first = Picture("Training/one.jpg", "glioma", "train", picture(1))
    return CopyPair(first, Picture(NASTY, "glioma", split_b, picture(2)), 0.9951, transform, "near", view)


def make_row(is_chain: bool = False) -> ClusterRow:
    cluster = ChosenCluster(17, {"glioma": 16, "notumor": 1}, {"test": 2, "train": 15}, is_chain, 0.9734, [])
    names = ("glioma", "notumor", "glioma")
    pictures = [Picture(f"Training/{k}.jpg", name, "train", picture(k)) for k, name in enumerate(names)]
    return ClusterRow(cluster, [*pictures, Picture(NASTY, "glioma", "test", picture(4), "turned left")])


def with_known_set(data: ReportData, contradictions: int = 2) -> ReportData:
    """Data of a run that recognised a published set, which contradicts some labels."""
    about = {"title": "A published set", "authors": "A. N. Author", "licence": "CC BY 4.0"}
    counts = ("images", "slices", "of_slices", "patients", "of_patients", "patients_in_several_splits")
    known = {**about, "source": "https://doi.org/1", **dict.fromkeys(counts, 9)}
    known |= {"test_images": 3, "test_images_of_training_patients": 3}
    known["contradictions"] = [{"path": f"{k}.jpg", "given": "glioma", "source": "pituitary"}
                               for k in range(contradictions)]  # fmt: skip
    wrong, right = (Picture(f"{name}.jpg", name, "train", picture(3)) for name in ("glioma", "pituitary"))
    disputes = [LabelDispute(wrong, "A published set", "pituitary", beside) for beside in ([right], [])]
    copies = dataclasses.replace(data.copies, disputes=disputes[:contradictions])
    return dataclasses.replace(data, audit=data.audit | {"known_sets": [known]}, copies=copies)


@pytest.fixture(scope="module")
def data() -> ReportData:
    rng = np.random.default_rng(5)
    labels = np.arange(24) % 4
    chances = rng.dirichlet(np.ones(4), 24)
    clean = np.arange(24) % 3 > 0
    wrong = np.flatnonzero(chances.argmax(axis=1) != labels)
    paths = {i: f"Testing/{CLASSES[labels[i]]}/{i}.jpg" for i in wrong} | {wrong[0]: NASTY}
    return ReportData(
        config=Config(name="first-run", data=DataConfig(source="s3://bucket/<images>")),
        created="2026-01-02 03:04 UTC",
        bundle={
            "created": "2026-01-01", "temperature": 1.25, "decision": DECISION,
            "versions": {"ray": "2.60.0"}, "files": {"model.onnx": "ab" * 32},
        },
        audit=make_audit(),
        official=scored(labels, chances),
        leak_free=scored(labels[clean], chances[clean]),
        labels=labels,
        probabilities=chances,
        calibrated=chances,
        is_leak_free=clean,
        num_known_patients=0,
        history=make_history(),
        rejected=pd.DataFrame(
            {"path": [NASTY], "class_name": ["glioma"], "source_split": ["train"], "reason": ["empty file"]}
        ),
        samples=[LabelledImage(picture(i), CLASSES[i % 4]) for i in range(5)],
        crop_examples=[LabelledImage(picture(9), "glioma")],
        misclassified=[
            Misclassified(
                paths[i], int(labels[i]), int(chances[i].argmax()), chances[i], bool(clean[i]), picture(i)
            )
            for i in wrong
        ],
        copies=CopyPictures(
            pairs=[make_pair(), make_pair("train", "identity")], largest=[make_row()], conflicts=[make_row()]
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(data: ReportData) -> tuple[str, dict[str, bytes]]:
    return write_report(data)


@pytest.fixture(scope="module")
def render(written: tuple[str, dict[str, bytes]]) -> Callable[..., str]:
    """Give the function that writes the page of other data, with the figures of these: they cost seconds."""
    return partial(render_page, figures=written[1])


def test_page_is_sound_html_and_needs_nothing_else(written):
    page = Page(written[0])
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"url\(|@import", written[0])


def test_page_shows_every_score_that_the_terminal_does(data, written):
    text = Page(written[0]).text
    for scores in (data.official, data.leak_free):
        for _, shown in scores.rows():
            assert shown in text


def test_every_entry_of_the_table_of_contents_leads_somewhere(written):
    page = Page(written[0])
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    assert len(targets) >= 10
    assert targets <= page.ids


def test_headline_gives_both_scores_with_interval_and_number(data, written):
    text = Page(written[0]).text
    for scores in (data.official, data.leak_free):
        assert f"{scores.accuracy:.2%}".replace("%", " %") in text
        assert f"{scores.accuracy_low:.2%}".replace("%", " %") in text
        assert f"{scores.correct} of {scores.images} images right" in text
    copied = data.official.images - data.leak_free.images
    assert f"{copied} of the {data.official.images} test images have a copy that was learned from" in text
    assert "first-run" in text
    assert "EfficientNetB0" in text
    assert "s3://bucket/<images>" in text
    assert "Not for clinical use" in text


def test_every_misclassified_image_is_there_with_its_probabilities(data, written):
    text = Page(written[0]).text
    assert len(data.misclassified) > 10
    for error in data.misclassified:
        assert error.path in text
        assert f"{error.probabilities[error.predicted] * 100:.1f} %" in text


def test_names_of_files_are_text_and_no_markup(written):
    assert "<script" not in written[0]
    assert "&lt;script&gt;" in written[0]
    assert Page(written[0]).text.count(NASTY) == 6  # error, rejected file, conflict twice, two pairs


def test_tables_of_the_audit(written):
    text = Page(written[0]).text
    assert "pairs 1,234" in text
    assert "mirrored 5" in text
    assert "same bytes 1" in text
    assert "test images with a copy in training 3" in text
    assert "empty file" in text
    assert "glioma, notumor" in text
    assert "similarity 0.9951" in text


def test_mirrored_pair_is_also_shown_turned_back(written):
    assert Page(written[0]).text.count("turned back") == 1


def test_pairs_are_named_by_what_is_alike(data, render):
    views = ("whole", "head", "aligned")
    pairs = [make_pair(transform="transposed", view=view) for view in views]
    audit = make_audit()
    audit["copies"]["by_view"] = {"whole": 1000, "head": 200, "aligned": 34}
    shown = dataclasses.replace(data, audit=audit, copies=CopyPictures(pairs=pairs))
    text = Page(render(shown)).text
    for view in ("whole images alike", "heads alike", "alike after alignment"):
        assert f"transposed , near, similarity 0.9951, {view}" in text
    assert "heads after alignment 34" in text
    assert "every view, class and transform in turn" in text


def test_the_largest_clusters_stand_in_rows_and_chains_are_marked(data, written, render):
    text = Page(written[0]).text
    assert "17 images : 16 glioma, 1 notumor; 2 test, 15 train; pairs of similarity 0.9734 and more" in text
    assert "glioma test turned left" in text
    assert "A chain" not in text
    copies = CopyPictures(largest=[make_row(is_chain=True)])
    text = Page(render(dataclasses.replace(data, copies=copies))).text
    assert "A chain: its ends are not alike" in text


def test_pairs_alone_are_no_large_clusters(data, render):
    audit = make_audit()
    audit["copies"]["largest_cluster"] = 2
    html = render(dataclasses.replace(data, audit=audit))
    assert "No cluster has more than two images" in Page(html).text


def test_labels_stand_beside_the_published_ones(data, render):
    text = Page(render(with_known_set(data))).text
    assert "2 of 2 recognised images" in text
    assert "label here glioma , in “A published set” pituitary glioma.jpg pituitary.jpg" in text
    assert "pituitary ; no other image here shows this slice under that label glioma.jpg" in text
    assert "set's own pictures are not at hand" in text


def test_a_known_set_that_contradicts_nothing_is_said_to(data, render):
    text = Page(render(with_known_set(data, 0))).text
    assert "Labels that contradict a published set's None of the recognised images." in text
    assert "published set" not in Page(render(data)).text, "no set was recognised"


def test_copies_under_different_labels_are_shown_and_listed(data, written):
    text = Page(written[0]).text
    assert "Copies under different labels 1 cluster of copies carries more than one label." in text
    assert "Files of these clusters" in text


def test_settings_that_are_not_the_default_stand_out(written):
    changed = re.findall(r'class="changed"><th scope="row">([\w.]+)', written[0])
    assert changed == ["name", "data.source"]


def test_pairs_whose_files_are_gone_are_said_to_be(data, render):
    html = render(dataclasses.replace(data, samples=[], copies=CopyPictures(), misclassified=[]))
    assert "no longer where the run found them" in Page(html).text


def test_figures_are_returned_as_png(written):
    names = {
        "balance",
        "confusion",
        "roc",
        "reliability",
        "curves",
        "samples",
        "crop_steps",
        "misclassified",
        "pairs",
        "risk_coverage",
    }
    assert set(written[1]) == {f"{name}.png" for name in names}
    assert all(content.startswith(b"\x89PNG") for content in written[1].values())


def test_page_of_a_run_with_nothing_to_show(data):
    audit = make_audit()
    audit["copies"] |= {"pairs": 0, "label_conflicts": [], "by_transform": {}, "by_kind": {}}
    sure = np.eye(4)[data.labels]
    perfect = scored(data.labels, sure)
    html, figures = write_report(
        dataclasses.replace(
            data, audit=audit, official=perfect, leak_free=perfect, is_leak_free=np.ones(24, bool),
            probabilities=sure, calibrated=sure, misclassified=[], copies=CopyPictures(),
            rejected=data.rejected.head(0), history=data.history.head(0), samples=[], crop_examples=[],
        )
    )  # fmt: skip
    text = Page(html).text
    assert "No copies were found" in text
    assert "Copies under different labels None." in text
    assert "For no test image one was found among the training and validation images" in text
    assert "3 training images with a copy in the test split were left out" in text
    assert set(figures) == {"balance.png", "confusion.png", "roc.png", "reliability.png", "risk_coverage.png"}


def test_no_score_is_said_to_be_free_of_copies(data, written, render):
    """An earlier version's audit compared whole images: what it does not find may still be there."""
    alike = dataclasses.replace(data, leak_free=data.official, is_leak_free=np.ones(24, bool))
    for html in (written[0], render(alike)):
        text = Page(html).text
        assert "leak-free" not in text
        assert "without a copy" not in text
        assert "Copies were looked for by comparing whole images" in text
        assert "correlate by 0.97 or more" in text
        for limit in (
            "misses most copies",
            "Patients are not known",
            "groups for independent",
            "not recorded",
        ):
            assert limit in text, limit


def test_how_often_the_test_split_was_scored_stands_beside_the_score(data, render):
    counted = sum_up_choice(3, 4, data.official.accuracy_low, data.official.accuracy_high)
    text = Page(render(dataclasses.replace(data, ledger=counted))).text
    assert counted["sentence"] in text
    assert "is not recorded" not in text


def test_scores_by_the_source_s_columns_stand_in_a_table(data, render):
    row = {"column": "scanner", "value": "Lyon <1>", "images": 12, "groups": 9, "accuracy": 0.75}
    row |= {"accuracy_low": 0.5, "accuracy_high": 0.9, "answered": 0.5, "error": None, "candidate": None}
    scored = data.official.model_copy(update={"subgroups": [Subgroup(**row)]})
    external = Config(data=DataConfig(source="s3://bucket/images", external=True))
    bundle = data.bundle | {"name": "other", "training": {"backbone": "tiny", "epochs": 3, "best_epoch": 2}}
    changes = {"config": external, "bundle": bundle, "leak_free": None, "history": pd.DataFrame()}
    html = render(dataclasses.replace(data, official=scored, samples=[], **changes))
    text = Page(html).text
    assert "scanner Lyon <1> 12 9 75.00 % (50.00 % to 90.00 %) 50.00 % –" in text
    assert "external evaluation of other" in text
    assert "best of 3 epochs is 2" in text
    assert "was learned from" not in text


def test_what_share_of_changed_copies_is_found_stands_beside_the_score(data, render):
    copies = data.audit["copies"] | {"recall": {"turned by 90 degrees": 0.99, "shifted and turned": 0.95}}
    html = render(dataclasses.replace(data, audit=data.audit | {"copies": copies}))
    text = Page(html).text
    assert "finds at least 99 % of those turned by 90 degrees, and 95 % of those shifted and turned." in text
    assert "misses most copies" not in text
    assert "whole images" not in text


def test_served_decisions_stand_beside_what_the_export_allowed(data, written, render):
    page = Page(written[0])
    for scores in (data.official, data.leak_free):
        total = scores.decisions.total
        assert scores.decisions.sentence in page.text
        low, high = (f"{100 * end:.1f}" for end in total.intervals["answered"])
        cells = f"{total.images} {total.groups} {total.answered} {low}–{high} % {total.right} {total.wrong}"
        assert f"all {cells} {100 * total.error:.2f} % (" in page.text
    assert "0.8765 or more" in page.text
    assert data.official.decisions.exceeded  # random answers
    warned = r'class="warn">The export allowed'
    assert len(re.findall(warned, written[0])) == 2
    sure = np.eye(4)[data.labels]
    kept = dataclasses.replace(data, official=scored(data.labels, sure), leak_free=None)
    assert not re.findall(warned, render(kept))


def test_intervals_units_candidates_and_subgroups_are_shown(data, render):
    labels, chances = data.labels, data.calibrated
    groups = np.arange(24) // 2
    predictions = pd.DataFrame(
        {
            "label": labels, "cluster": groups, "group": groups, "decision": ["answer"] * 24,
            "patient": [f"p{k // 4}" for k in range(24)], "scanner": ["A", "B"] * 12,
            "candidates": [f"{CLASSES[k % 4]};{CLASSES[(k + 1) % 4]}" for k in range(24)],
            **{f"probability_{name}": chances[:, k] for k, name in enumerate(CLASSES)},
            **{f"calibrated_{name}": chances[:, k] for k, name in enumerate(CLASSES)},
        }
    )  # fmt: skip
    decision = DECISION | {"sensitivities": [0.95] * 4, "candidate_floors": [0.2, 0.0, 0.1, 0.3]}
    scores = score_predictions(predictions, data.config, decision)
    assert scores.candidates.per_class["glioma"].found == 1.0
    assert scores.units["slice"].units == 24, "a unit for each class of a cluster"
    assert [(row.column, row.value, row.images) for row in scores.subgroups] == [
        ("scanner", "A", 12), ("scanner", "B", 12),
    ]  # fmt: skip
    shown = dataclasses.replace(
        data, official=scores, leak_free=None, bundle={**data.bundle, "decision": decision}
    )
    text = Page(render(shown)).text
    assert "For no image meningioma is excluded: validation has too few groups of it" in text
    low, high = scores.intervals["per_class.glioma.recall"]
    assert f"{low:.4f}–{high:.4f}" in text
    patients = scores.units["patient"]
    assert f"{patients.right} of {patients.units} patients right" in text
    assert "2.00 of an image on average" in text
    assert "scanner A 12" in text


@pytest.mark.parametrize(
    ("train", "expected", "text"),
    [
        ({}, 0, "in epoch 1."),
        ({"frozen_epochs": 3}, 3, "in epoch 4, the first one on images: those before trained on features"),
        ({"frozen_epochs": 3, "cache_features": False}, 0, "in epoch 1."),
        ({"frozen_epochs": 3, "epochs": 0}, None, "every epoch trained on features of unchanged images"),
    ],
)
def test_samples_are_those_of_the_first_epoch_on_images(data, train, expected, text, render):
    config = data.config.model_copy(update={"train": TrainConfig(**train)})
    assert first_epoch_on_images(config) == expected
    html = render(dataclasses.replace(data, config=config, copies=CopyPictures(), misclassified=[]))
    assert text in Page(html).text


def test_page_warns_where_no_test_image_is_leak_free(data, render):
    leaking = dataclasses.replace(data, leak_free=None, is_leak_free=np.zeros(24, bool))
    html = render(dataclasses.replace(leaking, samples=[], copies=CopyPictures(), misclassified=[]))
    assert "this score says nothing about new images" in Page(html).text


def test_only_the_most_confident_errors_are_shown_where_there_are_too_many(data, render):
    html = render(dataclasses.replace(data, samples=[], copies=CopyPictures()), max_misclassified=3)
    text = Page(html).text
    by_confidence = sorted(data.misclassified, key=lambda error: -error.probabilities.max())
    assert f"The 3 most confident of {len(data.misclassified)}" in text
    shown = [error.path in text for error in by_confidence if error.path != NASTY]
    assert shown == sorted(shown, reverse=True)
    assert sum(shown) in (2, 3)


def test_the_page_shows_localisation_where_there_are_outlines(
    data: ReportData, written: tuple, render
) -> None:
    assert "Localisation" not in written[0]
    figures = {name: np.linspace(0, 1, 24) for name in COLUMNS}
    figures |= {"blank": np.arange(24) < 2, "area": np.full(24, 0.0345)}
    parts = score_parts(figures, data.labels, data.probabilities.argmax(axis=1), np.arange(24) // 2, CLASSES)
    counts = OutlineCounts(
        outlines=30, scored=24, other_splits=6, no_tumour=0, ambiguous=0, unknown=0, without=3
    )
    found = LocalisationScores("<o>.json", counts, parts)
    page = render(dataclasses.replace(data, localisation=found))
    assert 'href="#localisation"' in page
    part = page[page.index('id="localisation"') : page.index('id="training"')]
    assert "24 of 27 test images with a tumour have an outline in &lt;o&gt;.json" in part
    assert part.count("map − brightest") == len(parts) == 7
    assert interval_text(parts[0].measures["iou"].heat) in part
    assert "2 with an empty heat map" in part
    assert "3.45 %" in part
    assert "does not prove that the network uses the tumour" in part


def test_a_shift_is_a_warning_that_names_what_differs(data: ReportData, written: tuple, render) -> None:
    assert "Shift" not in Page(written[0]).text, "a bundle of an earlier version has no reference"
    rng = np.random.default_rng(1)
    reference = {"grey_mean": rng.normal(60, 5, 80), "confidence": rng.uniform(0, 1, 80)}
    found = {"grey_mean": rng.normal(80, 5, 40), "confidence": rng.uniform(0, 1, 40)}
    shift = compare_with(reference, np.arange(80), found, np.arange(40))
    page = render(dataclasses.replace(data, shift=shift))
    text = Page(page).text
    assert "40 images in 40 groups against the 80 validation images in 80 groups" in text
    assert re.search(
        r"1 of 2 quantities are distributed otherwise: mean grey level .* \(median [78]\d.*, there [56]\d",
        text,
    )
    assert '<p class="warn">40 images' in page
    alike = compare_with(reference, np.arange(80), reference, np.arange(80))
    page = render(dataclasses.replace(data, shift=alike))
    assert "none of 2 quantities is distributed otherwise by more than chance" in Page(page).text
    assert '<p class="warn">80 images' not in page


def told(low: float, high: float, sees_head: bool = False) -> dict:
    each = {"value": (low + high) / 2, "low": low, "high": high}
    return {"accuracy": each, "against_rest": dict.fromkeys(CLASSES, each), "sees_head": sees_head}


def test_what_is_told_without_the_head_is_shown_with_a_warning(data, render):
    views = {"size": told(0.2, 0.3), "frame": told(0.5, 0.625), "histogram": told(0.9, 0.95, sees_head=True)}
    classes = {"folds": 5, "majority": 0.31, "views": {**views, "without_head": told(0.61, 0.71)}}
    shortcuts = {"images": 3000, "groups": 359, "classes": classes, "sources": {"reason": "<none> is known"}}
    share = {"value": 0.7512, "low": 0.61, "high": 0.86}
    found = {"learned_from": 2400, "leak_free": True, "images": 320, "groups": 38, "usual_accuracy": 0.3}
    names = ("shortcut_accuracy", "decided", "accuracy_where_right", "accuracy_where_wrong")
    found |= {**dict.fromkeys(names, share), "decided_by_usual": 0.29, "accuracy_where_wrong": None}
    shown = dataclasses.replace(data, audit=data.audit | {"shortcuts": shortcuts}, shortcuts=found)
    html = render(shown)
    page = Page(html)
    assert page.open == []
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "can be told without the head: by the views without the head together, 0.66 (0.61 to 0.71)" in text
    assert "outer frame of the image outside the head 0.56 (0.50 to 0.62)" in text
    assert "grey levels of the whole image*" in text
    assert "&lt;none&gt; is known" in html
    assert "got 0.75 (0.61 to 0.86) right too" in text
    assert "where the small model is wrong –" in text


def test_nothing_clear_is_no_warning_and_no_measurement_no_section(data, render):
    assert 'id="shortcuts"' not in render(data)
    views = {"frame": told(0.2, 0.3), "without_head": told(0.25, 0.33)}
    classes = {"folds": 5, "majority": 0.31, "views": views}
    shortcuts = {"images": 30, "groups": 9, "classes": classes, "sources": {"reason": "no source is known"}}
    shown = dataclasses.replace(
        data, audit=data.audit | {"shortcuts": shortcuts}, shortcuts={"reason": "of <one> class"}
    )
    html = render(shown)
    assert 'id="shortcuts"' in html
    assert "can be told without the head" not in html
    assert "No figure, since of &lt;one&gt; class" in html
