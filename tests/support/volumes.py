"""Made-up DICOM, NIfTI and MATLAB files, written by pydicom, nibabel and h5py; heads are drawn phantoms."""

import gzip
import io
import tempfile
from pathlib import Path
from typing import Any

import cv2
import gdcm
import h5py
import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, generate_uid
from scipy.ndimage import median_filter

from brain_ray.data.phantoms.files import draw

NAME, PATIENT, DATE = "Doe^Jane Q", "PAT-4711-XYZ", "19691231"
"""What a header says of a patient."""

STUDY, SERIES = "1.2.826.0.1.3680043.8.498.1111111", "1.2.826.0.1.3680043.8.498.2222222"


def head(index: int = 0) -> NDArray[np.uint8]:
    """A drawn head, (160, 128)."""
    drawn = draw("glioma", 5, index)
    grey = drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])
    return np.asarray(cv2.resize(grey, (128, 160), interpolation=cv2.INTER_AREA), np.uint8)


def dicom(pixels: NDArray[Any], syntax: str = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """A DICOM file of (height, width) or (frames, height, width) pixels, or colours in a last axis of 3.

    It names a patient. Elements of `elements` are set last; one that is None is left out.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID, made.PatientBirthDate = NAME, PATIENT, DATE
    made.StudyDescription, made.AccessionNumber = f"of {NAME}", "ACC-98765"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = STUDY, SERIES, "MR"
    made.InstanceNumber = 1
    colours = pixels.ndim > 2 and pixels.shape[-1] == 3
    frames = pixels.ndim - colours == 3
    made.Rows, made.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    if frames:
        made.NumberOfFrames = len(pixels)
    made.SamplesPerPixel = 3 if colours else 1
    made.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    if colours:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    if UID(syntax) == RLELossless:
        made.compress(syntax, generate_instance_uid=False)
    elif not UID(syntax).is_encapsulated:
        meta.TransferSyntaxUID = syntax
    if not UID(syntax).is_little_endian:
        made.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, made, enforce_file_format=True)
    return _recoded(file.getvalue(), syntax) if UID(syntax).is_encapsulated else file.getvalue()


def _recoded(data: bytes, syntax: str) -> bytes:
    """A DICOM file in a coding that GDCM writes."""
    if syntax == RLELossless:
        return data
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.write_bytes(data)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return after.read_bytes()


def series(count: int = 5, **elements: Any) -> list[bytes]:
    """DICOM files of one series, in the order of their positions from below, with 16 bits a pixel."""
    plane = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    return [
        dicom(
            head(k).astype(np.uint16) * 8,
            InstanceNumber=count - k,
            ImagePositionPatient=[0, 0, 5.0 * k - 20],
            **(plane | elements),
        )
        for k in range(count)
    ]


def groups(name: str, **elements: Any) -> Dataset:
    """An item of functional groups with one sequence of one item."""
    item, outer = Dataset(), Dataset()
    for element, value in elements.items():
        setattr(item, element, value)
    setattr(outer, name, [item])
    return outer


def nifti(volume: NDArray[Any], affine: NDArray[Any] | None = None, packed: bool = True) -> bytes:
    """A NIfTI file of a volume, its axes right, front, top if no affine says otherwise."""
    made = nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine, dtype=volume.dtype)
    made.header["descrip"] = NAME.encode()
    data: bytes = made.to_bytes()
    return gzip.compress(data, 1) if packed else data


def heads(count: int = 9, empty: int = 2, first: int = 0) -> NDArray[np.int16]:
    """A volume of axial slices, (width, height, count), the first and last `empty` of which show nothing.

    They are the heads from number `first` on.
    """
    images = [head(first + k).astype(np.int16) * 7 for k in range(count)]
    for k in (*range(empty), *range(count - empty, count)):
        images[k][:] = 0
    # An image's first row and column are the front and the patient's right, where coordinates end.
    return np.stack([image[::-1, ::-1].T for image in images], axis=-1)


def mat(
    image: NDArray[Any],
    label: float = 2,
    patient: str = PATIENT,
    mask: NDArray[np.uint8] | None = None,
    packing: str | None = None,
) -> bytes:
    """A file as those of Figshare's set: MATLAB's header, then HDF5 with columns first."""
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as made:
        struct = made.create_group("cjdata")
        struct.create_dataset("image", data=image.T, compression=packing)
        struct["label"] = np.full((1, 1), label)
        struct["PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
        struct["tumorMask"] = (np.zeros(image.shape, np.uint8) if mask is None else mask).T
        struct["tumorBorder"] = np.zeros((1, 8))
    data = bytearray(file.getvalue())
    start = b"MATLAB 7.3 MAT-file, Platform: PCWIN64, Created on: Sat Jan  1 00:00:00 2000 HDF5 schema 1.00 ."
    data[: len(start)] = start
    return bytes(data)


def windowed(image: NDArray[Any], *images: NDArray[Any]) -> NDArray[np.float64]:
    """Grey levels, 0..255, of an image by the usual window over it, or over all of some images."""
    medians = [median_filter(each.astype(float), 3, mode="mirror") for each in images or (image,)]
    low, high = np.percentile(np.stack(medians), (0.5, 99.5), method="inverted_cdf")
    scaled: NDArray[np.float64] = np.clip((image.astype(float) - low) / (high - low) * 255, 0, 255)
    return scaled
