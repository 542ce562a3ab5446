"""Photographs that are cut off, something else, or claim to be huge: before and in training."""

import json
import os
import struct
import zlib
from functools import partial

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, TRANSFORMS
from PIL import Image, PngImagePlugin
from torch.utils.data import DataLoader

from mmbanet.datasets import LoadImage, annotation_files, file_check, load_image
from mmbanet.datasets.image_files import decode_image, image_size, read_image

SIZE = 24, 32
PIPELINE = [
    dict(type='mmbanet.LoadImage'),
    dict(type='mmbanet.LoadPanopticAnnotations'),
    dict(type='PackDetInputs'),
]
META = dict(classes=('cat', 'sky'), thing_classes=('cat',), stuff_classes=('sky',))


def test_what_is_no_path():
    with pytest.raises(TypeError, match='not list'):
        read_image(['1.jpg'])


def write_set(root, count=4):
    """Images with a cat on the sky; all intact."""
    images, annotations = [], []
    ids = np.full((*SIZE, 3), (0, 0, 2), dtype=np.uint8)
    ids[4:20, 4:20] = 0, 0, 1
    segments = [dict(id=1, category_id=1), dict(id=2, category_id=2)]
    for folder in ('img', 'seg'):
        (root / folder).mkdir()
    for number in range(1, count + 1):
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'img' / f'{number}.jpg'), pixels)
        cv2.imwrite(str(root / 'seg' / f'{number}.png'), ids)
        size = dict(height=SIZE[0], width=SIZE[1])
        images.append(dict(id=number, file_name=f'{number}.jpg', **size))
        annotations.append(dict(image_id=number, file_name=f'{number}.png', segments_info=segments))
    categories = [dict(id=1, name='cat', isthing=1), dict(id=2, name='sky', isthing=0)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'panoptic.json').write_text(json.dumps(content))


def build(root, ignore_empty=False, is_checked=True, **settings):
    dataset = DATASETS.build(
        dict(
            type='mmbanet.PanopticDataset',
            data_root=str(root),
            ann_file='panoptic.json',
            data_prefix=dict(img='img', seg='seg'),
            metainfo=META,
            pipeline=[dict(PIPELINE[0], ignore_empty=ignore_empty), *PIPELINE[1:]],
            **settings,
        )
    )
    if is_checked:
        dataset.check_files()
    return dataset


def bomb(height=100_000, width=100_000):
    """A PNG of 70 bytes that claims to have so many pixels."""
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = ((b'IHDR', header), (b'IDAT', zlib.compress(b'')), (b'IEND', b''))
    chunks = [
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return annotation_files.PNG_START + b''.join(chunks)


def cut(content):
    return content[: len(content) // 2]


def another(suffix):
    """The same pixels as a file of another format, or a smaller picture."""
    return cv2.imencode(suffix, np.zeros((*SIZE, 3), np.uint8))[1].tobytes()


BROKEN = {
    'empty': lambda content: b'',
    'text': lambda content: b'no image',
    'cut off': cut,
    'without its last bytes': lambda content: content[:-200],
    'cut off in the header': lambda content: content[:20],
    'a bomb': lambda content: bomb(),
    'a pointer': lambda content: b'version https://git-lfs.github.com/spec/v1\n',
    'of another size': lambda content: cv2.imencode('.jpg', np.zeros((9, 9, 3)))[1].tobytes(),
}


def break_file(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.fixture
def said(monkeypatch):
    messages = []
    for module in (annotation_files, load_image, file_check):
        monkeypatch.setattr(module, 'print_log', lambda text, **_: messages.append(text), False)
    monkeypatch.setattr(
        'mmbanet.datasets.panoptic_dataset.print_log', lambda text, **_: messages.append(text)
    )
    return messages


@pytest.mark.parametrize('name', BROKEN)
@pytest.mark.parametrize('test_mode', [False, True])
def test_what_is_broken_is_named_before_the_first_image_is_read(tmp_path, name, test_mode):
    write_set(tmp_path)
    break_file(tmp_path / 'img' / '3.jpg', BROKEN[name])
    with pytest.raises(ValueError, match=r'/img/3\.jpg'):
        build(tmp_path, test_mode=test_mode)


@pytest.mark.parametrize('name', BROKEN)
def test_what_breaks_later_is_named(tmp_path, name):
    write_set(tmp_path)
    dataset = build(tmp_path)
    break_file(tmp_path / 'img' / '3.jpg', BROKEN[name])
    with pytest.raises(ValueError, match=r'/img/3\.jpg'):
        dataset[2]


@pytest.mark.parametrize('name', BROKEN)
@pytest.mark.parametrize('later', [False, True])
def test_training_leaves_out_what_is_broken_if_told_to(tmp_path, said, name, later):
    write_set(tmp_path)
    dataset = build(tmp_path, ignore_empty=True) if later else None
    break_file(tmp_path / 'img' / '3.jpg', BROKEN[name])
    dataset = dataset or build(tmp_path, ignore_empty=True)
    seen = [dataset[index]['data_samples'].img_id for index in range(len(dataset))]
    assert (len(seen), 3 in seen) == (4, False)
    assert any(m.startswith('left out: ') and '/img/3.jpg' in m for m in said)
    with pytest.raises(ValueError, match=r'/img/3\.jpg'):  # in evaluation it would change figures
        build(tmp_path, ignore_empty=True, test_mode=True)


def test_nothing_left_to_train_with(tmp_path, said):
    write_set(tmp_path)
    for path in (tmp_path / 'img').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r'panoptic\.json: none of its images can be read'):
        build(tmp_path, ignore_empty=True)
    with pytest.raises(FileNotFoundError, match=r'/img/1\.jpg; 4 files of .*panoptic\.json'):
        build(tmp_path)


@pytest.mark.parametrize('kind', ['folder', 'pipe', 'device'])
@pytest.mark.parametrize('folder', ['img', 'seg'])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind, folder):
    write_set(tmp_path)
    late = build(tmp_path)
    path = next((tmp_path / folder).glob('2.*'))
    path.unlink()
    {
        'folder': path.mkdir,
        'pipe': partial(os.mkfifo, path),
        'device': partial(path.symlink_to, '/dev/zero'),
    }[kind]()
    for access in (partial(build, tmp_path), partial(late.__getitem__, 1)):
        with pytest.raises(ValueError, match=rf'/{folder}/2\..* is a '):
            access()


def test_workers_end_with_the_files_name(tmp_path):
    write_set(tmp_path)
    dataset = build(tmp_path)
    break_file(tmp_path / 'img' / '3.jpg', BROKEN['a bomb'])
    batches = iter(DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=list, timeout=60))
    with pytest.raises(ValueError, match=r'/img/3\.jpg'):
        list(batches)
    batches._workers_done_event.set()  # else they are waited for, for five seconds each
    for queue in batches._index_queues:
        queue.put(None)


@pytest.mark.parametrize('cut_png', [cut, lambda content: content[:-12]])
def test_a_png_that_is_cut_off_is_named_first(tmp_path, cut_png):
    write_set(tmp_path)
    break_file(tmp_path / 'seg' / '4.png', cut_png)
    with pytest.raises(ValueError, match=r'/seg/4\.png: .* cut off'):
        build(tmp_path)


def test_files_with_a_few_more_bytes_are_whole(tmp_path):
    write_set(tmp_path)
    for path in (tmp_path / 'img' / '1.jpg', tmp_path / 'seg' / '1.png'):
        break_file(path, lambda content: content + bytes(5000))
    assert len(build(tmp_path)) == 4


def test_a_data_set_opens_without_its_files(tmp_path):
    write_set(tmp_path)
    (tmp_path / 'img' / '1.jpg').unlink()
    (tmp_path / 'seg' / '1.png').unlink()
    assert len(build(tmp_path, is_checked=False)) == 4


@pytest.mark.parametrize('how', ['link', 'absolute', 'parent'])
def test_files_from_elsewhere_are_read_and_said(tmp_path, said, how):
    root = tmp_path / 'set'
    root.mkdir()
    write_set(root)
    build(root)
    assert not [message for message in said if 'outside' in message]
    moved = tmp_path / 'elsewhere.jpg'
    (root / 'img' / '2.jpg').rename(moved)
    if how == 'link':
        (root / 'img' / '2.jpg').symlink_to(moved)
    else:
        content = json.loads((root / 'panoptic.json').read_text())
        name = str(moved) if how == 'absolute' else '../../elsewhere.jpg'
        content['images'][1]['file_name'] = name
        (root / 'panoptic.json').write_text(json.dumps(content))
    assert build(root)[1]['data_samples'].img_id == 2
    assert any('elsewhere.jpg' in message and 'outside' in message for message in said)


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.webp', '.tiff'])
def test_a_wrong_suffix_does_no_harm(tmp_path, suffix):
    write_set(tmp_path)
    break_file(tmp_path / 'img' / '1.jpg', lambda content: another(suffix))
    assert build(tmp_path)[0]['inputs'].shape == (3, *SIZE)


@pytest.mark.parametrize('mode', ['CMYK', 'L', 'P', 'RGBA', 'I;16', '1'])
def test_colours_of_all_kinds(tmp_path, mode):
    pixels = Image.fromarray(np.full((*SIZE, 3), 200, np.uint8))
    suffix = 'jpg' if mode == 'CMYK' else 'png'
    pixels.convert(mode).save(tmp_path / f'a.{suffix}')
    image = read_image(tmp_path / f'a.{suffix}')
    assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ('place', 'size'), [('none', SIZE), ('front', SIZE[::-1]), ('end', SIZE[::-1])]
)
def test_a_png_without_exif_data_is_not_decoded_to_look_for_them(
    tmp_path, monkeypatch, place, size
):
    """They can lie before the pixels or behind them; OpenCV turns the image by both."""
    path, exif = tmp_path / 'a.png', Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', SIZE[::-1]).save(path, exif=exif if place != 'none' else None)
    if place == 'end':
        content = path.read_bytes()
        start, end = content.index(b'eXIf') - 4, content.index(b'IDAT') - 4
        path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    decoded = []
    load = PngImagePlugin.PngImageFile.load
    monkeypatch.setattr(
        PngImagePlugin.PngImageFile, 'load', lambda self: decoded.append(self) or load(self)
    )
    assert image_size(path, exif=True) == read_image(path).shape[:2] == size
    assert bool(decoded) == (place == 'end')


def test_a_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    with pytest.raises(ValueError, match=r'/a\.png .*decompression bomb'):
        decode_image(bomb(20_000, 20_000), '/a.png')


def test_what_mmcv_loads_is_what_is_loaded(tmp_path):
    write_set(tmp_path)
    for settings in ({}, dict(to_float32=True), dict(color_type='grayscale')):
        theirs = TRANSFORMS.build(dict(type='LoadImageFromFile', **settings))
        path = dict(img_path=str(tmp_path / 'img' / '1.jpg'))
        expected, found = theirs(dict(path)), LoadImage(**settings)(dict(path))
        assert expected.keys() == found.keys()
        assert (expected['img'] == found['img']).all()
        assert expected['img'].dtype == found['img'].dtype
