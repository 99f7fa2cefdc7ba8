"""The scan of a head: its pose, its sampling, bias field and noise. Pure functions."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from brain_ray.data.phantoms.shapes import SIDE, Floats, Image, floats, upscale


@dataclass(frozen=True)
class Pose:
    """Where a scan samples a head, and the size of its image."""

    map_x: Floats
    map_y: Floats
    """(rows, columns) of the matrix: places in the picture, in pixels."""
    height: int
    width: int
    """Size of the image, to which the matrix is interpolated."""

    def sample(self, picture: Floats) -> Floats:
        """Returns a picture, (SIDE, SIDE), at the places of the matrix: (rows, columns)."""
        return floats(
            cv2.remap(picture, self.map_x, self.map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        )

    def outline(self, share: Floats) -> list[list[list[float]]]:
        """Returns the outlines of what fills a (SIDE, SIDE) share of 0..1, by more than a half: x, y of each
        point, in pixels of the image."""
        sampled = cv2.resize(self.sample(share), (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        inside = (np.asarray(sampled) > 0.5).astype(np.uint8)
        found = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        return [points[:, 0].astype(float).tolist() for points in found if len(points) > 2]


def draw_pose(scanner: np.random.Generator, patient: np.random.Generator) -> Pose:
    """Draws the size and the pose of a scan.

    Args:
        scanner: stream that gives the size.
        patient: stream that gives the pose. It may be the same stream.
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
    return Pose(map_x, map_y, height, width)


def scan(
    picture: Floats,
    pose: Pose,
    scanner: np.random.Generator,
    patient: np.random.Generator,
    noise: np.random.Generator,
) -> Image:
    """Samples a head, (SIDE, SIDE) of 0..1, with bias field and noise.

    Args:
        picture: the head.
        pose: drawn from the next two streams.
        scanner: stream that gives amount of noise, gain and channels. All three may be one stream.
        patient: stream that gives the bias field.
        noise: stream that gives the noise.

    Returns:
        (height, width), or (height, width, 3) with equal channels; uint8, sides 128..512.
    """
    signal = pose.sample(picture)
    rows, columns = signal.shape
    signal *= upscale(1 + 0.10 * patient.standard_normal((4, 4), dtype=np.float32), rows, columns)
    # A magnitude image of a complex signal: its noise is Rician (Gudbjartsson and Patz, 1995).
    grain = noise.standard_normal((rows, columns), dtype=np.float32)
    grain *= np.float32(scanner.uniform(0.012, 0.04))
    magnitude = cv2.magnitude(signal + grain, np.ascontiguousarray(grain[::-1, ::-1]))
    sampled = cv2.convertScaleAbs(magnitude, alpha=255 * scanner.uniform(0.85, 1.1))
    image = np.asarray(
        cv2.resize(sampled, (pose.width, pose.height), interpolation=cv2.INTER_LINEAR), np.uint8
    )
    return np.asarray(cv2.merge([image] * 3), np.uint8) if scanner.random() < 0.4 else image
