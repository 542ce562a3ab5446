"""Weights of CombinedOrder, as tools/benchmarks/fit_order.py wrote them.

7838 pairs of 2000 scenes composed of the training images of camvid (a COCO
panoptic data set), masks through the simulated mask head:

    python tools/benchmarks/fit_order.py --photographs ROOT --scenes 2000 --seed 0

SHA-256 of their features begins with fd087cbc7b80a5e2.
"""

WEIGHTS = {
    'ground': {
        'contour': 4.2901,
        'histogram': 0.6497,
        'area': -0.0801,
        'share': 2.4435,
        'ground': 3.2766,
        'ground_low': 5.7598,
    },
    'no_ground': {
        'contour': 5.1784,
        'histogram': 0.3651,
        'area': -0.3818,
        'share': 2.3294,
    },
}
