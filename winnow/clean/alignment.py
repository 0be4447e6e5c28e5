"""Do two pictures show the same photo? Lay one over the other, then compare what lies on the same spot."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from winnow.clean import opencv as cv2

COARSE, CLOSE = 128, 256  # pixels of the longer side: to align and sort out, then to be sure
BLOCKS = 6  # the comparison is made in 6×6 blocks, so that a watermark spoils only a few
WORTH = 0.8  # the coarse agreement from which a close look is worth its time
HOPEFUL = 0.6  # and from which refining is: copies reach 0.86 before it, most other pictures under 0.5
SURE = 0.998  # an agreement that refining needn't raise
BANDS = ((1.5, 5.0), (2.0, 8.0))  # structure between these widths in pixels: neither shading nor compression
_local = threading.local()


@dataclass(frozen=True, order=True)
class Match:
    """How well two aligned pictures agree."""

    likeness: float  # the middle block's correlation of fine structure, -1 to 1
    overlap: float  # share of the first picture that the second one covers


NOTHING = Match(0.0, 0.0)


def compare(first: np.ndarray, second: np.ndarray) -> Match:
    """Align two grey pictures (h, w) uint8, already turned alike, and compare them.

    Frame is laid on frame and refined by ECC (Evangelidis and Psarakis 2008) to an affine map, on a small canvas
    first, where most pairs of different pictures already part; where that fails, ORB keypoints and RANSAC give
    another start. What agrees is aligned and compared again, closely.
    """
    one, two = _on_canvas(first, COARSE), _on_canvas(second, COARSE)
    bands, best, warp = _bands(one), NOTHING, None
    for propose, refines in ((_frame_on_frame, False), (_refined_small, True), (_by_keypoints, True)):
        start = propose(one, two)
        if start is None:
            continue
        found = [(_agreement(one, two, start, bands), start)]
        if refines and HOPEFUL <= found[0][0].likeness < WORTH:
            refined = _refine(one, two, start)
            found.append((_agreement(one, two, refined, bands), refined))
        best, warp = max((best, warp), *found, key=itemgetter(0))
        if best.likeness >= WORTH:
            return _look_closely(first, second, warp, one, two)
    return best


def _look_closely(first, second, warp, one, two) -> Match:
    """The same at twice the size, or at the smaller picture's own size."""
    side = min(CLOSE, max(first.shape), max(second.shape))
    near, far = _on_canvas(first, side), _on_canvas(second, side)
    warp, bands = _enlarged(warp, (one, two), (near, far)), _bands(near)
    match = _agreement(near, far, warp, bands)
    if match.likeness >= SURE:
        return match
    return max(match, _agreement(near, far, _refine(near, far, warp, steps=5), bands))


def _scaling(large: np.ndarray, small: np.ndarray) -> np.ndarray:
    """The map from a small canvas's pixels to a large one's, 3×3."""
    x, y = large.shape[1] / small.shape[1], large.shape[0] / small.shape[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _on_canvas(grey: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(grey.shape)
    size = [max(round(side * scale), 16) for side in grey.shape[::-1]]
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _frame_on_frame(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The map from the first picture's pixels to the second's that lays corner on corner."""
    return _scaling(two, one)[:2].astype(np.float32)


def _refined_small(one: np.ndarray, two: np.ndarray) -> np.ndarray | None:
    """Frame on frame, refined on a canvas of half the size; None where the pictures don't come to agree there."""
    small, other = _on_canvas(one, COARSE // 2), _on_canvas(two, COARSE // 2)
    warp = _refine(small, other, _frame_on_frame(small, other))
    return (
        _enlarged(warp, (small, other), (one, two))
        if _agreement(small, other, warp, _bands(small)).likeness >= HOPEFUL
        else None
    )


def _enlarged(warp: np.ndarray, small: tuple, large: tuple) -> np.ndarray:
    """A map between two small canvases as a map between the same pictures' larger ones."""
    there = (
        _scaling(large[1], small[1])
        @ np.vstack([warp, [0, 0, 1]])
        @ np.linalg.inv(_scaling(large[0], small[0]))
    )
    return there[:2].astype(np.float32)


def _by_keypoints(one: np.ndarray, two: np.ndarray) -> np.ndarray | None:
    (points, marks), (others, their_marks) = _keypoints(one), _keypoints(two)
    if marks is None or their_marks is None or min(len(marks), len(their_marks)) < 8:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(marks, their_marks)
    if len(pairs) < 6:
        return None
    source = np.float32([points[pair.queryIdx].pt for pair in pairs])
    target = np.float32([others[pair.trainIdx].pt for pair in pairs])
    found, inside = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=2.0, maxIters=500)
    return found.astype(np.float32) if found is not None and inside.sum() >= 6 else None


def _keypoints(grey: np.ndarray):
    if not hasattr(_local, "orb"):  # a detector isn't made for several threads at once
        _local.orb = cv2.ORB_create(
            200, scaleFactor=1.2, nlevels=4, edgeThreshold=8, patchSize=16, fastThreshold=8
        )
    return _local.orb.detectAndCompute(grey, None)


def _plausible(warp: np.ndarray, one: np.ndarray, two: np.ndarray) -> bool:
    """Whether a map keeps angles roughly and scales by less than 1.6."""
    frame = _frame_on_frame(one, two)
    relative = warp[:, :2] @ np.diag(1 / np.diag(frame[:, :2]))
    sizes = np.linalg.svd(relative, compute_uv=False)
    return bool(
        np.linalg.det(relative) > 0 and sizes[1] > 1 / 1.6 and sizes[0] < 1.6 and relative[0, 0] > 0.6
    )


def _refine(one: np.ndarray, two: np.ndarray, start: np.ndarray, *, steps: int = 15) -> np.ndarray:
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
    try:
        return cv2.findTransformECC(one, two, start.copy(), cv2.MOTION_AFFINE, criteria, None, 3)[1]
    except cv2.error:  # no convergence
        return start


def _agreement(one: np.ndarray, two: np.ndarray, warp: np.ndarray, bands: list[np.ndarray]) -> Match:
    """Lay the second picture over the first and compare with its `bands` of fineness, block by block."""
    if not _plausible(warp, one, two):
        return NOTHING
    size, flags = one.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(two, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full(two.shape, 255, np.uint8), warp, size, flags=flags) > 250
    if inside.mean() < 0.4:
        return NOTHING
    likeness = [_middle_block(*pair, inside) for pair in zip(bands, _bands(laid), strict=True)]
    return Match(float(np.mean(likeness)), float(inside.mean()))


def _bands(grey: np.ndarray) -> list[np.ndarray]:
    """The structure between the two widths of each of `BANDS`, (h, w) float32."""
    grey, scale = grey.astype(np.float32), max(grey.shape) / CLOSE
    blurred = [[cv2.GaussianBlur(grey, (0, 0), max(width * scale, 0.5)) for width in band] for band in BANDS]
    return [fine - broad for fine, broad in blurred]


def _middle_block(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """The median of the blocks' correlations, over blocks that are covered and have structure."""
    mask = inside.astype(np.float32)
    a_in, b_in = a * mask, b * mask
    count, sum_a, sum_b, aa, bb, ab = map(_block_sums, (mask, a_in, b_in, a * a_in, b * b_in, a * b_in))
    full = count > 0.7 * (mask.size / BLOCKS**2)
    if not full.any():
        return 0.0
    count, sum_a, sum_b, aa, bb, ab = (part[full] for part in (count, sum_a, sum_b, aa, bb, ab))
    spread_a, spread_b = aa - sum_a**2 / count, bb - sum_b**2 / count
    scores = (ab - sum_a * sum_b / count) / np.sqrt(np.maximum(spread_a * spread_b, 1e-6))
    structure = np.sqrt(np.maximum(spread_a, 0) / count)
    return float(np.median(scores[structure >= 0.5 * np.median(structure)]))


def _block_sums(values: np.ndarray) -> np.ndarray:
    """Sums (6, 6) over equal blocks; a rest at the right and the bottom is left out."""
    height, width = (side // BLOCKS for side in values.shape)
    cut = values[: height * BLOCKS, : width * BLOCKS]
    return cv2.resize(cut, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA).astype(np.float64) * (
        height * width
    )
