"""Formats that people have and that are not read: what each is, and what to do with it."""

import re

AS_PNG = "save it as PNG"

UNREAD: dict[str, tuple[bytes, str]] = {
    "AVIF": (rb"(?s:.{4})ftyp(?s:.{0,16})avi[fs]", AS_PNG),
    "HEIC": (rb"(?s:.{4})ftyp(?s:.{0,16})(?:hei|hev|mif1|msf1)", AS_PNG),
    "JPEG XL": (rb"\xff\x0a|\0\0\0\x0cJXL ", AS_PNG),
    "NRRD": (rb"NRRD000", "save it as NIfTI"),
    "MetaImage": (rb"ObjectType\s*=|NDims\s*=", "save it as NIfTI"),
    "NIfTI in two files": (rb"(?s:.{344})ni[12]\0", "save it as one file, .nii or .nii.gz"),
    "MATLAB before 7.3": (rb"MATLAB 5\.0 MAT-file", "save it with -v7.3"),
    "PDF": (rb"%PDF-", AS_PNG),
    "ZIP": (rb"PK\x03\x04", "unpack it"),
}
"""Formats that are not read, because no check bounds what they cost or they are no images: signature, and
what to do."""


def explain_unread(data: bytes) -> str | None:
    """Returns which known format a file has that is not read, and what to do; None if it has no such
    format."""
    found = ((name, cure) for name, (signature, cure) in UNREAD.items() if re.match(signature, data))
    return next((f"{name} is not read: {cure}" for name, cure in found), None)
