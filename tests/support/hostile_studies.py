"""Hostile studies: archives and DICOMweb requests that lie, are damaged, or hold hostile files."""

import random
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice

from support.hostile_volumes import mutants
from support.studies import archive, known_slices

Made = tuple[str, dict[str, str], bytes]
"""What it is, headers and body."""

Study = tuple[dict[str, str], bytes]

ARCHIVE = {"content-type": "application/zip"}
RELATED = {"content-type": 'multipart/related; type="application/dicom"; boundary=cut'}

FOLDERS = ("", "a/", "../", "/etc/", "a/../../", "C:\\", "\u202e/", "x" * 300 + "/", ".hidden/")


def hostile_studies(count: int, seed: int) -> Iterator[Made]:
    """Yield studies of all kinds in turn."""
    rng = random.Random(seed)
    for make in islice(cycle(KINDS), count):
        yield (make.__name__, *make(rng))


@cache
def parts() -> tuple[list[bytes], list[bytes]]:
    """Return good slices of two patients, and hostile volumes."""
    good = known_slices("glioma", 3) + known_slices("pituitary", 3, PatientID="another")
    return good, [data for form in ("DICOM", "NIFTI", "MAT") for _, data in mutants(form, 80, 3)]


def files(rng: random.Random) -> dict[str, bytes]:
    """Return a few files of a study, most of them good."""
    good, hostile = parts()
    chosen = rng.sample(good, rng.randint(1, 4)) + rng.sample(hostile, rng.randint(0, 2))
    suffixes = (".dcm", "", ".IMA", ".nii")
    return {f"{rng.choice(FOLDERS)}{k}{rng.choice(suffixes)}": data for k, data in enumerate(chosen)}


def packed(rng: random.Random) -> Study:
    return ARCHIVE, archive(files(rng), rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


def packed_and_damaged(rng: random.Random) -> Study:
    """Bits are changed, in half of the cases in the archive's list, where names, sizes and methods stand."""
    made = bytearray(packed(rng)[1])
    for _ in range(rng.randint(1, 20)):
        first = made.find(b"PK\x01\x02") if rng.random() < 0.5 else 0
        made[rng.randrange(max(0, first), len(made))] ^= 1 << rng.randrange(8)
    return ARCHIVE, bytes(made)


def packed_and_lying(rng: random.Random) -> Study:
    """The archive's list states other sizes, places, methods or flags."""
    made = bytearray(packed(rng)[1])
    for found in list(re.finditer(b"PK\x01\x02", made)):
        offset, width = rng.choice([(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)])
        place = found.start() + offset
        made[place : place + width] = rng.randbytes(width)
    return ARCHIVE, bytes(made)


def packed_and_cut(rng: random.Random) -> Study:
    made = packed(rng)[1]
    place = rng.randrange(len(made))
    return ARCHIVE, made[:place] if rng.random() < 0.5 else b"PK\x03\x04" + made[place:]


def packed_twice(rng: random.Random) -> Study:
    return ARCHIVE, archive({"inner.zip": packed(rng)[1], **files(rng)})


def related(rng: random.Random) -> Study:
    line = rng.choice([b"\r\n", b"\r\n", b"\n"])
    odd = b"X: " + rng.randbytes(9).hex().encode() + line
    head = b"Content-Type: application/dicom" + line + rng.choice([b"", odd])
    body = b"".join(b"--cut" + line + head + line + data + line for data in files(rng).values())
    return RELATED, body + rng.choice([b"--cut--\r\n", b"--cut--\r\n", b"", b"--cut"])


def related_and_damaged(rng: random.Random) -> Study:
    made = bytearray(related(rng)[1])
    for _ in range(rng.randint(1, 20)):
        made[rng.randrange(len(made))] = rng.choice(b"\r\n-c:\0")
    return RELATED, bytes(made)


KINDS = (
    packed,
    packed_and_damaged,
    packed_and_lying,
    packed_and_cut,
    packed_twice,
    related,
    related_and_damaged,
)
