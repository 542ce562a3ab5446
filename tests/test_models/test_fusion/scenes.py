"""Random small scenes with everything that occlusion handling may meet."""

import numpy as np
import torch

# Few colours, so that objects look alike often; black, and two shades of one hue (cosine 1).
PALETTE = np.array(
    [(0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200), (60, 60, 60), (90, 90, 90)]
)


def random_scene(seed, max_objects=8, max_size=11):
    """A dict of masks (K, H, W) bool, scores (K,) float32 and image (3, H, W), as numpy arrays."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, max_size + 1, 2)
    masks = np.zeros((rng.integers(0, max_objects + 1), height, width), dtype=bool)
    for mask in masks:
        kind = rng.random()
        if kind < 0.05:
            continue  # an empty mask
        if kind < 0.2:
            mask[:] = rng.random((height, width)) < 0.4
            continue
        (top, bottom), (left, right) = (np.sort(rng.integers(0, n + 1, 2)) for n in mask.shape)
        mask[top : bottom + 1, left : right + 1] = True
    return _scene(rng, masks)


def crowded_scene(seed, max_objects=40, max_size=20):
    """A scene of many objects: mostly small ones, a few large ones, some of them twice."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, max_size + 1, 2)
    masks = np.zeros((rng.integers(0, max_objects + 1), height, width), dtype=bool)
    y, x = np.mgrid[:height, :width]
    for k, mask in enumerate(masks):
        kind = rng.random()
        if kind < 0.05:
            continue  # an empty mask
        if kind < 0.1 and k > 0:
            mask[:] = masks[rng.integers(k)]
            continue
        # Sides of 2 pixels and more, half of them under 3, one in nine over 6.
        top, left = rng.integers(0, height), rng.integers(0, width)
        rows, cols = 2 * (1 + rng.pareto(2, 2))
        dy, dx = (y - top) / rows, (x - left) / cols
        if kind < 0.5:
            mask[:] = np.maximum(abs(dy), abs(dx)) < 0.5  # a rectangle
        elif kind < 0.9:
            mask[:] = dy**2 + dx**2 < 0.25  # an ellipse
        else:
            mask[:] = (dy**2 + dx**2 < 4) & (rng.random(mask.shape) < 0.5)  # scattered pixels
    return _scene(rng, masks)


def _scene(rng, masks):
    """The masks with random scores and colours."""
    count, height, width = masks.shape
    scores = rng.random(count) if rng.random() < 0.5 else rng.choice([0.6, 0.7, 0.8], count)
    if rng.random() < 0.5:
        image = PALETTE[rng.integers(0, len(PALETTE), (height, width))].transpose(2, 0, 1)
        if rng.random() < 0.5:  # stripes, so that whole objects are alike
            image = np.repeat(image[:, :1], height, axis=1)
    else:
        image = rng.integers(0, 256, (3, height, width))
    # Not only whole numbers: 8 bits, or a dimmer float32 image. Products with such a factor are not
    # rounded, so that shades of one hue remain parallel.
    dimmed = np.float32(image) * np.float32(rng.integers(1, 257) / 256)
    image = dimmed if rng.random() < 0.3 else np.uint8(image)
    return dict(masks=masks, scores=np.float32(scores), image=np.ascontiguousarray(image))


def to_tensors(scene, device='cpu'):
    """The same dict of tensors."""
    return {name: torch.from_numpy(value).to(device) for name, value in scene.items()}
