"""The operators pixel by pixel in float64, written from the definitions in the paper.

Deliberately naive and independent of the kernels: loops over RoIs, pixels and sampling points.

Shapes: input (K, C, h, w), rois (K, 5), output (N, C, H, W); all numpy arrays.
"""

import math

import numpy as np


def roi_inlay(input, rois, batch_size, output_size, spatial_scale=1.0, aligned=True):
    """Section 3.2: bilinear interpolation between sampling points, average over RoIs."""
    input = np.asarray(input, np.float64)
    channels, crop_height, crop_width = input.shape[1:]
    height, width = output_size
    output = np.zeros((batch_size, channels, height, width))
    count = np.zeros((batch_size, 1, height, width))
    for crop, roi in zip(input, rois):
        box = _box_on_map(roi, spatial_scale, aligned)
        if box is None:
            continue
        image, x_start, y_start, roi_width, roi_height, x_end, y_end = box
        for y in range(height):
            if not y_start <= y <= y_end:
                continue
            for x in range(width):
                if not x_start <= x <= x_end:
                    continue
                top, bottom, v = _neighbours(y, y_start, roi_height / crop_height, crop_height)
                left, right, u = _neighbours(x, x_start, roi_width / crop_width, crop_width)
                output[image, :, y, x] += (
                    (1 - v) * (1 - u) * crop[:, top, left]
                    + (1 - v) * u * crop[:, top, right]
                    + v * (1 - u) * crop[:, bottom, left]
                    + v * u * crop[:, bottom, right]
                )
                count[image, 0, y, x] += 1
    return output / np.maximum(count, 1)


def roi_upsample(
    input, rois, batch_size, output_size, spatial_scale=1.0, aligned=True, reduction='sum'
):
    """Appendix A: every sampling point scatters to its four nearest pixels."""
    input = np.asarray(input, np.float64)
    channels, crop_height, crop_width = input.shape[1:]
    height, width = output_size
    output = np.zeros((batch_size, channels, height, width))
    count = np.zeros((batch_size, 1, height, width))
    for crop, roi in zip(input, rois):
        box = _box_on_map(roi, spatial_scale, aligned)
        if box is None:
            continue
        image, x_start, y_start, roi_width, roi_height, _, _ = box
        for i in range(crop_height):
            for j in range(crop_width):
                y = _snap(y_start + (i + 0.5) * (roi_height / crop_height))
                x = _snap(x_start + (j + 0.5) * (roi_width / crop_width))
                for row, column in _corners(y, x):
                    if not (0 <= row < height and 0 <= column < width):
                        continue
                    weight = (1 - abs(y - row)) * (1 - abs(x - column))
                    if weight == 0:
                        continue
                    ly, lx = y - math.floor(y), x - math.floor(x)
                    norm = ((1 - ly) ** 2 + ly**2) * ((1 - lx) ** 2 + lx**2)
                    output[image, :, row, column] += weight / norm * crop[:, i, j]
                    count[image, 0, row, column] += 1
    return output / np.maximum(count, 1) if reduction == 'mean' else output


def argmax_regret(classes, logits, rows=None, cols=None):
    """How far the values of the classes are below the maxima of ``rows @ logits @ cols.T``.

    The largest difference of all pixels, relative to the sums of absolute values: 0 if all classes
    are right, some roundings if they are as good as their sums.
    """
    logits = np.asarray(logits, np.float64)
    rows = np.eye(logits.shape[1]) if rows is None else np.asarray(rows, np.float64)
    cols = np.eye(logits.shape[2]) if cols is None else np.asarray(cols, np.float64)
    values = rows @ logits @ cols.T
    scale = (abs(rows) @ abs(logits) @ abs(cols).T).max(0)
    chosen = np.take_along_axis(values, np.asarray(classes, np.int64)[None], 0)[0]
    return float(((values.max(0) - chosen) / np.maximum(scale, 1e-30)).max(initial=0))


def _box_on_map(roi, spatial_scale, aligned):
    """Image, and on the map x start, y start, width, height, x end, y end; or None.

    None says that the RoI covers nothing. The end is not start + width, which rounds: an edge on a
    pixel has to be on it.
    """
    image, x1, y1, x2, y2 = (float(value) for value in roi)
    offset = 0.5 if aligned else 0.0
    with np.errstate(all='ignore'):
        width = x2 * spatial_scale - x1 * spatial_scale
        height = y2 * spatial_scale - y1 * spatial_scale
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        return None
    x_start, y_start = x1 * spatial_scale - offset, y1 * spatial_scale - offset
    x_end, y_end = x2 * spatial_scale - offset, y2 * spatial_scale - offset
    return int(image), x_start, y_start, width, height, x_end, y_end


def _neighbours(pixel, start, bin_size, samples):
    """The two sampling points around a pixel and the weight of the second one."""
    points = [start + (i + 0.5) * bin_size for i in range(samples)]
    if pixel <= points[0]:
        return 0, 0, 0.0
    if pixel >= points[-1]:
        return samples - 1, samples - 1, 0.0
    low = max(i for i in range(samples) if points[i] <= pixel)
    return low, low + 1, (pixel - points[low]) / bin_size


def _snap(position):
    """A point within 1e-9 of a pixel is on it: whether it counts must not hang on rounding."""
    return round(position) if abs(position - round(position)) < 1e-9 else position


def _corners(y, x):
    top, left = math.floor(y), math.floor(x)
    return [(top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)]
