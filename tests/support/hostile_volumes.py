"""DICOM, NIfTI and MATLAB files that nobody should send: sound ones, changed in bytes and in what their
headers say."""

import gzip
import io
import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import h5py
import numpy as np
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from support import volumes

Made = tuple[str, bytes]

NUMBERS = (0, 1, 2, 3, 7, 8, 12, 16, 31, 32, 64, 255, 256, 4096, 32767, 65535)


@cache
def originals(form: str) -> tuple[bytes, ...]:
    """Sound files of a format."""
    deep = np.stack([volumes.head(k)[::2, ::2].astype(np.uint16) * 9 for k in range(4)])
    if form == "NIFTI":
        axes = deep.T.astype(np.float32)
        colours = np.zeros(axes.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
        return tuple(volumes.nifti(v, packed=p) for v in (deep.T, axes, colours) for p in (False, True))
    if form == "MAT":
        packed = volumes.mat(deep[0].astype(np.int16))
        return (packed, volumes.mat(deep[1].astype(np.int16), packing="gzip"))
    enhanced = {
        "SharedFunctionalGroupsSequence": [
            volumes.groups("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=-5)
        ],
        "PerFrameFunctionalGroupsSequence": [
            volumes.groups("PlanePositionSequence", ImagePositionPatient=[0, 0, k]) for k in range(4)
        ],
    }
    colours = np.repeat(deep[0][..., None] >> 3, 3, axis=-1).astype(np.uint8)
    return (
        volumes.dicom(deep[0]),
        volumes.dicom(deep, **enhanced),
        volumes.dicom(deep, RLELossless),
        volumes.dicom(colours),
        volumes.dicom(deep[0], WindowCenter=900, WindowWidth=1800, PhotometricInterpretation="MONOCHROME1"),
        volumes.dicom(deep[0], DeflatedExplicitVRLittleEndian),
    )


def mutants(form: str, count: int, seed: int) -> Iterator[Made]:
    """Yields (what it is, its bytes): the worst files that are known, then changed ones of all kinds in
    turn."""
    rng = random.Random(f"{form} {seed}")
    worst = WORST[form]()
    yield from worst
    kinds = itertools.cycle((truncated, flipped_bits, overwritten, spliced, SAID[form]))
    for _ in range(count - len(worst)):
        kind = next(kinds)
        yield f"{kind.__name__} {form}", kind(rng, rng.choice(originals(form)))


# --- bytes --------------------------------------------------------------------------------------------------


def truncated(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _place(rng: random.Random, data: bytes) -> int:
    """Mostly in the first kilobytes, where headers are."""
    return rng.randrange(min(len(data), 3000)) if rng.random() < 0.8 else rng.randrange(len(data))


def flipped_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 20))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwritten(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 8))):
        at, value = _place(rng, data), rng.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
        changed[at : at + 4] = struct.pack(rng.choice("<>") + "I", value)
    return bytes(changed[: len(data)])


def spliced(rng: random.Random, data: bytes) -> bytes:
    one, two = sorted(_place(rng, data) for _ in range(2))
    return data[:one] + data[one:two] * rng.choice((0, 2, 3)) + data[two:]


# --- what headers say ---------------------------------------------------------------------------------------


def said_dicom(rng: random.Random, data: bytes) -> bytes:
    """Other numbers in elements that pixels depend on."""
    changed = dcmread(io.BytesIO(data))
    names = (
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "SamplesPerPixel",
        "PixelRepresentation",
    )
    for name in rng.sample(names, rng.choice((1, 2))):
        setattr(changed, name, rng.choice(NUMBERS))
    if rng.random() < 0.4:
        changed.NumberOfFrames = rng.choice((0, 2, 5, 1000, 2**31 - 1))
    if rng.random() < 0.3:
        changed.PhotometricInterpretation = rng.choice(
            ("PALETTE COLOR", "YBR_FULL_422", "YBR_RCT", "MONOCHROME1")
        )
    if rng.random() < 0.3:
        changed.WindowCenter, changed.WindowWidth = rng.choice(((0, 0), (1e308, 1e-308), (-5, -5), (0, 1)))
    file = io.BytesIO()
    changed.save_as(file)
    return file.getvalue()


def said_nifti(rng: random.Random, data: bytes) -> bytes:
    """Other dimensions, types, offsets and orientations."""
    packed = data.startswith(b"\x1f\x8b")
    changed = bytearray(gzip.decompress(data) if packed else data)
    for _ in range(rng.choice((1, 2, 3))):
        at = rng.choice((*range(40, 56, 2), 70, 72, 252, 254))
        changed[at : at + 2] = struct.pack(
            "<h", rng.choice((-1, *NUMBERS[:-1], 1024, 1536, 1792, 2048, 2304))
        )
    for _ in range(rng.choice((0, 1, 3))):
        at = rng.choice((*range(76, 108, 4), 108, 112, 116, *range(256, 328, 4)))
        changed[at : at + 4] = struct.pack(
            "<f", rng.choice((0, -1, float("nan"), float("inf"), 1e-38, 1e30, 352))
        )
    return gzip.compress(changed, 1) if packed else bytes(changed)


def said_mat(rng: random.Random, data: bytes) -> bytes:
    """Other numbers within HDF5's own structures, found by their signatures."""
    changed = bytearray(data)
    places = [
        at for name in (b"TREE", b"SNOD", b"HEAP", b"\x89HDF", b"OHDR", b"FRHP") for at in _all(data, name)
    ]
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.choice(places) + rng.randrange(4, 60)
        changed[at] = rng.choice((0, 1, 127, 128, 255))
    return bytes(changed[: len(data)])


def _all(data: bytes, name: bytes) -> Iterator[int]:
    at = data.find(name)
    while at >= 0:
        yield at
        at = data.find(name, at + 1)


SAID: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "DICOM": said_dicom,
    "NIFTI": said_nifti,
    "MAT": said_mat,
}


# --- the worst that are known -------------------------------------------------------------------------------


def _element(tag: int, kind: bytes, value: bytes) -> bytes:
    """An element with a length of four bytes."""
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, kind, 0, len(value)) + value


def _with(data: bytes, element: bytes) -> bytes:
    """A DICOM file with an element before its pixels."""
    at = data.rindex(b"\xe0\x7f\x10\x00")
    return data[:at] + element + data[at:]


def worst_dicom() -> list[Made]:
    """Bombs, endless lists, deep nesting, and frames that no decoder expects."""
    sound = originals("DICOM")[0]
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    nested = b""
    for _ in range(3000):
        nested += struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 0xFFFFFFFF) + item
    meta = originals("DICOM")[5]
    start = 144 + int.from_bytes(meta[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    private = _element(0x00091001, b"OB", b"")
    many = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 200_000
    runs = b"\x81\0" * 500_000
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    rle = struct.pack("<16I", 2, 64, 64, *[0] * 13) + runs
    wrong = dcmread(io.BytesIO(originals("DICOM")[2]))
    wrong.file_meta.TransferSyntaxUID = JPEG2000Lossless
    as_wrong = io.BytesIO()
    wrong.save_as(as_wrong)
    head = originals("DICOM")[2]
    pixels = head.rindex(b"\xe0\x7f\x10\x00")
    frame = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(rle)) + rle + end
    return [
        ("nested sequences", _with(sound, nested)),
        ("a deflated gigabyte", meta[:start] + bomb),
        ("many elements", _with(sound, private * 200_000)),
        ("many items", _with(sound, _element(0x52009230, b"SQ", many))),
        ("runs without end", head[: pixels + 12] + frame),
        ("no pixels", sound[: sound.rindex(b"\xe0\x7f\x10\x00")]),
        ("RLE called JPEG 2000", as_wrong.getvalue()),
        ("only its beginning", bytes(128) + b"DICM"),
    ]


def worst_nifti() -> list[Made]:
    """Bombs, and sizes that no file has."""
    sound = originals("NIFTI")[0]
    huge = bytearray(sound[:352])
    huge[40:56] = struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    large = bytearray(sound[:352])
    large[40:56] = struct.pack("<8h", 3, 4000, 4000, 1, 1, 1, 1, 1)
    return [
        ("a size of terabytes", bytes(huge)),
        ("a packed gigabyte", gzip.compress(bytes(huge) + bytes(2**20)) + gzip.compress(bytes(2**30), 9)),
        ("as many as allowed, packed", gzip.compress(bytes(large) + bytes(32_000_000), 9)),
        ("many packed nothings", gzip.compress(sound) + gzip.compress(b"") * 100_000),
        ("many packed nothings first", gzip.compress(sound[:360]) + gzip.compress(b"") * 100_000),
        ("no voxels", sound[:352]),
    ]


def worst_mat() -> list[Made]:
    """Bombs, and references to other files of the machine."""
    found: list[Made] = []
    image = np.zeros((40, 50), np.int16)

    def changed(name: str, change: Callable[[h5py.File], object]) -> None:
        file = io.BytesIO(volumes.mat(image))
        with h5py.File(file, "r+") as made:
            change(made)
        found.append((name, file.getvalue()))

    def replace(made: h5py.File, **options: object) -> None:
        del made["cjdata/image"]
        made.create_dataset("cjdata/image", **options)

    def link(made: h5py.File) -> None:
        del made["cjdata/image"]
        made["cjdata/image"] = h5py.ExternalLink("/etc/passwd", "/")

    def around(made: h5py.File) -> None:
        del made["cjdata/image"]
        made["cjdata/image"] = h5py.SoftLink("/cjdata/image")

    def virtual(made: h5py.File) -> None:
        layout = h5py.VirtualLayout((40, 50), "i2")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (40, 50))
        del made["cjdata/image"]
        made.create_virtual_dataset("cjdata/image", layout)

    kind = {"dtype": "u1"}
    changed(
        "pixels of another file",
        lambda f: replace(f, shape=(40, 50), external=[("/etc/passwd", 0, 2000)], **kind),
    )
    changed("a link to another file", link)
    changed("a link to itself", around)
    changed("a view of another file", virtual)
    changed(
        "a gigabyte of nothing",
        lambda f: replace(f, shape=(2**15, 2**15), chunks=(2**10, 2**10), compression="gzip", **kind),
    )
    changed(
        "a chunk of a gigabyte",
        lambda f: replace(
            f, shape=(40, 50), maxshape=(None, None), chunks=(2**15, 2**14), compression="gzip", **kind
        ),
    )
    changed("texts for pixels", lambda f: replace(f, shape=(40, 50), dtype=h5py.string_dtype()))
    return found


WORST: dict[str, Callable[[], list[Made]]] = {"DICOM": worst_dicom, "NIFTI": worst_nifti, "MAT": worst_mat}
