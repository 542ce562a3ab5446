from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from mmbanet.models.fusion import explain_occlusion
from mmbanet.visualization import (
    class_palette,
    colorize,
    describe_pair,
    draw_grid,
    draw_occlusion_graph,
    write_picture,
)

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
    assert (colorize(panoptic.T, PALETTE) == colors.swapaxes(0, 1)).all()


def test_grid_places_pictures_below_their_titles():
    wide = np.full((20, 40, 3), 7, dtype=np.uint8)
    tall = np.full((40, 20, 3), 9, dtype=np.uint8)
    grid = draw_grid([[wide, tall], [tall, wide]], ['a', 'b'], cell=40, gap=2)
    assert grid.shape == (28 + 42 + 42, 2 * 40 + 3 * 2, 3)
    assert (grid[28:48, 2:42] == 7).all()
    assert (grid[28:68, 44:64] == 9).all()
    assert (grid[70:110, 2:22] == 9).all()
    assert (grid[70:90, 44:84] == 7).all()


def overlapping_objects(scores=(0.9, 0.7, 0.8)):
    """A red square in a grey one that a green one touches; and how they were decided."""
    masks = torch.zeros(3, 40, 60, dtype=torch.bool)
    masks[0, 5:35, 5:40] = True
    masks[1, 15:25, 15:25] = True
    masks[2, 10:30, 38:58] = True
    image = torch.full((3, 40, 60), 90, dtype=torch.uint8)
    image[0][masks[1]] = 250
    image[1][masks[2]] = 200
    _, graph = explain_occlusion(masks, torch.tensor(scores), image)
    return image.permute(1, 2, 0).numpy(), masks.numpy(), graph


def test_pairs_in_words():
    *_, graph = overlapping_objects()
    lines = [describe_pair(graph, place) for place in range(2)]
    assert lines[0].startswith('1 > 0  MeanColor 0.')
    assert lines[0].endswith(', overlap 100%')
    assert lines[1] == '0 > 2  score, overlap 10%'
    graph.accepted[0] = False
    assert describe_pair(graph, 0).endswith(', set aside')


def test_graph_is_drawn_over_the_image():
    image, masks, graph = overlapping_objects()
    names, scores = ['grey', 'red', 'green'], [0.9, 0.7, 0.8]
    picture = draw_occlusion_graph(image, masks, graph, names, scores, width=900)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (900, 3)

    def shows(picture, color):
        return (np.abs(picture.astype(int) - color).max(axis=2) < 8).sum()

    green, blue, red, grey = (0, 200, 83), (41, 121, 255), (255, 23, 68), (140, 140, 140)
    left = picture[:-60, :500]  # without legend and text
    assert min(shows(left, green), shows(left, blue)) > 50
    assert shows(left, red) == 0
    anything_grey = shows(left, grey)  # edges of lines
    # A pair that was set aside, and an object that was removed.
    graph.accepted[0] = False
    graph.keep[2] = False
    left = draw_occlusion_graph(image, masks, graph, names, scores, width=900)[:-60, :500]
    assert shows(left, red) > 50
    assert shows(left, grey) > 2 * anything_grey + 50
    assert shows(left, green) == 0
    with_result = draw_occlusion_graph(image, masks, graph, names, scores, image, width=900)
    assert with_result.shape[1] == 900


@pytest.fixture
def written(monkeypatch):
    """(text, colour) of all that is written into pictures."""
    lines, write = [], Axes.text

    def spy(self, x, y, text, **style):
        lines.append((text, style['color']))
        return write(self, x, y, text, **style)

    monkeypatch.setattr(Axes, 'text', spy)
    return lines


def test_removed_objects_are_written_in_grey_whatever_their_names(written):
    image, masks, graph = overlapping_objects()
    graph.keep[1] = False
    names = ['bow_(weapon)', 'red', 'fan (electric)']
    draw_occlusion_graph(image, masks, graph, names, [0.9, 0.7, 0.8])
    colors = dict(written)
    assert colors['0  bow_(weapon) 0.90'] == 'black'
    assert colors['1  red 0.70 (removed)'] == '0.55'
    assert colors['2  fan (electric) 0.80'] == 'black'


@pytest.mark.parametrize(('count', 'more'), [(9, 0), (10, 5)])
def test_no_more_than_40_pairs_are_listed(written, count, more):
    masks = torch.zeros(count, 40, 60, dtype=torch.bool)
    for k in range(count):
        masks[k, 2 * k :, 3 * k :] = True
    scores = torch.linspace(0.9, 0.5, count)
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    _, graph = explain_occlusion(masks, scores, image)
    image, names = image.permute(1, 2, 0).numpy(), ['object'] * count
    picture = draw_occlusion_graph(image, masks.numpy(), graph, names, scores.tolist(), width=400)
    texts = [text for text, _ in written]
    listed = [text for text in texts if 'overlap' in text]
    assert listed == [describe_pair(graph, place) for place in range(len(graph.pairs) - more)]
    assert [text for text in texts if 'more' in text] == [f'and {more} more'] * (more > 0)
    assert len(listed) == min(len(graph.pairs), 40)
    assert picture.shape[0] < 60 + 17 * (count + 40 + 6)


def test_graph_of_nothing_is_drawn():
    masks = torch.zeros(0, 8, 8, dtype=torch.bool)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    _, graph = explain_occlusion(masks, torch.zeros(0), torch.zeros(3, 8, 8))
    assert draw_occlusion_graph(image, masks.numpy(), graph, [], []).shape[1] == 1400


def test_a_palette_is_made_where_there_is_none():
    classes = [str(i) for i in range(133)]
    given = [(i, 0, 255 - i) for i in range(133)]
    assert class_palette(dict(classes=classes, palette=given)) == given
    for metainfo in ({}, dict(palette=None), dict(palette=given[:5]), dict(palette='random')):
        made = class_palette(dict(metainfo, classes=classes))
        assert made == class_palette(dict(classes=classes))  # the same every time
        assert len(made) == 133
        assert all(0 <= channel <= 255 for color in made for channel in color)
        # Of neighbours by name, and of as many classes as a picture shows, any two are far apart.
        for i, j in combinations(range(16), 2):
            assert max(abs(a - b) for a, b in zip(made[i], made[j])) > 20


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_picture(tmp_path / 'a.png', picture)
    assert (cv2.imread(str(tmp_path / 'a.png'))[..., ::-1] == picture).all()

    def disk_full(path, data):
        with path.open('wb') as file:
            file.write(data[:10])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', disk_full)
    for name in ('a.png', 'b.png'):
        with pytest.raises(OSError, match='No space left'):
            write_picture(tmp_path / name, picture[:2])
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']
    assert cv2.imread(str(tmp_path / 'a.png')).shape == (5, 7, 3)


def test_a_picture_that_is_longer_than_a_jpeg_can_be(tmp_path):
    write_picture(tmp_path / 'a.jpg', np.full((3, 70000, 3), 90, np.uint8))
    assert cv2.imread(str(tmp_path / 'a.jpg')).shape == (3, 65500, 3)
