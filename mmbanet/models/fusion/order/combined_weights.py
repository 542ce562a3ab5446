"""Weights of CombinedOrder, as tools/benchmarks/fit_order.py wrote them.

7838 pairs of 2000 scenes composed of CamVid's training frames (converted by
tools/convert_semantic.py), masks through the simulated mask head:

    python tools/benchmarks/fit_order.py --photographs ROOT --scenes 2000 --seed 0

SHA-256 of their features begins with 9553264d21b6ad12.
"""

WEIGHTS = {
    'ground': {
        'contour': 4.2977,
        'histogram': 0.6644,
        'area': -0.0744,
        'share': 2.446,
        'ground': 3.274,
        'ground_low': 5.7625,
    },
    'no_ground': {
        'contour': 5.1945,
        'histogram': 0.4094,
        'area': -0.3688,
        'share': 2.3438,
    },
}
