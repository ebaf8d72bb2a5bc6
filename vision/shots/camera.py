"""How the picture moves from frame to frame because of the camera.

The strongest corner (Shi and Tomasi 1994) of every cell of a grid is followed into the next frame by pyramidal
Lucas-Kanade (Bouguet 2000) and back again; points that do not return (Kalal et al. 2010, Forward-backward error) are
dropped. The grid keeps one subject full of detail from owning all the points. A similarity is fitted by RANSAC
(Fischler and Bolles 1981), then by least squares over its inliers. Where the other points agree on another motion and
reach more of the frame's border, theirs is the background's.

Every row depends on its two frames alone: a video that is split into runs which share one frame gives the same rows.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.shots.movement import Motion, Motions

CELLS: Final = 20
"""Of the grid along the longer side."""
CORNER: Final = (0.005, 2e-5)
"""Least corner measure: as a share of the frame's best, and absolute, for frames of nothing but noise."""
WINDOW: Final = 15
LEVELS: Final = 3
RETURNS: Final = 0.5
"""Pixels by which a point may miss its start after the way there and back."""
FEWEST: Final = 8
"""Points that make a fit."""
CLOSE: Final = (0.7, 0.1)
"""The most pixels between an inlier and where the fit puts it, and a share of the median motion to add."""
RIVAL: Final = 0.2
"""Share of the points from which another motion may be that of the background."""
MOVES: Final = 0.5
"""Pixels of global motion from which a still point can be distinguished from a moving one."""
STAYS: Final = 0.35
"""Share of the global motion at a point, below which it has stayed."""
MIDDLE: Final = (0.15, 0.8)
"""Of width and height; logos and captions, which stay too, lie outside it."""
FARTHEST: Final = 0.1

Points = NDArray[np.float32]
"""float32 (n, 2), x and y in pixels."""
Strengths = NDArray[np.float32]
"""float32 (n,): the smaller eigenvalue of the gradients around a point."""
Matrix = NDArray[np.float64]
"""float64 (2, 3)."""


def motions(frames: NDArray[np.uint8]) -> Motions:
    """Return float32 (n - 1, 8) for frames uint8 (n, h, w), grey: the motion from each to the next."""
    rows = np.zeros((max(0, len(frames) - 1), len(Motion)), np.float32)
    if not len(rows):
        return rows
    for place, row in enumerate(rows):
        row[:] = _measured(*_followed(frames[place], frames[place + 1]), frames.shape[2], frames.shape[1])
    return rows


def corners(frame: NDArray[np.uint8]) -> tuple[Points, Strengths]:
    """Return the strongest corner of every cell of the grid that has one, and how strong it is."""
    import cv2

    height, width = frame.shape
    cell = max(4, round(max(frame.shape) / CELLS))
    strength = cv2.cornerMinEigenVal(np.ascontiguousarray(frame), 3)
    rows, columns = height // cell, width // cell
    top, left = (height - rows * cell) // 2, (width - columns * cell) // 2
    cells = strength[top : top + rows * cell, left : left + columns * cell].reshape(rows, cell, columns, cell)
    cells = cells.transpose(0, 2, 1, 3).reshape(rows * columns, cell * cell)
    best = cells.argmax(1)
    where = np.arange(rows * columns)
    x = left + where % columns * cell + best % cell
    y = top + where // columns * cell + best // cell
    strongest = cells[where, best]
    strong = strongest >= max(CORNER[0] * float(strength.max()), CORNER[1])
    return np.stack([x, y], 1)[strong].astype(np.float32), strongest[strong]


def _followed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[Points, Points, Strengths]:
    """Return the points of a frame that reappear in the next one, where they are there, and how strong they are."""
    import cv2

    start, strengths = corners(before)
    if len(start) < FEWEST:
        return start[:0], start[:0], strengths[:0]
    window = (WINDOW, WINDOW)
    end, there, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None, winSize=window, maxLevel=LEVELS)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, end, None, winSize=window, maxLevel=LEVELS)
    height, width = before.shape
    kept = (there & again).ravel().astype(bool) & (np.hypot(*(back - start).T) < RETURNS)
    kept &= (end >= 0).all(1) & (end[:, 0] < width) & (end[:, 1] < height)
    return start[kept], end[kept], strengths[kept]


def _measured(start: Points, end: Points, strengths: Strengths, width: int, height: int) -> Motions:
    """Return one row."""
    row = np.zeros(len(Motion), np.float32)
    background = _background(start, end, width, height)
    if background is None:
        return row
    matrix, inlier = background
    cosine, sine = matrix[0, 0], matrix[1, 0]
    middle, diagonal = np.array([width / 2, height / 2]), float(np.hypot(width, height))
    moved = start @ matrix[:, :2].T + matrix[:, 2]
    expected, strays = moved - start, end - moved
    row[Motion.DX], row[Motion.DY] = (matrix[:, :2] @ middle + matrix[:, 2] - middle) / (width, height)
    row[Motion.SCALE] = np.log(np.hypot(cosine, sine))
    row[Motion.ROTATION] = np.arctan2(sine, cosine)
    row[Motion.INLIERS] = inlier.mean()
    away = np.minimum(np.hypot(*strays.T) / diagonal, FARTHEST)
    row[Motion.RESIDUAL] = np.sqrt((away**2).mean())
    speed = np.hypot(*expected.T)
    central = (np.abs(start / (width, height) - 0.5) <= (0.5 - MIDDLE[0], MIDDLE[1] - 0.5)).all(1)
    moving = central & (speed > MOVES)
    if moving.any():
        # Strong compression leaves flat parts where they were: their corners are the weakest of the frame.
        weights = np.minimum(strengths[moving] / np.median(strengths), 1)
        row[Motion.STILL] = np.average((np.hypot(*(end - start).T) < STAYS * speed)[moving], weights=weights)
    far = inlier & (speed > 0)
    if far.any():
        way = expected[far] / speed[far, None]
        along, across = (strays[far] * way).sum(1), (strays[far] * way[:, ::-1] * (-1, 1)).sum(1)
        row[Motion.PARALLAX] = (np.abs(along).mean() - np.abs(across).mean()) / diagonal
    return row


def _background(start: Points, end: Points, width: int, height: int) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """Return the motion of the background and the points that take part in it."""
    first = _fit(start, end)
    if first is None:
        return None
    rest = ~first[1]
    if rest.sum() < max(FEWEST, RIVAL * len(start)):
        return first
    second = _fit(start[rest], end[rest])
    if second is None or second[1].sum() < RIVAL * len(start):
        return first
    edge = (np.abs(start / (width, height) - 0.5) > 0.35).any(1)
    theirs = np.zeros(len(start), bool)
    theirs[rest] = second[1]
    return (second[0], theirs) if (theirs & edge).sum() > (first[1] & edge).sum() else first


def _fit(start: Points, end: Points) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """Return the similarity that most points agree on and its inliers, None where too few do."""
    import cv2

    if len(start) < FEWEST:
        return None
    close = CLOSE[0] + CLOSE[1] * float(np.median(np.hypot(*(end - start).T)))
    matrix, inlier = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=close, maxIters=500, confidence=0.995
    )
    if matrix is None or inlier.sum() < FEWEST:
        return None
    return matrix, inlier.ravel().astype(bool)
