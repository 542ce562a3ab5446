"""The gallery: what its page says of data sets and predictions, and how it behaves in a browser."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from panopticapi.evaluation import pq_compute_single_core
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.cli.browse import main
from mmbanet.visualization.gallery import Gallery, View

from ..chromium import EXECUTABLE, Chromium

in_browser = pytest.mark.skipif(EXECUTABLE is None, reason='needs Chromium')
HOSTILE = '</script><img src=x onerror="document.title=1"><!--<script>&amp;\'"`'


def facts_of(gallery: Path) -> dict:
    page = (gallery / 'index.html').read_text('utf-8')
    ((text),) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def picture(gallery: Path, name: str) -> np.ndarray:
    return cv2.imread(str(gallery / 'pictures' / f'{name}.jpg'))[..., ::-1].astype(int)


@pytest.fixture(scope='module')
def of_data(scenes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('galleries') / 'data'
    main([str(scenes / 'annotations' / 'panoptic_val.json'), '--out', str(out)])
    return out


@pytest.fixture(scope='module')
def of_predictions(scenes, predictions, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('galleries') / 'predictions'
    truth = scenes / 'annotations' / 'panoptic_val.json'
    main([str(predictions), '--truth', str(truth), '--out', str(out)])
    return out


def test_a_data_set_is_told_as_annotated(of_data, truth):
    facts = facts_of(of_data)
    categories = truth['categories']
    assert [c['name'] for c in facts['classes']] == [c['name'] for c in categories]
    colors = ['#{:02x}{:02x}{:02x}'.format(*c['color']) for c in categories]
    assert [c['color'] for c in facts['classes']] == colors
    file_of = {image['id']: image['file_name'] for image in truth['images']}
    label_of = {category['id']: label for label, category in enumerate(categories)}
    assert len(facts['images']) == 4
    for image, annotation in zip(facts['images'], truth['annotations']):
        assert image['name'] == file_of[annotation['image_id']]
        assert image['pq'] is None
        assert image['views'] == ['photo', 'map']
        listed = annotation['segments_info']
        assert [s['label'] for s in image['segments']] == [
            label_of[s['category_id']] for s in listed
        ]
        areas = [s['area'] / 96**2 for s in listed]
        assert [s['area'] for s in image['segments']] == pytest.approx(areas, abs=1e-5)


def test_who_is_in_front_is_what_the_full_masks_say(of_data, truth):
    things = {c['id'] for c in truth['categories'] if c['isthing']}
    found = 0
    for image, annotation in zip(facts_of(of_data)['images'], truth['annotations']):
        listed = annotation['segments_info']
        masks = {s['id']: coco_mask.decode(s['amodal_rle']).astype(bool) for s in listed}
        place_of = {s['id']: i for i, s in enumerate(listed)}
        of_things = [s['id'] for s in listed if s['category_id'] in things]
        order = [i for i in annotation['depth_order'] if i in of_things]
        expected = {
            (place_of[front], place_of[behind])
            for i, front in enumerate(order)
            for behind in order[i + 1 :]
            if (masks[front] & masks[behind]).any()
        }
        assert {(front, behind) for front, behind, _ in image['pairs']} == expected
        found += len(expected)
    assert found > 2


def test_numbers_stand_inside_their_segments(of_data, scenes, truth):
    for image, annotation in zip(facts_of(of_data)['images'], truth['annotations']):
        png = scenes / 'annotations' / 'panoptic_val' / annotation['file_name']
        ids = rgb2id(np.asarray(Image.open(png)))
        for segment, listed in zip(image['segments'], annotation['segments_info']):
            x, y = (int(96 * v) for v in segment['at'])
            assert ids[y, x] == listed['id']


def test_pictures_are_there_in_two_sizes(of_data, scenes):
    for image in facts_of(of_data)['images']:
        photo = cv2.imread(str(scenes / 'val' / image['name']))[..., ::-1]
        for suffix, size in (('', 640), ('_small', 256)):
            drawn = {
                view: picture(of_data, f'{image["file"]}_{view}{suffix}') for view in image['views']
            }
            expected = cv2.resize(photo, (size, size), interpolation=cv2.INTER_CUBIC).astype(int)
            assert np.abs(drawn['photo'] - expected).mean() < 6
            assert np.abs(drawn['map'] - expected).mean() > 15


def test_predictions_are_judged_as_panopticapi_does(of_predictions, predictions, scenes, truth):
    images = facts_of(of_predictions)['images']
    content = json.loads((predictions / 'panoptic.json').read_text())
    categories = {c['id']: c for c in content['categories']}
    label_of = {category['id']: label for label, category in enumerate(truth['categories'])}
    for image, true, found in zip(images, truth['annotations'], content['annotations']):
        infos = [dict(s, category_id=label_of[s['category_id']]) for s in true['segments_info']]
        pair = (dict(true, segments_info=infos), found)
        folders = str(scenes / 'annotations' / 'panoptic_val'), str(predictions / 'panoptic')
        stat = pq_compute_single_core(0, [pair], *folders, categories)
        assert image['pq'] == round(100 * stat.pq_average(categories, None)[0]['pq'], 1)
        assert image['views'] == ['photo', 'map', 'truth']
    assert images[0]['pq'] == 100
    assert images[3]['pq'] == 0


def test_errors_are_named(of_predictions, truth):
    right, wrong, false, empty = facts_of(of_predictions)['images']
    classes = [category['name'] for category in truth['categories']]
    label_of = {category['id']: label for label, category in enumerate(truth['categories'])}
    labels = [
        [label_of[s['category_id']] for s in a['segments_info']] for a in truth['annotations']
    ]
    assert not any(s['error'] for s in right['segments'])
    assert right['missed'] == []
    (error,) = [s['error'] for s in wrong['segments'] if s['error']]
    thing = next(label for label in labels[1] if label < 8)
    assert error == f'wrong class, is {classes[thing]}'
    assert wrong['missed'] == []
    assert [s['score'] for s in false['segments'] if s['error'] == 'false'] == [0.75]
    assert next(label for label in labels[2] if label < 8) in false['missed']
    assert sorted(empty['missed']) == sorted(labels[3])
    assert empty['segments'] == []


@pytest.fixture(scope='module')
def unjudged(predictions, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('galleries') / 'unjudged'
    main([str(predictions), '--out', str(out)])
    return out


def test_errors_are_outlined(of_predictions, unjudged):
    def outlines(number):
        with_truth, without = (picture(g, f'{number}_map') for g in (of_predictions, unjudged))
        return with_truth[np.abs(with_truth - without).max(axis=2) > 60]

    right, wrong, false, _ = (image['file'] for image in facts_of(of_predictions)['images'])
    assert len(outlines(right)) == 0
    for number, color in ((wrong, (255, 165, 0)), (false, (255, 0, 0))):
        assert len(outlines(number)) > 50
        assert np.abs(np.median(outlines(number), axis=0) - color).max() < 60


def test_order_of_predictions_is_the_record_s(of_predictions):
    image = facts_of(of_predictions)['images'][2]
    ((front, behind, why),) = image['pairs']
    assert why == 'MeanColor'
    assert image['segments'][front]['score'] == 0.75
    assert image['segments'][behind]['score'] is None


def test_without_truth_there_is_no_pq(unjudged):
    for image in facts_of(unjudged)['images']:
        assert image['pq'] is None
        assert image['views'] == ['photo', 'map']


def test_order_from_cocos_instances(scenes, truth, tmp_path):
    """The instance masks of the scenes are full ones: their order is that of the depth."""
    plain = json.loads(json.dumps(truth))
    for annotation in plain['annotations']:
        del annotation['depth_order']
    root = tmp_path / 'plain'
    shutil.copytree(scenes, root)
    path = root / 'annotations' / 'panoptic_val.json'
    path.write_text(json.dumps(plain))
    main([str(path), '--out', str(tmp_path / 'unknown')])
    assert all(image['pairs'] is None for image in facts_of(tmp_path / 'unknown')['images'])
    instances = root / 'annotations' / 'instances_val.json'
    main([str(path), '--instances', str(instances), '--out', str(tmp_path / 'known')])
    main([str(scenes / 'annotations' / 'panoptic_val.json'), '--out', str(tmp_path / 'depth')])
    images = zip(facts_of(tmp_path / 'known')['images'], facts_of(tmp_path / 'depth')['images'])
    pairs = [[{tuple(pair[:2]) for pair in i['pairs']} for i in both] for both in images]
    assert sum(len(known) for known, _ in pairs) > 2
    assert all(known <= by_depth for known, by_depth in pairs)


def test_what_cannot_be_read_is_named(scenes, tmp_path, capsys):
    root = tmp_path / 'scenes'
    shutil.copytree(scenes, root)
    photos = sorted((root / 'val').iterdir())
    photos[0].write_bytes(b'no image')
    photos[1].unlink()
    pngs = sorted((root / 'annotations' / 'panoptic_val').iterdir())
    pngs[2].write_bytes(b'no PNG')
    with pytest.raises(SystemExit, match='mmbanet browse: 3 images or maps could not be read'):
        main([str(root / 'annotations' / 'panoptic_val.json'), '--out', str(tmp_path / 'gallery')])
    said = capsys.readouterr().err
    assert f'no photograph: not an image: {photos[0]}' in said
    assert str(photos[1]) in said
    assert f'left out: {pngs[2]}' in said
    images = facts_of(tmp_path / 'gallery')['images']
    assert [image['name'] for image in images] == [
        p.name for p in (photos[0], photos[1], photos[3])
    ]
    grey = picture(tmp_path / 'gallery', f'{images[0]["file"]}_photo')
    assert np.abs(grey - 128).max() < 3


def test_mistakes_are_told(scenes, predictions, tmp_path):
    json_file, out = scenes / 'annotations' / 'panoptic_val.json', ['--out', str(tmp_path / 'out')]
    with pytest.raises(FileNotFoundError, match='neither annotations/panoptic_'):
        main([str(tmp_path), *out])
    with pytest.raises(ValueError, match='--truth belongs to predictions'):
        main([str(json_file), '--truth', str(json_file), *out])
    with pytest.raises(ValueError, match='--instances belongs to a data set'):
        main([str(predictions), '--instances', str(json_file), *out])
    with pytest.raises(FileNotFoundError, match='--images says where'):
        main([str(json_file), '--images', str(tmp_path / 'no'), *out])
    with pytest.raises(FileExistsError, match='not empty: another --out'):
        main([str(json_file), '--out', str(scenes)])
    two = tmp_path / 'two'
    shutil.copytree(scenes / 'annotations', two / 'annotations')
    shutil.copy(json_file, two / 'annotations' / 'panoptic_other.json')
    with pytest.raises(ValueError, match=r'several data sets, name one: .*other.*val'):
        main([str(two), *out])
    others = json.loads(json_file.read_text())
    for image in others['images']:
        image['file_name'] = f'other_{image["file_name"]}'
    (two / 'annotations' / 'panoptic_val.json').write_text(json.dumps(others))
    with pytest.raises(ValueError, match='none of its images is among the predictions'):
        main([str(predictions), '--truth', str(two / 'annotations' / 'panoptic_val.json'), *out])
    others['categories'][-1]['isthing'] = 1
    (two / 'annotations' / 'panoptic_val.json').write_text(json.dumps(others))
    with pytest.raises(ValueError, match=r'is a thing by its isthing, but stuff by'):
        main([str(predictions), '--truth', str(two / 'annotations' / 'panoptic_val.json'), *out])
    assert not (tmp_path / 'out').exists()
    assert not list(tmp_path.glob('.out*'))


def test_images_are_found_below_another_folder(predictions, scenes, tmp_path):
    moved = tmp_path / 'moved'
    shutil.copytree(predictions, moved)
    for record in (moved / 'segments').iterdir():
        facts = json.loads(record.read_text())
        record.write_text(json.dumps(dict(facts, file=f'elsewhere/val/{Path(facts["file"]).name}')))
    main([str(moved), '--images', str(scenes), '--out', str(tmp_path / 'gallery')])


def test_frames_of_a_video_are_its_own(predictions, scenes, tmp_path):
    colors = [(40 * i, 250 - 40 * i, 128) for i in range(6)]
    video = tmp_path / 'clips' / 'clip.avi'
    video.parent.mkdir()
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 5, (96, 96))
    for color in colors:
        writer.write(np.full((96, 96, 3), color, np.uint8))
    writer.release()
    moved = tmp_path / 'moved'
    shutil.copytree(predictions, moved)
    numbers = [1, 4, 5, 0]  # forward, on and back
    for record, number in zip(sorted((moved / 'segments').iterdir()), numbers):
        facts = json.loads(record.read_text())
        place = f'elsewhere/clip.avi, frame {number}'
        record.write_text(json.dumps(dict(facts, file=place)))
    main([str(moved), '--images', str(video.parent), '--out', str(tmp_path / 'gallery')])
    images = facts_of(tmp_path / 'gallery')['images']
    for image, number in zip(images, numbers):
        photo = picture(tmp_path / 'gallery', f'{image["file"]}_photo')
        assert np.abs(photo - colors[number][::-1]).max() < 12

    with pytest.raises(SystemExit, match='4 images or maps could not be read'):
        main([str(moved), '--out', str(tmp_path / 'without')])


def test_more_classes_than_ids_have_room_for(scenes, truth, tmp_path):
    more = [dict(id=1000 + i, name=f'class {i}', isthing=0) for i in range(1000)]
    root = tmp_path / 'scenes'
    shutil.copytree(scenes, root)
    path = root / 'annotations' / 'panoptic_val.json'
    path.write_text(json.dumps(dict(truth, categories=[*truth['categories'], *more])))
    with pytest.raises(ValueError, match=r'categories, but ids .* have room for 999'):
        main([str(path), '--out', str(tmp_path / 'gallery')])


@pytest.mark.parametrize('pq', [float('nan'), None])
def test_what_json_has_no_word_for(tmp_path, pq):
    """A file's name that is not in UTF-8, and scores that are no numbers."""
    name = b'caf\xe9.jpg'.decode('utf-8', 'surrogateescape')
    gallery = Gallery(tmp_path, name, ['Fußgänger'], [(255, 0, 0)])
    segments = [dict(id=0, label=0, score=float('nan'), error=None)]
    view = View('map', np.zeros((4, 4), dtype=np.int64), {})
    gallery.add(name, None, [view], segments, None, pq, [])
    gallery.close()
    facts = facts_of(tmp_path)
    assert facts['title'] == facts['images'][0]['name'] == name
    assert facts['classes'][0]['name'] == 'Fußgänger'
    assert facts['images'][0]['pq'] is None
    assert facts['images'][0]['segments'][0]['score'] is None


def hostile_gallery(folder: Path, count: int = 3) -> Path:
    """Of two columns an image, with all names as bad as can be."""
    folder.mkdir()
    gallery = Gallery(folder, HOSTILE, [HOSTILE, 'grass'], [(255, 0, 0), (0, 255, 0)])
    panoptic = np.repeat([[0] * 20 + [1] * 20], 30, axis=0)
    segments = [dict(id=i, label=i, score=0.5, error=HOSTILE) for i in range(2)]
    for number in range(count):
        name = f'{HOSTILE} {number} % # ? ü.jpg'
        pairs = [(0, 1, HOSTILE)] if number else []
        views = [View('map', panoptic, {})]
        gallery.add(name, None, views, segments[: 1 + number % 2], pairs * (number % 2), 0.1, [])
    gallery.close()
    return folder


def test_names_are_escaped(tmp_path):
    gallery = hostile_gallery(tmp_path / 'gallery')
    page = (gallery / 'index.html').read_text('utf-8')
    assert HOSTILE not in page
    assert '<img src=x' not in page
    assert page.count('</script>') == 2
    facts = facts_of(gallery)
    assert facts['title'] == facts['classes'][0]['name'] == HOSTILE
    assert all(image['name'].startswith(HOSTILE) for image in facts['images'])


@in_browser
def test_names_are_text_in_the_browser(tmp_path):
    gallery = hostile_gallery(tmp_path / 'gallery')
    with Chromium(tmp_path / 'profile') as page:
        page.open(gallery / 'index.html')
        page('images[1].card.click()')
        assert page('document.title') == HOSTILE
        assert page("document.getElementById('facts').textContent").count(HOSTILE) > 2
        assert page("document.querySelectorAll('img[src=x], [onerror]').length") == 0
        assert page.complaints == []


@in_browser
def test_the_gallery_is_used_by_keyboard(of_predictions, tmp_path):
    images = facts_of(of_predictions)['images']

    def select(page, name, value):
        page(
            f'document.getElementById({name!r}).value = {value!r};'
            f"document.getElementById({name!r}).dispatchEvent(new Event('change'))"
        )

    names = "[...document.querySelectorAll('.card')].map(card => card.title)"
    name, picture = (
        "document.getElementById('name').textContent",
        "document.getElementById('picture')",
    )
    is_open = "document.getElementById('detail').open"
    with Chromium(tmp_path / 'profile') as page:
        page.open(of_predictions / 'index.html')
        assert page(names) == [image['name'] for image in images]
        select(page, 'sort', 'worst')
        by_pq = [image['name'] for image in sorted(images, key=lambda image: image['pq'])]
        assert page(names) == by_pq
        select(page, 'sort', 'best')
        assert page(names)[0] == by_pq[-1]
        select(page, 'sort', 'occlusion')
        assert page(names)[0] == images[2]['name']

        page.press('ArrowRight')
        page.press('ArrowRight')
        page.press('ArrowLeft')
        page.press('Enter')
        assert page(is_open)
        assert page(name) == images[2]['name']
        assert page("document.querySelectorAll('#graph .arrow').length") == 1
        assert 'in front of' in page("document.getElementById('facts').textContent")
        for view in ('truth', 'photo', 'map'):
            page.press('o')
            assert page(f'{picture}.src').endswith(f'{images[2]["file"]}_{view}.jpg')
            page.wait(f'{picture}.complete')
            assert page(f'{picture}.naturalWidth') == 640
            # As large as there is room: the window is 900 pixels high, less the browser's own bar.
            assert page(f'{picture}.height') == pytest.approx(0.82 * page('innerHeight'), abs=2)
            assert page(f'{picture}.width') == page(f'{picture}.height')
            assert page("document.getElementById('graph').hasAttribute('hidden')") == (
                view == 'truth'
            )
        page.press('g')
        assert page("document.getElementById('graph').hasAttribute('hidden')")
        page.press('ArrowRight')
        assert page(name) != images[2]['name']
        page.press('ArrowLeft')
        assert page(name) == images[2]['name']
        page.press('Escape')
        page.wait(f'!{is_open}')
        assert page('document.activeElement.title') == images[2]['name']

        # A class of which something is missed is there as well.
        label = images[2]['missed'][0]
        select(page, 'class', str(label))
        expected = {
            image['name']
            for image in images
            if label in image['missed'] or label in [s['label'] for s in image['segments']]
        }
        assert set(page(names)) == expected
        assert page("document.getElementById('count').textContent").startswith(
            f'{len(expected)} of 4'
        )
        assert page.complaints == []


@in_browser
def test_of_a_thousand_images_those_in_sight_are_loaded(tmp_path):
    gallery = hostile_gallery(tmp_path / 'gallery', count=2)
    facts = facts_of(gallery)
    page = (gallery / 'index.html').read_text('utf-8')
    many = [dict(facts['images'][i % 2], name=f'{i:04}', pq=i / 10) for i in range(1000)]
    facts['images'] = many
    text = json.dumps(facts).replace('<', '\\u003c')
    start, end = page.index('{', page.index('id="data"')), page.index('</script>')
    (gallery / 'index.html').write_text(page[:start] + text + page[end:])
    with Chromium(tmp_path / 'profile') as browser:
        browser.open(gallery / 'index.html')
        loaded = (
            'images.filter(image => image.picture.complete && image.picture.naturalWidth).length'
        )
        browser.wait(f'{loaded} > 5')
        assert browser('images.length') == 1000
        assert browser(loaded) < 500
        browser('images[0].card.focus()')
        browser.press('End')
        assert browser('document.activeElement.title') == '0999'
        browser.wait('images[999].picture.naturalWidth > 0')
        browser.press('o')
        in_sight = 'images.filter(image => image.isNear).map(image => image.picture)'
        photo = "picture => picture.src.endsWith('_photo_small.jpg') && picture.naturalWidth > 0"
        browser.wait(f'{in_sight}.every({photo})')
        assert 5 < browser(f'{in_sight}.length') < 100
        browser.press('Home')
        browser.wait(f'({photo})(images[0].picture)')
        assert browser.complaints == []
