"""Manifests: what is read, what is kept, and the lines that faults name."""

import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from support.s3_server import s3_server

from brain_ray.checks.locations import try_data, try_folder
from brain_ray.config import ColumnsConfig, Config, DataConfig
from brain_ray.data.sources.find import Source, list_source
from brain_ray.data.sources.listing import Listing, listing_hash
from brain_ray.errors import RunError
from brain_ray.runs import Run

TWO = DataConfig(classes=("no", "yes"))
ROWS = "path,label\na.png,no\nb.png,no\nsub/c.png,yes\nd ä.png,yes\n"
REAL = Path(__file__).parents[4] / "shared/data/figshare"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Hold four images, two of each class."""
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png", "d ä.png"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def find(folder: Path, text: str | bytes, name: str = "images.csv", **settings: object) -> Listing:
    """List the images of a manifest with this text."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return list_source(str(folder / name), TWO.model_copy(update=settings))


def refused(folder: Path, text: str | bytes, name: str = "images.csv", **settings: object) -> str:
    with pytest.raises(RunError) as error:
        find(folder, text, name, **settings)
    return str(error.value).removeprefix(f"{folder}/{name}").lstrip(", ")


# --- what is read


def test_rows_become_files_with_all_that_is_known_of_them(folder: Path) -> None:
    text = (
        "path,label,split,patient,source,fold,age,size\n"
        "sub/c.png,yes,Test,7,Lyon,2,61,XL\n"
        "a.png,no,training,8,,,,\n"
        "b.png,no,val,8,Lyon,1,70,S\n"
        "./d ä.png, yes ,,,,,,\n"
        "e.png,yes,val,9,,3,,\n"
    )
    (folder / "e.png").touch()
    (folder / "f.png").touch()
    (folder / "g.png").touch()
    listing = find(folder, text + "f.png,no,,,,,,\ng.png,yes,,,,,,\n")
    files = listing.files.set_index("path")
    assert list(files.index) == ["a.png", "b.png", "d ä.png", "e.png", "f.png", "g.png", "sub/c.png"]
    assert files["source_split"].tolist() == ["train", "valid", "", "valid", "", "", "test"]
    assert files["class_name"].tolist() == ["no", "no", "yes", "yes", "no", "yes", "yes"]
    assert files["label"].tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert files["patient"].tolist() == ["8", "8", "", "9", "", "", "7"]
    assert files["source"].tolist() == ["", "Lyon", "", "", "", "", "Lyon"]
    assert files["fold"].tolist() == [-1, 1, -1, 3, -1, -1, 2]
    assert files["size"].tolist() == [5, 5, 8, 0, 0, 0, 9]
    assert files.loc["sub/c.png", ["age", "manifest_size"]].tolist() == ["61", "XL"]
    assert listing.root == str(folder)
    assert listing.notes == ("columns: path, label, split, patient, source, fold; carried along: age, size",)
    assert Source(str(folder / "images.csv"), TWO).splits() == {"train", "valid", "test"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ROWS),
        ("a.CSV", ROWS.replace("\n", "\r\n")),
        ("a.csv", ROWS.replace("\n", "\r")),
        ("a.csv", "\ufeff" + ROWS),
        ("a.csv", ROWS.encode("utf-16")),
        ("a.csv", ROWS.replace(",", ";")),
        ("a.csv", "sep=;\n" + ROWS.replace(",", ";")),
        ("a.csv", ROWS.replace(",", "\t")),
        ("a.csv", ROWS.replace(",", "|")),
        ("a.tsv", ROWS.replace(",", "\t")),
        ("a.csv", ROWS.replace("path", '"File"').replace("label", "Class")),
        ("a.csv", "\n" + ROWS.replace("\n", "\n\n") + ",\n"),
        ("a.csv", ROWS.replace("sub/", "sub\\")),
        ("a.csv", ROWS.replace("ä", "a\u0308")),  # as macOS writes it
        ("a.csv", "x;" + ROWS.replace(",", ";").replace("\n", "\nx;").removesuffix("x;")),
        (
            "a.csv",
            "".join(f"{k},{line}\n" if k else f",{line}\n" for k, line in enumerate(ROWS.splitlines())),
        ),
    ],
)
def test_tables_are_read_as_programs_write_them(name: str, text: str | bytes, folder: Path) -> None:
    files = find(folder, text, name).files
    assert files["path"].tolist() == ["a.png", "b.png", "d ä.png", "sub/c.png"]
    assert files["class_name"].tolist() == ["no", "no", "yes", "yes"]


RECORDS = [
    {"image": "a.png", "label": "no", "patient": 1, "fold": 0, "more": [1, 2]},
    {"image": "b.png", "label": "no", "patient": "two", "fold": None, "more": None},
    {"image": "sub/c.png", "label": "yes", "fold": 1.0},
    {"image": "d ä.png", "label": "yes", "patient": None, "mixed": "x"},
]


@pytest.mark.parametrize("name", ["images.jsonl", "images.NDJSON"])
def test_json_lines_are_read(name: str, folder: Path) -> None:
    files = find(folder, "\n".join(map(json.dumps, RECORDS)) + "\n\n", name).files
    assert files["patient"].tolist() == ["1", "two", "", ""]
    assert files["fold"].tolist() == [0, -1, -1, 1]
    assert list(files["more"][0]) == [1, 2]
    assert files.to_parquet() is not None


def test_parquet_is_read(folder: Path) -> None:
    table = pd.DataFrame(RECORDS).assign(patient=[1.0, 2.0, None, 10.0], when=pd.Timestamp("2020-01-01"))
    table["label"] = table["label"].astype("category")
    table.to_parquet(folder / "images.parquet")
    files = list_source(str(folder / "images.parquet"), TWO).files
    assert files["patient"].tolist() == ["1", "2", "10", ""]
    assert files["fold"].tolist() == [0, -1, -1, 1]
    assert files["when"].tolist() == [pd.Timestamp("2020-01-01")] * 4


def test_columns_can_be_named_or_switched_off(folder: Path) -> None:
    text = (
        "path,scan,what,who,split,fold\n"
        "x,a.png,no,p,A,first\nx,b.png,no,p,B,first\nx,sub/c.png,yes,q,C,first\nx,d ä.png,yes,q,D,first\n"
    )
    columns = ColumnsConfig(path="scan", label="what", patient="who", split="none", fold="none")
    listing = find(folder, text, columns=columns)
    assert listing.files["patient"].tolist() == ["p", "p", "q", "q"]
    assert set(listing.files["source_split"]) == {""}
    own = listing.files[["manifest_path", "manifest_split", "manifest_fold"]]
    assert own.iloc[0].tolist() == ["x", "A", "first"]


def test_a_root_can_be_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("lists")
    listing = find(other, ROWS, root=str(folder))
    assert listing.root == str(folder)
    assert len(listing.files) == 4


def test_a_name_may_end_in_a_space(folder: Path) -> None:
    (folder / "e.png ").touch()
    files = find(folder, ROWS.replace("b.png,", "b.png ,") + "e.png ,no\n").files
    assert files["path"].tolist() == ["a.png", "b.png", "d ä.png", "e.png ", "sub/c.png"]


def test_patterns_stand_for_files(folder: Path) -> None:
    (folder / "sub/deep").mkdir()
    for name in ("sub/deep/e.png", "sub/.hidden.png", "sub/Thumbs.db"):
        (folder / name).touch()
    text = "path,label,patient\n*.png,no,1\nsub/**/*.png,yes,2\n"
    listing = find(folder, text)
    assert listing.files["path"].tolist() == ["a.png", "b.png", "d ä.png", "sub/c.png", "sub/deep/e.png"]
    assert listing.files["patient"].tolist() == ["1", "1", "1", "2", "2"]
    assert listing.left_out["files"].tolist() == [2]


def test_a_name_that_is_not_utf8_is_written_as_it_is_stored(folder: Path) -> None:
    Path((bytes(folder) + b"/caf\xe9.png").decode("utf-8", "surrogateescape")).touch()
    assert r"caf\xe9.png" in find(folder, ROWS + "caf\\xe9.png,no\n").files["path"].tolist()


def test_the_hash_follows_what_the_manifest_says(folder: Path) -> None:
    text = ROWS.replace("label", "label,patient").replace(",no", ",no,1").replace(",yes", ",yes,2")
    before = listing_hash(find(folder, text))
    assert listing_hash(find(folder, text + "\n")) == before
    assert listing_hash(find(folder, text.replace("a.png,no,1\n", "") + "a.png,no,1\n")) == before
    others = [
        text.replace(",2", ",3", 1),
        text.replace("patient", "age"),
        text.replace("label", "label,split"),
    ]
    others[2] = others[2].replace(",no,", ",no,train,").replace(",yes,", ",yes,train,")
    assert before not in {listing_hash(find(folder, other)) for other in others}


def test_a_real_set_by_its_manifest() -> None:
    if not REAL.is_dir():
        pytest.skip("no real images at ../shared/data/figshare")
    classes = ("meningioma", "glioma", "pituitary")
    listing = list_source(str(REAL / "patients.csv"), DataConfig(classes=classes))
    files = listing.files
    assert files["class_name"].value_counts().to_dict() == {
        "glioma": 1426,
        "pituitary": 930,
        "meningioma": 708,
    }
    assert files["patient"].nunique() == 233
    assert sorted(files["fold"].unique()) == [1, 2, 3, 4, 5]
    assert (files.groupby("patient")["fold"].nunique() == 1).all()
    assert files["person"].nunique() == 209
    with pytest.raises(RunError, match=r"missing \['notumor'\].*add --data\.classes glioma meningioma pitu"):
        list_source(str(REAL / "patients.csv"), DataConfig())


def test_a_drawn_set_by_its_manifest(tmp_path: Path) -> None:
    from brain_ray.config import PhantomConfig
    from brain_ray.data.phantoms.files import write_tree

    write_tree(tmp_path, PhantomConfig(train_per_class=6, test_per_class=2), ("glioma", "notumor"), 1)
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("T*-*.*"))
    rows = [f"{path},{path.split('/')[1]},p{k // 3},{k // 3 % 5 + 1}" for k, path in enumerate(paths)]
    text = "\n".join(["file,label,patient,fold", *rows])
    files = find(tmp_path, text, classes=("glioma", "notumor")).files
    assert len(files) == 16
    assert sorted(files["fold"].unique()) == [1, 2, 3, 4, 5]
    assert (files.groupby("patient")["fold"].nunique() == 1).all()


# --- faults


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("gone.png,no", "line 6: gone.png is not there (in FOLDER): correct it, or delete the row"),
        (",no", "line 6: the path is empty: fill it in, or delete the row"),
        ("e.png,", "line 6: the label is empty: fill it in, or delete the row"),
        ("./a.png,yes", "line 6: a.png is there already, by line 2: delete one"),
        ("sub,no", "line 6: sub is a folder: name its files, or all of them by sub/**"),
        ("../x.png,no", "line 6: ../x.png leads out of the manifest's folder: set --data.root to one that "),
        ("/x.png,no", "line 6: /x.png is an absolute path: write it relative to the manifest's folder, or "),
        ("C:\\x.png,no", "line 6: C:\\x.png is an absolute path"),
        ("file:///x.png,no", "line 6: file:///x.png is an absolute path"),
        ("out.png,no", "line 6: out.png is a link out of FOLDER: copy what it leads to"),
        ("out/x.png,no", "line 6: out/x.png is a link out of FOLDER: copy what it leads to"),
        ("nothing/*.png,no", "line 6: no file matches nothing/*.png: correct it, or delete the row"),
        ("s3://buck*/x.png,no", "line 6: no file matches s3://buck*/x.png"),
        ("http://x/*.png,no", "line 6: cannot open http://x: "),
        ("x.png", "line 6: has 1 cells, and the header 2: write a cell that contains the separator ',' as"),
        ("x,y.png,no", "line 6: has 3 cells, and the header 2"),
        (
            '"x.png,no',
            "line 6: cannot be read as cells (unexpected end of data): write a quote within a cell",
        ),
        ("http://x/y.png,no", "line 6: cannot open http://x: "),
        ("x\0.png,no", "line 6: there is a null character: save it as UTF-8"),
        ("a.png;no", "line 6: has 1 cells"),
    ],
)
def test_a_fault_is_told_with_its_line(row: str, said: str, folder: Path, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    far = tmp_path_factory.mktemp("far")
    (far / "x.png").touch()
    (folder / "e.png").touch()
    (folder / "out").symlink_to(far)
    (folder / "out.png").symlink_to(far / "x.png")
    assert refused(folder, f"{ROWS}{row}\n").startswith(said.replace("FOLDER", str(folder)))


def test_rows_may_name_the_images_of_a_file(folder: Path) -> None:
    text = "path,label,frame\nsub/c.png,no,2\nsub/c.png,yes,10\na.png,no,\nb.png,no,-1\nd ä.png,yes,0\n"
    listing = find(folder, text)
    assert listing.files["path"].tolist() == ["a.png", "b.png", "d ä.png", "sub/c.png", "sub/c.png"]
    assert listing.files["frame"].tolist() == [-1, -1, 0, 2, 10]
    assert listing.files["class_name"].tolist()[3:] == ["no", "yes"]
    assert "frame" in listing.given
    assert listing_hash(find(folder, text.replace(",10", ",11"))) != listing_hash(listing)
    carried = find(
        folder,
        ROWS.replace("label", "label,frame").replace("no", "no,x").replace("yes", "yes,y"),
        columns=ColumnsConfig(frame="none"),
    )
    assert carried.files["manifest_frame"].tolist() == ["x", "x", "y", "y"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [("1", "1", r"sub/c\.png\[1\]"), ("", "1", r"sub/c\.png\[1\]"), ("1", "", r"sub/c\.png")],
)
def test_an_image_is_named_once(first: str, second: str, said: str, folder: Path) -> None:
    text = f"path,label,frame\nsub/c.png,no,{first}\nsub/c.png,yes,{second}\na.png,no,\nb.png,no,\n"
    assert re.match(rf"line 3: {said} is there already, by line 2: delete one", refused(folder, text))


def test_a_multiline_cell_does_not_move_the_lines(folder: Path) -> None:
    text = 'path,label,note\na.png,no,"two\nlines"\nb.png,no,\nx.png,yes,\n'
    assert refused(folder, text).startswith("line 5: x.png is not there")


def test_all_faults_are_told_at_once(folder: Path) -> None:
    text = ROWS + "".join(f"{k}.png,no\n" for k in range(6)) + ",yes\n"
    said = refused(folder, text)
    assert said.startswith("has 7 faults:\n  line 6: 0.png is not there")
    last = f"4.png is not there (in {folder}): correct it, or delete the row"
    assert said.endswith(f"\n  line 10: {last}\n  and 2 more")


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        (
            "split",
            "A",
            "line 2: the split 'A' is none of train, training, val, valid, validation, test or test",
        ),
        ("fold", "first", "line 2: the fold 'first' is no whole number; .*--data.columns.fold none"),
        ("fold", "1.5", "line 2: the fold '1.5' is no whole number"),
    ],
)
def test_cells_that_mean_nothing_are_told(column: str, cell: str, said: str, folder: Path) -> None:
    text = ROWS.replace("\n", f",{cell}\n").replace(f"label,{cell}", f"label,{column}")
    assert re.search(said, refused(folder, text))


@pytest.mark.parametrize(
    ("labels", "settings", "said"),
    [
        (
            ("no", "no_tumor", "yes", "yes"),
            {},
            "has the labels ['no', 'no_tumor', 'yes']: unknown no_tumor (first in line 3); expected "
            "['no', 'yes']: to use these, add --data.classes no yes no_tumor, or leave rows out by "
            "--data.ignore-labels no_tumor",
        ),
        (
            ("0", "0", "1", "1"),
            {},
            "has the labels ['0', '1']: unknown 0 (first in line 2), 1 (first in line 4), "
            "missing ['no', 'yes']; expected ['no', 'yes']: to use these, add --data.classes 0 1",
        ),
        (("no", "no", "no", "no"), {}, "has the labels ['no']: missing ['yes']; expected"),
        (("no", "no", "no", "yes"), {}, "has too few files in {'yes': 1}: a class needs two at least"),
    ],
)
def test_labels_are_those_of_the_classes(
    labels: tuple[str, ...], settings: dict[str, object], said: str, folder: Path
) -> None:
    rows = [
        f"{name},{label}"
        for name, label in zip(("a.png", "b.png", "sub/c.png", "d ä.png"), labels, strict=True)
    ]
    assert refused(folder, "\n".join(["path,label", *rows]), **settings).startswith(said)


def test_a_validation_split_without_a_class_is_refused(folder: Path) -> None:
    for name in ("e.png", "f.png"):
        (folder / name).touch()
    text = ROWS.replace("\n", ",train\n").replace("label,train", "label,split") + "e.png,no,val\nf.png,no,\n"
    assert refused(folder, text) == (
        ": the validation split has no files of ['yes']: add some, or leave it out"
    )


def test_rows_of_a_label_can_be_left_out(folder: Path) -> None:
    listing = find(folder, ROWS + "gone.png,unsure\n", ignore_labels=("unsure",))
    assert len(listing.files) == 4
    assert listing.left_out.iloc[0].tolist() == [
        "images.csv",
        1,
        "label unsure, named by data.ignore_labels",
        "",
    ]


@pytest.mark.parametrize(
    ("header", "settings", "said"),
    [
        (
            "pth,label",
            {},
            "has no column path or file, but ['pth', 'label']: name the one of the files by --data",
        ),
        (
            "path,x",
            {},
            "has no column label or class, but ['path', 'x']: name the one of the classes by --data",
        ),
        ("path,label,file", {}, "has the columns path and file: say by --data.columns.path which is meant"),
        ("path,label,label", {}, "line 1: two columns have the name label: rename one"),
        (
            "path,label,person",
            {"columns": ColumnsConfig(patient="persn")},
            "has no column persn (--data.columns.patient); did you mean person?",
        ),
        (
            "path,label,fold,manifest_fold",
            {"columns": ColumnsConfig(fold="none")},
            "has two columns that would be",
        ),
    ],
)
def test_a_header_is_understood_or_refused(
    header: str, settings: dict[str, object], said: str, folder: Path
) -> None:
    more = "," * (header.count(",") - 1)
    rows = ROWS.partition("\n")[2].replace("\n", f"{more}\n")
    assert refused(folder, f"{header}\n{rows}", **settings).startswith(said)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.csv",
            b"path,label\na.png,no\ncaf\xe9.png,no\n",
            "line 3: a character (byte 0xe9) is not UTF-8: save",
        ),
        ("a.csv", ROWS.encode("utf-16")[:-1], "is damaged: it is no UTF-16 from byte"),
        ("a.csv", b"", "has no rows: expected one for each image"),
        ("a.csv", b"path,label\n", "has no rows: expected one for each image"),
        ("a.jsonl", b'{"path": "a.png", "label": "no"}\n{"path": \n', "line 2: is no JSON (Expecting value"),
        ("a.jsonl", b'["a.png", "no"]\n', "line 1: is no object, such as"),
        (
            "a.jsonl",
            b'\n{"path": "x.png", "label": "no"}\n{"path": "a.png", "label": "yes"}',
            "line 2: x.png is",
        ),
        ("a.parquet", b"PAR1", "is no Parquet file"),
    ],
)
def test_what_is_no_table_is_told(name: str, text: bytes, said: str, folder: Path) -> None:
    assert refused(folder, text, name).startswith(said)


def test_rows_of_parquet_are_numbered(folder: Path) -> None:
    table = pd.DataFrame({"path": ["a.png", "b.png", "x.png"], "label": ["no", "no", "yes"]})
    table.to_parquet(folder / "a.parquet")
    with pytest.raises(RunError, match=r"a\.parquet, row 3: x\.png is not there"):
        list_source(str(folder / "a.parquet"), TWO)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"images\.csv is not there: set --data\.source to a manifest"):
        list_source(str(tmp_path / "images.csv"), TWO)


def test_a_folder_may_be_named_as_a_manifest(tmp_path: Path) -> None:
    for name in ("no", "yes"):
        (tmp_path / "set.csv" / name).mkdir(parents=True)
        for k in range(2):
            (tmp_path / "set.csv" / name / f"{k}.png").touch()
    assert len(list_source(str(tmp_path / "set.csv"), TWO).files) == 4


def test_keys_in_a_manifest_are_refused_and_not_printed(folder: Path) -> None:
    said = refused(folder, ROWS + "s3://KEY:SECRET@bucket/x.png,no\n")
    assert said.startswith("line 6: ")
    assert "SECRET@bucket" not in said


# --- checks before a run, and buckets


def test_a_manifest_is_checked_before_anything_is_started(folder: Path) -> None:
    (folder / "images.csv").write_text(ROWS)
    config = Config(data=TWO.model_copy(update={"source": str(folder / "images.csv")}))
    assert try_data(config) == try_folder(config) == ""
    (folder / "b.png").unlink()
    assert try_data(config).startswith(f"{folder}/images.csv, line 3: b.png is not there")
    (folder / "images.csv").unlink()
    assert try_folder(config) == f"there is no file {folder}/images.csv"


def test_a_manifest_in_a_bucket_and_uris_and_patterns_of_it(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from brain_ray.data.scan import read_files

    (folder / "images.csv").write_text(ROWS)
    uris = (
        "path,label\ns3://images/set/*.png,no\ns3://images/set/sub/c.png,yes\ns3://images/set/sub/e.png,yes\n"
    )
    (folder / "sub/e.png").write_bytes(b"e")
    (folder / "uris.csv").write_text(uris)
    (folder / "gone.csv").write_text(ROWS + "sub/gone.png,no\n")
    here = list_source(str(folder / "images.csv"), TWO)
    local = tmp_path_factory.mktemp("local")
    with s3_server("images") as server:
        Run("s3://images", "set").upload(folder)
        for query in ("", f"?{server.query}"):
            there = list_source(f"s3://images/set/images.csv{query}", TWO)
            assert there.root == f"s3://images/set{query}"
            assert there.files.drop(columns="mtime_ns").equals(here.files.drop(columns="mtime_ns"))
            assert next(iter(read_files(there.root, ["sub/c.png"]))) == b"sub/c.png"
            listing = list_source(f"s3://images/set/uris.csv{query}", TWO)
            paths = listing.files["path"].tolist()
            assert paths[0] == "s3://images/set/a.png"
            assert len(paths) == 5
            assert list(read_files(listing.root, paths))[-1] == b"e"
            queried = local / "queried.csv"
            queried.write_text(uris.replace("*.png", f"*.png?{server.query}"))
            paths = list_source(str(queried), TWO).files["path"].tolist()
            assert paths[0] == f"s3://images/set/a.png?{server.query}"
            assert next(iter(read_files(str(local), paths))) == b"a.png"
            with pytest.raises(RunError, match=r"gone\.csv\S*, line 6: sub/gone\.png is not there"):
                list_source(f"s3://images/set/gone.csv{query}", TWO)
        (local / "uris.csv").write_text(uris)
        assert (
            list_source(str(local / "uris.csv"), TWO).files["path"].tolist() == listing.files["path"].tolist()
        )


def test_a_manifest_in_a_bucket_and_its_files_are_looked_for_once_and_again_where_that_is_refused(
    folder: Path,
) -> None:
    (folder / "many").mkdir()
    names = [f"many/{k}.png" for k in range(30)]
    for name in names:
        (folder / name).touch()
    (folder / "images.csv").write_text(ROWS + "".join(f"{name},no\n" for name in names))
    with s3_server("images", refuse_first=r"GET .*csv$|HEAD .*/a\.png$|LIST .*many/$") as server:
        Run("s3://images", "set").upload(folder)
        source = Source("s3://images/set/images.csv", TWO)
        before = len(server.calls())
        assert source.splits() == Source(str(folder / "images.csv"), TWO).splits()
        assert len(source.files().files) == len(list_source(str(folder / "images.csv"), TWO).files)
        calls = server.calls()[before:]
    assert sum(call.refused for call in calls) == 3
    asked = Counter(call.name for call in calls if not call.refused)
    assert asked["GET /images/set/images.csv"] == asked["LIST /images/set/many/"] == 1
    assert asked["HEAD /images/set/a.png"] == 1


def test_rows_of_other_classes_are_left_out_of_an_external_set(folder: Path) -> None:
    text = "path,label\na.png,no\nb.png,unsure\n"
    assert "unknown unsure" in refused(folder, text)
    listing = find(folder, text, external=True)
    assert listing.files["path"].tolist() == ["a.png"]
    assert listing.left_out["reason"].tolist() == ["label unsure, none of data.classes"]
    assert "expected ['no', 'yes']" in refused(folder, "path,label\na.png,c\nb.png,d\n", external=True)
