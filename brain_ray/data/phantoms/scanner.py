"""The scan of a head: its pose, its sampling, bias field and noise. Pure functions."""

import math

import cv2
import numpy as np

from brain_ray.data.phantoms.shapes import SIDE, Floats, Image, floats, upscale


def scan(
    picture: Floats, scanner: np.random.Generator, patient: np.random.Generator, noise: np.random.Generator
) -> Image:
    """Poses and samples a head, (SIDE, SIDE) of 0..1, with bias field and noise.

    Args:
        picture: the head.
        scanner: stream that gives size, amount of noise, gain and channels. All three may be one stream.
        patient: stream that gives the pose and the bias field.
        noise: stream that gives the noise.

    Returns:
        (height, width), or (height, width, 3) with equal channels; uint8, sides 128..512.
    """
    height = round(float(np.exp(scanner.uniform(np.log(128), np.log(512)))))
    aspect = scanner.choice((1.0, scanner.uniform(0.85, 1.2)))
    width = int(np.clip(round(height * aspect), 128, 512))
    # Scanners sample some 256 lines at most; larger pictures are interpolated, noise included.
    fine = min(1.0, 256 / max(height, width))
    rows, columns = round(height * fine), round(width * fine)

    angle = math.radians(patient.uniform(-18, 18))
    cos, sin = math.cos(angle), math.sin(angle)
    step = SIDE / rows / patient.uniform(0.88, 1.04)  # pixels of the picture for one of the matrix
    stretch = patient.uniform(0.94, 1.06)
    x = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2)[None, :] * (step * stretch)
    y = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2)[:, None] * (step / stretch)
    bend = 0.014 * SIDE * patient.standard_normal((2, 5, 5), dtype=np.float32)
    shift = (0.5 + patient.uniform(-0.03, 0.03, 2)).astype(np.float32) * SIDE
    map_x = upscale(bend[0] + shift[0], rows, columns) + (cos * x + sin * y)
    map_y = upscale(bend[1] + shift[1], rows, columns) + (cos * y - sin * x)
    signal = floats(cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))

    signal *= upscale(1 + 0.10 * patient.standard_normal((4, 4), dtype=np.float32), rows, columns)
    # A magnitude image of a complex signal: its noise is Rician (Gudbjartsson and Patz, 1995).
    grain = noise.standard_normal((rows, columns), dtype=np.float32)
    grain *= np.float32(scanner.uniform(0.012, 0.04))
    magnitude = cv2.magnitude(signal + grain, np.ascontiguousarray(grain[::-1, ::-1]))
    sampled = cv2.convertScaleAbs(magnitude, alpha=255 * scanner.uniform(0.85, 1.1))
    image = np.asarray(cv2.resize(sampled, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.merge([image] * 3), np.uint8) if scanner.random() < 0.4 else image
