WEIGHTS = {
    'ground': dict.fromkeys(
        ['contour', 'histogram', 'gaussian', 'area', 'share', 'ground', 'ground_low'], 1.0
    ),
    'no_ground': dict.fromkeys(['contour', 'histogram', 'gaussian', 'area', 'share'], 1.0),
}
