"""The tool that draws occlusion graphs: what it predicts, prints, writes and refuses."""

import re
import sys

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmbanet.models.fusion import OcclusionAwareFusionHead
from mmbanet.scenes import METAINFO, generate_scenes

from ..conftest import CONFIGS

CONFIG = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
# An untrained model is sure of nothing.
ANY_SCORE = 'model.test_cfg.panoptic.score_thr=0.05'


@pytest.fixture
def tool(tools_folder):
    import draw_occlusion

    return draw_occlusion


@pytest.fixture
def run(tool, monkeypatch, tmp_path):
    def run(*arguments, out=tmp_path / 'out'):
        command = ['draw_occlusion.py', *arguments, '--out', out, '--device', 'cpu']
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        tool.main()

    return run


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=0, val=2, size=64)


def predictions(cfg: Config, scenes, checkpoint) -> dict[str, DetDataSample]:
    """Of the validation set, by the runner's own data loader, by image path."""
    cfg.merge_from_dict(
        {
            'model.test_cfg.panoptic.score_thr': 0.05,
            'test_dataloader.dataset.data_root': str(scenes),
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
        }
    )
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    samples = []
    with torch.no_grad():
        for batch in Runner.build_dataloader(cfg.test_dataloader):
            samples += model.test_step(batch)
    return {sample.img_path: sample for sample in samples}


def test_prints_the_models_predictions_and_draws_them(
    run, small_cfg, scenes, checkpoint, tmp_path, capsys
):
    run(CONFIG, checkpoint, scenes / 'val', '--cfg-options', ANY_SCORE)
    printed = capsys.readouterr().out
    expected = predictions(small_cfg, scenes, checkpoint)
    assert len(expected) == 2
    for path, sample in expected.items():
        graph = sample.pred_panoptic_seg.occlusion
        objects = sample.pred_instances[sample.pred_panoptic_seg.detections]
        assert len(graph.pairs) > 0
        section = printed.split(f'{path} -> ', 1)[1].split('\n\n')[0]

        rows = re.findall(r'^  (\d+)  (\w+) ([\d.]+)( \(\w+\))?$', section, re.M)
        assert f'\n{len(rows)} objects' in section
        assert [int(row[0]) for row in rows] == list(range(len(objects)))
        assert [row[1] for row in rows] == [METAINFO['classes'][i] for i in objects.labels]
        assert [float(row[2]) for row in rows] == pytest.approx(objects.scores.tolist(), abs=0.006)
        fates = {True: '', False: ' (removed)'}
        assert [row[3] for row in rows] == [
            fates[keep] if area > 0 else ' (empty)'
            for keep, area in zip(graph.keep.tolist(), graph.areas.tolist())
        ]

        rows = re.findall(r'^  (\d+) > (\d+)  (\w+).* overlap (\d+)%(, set aside)?$', section, re.M)
        assert f'\n{len(rows)} overlapping pairs' in section
        assert [[int(row[0]), int(row[1])] for row in rows] == graph.pairs.tolist()
        assert [row[2] for row in rows] == graph.rules
        percent = (100 * graph.share).tolist()
        assert [int(row[3]) for row in rows] == pytest.approx(percent, abs=0.51)
        assert [not row[4] for row in rows] == graph.accepted.tolist()

        stem = path.rsplit('/', 1)[1].removesuffix('.jpg')
        picture = cv2.imread(str(tmp_path / 'out' / f'{stem}_occlusion.png'))
        assert picture.shape[1] == 1400


def test_photos_of_any_size_are_drawn_in_their_colours(run, checkpoint, tmp_path, capsys):
    red = np.array((40, 80, 220), dtype=np.uint8)  # BGR
    cv2.imwrite(str(tmp_path / 'red.PNG'), np.tile(red, (60, 100, 1)))
    none = 'model.test_cfg.rcnn.score_thr=1'
    run(CONFIG, checkpoint, tmp_path / 'red.PNG', '--cfg-options', none)
    assert '\n0 objects' in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / 'out' / 'red_occlusion.png'))
    photo = (picture == red).all(axis=2)
    height, width = (np.ptp(places) + 1 for places in np.nonzero(photo))
    assert width / height == pytest.approx(100 / 60, abs=0.02)
    assert width > 400
    assert photo.sum() > 0.9 * height * width


def cycle() -> tuple[np.ndarray, DetDataSample]:
    """Three objects, each in front of the next by colour, and one that mostly lies below the first.

    Letters are claims, lower case where two meet; the colour is that of the object in front::

        A and D  A and b  B  B and c  C       red    red   green  green  blue
        A and D  A and c  B  B        -       red    blue  green  green  -
        D        -        -  -        -       green  -     -      -      -

    Each letter stands for two columns. The detections are in ascending order of score; the last of
    them is not fused.
    """
    first, second, third, below = claims = torch.zeros(4, 3, 12, dtype=torch.bool)
    first[:2, :4] = True
    second[0, 2:8] = second[1, 4:8] = True
    third[0, 6:12] = third[1, 2:4] = True
    below[:, :2] = True
    image = np.full((3, 12, 3), 128, dtype=np.uint8)
    image[:2, :4] = (255, 0, 0)
    image[0, 4:8] = image[1, 4:8] = image[2, :2] = (0, 255, 0)
    image[0, 8:] = image[1, 2:4] = (0, 0, 255)
    masks = F.pad(claims.flip(0), (0, 0, 0, 0, 0, 1), value=True).repeat_interleave(10, 1)
    sample = DetDataSample(
        pred_instances=InstanceData(
            bboxes=torch.zeros(5, 4),
            masks=masks.repeat_interleave(10, 2),
            labels=torch.tensor([1, 0, 0, 0, 2]),
            scores=torch.tensor([0.65, 0.7, 0.8, 0.9, 0.1]),
        )
    )
    return image.repeat(10, axis=0).repeat(10, axis=1), sample


def test_cycle_with_a_pair_set_aside_and_a_removed_object(run, tool, monkeypatch, tmp_path, capsys):
    image, sample = cycle()
    settings = dict(score_thr=0.6, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=1)
    head = OcclusionAwareFusionHead(8, 5, test_cfg=settings)
    rgb = torch.from_numpy(image).permute(2, 0, 1)
    sky = torch.full((1, *rgb.shape[1:]), METAINFO['classes'].index('sky'))
    (sample.pred_panoptic_seg,) = head.predict([sample.pred_instances], [sky], [rgb])
    monkeypatch.setattr(tool, 'predict', lambda *_: sample)
    cv2.imwrite(str(tmp_path / 'cycle.png'), image[..., ::-1])

    run(CONFIG, 'none', tmp_path / 'cycle.png')
    # Differences of cosines: 0.949 - 0.243 and so on. A is 3 parts red, 1 blue; B 4 green, 1 red;
    # C 3 blue, 1 green; D 2 red, 1 green.
    assert capsys.readouterr().out.splitlines()[2:] == [
        '4 objects, in descending score',
        '  0  figure 0.90',
        '  1  figure 0.80',
        '  2  figure 0.70',
        '  3  bus 0.65 (removed)',
        '4 overlapping pairs, front > behind',
        '  0 > 1  MeanColor 0.706, overlap 25%',
        '  2 > 0  MeanColor 0.632, overlap 25%',
        '  0 > 3  MeanColor 0.0543, overlap 67%',
        '  1 > 2  MeanColor 0.654, overlap 25%, set aside',
    ]
    picture = cv2.imread(str(tmp_path / 'out' / 'cycle_occlusion.png'))[..., ::-1]
    photo, result = picture[:-60, :505], picture[:-60, 505:1010]  # without legend and text
    set_aside = (255, 23, 68)
    assert (np.abs(photo.astype(int) - set_aside).max(axis=2) < 8).sum() > 50
    # 16 of the 36 cells are nobody's, those of D among them.
    blue = (photo == (0, 0, 255)).all(axis=2).sum()  # at most 6 cells
    sky = (result == METAINFO['palette'][METAINFO['classes'].index('sky')]).all(axis=2).sum()
    assert sky > 2.2 * blue > 10000


@pytest.fixture
def folder(tmp_path):
    """A photo, the same name once more, a text file that says it is a photo, an empty folder."""
    folder = tmp_path / 'photos'
    (folder / 'empty').mkdir(parents=True)
    for name in ('photo.jpg', 'photo.png'):
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), dtype=np.uint8))
    (folder / 'text.jpg').write_text('not a photo')
    (folder / 'nothing.jpg').touch()
    return folder


@pytest.mark.parametrize(
    ('config', 'checkpoint', 'images', 'error', 'message'),
    [
        ('no.py', 'none', ['photo.jpg'], FileNotFoundError, 'config not found: /.*no.py$'),
        (CONFIG, 'no.pth', ['photo.jpg'], FileNotFoundError, 'checkpoint not found: /.*no.pth$'),
        (CONFIG, 'none', ['no.jpg'], FileNotFoundError, 'image not found: /.*/photos/no.jpg$'),
        (CONFIG, 'none', ['empty'], FileNotFoundError, 'no images in /.*/photos/empty$'),
        (CONFIG, 'none', ['text.jpg'], ValueError, 'not an image: /.*/photos/text.jpg$'),
        (CONFIG, 'none', ['nothing.jpg'], ValueError, 'not an image: /.*/photos/nothing.jpg$'),
        (
            CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py',
            'none',
            ['photo.jpg'],
            TypeError,
            'mmbanet.OcclusionAwareFusionHead.* got HeuristicFusionHead$',
        ),
    ],
)
def test_mistakes_get_one_clear_error(
    run, folder, tmp_path, config, checkpoint, images, error, message
):
    with pytest.raises(error, match=message):
        run(config, checkpoint, *(folder / name for name in images))
    assert not list(tmp_path.glob('out/*'))


@pytest.mark.parametrize(
    ('images', 'names'),
    [
        (['a.jpg', 'b.png'], ['a', 'b']),
        (['a.jpg', 'a.png', 'b.jpg'], ['a.jpg', 'a.png', 'b.jpg']),
        (['a.jpg', 'a.png', 'a.jpg.bmp'], ['a.jpg', 'a.png', 'a.jpg.bmp']),
        (['x/a.jpg', 'y/a.jpg', 'a.jpg'], ['x_a.jpg', 'y_a.jpg', 'a.jpg']),
        (['x/y_a.jpg', 'x_y/a.jpg', 'x/y/a.jpg'], ['1_y_a.jpg', '2_a.jpg', '3_a.jpg']),
        (['a.jpg', 'x/../a.jpg'], ['a']),
    ],
)
def test_images_of_equal_names_get_pictures_of_their_own(tool, tmp_path, images, names):
    paths = [tmp_path / name for name in images]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'x').mkdir(exist_ok=True)
    pictures = tool.picture_paths(paths, tmp_path / 'out')
    assert [path.name for path in pictures.values()] == [f'{name}_occlusion.png' for name in names]


def test_a_data_set_without_a_palette_is_drawn(run, small_cfg, scenes, checkpoint, tmp_path):
    names = METAINFO['classes']
    for number, palette in enumerate([None, [], METAINFO['palette'][:3], 'random']):
        metainfo = {key: METAINFO[key] for key in ('classes', 'thing_classes', 'stuff_classes')}
        small_cfg.test_dataloader.dataset.metainfo = dict(metainfo, palette=palette)
        small_cfg.dump(str(tmp_path / 'config.py'))
        out = tmp_path / f'{number}'
        run(tmp_path / 'config.py', checkpoint, scenes / 'val' / '000000000001.jpg', out=out)
        assert cv2.imread(str(out / '000000000001_occlusion.png')).shape[1] == 1400
    assert len(names) == 13


def test_a_picture_that_cannot_be_written_is_an_error(run, folder, tmp_path):
    (tmp_path / 'out' / 'photo_occlusion.png').mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r'photo_occlusion\.png'):
        run(CONFIG, 'none', folder / 'photo.jpg')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['photo_occlusion.png']


def test_the_same_image_twice_is_drawn_once(run, folder, tmp_path, capsys):
    run(CONFIG, 'none', folder / 'photo.jpg', folder / 'photo.jpg')
    assert capsys.readouterr().out.count(' -> ') == 1
    assert [path.name for path in tmp_path.glob('out/*')] == ['photo_occlusion.png']
