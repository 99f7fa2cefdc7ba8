"""One answer for a patient: what each rule is worth on the out-of-fold answers of a cross-validation.

    python benchmarks/patients.py runs/cv
    python benchmarks/patients.py runs/cv runs/cv124   # the mean answers of two seeds
    python benchmarks/patients.py --mirrored runs/cv   # mirrored too: each fold's network answers anew

Of each patient (or other group) and class: the slices' probabilities, calibrated by one temperature, and put
together by each rule. Log losses are by temperatures of other groups. What is answered at an allowed error is
told of the patients that chose the threshold, as the export does it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brain_ray.bundle.mirrored_answers import mirrored_answers
from brain_ray.bundle.thresholds import fit_patient_rule
from brain_ray.config import Config, ExportConfig
from brain_ray.data.out_of_fold import OutOfFold
from brain_ray.runs import CONFIG, Run
from brain_ray.scoring.aggregation import RULES, Units, choose_rule
from brain_ray.scoring.calibration import calibrate, expected_calibration_error, fit_temperature
from brain_ray.scoring.cross_validation import calibrate_across
from brain_ray.scoring.intervals import GroupBootstrap


def read(run: Run, *, mirrored: bool = False) -> OutOfFold:
    """Return the answers of a finished cross-validation; mirrored, the means of both views of each image."""
    answers = OutOfFold.read(run)
    if answers is None:
        raise SystemExit(f"{run.uri()} is no cross-validation: it has no out-of-fold answers")
    if not mirrored:
        return answers
    config = Config.model_validate(run.read_json(*CONFIG)["config"])
    return mirrored_answers(run, config, answers, limit=len(answers.label))


def mean_of(several: Sequence[OutOfFold]) -> OutOfFold:
    """Return the mean answers of cross-validations that differ in their seeds alone: those decide which of
    the images choose the epoch, and with that the order of the rows."""
    first = several[0]
    for other in several[1:]:
        for name in ("image_id", "fold", "label", "group"):
            ordered = (getattr(each, name)[np.argsort(each.image_id)] for each in (first, other))
            if not np.array_equal(*ordered):
                raise SystemExit(f"the runs are not of the same images and folds: they differ in {name}")
    mean = np.stack([each.of(first.image_id) for each in several]).mean(axis=0, dtype=np.float32)
    return replace(first, probabilities=mean)


def main() -> None:
    """Print the rules, then what is answered, and last a line of JSON."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("runs", nargs="+", help="folders of finished cross-validations of the same images")
    words.add_argument("--mirrored", action="store_true", help="answer each image mirrored, too")
    given = words.parse_args()
    run, *_ = runs = [Run(str(Path(name).resolve().parent), Path(name).name) for name in given.runs]
    answers = mean_of([read(run, mirrored=given.mirrored) for run in runs])
    temperature = fit_temperature(answers.probabilities, answers.label)
    chances = calibrate(answers.probabilities, temperature).astype(np.float32)
    right = chances.argmax(axis=1) == answers.label
    images = GroupBootstrap(answers.group).share(right)
    share = f"{images.value:.4f} ({images.low:.4f} to {images.high:.4f})"
    print(f"{right.sum()} of {len(right)} images right, {share};")
    of_folds = [f"{right[answers.fold == fold].mean():.4f}" for fold in np.unique(answers.fold)]
    print(f"of the folds {', '.join(of_folds)}")
    crossed = calibrate_across(answers.probabilities, answers.label, answers.fold, answers.group)
    raw, calibrated = (
        expected_calibration_error(each, answers.label, bins=15) for each in (answers.probabilities, crossed)
    )
    print(f"calibration error {raw:.4f}, with the temperatures of other folds {calibrated:.4f}\n")
    units = Units.of(answers.label, answers.group)
    bootstrap = GroupBootstrap(units.groups)
    sizes = np.bincount(units.place)
    print(
        f"{len(units.labels)} patients or other groups, of {len(chances)} images: {np.median(sizes):g} in the"
    )
    print(f"median, {sizes.max()} at most, {(sizes == 1).sum()} with one\n")
    losses = choose_rule(units, chances).losses
    print(f"{'rule':17}{'log loss':>10}  accuracy (95 % interval over groups)")
    found = {"images": images.value, "calibration error": raw, "calibration error, calibrated": calibrated}
    for rule in RULES:
        right = units.aggregate(rule, chances).argmax(axis=1) == units.labels
        share = bootstrap.share(right)
        print(f"{rule:17}{losses[rule]:10.4f}  {share.value:.4f} ({share.low:.4f} to {share.high:.4f})")
        found |= {f"{rule} log loss": losses[rule], f"{rule} accuracy": share.value}
    settings = Config.model_validate(run.read_json(*CONFIG)["config"]).export
    sensitivities = settings.sensitivities(chances.shape[1])
    print(f"\n{'allowed wrong':>13}{'answered from':>15}{'answered':>10}{'wrong':>9}{'at most':>9}")
    for allowed in (0.02, 0.05, 0.1):
        export = ExportConfig(max_error=allowed, confidence=settings.confidence)
        rule = fit_patient_rule(chances, answers.label, answers.group, export, sensitivities, models=1)
        figures = f"{rule.answered:10.1%}{rule.error:9.1%}{rule.error_bound:9.1%}"
        if not rule.answered:
            print(f"{allowed:13.0%}{'-':>15}{0:10.1%}  not shown by {rule.answers:.0f} independent answers")
        else:
            print(f"{allowed:13.0%}{rule.abstain_below:15.4f}{figures}")
        found |= {f"answered at {allowed:g}": rule.answered, f"wrong at {allowed:g}": rule.error}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
