"""What a run's score rests on: its test images by patient and group, and an interval over groups.

Resamples the test split by groups (of patients and copies) instead of images, 5,000 times, for a 95 %
interval; a patient is right if most of the patient's images are. Also says which pairs of copies show two
images of known patients, and how many test images stood in the source's own test split. Needs a run that is
finished; seconds:

    python benchmarks/groups.py runs/b0
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from brain_ray.data.dataset import read_table
from brain_ray.runs import DATASET, DATASET_MANIFEST, REPORT, Run

RESAMPLED = 5_000


def interval(right: pd.Series, groups: pd.Series) -> list[float]:
    """Return the 95 % interval of the share of right images, resampled by groups."""
    counts = right.groupby(groups).agg(["sum", "size"]).to_numpy()
    drawn = np.random.default_rng(0).integers(0, len(counts), (RESAMPLED, len(counts)))
    shares = counts[drawn, 0].sum(axis=1) / counts[drawn, 1].sum(axis=1)
    return [round(float(bound), 4) for bound in np.percentile(shares, [2.5, 97.5])]


def main(folder: str) -> None:
    """Print the figures; last, the same as JSON."""
    run = Run(str(Path(folder).parent), Path(folder).name)
    tested = read_table(run, REPORT, "predictions.parquet")
    manifest = read_table(run, *DATASET_MANIFEST).set_index("image_id")
    pairs = read_table(run, DATASET, "pairs.parquet")
    right = tested["label"] == tested["predicted"]
    known = tested["patient"] != ""
    patients = right[known].groupby(tested.loc[known, "patient"]).mean()
    first, second = (manifest.loc[pairs[side]].reset_index() for side in ("a", "b"))
    named = (first["patient"] != "") & (second["patient"] != "")
    alone = first["patient"] == second["patient"]
    same_slice = first["known_file"] == second["known_file"] if "known_file" in first else alone
    found = {
        "images": len(tested),
        "clusters": int(tested["cluster"].nunique()),
        "groups": int(tested["group"].nunique()),
        "in_the_sources_test_split": int((tested["source_split"] == "test").sum()),
        "accuracy": round(float(right.mean()), 4),
        "accuracy_interval_over_groups": interval(right, tested["group"]),
        "of_known_patients": {
            "images": int(known.sum()),
            "right": int(right[known].sum()),
            "accuracy": round(float(right[known].mean()), 4),
            "patients": len(patients),
            "patients_right": int((patients > 0.5).sum()),
        },
        "pairs_of_copies": {
            "of_known_patients": int(named.sum()),
            "of_one_known_slice": int((named & same_slice).sum()),
            "of_two_slices_of_one_patient": int((named & alone & ~same_slice).sum()),
            "of_two_patients": int((named & ~alone).sum()),
        },
    }
    for name, value in found.items():
        told = value if isinstance(value, dict) else {"": value}
        for what, number in told.items():
            print(f"{f'{name} {what}'.replace('_', ' '):48}{number}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
