"""Figure 7's tool on a smooth picture: what it measures, reads, writes and refuses."""

import json
import math
import sys

import cv2
import numpy as np
import pytest
import torch

from ..conftest import ROOT

HEIGHT, WIDTH = 200, 260
SMALL, LARGE = (30, 40, 52, 60), (60.5, 20, 220.25, 170)


@pytest.fixture
def tool(benchmark_folder):
    import patch_recovery

    return patch_recovery


@pytest.fixture
def photo_path(tmp_path):
    """Waves far longer than the distance of the sampling points, another one in each channel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 40
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)
    path = tmp_path / 'waves.png'
    cv2.imwrite(str(path), np.uint8(127.5 + 100 * waves))
    return path


@pytest.fixture
def run(tool, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['patch_recovery.py', *map(str, arguments)])
        tool.main()

    return run


def text(box):
    return ','.join(map(str, box))


def test_smooth_photo(run, photo_path, tmp_path, capsys):
    out = tmp_path / 'new' / 'folder'
    run('--image', photo_path, '--boxes', text(SMALL), text(LARGE), '--out', out)
    report = json.loads((out / 'patch_recovery.json').read_text())
    assert report['photo'] == 'waves.png'
    kinds = [(entry['size'], entry['crop']) for entry in report['objects']]
    assert kinds == [('small', 28), ('large', 28), ('large', 56)]
    for entry in report['objects']:
        scores = entry['psnr']
        assert scores['RoIInlay'] > 35, entry
        # The holes, and in the small object sums of several sampling points.
        assert scores['RoIUpsample'] < 15, entry
        assert scores['Avg RoIUpsample'] < 20, entry
    assert [row['objects'] for row in report['mean']] == [1, 1, 1]
    assert report['mean'][0]['psnr'] == report['objects'][0]['psnr']

    printed = capsys.readouterr().out
    assert '1 small       crop 28x28' in printed
    assert f'{report["objects"][2]["psnr"]["RoIInlay"]:.1f}' in printed
    picture = cv2.imread(str(out / 'patch_recovery.png'))
    assert picture.shape[1] == 1080
    assert picture.std() > 20


def test_noise_is_not_recovered(run, tmp_path):
    """Control: the score falls when the photo has detail that the crop cannot hold."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'noise.png'), noise)
    run('--image', tmp_path / 'noise.png', '--boxes', text(LARGE), '--out', tmp_path)
    report = json.loads((tmp_path / 'patch_recovery.json').read_text())
    assert all(entry['psnr']['RoIInlay'] < 15 for entry in report['objects'])


def test_recovered_patches(tool, photo_path):
    photo = tool.read_photo(photo_path)
    assert photo.is_contiguous()
    assert photo[0, :, 3, 7].tolist() == cv2.imread(str(photo_path))[3, 7, ::-1].tolist()
    crop, patches = tool.recover(photo, LARGE, 28)
    assert crop.shape == (3, 28, 28)
    assert {patch.shape for patch in patches.values()} == {(3, 150, 160)}
    assert (patches['RoIInlay'] > 0).all()
    # 150 x 160 pixels, of which 28 x 28 sampling points reach 4 at most.
    assert (patches['RoIUpsample'] == 0).double().mean() > 1 - 4 * 28 * 28 / (150 * 160) - 1e-6


def test_pixels_of_a_box(tool):
    image = torch.arange(30.0).view(1, 1, 5, 6)
    assert tool.cut(image, (1, 2, 3, 4)).tolist() == [[[13, 14], [19, 20]]]
    # Centres are at halves: 0.5 and 1.5 are in [0.5, 2.4], and 0.5 is not in [0.6, 2.4].
    assert tool.cut(image, (0.5, 0, 2.4, 1)).tolist() == [[[0, 1]]]
    assert tool.cut(image, (0.6, 0, 2.4, 1)).tolist() == [[[1]]]


def test_psnr(tool):
    image = torch.full((3, 4, 5), 100.0)
    assert tool.psnr(image + 5.1, image) == pytest.approx(20 * math.log10(50), abs=1e-4)
    assert tool.psnr(image, image) == 100


def test_sizes(tool):
    sizes = [tool.size_of((0, 0, side, side)) for side in (28, 28.5, 56, 56.5)]
    assert sizes == ['small', 'medium', 'medium', 'large']


def things():
    """One object to measure (clipped to the photo), and three to leave out."""
    return [
        dict(id=1, category_id=1, iscrowd=0, bbox=[200, 30, 70, 80]),
        dict(id=2, category_id=1, iscrowd=1, bbox=[10, 10, 90, 90]),
        dict(id=3, category_id=1, iscrowd=0, bbox=[10, 10, 0.5, 90]),
        dict(id=4, category_id=2, iscrowd=0, bbox=[10, 10, 90, 90]),
    ]


def panoptic(photo_name):
    segments = dict(image_id=7, file_name='waves_seg.png', segments_info=things())
    other = dict(image_id=8, segments_info=[dict(things()[0], bbox=[1, 1, 9, 9])])
    stuff = dict(id=2, name='grass', isthing=0)
    return coco_file(photo_name, [segments, other], [dict(id=1, name='ball', isthing=1), stuff])


def instances(photo_name):
    entries = [dict(thing, image_id=7) for thing in things()[:3]]
    entries.append(dict(things()[0], image_id=8, bbox=[1, 1, 9, 9]))
    return coco_file(photo_name, entries, [dict(id=1, name='ball')])


def coco_file(photo_name, annotations, categories):
    images = [dict(id=7, file_name=photo_name), dict(id=8, file_name='other.jpg')]
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.mark.parametrize('make', [panoptic, instances])
def test_boxes_of_annotations(tool, photo_path, tmp_path, make):
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(make(photo_path.name)))
    photo = tool.read_photo(photo_path)
    assert tool.annotated_boxes(path, photo_path.name, photo) == [(200, 30, WIDTH, 110)]


def test_picture_shows_smallest_and_largest(tool):
    boxes = [(0, 0, side, side) for side in (20, 10, 90, 80, 100)]
    scores = dict.fromkeys(tool.OPERATORS, 1.0)
    results = [
        tool.Recovery(box, tool.size_of(box), crop, scores)
        for box in boxes
        for crop in tool.CROPS[tool.size_of(box)]
    ]
    order = {
        key: [result.box[2] for result in group] for key, group in tool.grouped(results).items()
    }
    assert order == {
        ('small', 28): [10, 20],
        ('large', 28): [100, 90, 80],
        ('large', 56): [100, 90, 80],
    }


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--image', 'nowhere.jpg', '--boxes', '1,1,9,9'], 'photo not found: nowhere.jpg'),
        (['--image', 'broken.jpg', '--boxes', '1,1,9,9'], 'not an image that OpenCV reads'),
        (['--image', 'waves.png', '--boxes', '9,9,300,90'], 'a photo of 260x200, got 9,9,300,90'),
        (['--image', 'waves.png', '--boxes=-1,9,30,90'], 'got -1,9,30,90'),
        (['--image', 'waves.png', '--boxes', '9,9,9,90'], 'at least 1 pixel wide and high'),
        (['--image', 'waves.png', '--boxes', '90,9,9,90'], 'at least 1 pixel wide and high'),
        (['--image', 'waves.png', '--boxes', '9,nan,20,90'], 'got 9,nan,20,90'),
        (['--image', 'waves.png', '--boxes', '9,9,20'], "expected X1,Y1,X2,Y2, got '9,9,20'"),
        (['--image', 'waves.png', '--annotations', 'no.json'], 'annotations not found: no.json'),
        (['--image', 'waves.png', '--annotations', 'broken.jpg'], 'format of COCO: broken.jpg'),
        (['--image', 'waves.png', '--annotations', 'list.json'], 'format of COCO: list.json'),
        (['--image', 'waves.png', '--annotations', 'none.json'], 'no object of waves.png in'),
        (['--image', 'waves.png'], '--image needs --annotations or --boxes'),
        (['--annotations', 'none.json'], '--annotations needs --image'),
        (['--show', '0'], '--show must be at least 1, got 0'),
        (['--image', 'waves.png', '--boxes', '1,1,9,9', '--out', 'list.json'], 'File exists'),
    ],
)
def test_one_line_of_error(run, photo_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(photo_path.parent)
    (photo_path.parent / 'broken.jpg').write_text('not a photo')
    (photo_path.parent / 'list.json').write_text('[1]')
    (photo_path.parent / 'none.json').write_text(json.dumps(instances('another.png')))
    with pytest.raises(SystemExit) as exit:
        run('--out', 'results', *arguments)
    assert exit.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('patch_recovery.py: error: ')
    assert message in last
    assert not (photo_path.parent / 'results' / 'patch_recovery.json').exists()


def test_committed_figures(run, tmp_path):
    """The default photo gives what is committed, up to how a build of OpenCV decodes a JPEG."""
    run('--out', tmp_path)
    committed = ROOT / 'tools' / 'benchmarks' / 'results' / 'patch_recovery.json'
    expected = json.loads(committed.read_text())
    actual = json.loads((tmp_path / 'patch_recovery.json').read_text())
    assert len(actual['objects']) == len(expected['objects']) == 9
    for one, other in zip(actual['objects'], expected['objects']):
        assert (one['box'], one['crop']) == (other['box'], other['crop'])
        assert one['psnr'] == pytest.approx(other['psnr'], abs=0.2)
