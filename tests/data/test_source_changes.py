"""The same files are the same data set, whatever their times and place; others are named."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.messages import messages_to

from brain_ray.config import Config, DataConfig, PhantomConfig
from brain_ray.data import identity, prepare, source_changes
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.source_changes import find_changes
from brain_ray.errors import RunError
from brain_ray.fingerprints import flatten
from brain_ray.runs import Run

PHANTOMS = PhantomConfig(train_per_class=6, test_per_class=2, copies=2, conflicts=0, faults=4)

pytestmark = pytest.mark.usefixtures("ray_cluster")


def inputs_of(run: Run, config: Config) -> dict[str, Any]:
    """What the stage depends on, as it is stored."""
    return json.loads(json.dumps(identity.inputs_of(run, config, identity.list_images(run, config))))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A folder with a source and a run that was prepared from it."""
    folder = tmp_path_factory.mktemp("made")
    phantom.write_tree(folder / "source", PHANTOMS, DataConfig().classes, seed=4)
    (folder / "source/Training/glioma/notes.txt").write_bytes(b"x")
    run, config = Run(str(folder), "run"), config_of(folder)
    inputs = inputs_of(run, config)
    prepare.prepare(run, config)
    run.finish("dataset", inputs, 1.0)
    return folder


def config_of(folder: Path, **data: Any) -> Config:
    return Config(seed=4, data=DataConfig(**{"source": str(folder / "source"), "max_rejected": 0.2, **data}))


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy in which the files have new times, and the run says that its source was there."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    stored = Run(str(tmp_path), "run").read_json("dataset", "stage.json")
    stored["inputs"]["data"]["source"] = str(tmp_path / "source")
    Run(str(tmp_path), "run").write_json(stored, "dataset", "stage.json")
    for number, path in enumerate(sorted((tmp_path / "source").rglob("*.*"))):
        os.utime(path, ns=(number, 10**18 + number))
    return tmp_path


def changes(folder: Path, config: Config | None = None) -> tuple[list[str], list[str]]:
    """What has changed, and what is said of it."""
    run, said = Run(str(folder), "run"), list[str]()
    config = config or config_of(folder)
    before = run.finished("dataset")
    assert before is not None
    with messages_to(said.append):
        now = flatten(inputs_of(run, config))
        return find_changes(run, flatten(before), now, identity.list_images(run, config)), said


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each comparison of contents has read."""
    counts = list[int]()
    original = source_changes.read_and_compare

    def count(source: str, files: pd.DataFrame) -> list[str]:
        counts.append(len(files))
        return original(source, files)

    monkeypatch.setattr(source_changes, "read_and_compare", count)
    return counts


def test_new_times_are_no_change_and_the_files_are_read_once(copied: Path, reads: list[int]) -> None:
    found, said = changes(copied)
    files = len(list((copied / "source").rglob("*-*.*"))) + 1  # and outlines.json
    assert found == []
    assert said[0].startswith(
        f"{files} files in {copied}/source have new times and the same contents, by their SHA"
    )
    assert reads == [files - 2], "but what is no image by its name, and was of no use"
    assert changes(copied) == ([], []), "not read a second time"
    assert len(reads) == 1


def test_another_place_is_no_change(copied: Path, reads: list[int]) -> None:
    shutil.copytree(copied / "source", copied / "new place")
    for config in (config_of(copied, source=str(copied / "new place")), config_of(copied)):
        found, said = changes(copied, config)
        assert found == []
        assert len(said) == 1
        assert changes(copied, config) == ([], [])
    assert len(reads) == 2, "each place once"


def test_the_same_names_sizes_and_times_in_another_place_are_compared_too(copied: Path) -> None:
    shutil.copytree(copied / "source", copied / "other")
    changes(copied)
    path = copied / "other/Training/glioma"
    path = sorted(file for file in path.iterdir() if file.suffix == ".jpg")[0]
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found, _ = changes(copied, config_of(copied, source=str(copied / "other")))
    assert found[0] == f"files: 1 with other contents (Training/glioma/{path.name})"
    assert found[1].startswith("data.source: ")


def flip(path: Path) -> None:
    """Change a byte, and not the size."""
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def test_files_that_changed_are_named(copied: Path, reads: list[int]) -> None:
    paths = sorted((copied / "source/Training/pituitary").glob("Tr-*"))
    for path in paths:
        flip(path)
    found, said = changes(copied)
    first = ", ".join(f"Training/pituitary/{path.name}" for path in paths[:5])
    assert (found, said) == ([f"files: 6 with other contents ({first} and 1 more)"], [])
    assert len(reads) == 1


def test_new_files_missing_files_and_sizes_are_seen_without_reading(copied: Path, reads: list[int]) -> None:
    folder = copied / "source/Training/notumor"
    gone, longer = sorted(folder.glob("Tr-*"))[:2]
    gone.rename(folder / "zzz.jpg")
    longer.write_bytes(longer.read_bytes() + b"x")
    found, _ = changes(copied)
    assert found == [
        "files: 1 new (Training/notumor/zzz.jpg), "
        f"1 gone (Training/notumor/{gone.name}), 1 of another size (Training/notumor/{longer.name})"
    ]
    assert reads == []


def test_a_file_in_another_folder_of_the_same_class_is_another_file(copied: Path) -> None:
    path = sorted((copied / "source/Testing/glioma").glob("Te-*"))[0]
    path.rename(copied / "source/Training/glioma" / path.name)
    found, _ = changes(copied)
    assert found == [f"files: 1 new (Training/glioma/{path.name}), 1 gone (Testing/glioma/{path.name})"]


def test_what_is_no_image_may_come_go_and_change(copied: Path) -> None:
    folder = copied / "source/Training/glioma"
    (folder / "notes.txt").write_bytes(b"other")
    (folder / "metadata.csv").write_bytes(b"new")
    assert changes(copied)[0] == []
    (folder / "notes.txt").unlink()
    assert changes(copied)[0] == []


def test_what_an_earlier_version_listed_and_this_one_passes_over_is_no_change(copied: Path) -> None:
    run = Run(str(copied), "run")
    manifest = pq.read_table(run.path("dataset", "manifest.parquet")).to_pandas()
    manifest["path"] = manifest["path"].str.replace("notes.txt", "Thumbs.db")
    manifest.to_parquet(run.path("dataset", "manifest.parquet"))
    (copied / "source/Training/glioma/notes.txt").rename(copied / "source/Training/glioma/Thumbs.db")
    assert changes(copied)[0] == []


def test_what_an_earlier_version_stored_of_the_folders_is_no_change(copied: Path, reads: list[int]) -> None:
    run = Run(str(copied), "run")
    stored = run.read_json("dataset", "stage.json")
    assert stored["inputs"]["data"]["train_folder"] == "Training"
    assert stored["inputs"]["data"]["valid_folder"] is None
    assert stored["inputs"]["data"]["test_folder"] == "Testing"
    for settings in ({"train_folder": "Training"}, {"test_folder": "Testing"}):
        assert changes(copied, config_of(copied, **settings))[0] == []
    assert len(reads) == 1
    swapped = config_of(copied, train_folder="Testing", test_folder="Training")
    assert 'data.train_folder: "Training" -> "Testing"' in changes(copied, swapped)[0]


def test_other_words_of_a_manifest_are_a_change_and_the_same_are_none(made: Path, tmp_path: Path) -> None:
    rows = [
        f"{path.relative_to(made / 'source')},{path.parent.name},{path.stem},{number % 3}"
        for number, path in enumerate(sorted((made / "source").rglob("*.jpg")))
    ]

    def config(header: str, rows: list[str]) -> Config:
        (tmp_path / "images.csv").write_text("\n".join([header, *rows]))
        return config_of(made, source=str(tmp_path / "images.csv"), root=str(made / "source"))

    run, header = Run(str(tmp_path), "run"), "path,label,patient,fold"
    inputs = inputs_of(run, config(header, rows))
    prepare.prepare(run, config(header, rows))
    run.finish("dataset", inputs, 1.0)
    assert changes(tmp_path, config(header, rows[::-1])) == ([], []), "the order of the rows is no matter"
    first, *others = rows
    path, *_ = first.split(",")
    found, _ = changes(tmp_path, config(header, [first.replace(",0", ",2"), *others]))
    assert found == [f"files: 1 with another fold ({path})"]
    found, _ = changes(tmp_path, config(header, [f"{first.replace(',0', ',2')}", *others[1:]]))
    assert found == [f"files: 1 gone ({others[0].split(',')[0]}), 1 with another fold ({path})"]
    assert changes(tmp_path, config("path,label,patient,fold,age", [f"{row},7" for row in rows]))[0] == [
        f"files: {len(rows)} with another age (" + ", ".join(row.split(",")[0] for row in rows[:5])
        + f" and {len(rows) - 5} more)"
    ]  # fmt: skip


@pytest.mark.parametrize("setting", ["none", "regex:(.*)"])
def test_patients_that_a_setting_passes_over_are_no_change(setting: str, made: Path, tmp_path: Path) -> None:
    paths = sorted((made / "source").rglob("*.jpg"))
    rows = [f"{path.relative_to(made / 'source')},{path.parent.name},p{k}" for k, path in enumerate(paths)]
    (tmp_path / "images.csv").write_text("\n".join(["path,label,patient", *rows]))
    config = config_of(made, source=str(tmp_path / "images.csv"), root=str(made / "source"), patients=setting)
    run = Run(str(tmp_path), "run")
    inputs = inputs_of(run, config)
    prepare.prepare(run, config)
    run.finish("dataset", inputs, 1.0)
    for path in paths:
        os.utime(path)
    found, said = changes(tmp_path, config)
    assert found == []
    assert "have new times and the same contents" in said[0]


def test_a_changed_setting_is_a_change_whatever_the_files_are(copied: Path, reads: list[int]) -> None:
    found, _ = changes(copied, config_of(copied, valid_fraction=0.3))
    assert found == ["data.valid_fraction: 0.2 -> 0.3", "files: other names, sizes or times"]
    assert reads == []


def test_a_file_that_cannot_be_read_just_now_is_no_change(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"Training/glioma/a.jpg": ("e3", "the network is down")}
    monkeypatch.setattr(
        source_changes, "run_tasks", lambda start, blocks: ((b, list(answers.values())) for b in blocks)
    )
    files = pd.DataFrame({"path": answers.keys(), "file_sha256": "ab"})
    with pytest.raises(
        RunError, match=r"cannot read Training/glioma/a\.jpg in s3://x, .*: the network is down"
    ):
        source_changes.read_and_compare("s3://x", files)


def test_a_run_of_an_earlier_version_stays_good(copied: Path) -> None:
    """Its manifest has no sizes, its audit no id, its settings nothing of later ones."""
    run = Run(str(copied), "run")
    manifest = pq.read_table(run.path("dataset", "manifest.parquet"))
    pq.write_table(manifest.drop_columns("size"), run.path("dataset", "manifest.parquet"))
    stored, audit = run.read_json("dataset", "stage.json"), run.read_json("dataset", "audit.json")
    del stored["inputs"]["data"]["valid_folder"], audit["id"]
    run.write_json(stored, "dataset", "stage.json")
    run.write_json(audit, "dataset", "audit.json")
    name = identity.id_of(run)
    assert changes(copied)[0] == []
    assert identity.id_of(run) == name

    identity.keep_id(run)  # as before it is prepared again
    run.clear("dataset")
    prepare.prepare(run, config_of(copied))
    run.finish("dataset", inputs_of(run, config_of(copied)), 1.0)
    assert identity.id_of(run) == name, "the rows are the same"


@pytest.mark.parametrize(
    ("data", "same"),
    [
        ({"max_rejected": 0.5, "test_fraction": 0.3}, True),
        ({"balance": {"rotation": 20.0}}, True),  # without copies that balance
        ({"valid_fraction": 0.4}, False),
        ({"crop": {"threshold": 100}}, False),
        ({"balance_to": 8}, False),
    ],
)
def test_a_data_set_is_the_same_if_its_rows_are(
    data: dict[str, Any], same: bool, made: Path, tmp_path: Path
) -> None:
    run, config = Run(str(tmp_path), "run"), config_of(made, **data)
    prepare.prepare(run, config)
    run.finish("dataset", inputs_of(run, config), 1.0)
    assert (identity.id_of(run) == identity.id_of(Run(str(made), "run"))) == same
