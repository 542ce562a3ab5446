import numpy as np

from mmbanet.visualization import colorize, draw_grid

PALETTE = [(200, 50, 50), (50, 200, 50), (50, 50, 200)]


def test_stuff_in_the_palette_instances_in_shades_void_black_edges_white():
    panoptic = np.full((6, 12), 2)
    panoptic[:, 3:6] = 1000
    panoptic[:, 6:9] = 2000
    panoptic[:, 9:] = 3  # void: beyond the palette
    colors = colorize(panoptic, PALETTE)
    assert (colors[0, 0] == PALETTE[2]).all()
    assert (colors[0, 10] == 0).all()
    first, second = colors[0, 3].astype(int), colors[0, 6].astype(int)
    for shade in (first, second):
        assert (np.abs(shade - PALETTE[0]) <= 40).all()
    assert (first != second).any()
    assert (colors[:, [2, 5, 8]] == 255).all()
    assert not (colors[:, [0, 1, 3, 4, 6, 7, 9, 10, 11]] == 255).all(axis=-1).any()


def test_grid_places_pictures_below_their_titles():
    wide = np.full((20, 40, 3), 7, dtype=np.uint8)
    tall = np.full((40, 20, 3), 9, dtype=np.uint8)
    grid = draw_grid([[wide, tall], [tall, wide]], ['a', 'b'], cell=40, gap=2)
    assert grid.shape == (28 + 42 + 42, 2 * 40 + 3 * 2, 3)
    assert (grid[28:48, 2:42] == 7).all()
    assert (grid[28:68, 44:64] == 9).all()
    assert (grid[70:110, 2:22] == 9).all()
    assert (grid[70:90, 44:84] == 7).all()
