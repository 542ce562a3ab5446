"""Random small scenes with everything that occlusion handling may meet."""

import numpy as np

# Few colours, so that objects look alike often; black, and two shades of one hue (cosine 1).
PALETTE = np.array(
    [(0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200), (60, 60, 60), (90, 90, 90)]
)


def random_scene(seed, max_objects=8, max_size=11):
    """A dict of masks (K, H, W) bool, scores (K,) float32 and image (3, H, W), as numpy arrays."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, max_size + 1, 2)
    count = rng.integers(0, max_objects + 1)
    masks = np.zeros((count, height, width), dtype=bool)
    for mask in masks:
        kind = rng.random()
        if kind < 0.05:
            continue  # an empty mask
        if kind < 0.2:
            mask[:] = rng.random((height, width)) < 0.4
            continue
        (top, bottom), (left, right) = (np.sort(rng.integers(0, n + 1, 2)) for n in mask.shape)
        mask[top : bottom + 1, left : right + 1] = True

    scores = rng.random(count) if rng.random() < 0.5 else rng.choice([0.6, 0.7, 0.8], count)
    if rng.random() < 0.5:
        image = PALETTE[rng.integers(0, len(PALETTE), (height, width))].transpose(2, 0, 1)
        if rng.random() < 0.5:  # stripes, so that whole objects are alike
            image = np.repeat(image[:, :1], height, axis=1)
    else:
        image = rng.integers(0, 256, (3, height, width))
    # Not only whole numbers: 8 bits or a dimmer float32 image.
    image = np.float32(image * rng.random()) if rng.random() < 0.3 else np.uint8(image)
    return dict(masks=masks, scores=np.float32(scores), image=np.ascontiguousarray(image))
