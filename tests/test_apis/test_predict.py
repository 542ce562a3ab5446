"""Predictions of files: the command, what it writes, and what it does with odd and broken ones."""

import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from PIL import Image
from pycocotools import mask as coco_mask

import mmbanet
from mmbanet.apis import PanopticInferencer, PanopticResult, predict, read_image
from mmbanet.apis.image_sources import distinct, find_images
from mmbanet.cli.predict import main
from mmbanet.cli.work.predict import Work, write_coco
from mmbanet.engine.launch import read_config
from mmbanet.scenes import METAINFO, generate_scenes
from mmbanet.structures import decode_ids

from ..conftest import CONFIGS, run_on_two_ranks

CONFIG = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
PANOPTIC_FPN = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py'
ANY_SCORE = ['model.test_cfg.panoptic.score_thr=0.05', 'model.test_cfg.panoptic.stuff_area_limit=1']


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    init_default_scope('mmdet')
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('checkpoint') / 'model.pth'
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(CONFIG).model).state_dict()), path)
    return path


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> Path:
    root = generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=0, val=2, size=64)
    folder = root / 'photos'
    (folder / 'süd').mkdir(parents=True)
    first, second = sorted((root / 'val').iterdir())
    first.rename(folder / f'first{first.suffix}')
    second.rename(folder / 'süd' / f'second one{second.suffix}')
    return folder


@pytest.fixture(scope='module')
def inferencer(checkpoint) -> PanopticInferencer:
    options = dict(option.split('=') for option in ANY_SCORE)
    options = {key: float(value) for key, value in options.items()}
    return PanopticInferencer(CONFIG, checkpoint, 'cpu', cfg_options=options, show_progress=False)


@pytest.fixture(scope='module')
def predicted(checkpoint, photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('predicted') / 'out'
    main([*map(str, [CONFIG, checkpoint, photos]), '--out', str(out), '--cfg-options', *ANY_SCORE])
    return out


def test_maps_are_those_of_the_model_and_agree_with_the_json(predicted, photos, inferencer):
    content = json.loads((predicted / 'panoptic.json').read_text())
    assert [category['name'] for category in content['categories']] == list(METAINFO['classes'])
    names = ['first', 'süd/second one']
    assert [item['file_name'] for item in content['annotations']] == [f'{n}.png' for n in names]
    for annotation, image, name in zip(content['annotations'], content['images'], names):
        assert annotation['image_id'] == image['id']
        assert (image['height'], image['width']) == (64, 64)
        assert photos / image['file_name'] in photos.glob(f'{name}.*')
        rgb = np.asarray(Image.open(predicted / 'panoptic' / f'{name}.png')).astype(int)
        ids = rgb @ [1, 256, 65536]
        listed = {segment['id']: segment for segment in annotation['segments_info']}
        assert set(np.unique(ids)) - {0} == set(listed)
        (file,) = photos.glob(f'{name}.*')
        expected = predict(inferencer.model, str(file)).pred_panoptic_seg.sem_seg[0].numpy()
        labels, _ = decode_ids(expected)
        assert len(listed) > 1
        for segment_id, segment in listed.items():
            where = ids == segment_id
            assert len(np.unique(expected[where])) == 1
            assert (labels[where] == segment['category_id']).all()
            assert segment['area'] == where.sum()
            x, y, width, height = segment['bbox']
            rows, columns = where.nonzero()
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        assert (labels[ids == 0] == len(METAINFO['classes'])).all()
        record = json.loads((predicted / 'segments' / f'{name}.json').read_text())
        assert [s['id'] for s in record['segments']] == list(listed)
        assert record['file'] == str(file)
        picture = cv2.imread(str(predicted / 'pictures' / f'{name}.jpg'))
        assert picture.shape == (64, 64, 3)
        assert np.abs(picture.astype(int) - cv2.imread(str(file))).max() > 20


def test_categories_are_the_data_set_s_own_where_it_is_there(checkpoint, photos, tmp_path):
    root = tmp_path / 'data'
    (root / 'annotations').mkdir(parents=True)
    categories = [
        dict(
            id=200 - 7 * i, name=name, isthing=int(name in METAINFO['thing_classes']), color=[i] * 3
        )
        for i, name in enumerate(METAINFO['classes'])
    ]
    path = root / 'annotations' / 'panoptic_val.json'
    command = [*map(str, [CONFIG, checkpoint, photos]), '--no-pictures', '--cfg-options']
    command += [*ANY_SCORE, f'test_dataloader.dataset.data_root={root}']

    def predicted(name):
        main([*command, '--out', str(tmp_path / name)])
        content = json.loads((tmp_path / name / 'panoptic.json').read_text())
        record = json.loads((tmp_path / name / 'segments' / 'first.json').read_text())
        first = content['annotations'][0]['segments_info']
        labels = {s['id']: s['category'] for s in record['segments']}
        return content['categories'], [(labels[s['id']], s['category_id']) for s in first]

    images = [dict(id=1, file_name='1.png', height=8, width=8)]
    content = dict(images=images, annotations=[], categories=categories[::-1])
    path.write_text(json.dumps(content))
    found, pairs = predicted('own')
    assert found == categories
    assert len({label for label, _ in pairs}) > 1
    assert all(category_id == 200 - 7 * label for label, category_id in pairs)
    path.write_text(json.dumps(dict(content, categories=categories[1:])))  # other classes
    found, pairs = predicted('labels')
    assert [c['id'] for c in found] == list(range(len(categories)))
    assert all(category_id == label for label, category_id in pairs)


def test_panopticapi_reads_it(predicted):
    from panopticapi.evaluation import pq_compute_single_core

    content = json.loads((predicted / 'panoptic.json').read_text())
    categories = {category['id']: category for category in content['categories']}
    pairs = [(annotation, annotation) for annotation in content['annotations']]
    folder = str(predicted / 'panoptic')
    stat = pq_compute_single_core(0, pairs, folder, folder, categories)
    assert stat.pq_average(categories, None)[0]['pq'] == 1


def test_a_file_in_place_of_the_folder(checkpoint, photos, monkeypatch, tmp_path):
    (tmp_path / 'out').touch()
    monkeypatch.setattr('mmbanet.cli.predict.quiet_imports', None)  # told before that
    with pytest.raises(NotADirectoryError, match='out is not a folder: another --out'):
        main([str(CONFIG), str(checkpoint), str(photos), '--out', str(tmp_path / 'out')])


def test_resume_does_what_is_left_and_nothing_twice(predicted, checkpoint, photos, capsys):
    command = [*map(str, [CONFIG, checkpoint, photos]), '--out', str(predicted)]
    with pytest.raises(FileExistsError, match=r'holds predictions: --resume goes on'):
        main(command)
    whole = (predicted / 'panoptic.json').read_bytes()
    kept = predicted / 'segments' / 'first.json'
    lost = predicted / 'segments' / 'süd' / 'second one.json'
    before = kept.stat().st_mtime_ns
    lost.unlink()
    main([*command, '--resume', '--cfg-options', *ANY_SCORE])
    assert kept.stat().st_mtime_ns == before
    assert lost.exists()
    assert (predicted / 'panoptic.json').read_bytes() == whole
    assert not list(predicted.rglob('.partial*'))
    command[2] = str(photos / 'süd' / '..')  # the same folder
    main([*command, '--resume', '--cfg-options', *ANY_SCORE])
    assert 'not ' not in capsys.readouterr().err


def test_resume_refuses_predictions_of_another_model(predicted, checkpoint, photos, tmp_path):
    out = shutil.copytree(predicted, tmp_path / 'out')
    before = {path: path.read_bytes() for path in out.rglob('*.*n*')}
    command = [*map(str, [CONFIG, checkpoint, photos]), '--out', str(out), '--resume']
    with pytest.raises(ValueError, match=r'of another model \(changed: model\): another --out'):
        main(command)
    content = torch.load(checkpoint)
    content['state_dict']['semantic_head.conv_logits.bias'] += 1
    command[1] = str(tmp_path / 'other.pth')
    torch.save(content, command[1])
    with pytest.raises(ValueError, match=r'of another model \(changed: weights\)'):
        main([*command, '--cfg-options', *ANY_SCORE])
    assert {path: path.read_bytes() for path in out.rglob('*.*n*')} == before


def test_a_folder_without_predictions_is_of_no_model(checkpoint, photos, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'model.json').write_text('{"weights": "of a run that was interrupted"}')
    main([*map(str, [CONFIG, checkpoint, photos / 'first.jpg']), '--out', str(out)])
    assert 'interrupted' not in (out / 'model.json').read_text()


def test_resume_names_what_is_of_other_images(predicted, checkpoint, photos, tmp_path, capsys):
    shutil.copytree(predicted, tmp_path / 'out')
    moved = shutil.copytree(photos / 'süd', tmp_path / 'moved' / 'süd').parent
    out = ['--out', str(tmp_path / 'out')]
    options = ['--resume', '--cfg-options', *ANY_SCORE]
    main([*map(str, [CONFIG, checkpoint, moved]), *out, *options])
    fewer, other = (line for line in capsys.readouterr().err.splitlines() if line[:4] == 'not ')
    assert 'not in panoptic.json: 1 prediction in' in fewer
    assert 'not asked for, first first;' in fewer
    (photo,) = (moved / 'süd').iterdir()
    assert other.startswith('not predicted: 1 image, as ')
    assert f'{photos / "süd" / photo.name} in place of {photo};' in other
    content = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())
    assert [image['file_name'] for image in content['images']] == [f'süd/{photo.name}']
    assert (tmp_path / 'out' / 'segments' / 'first.json').exists()


def test_broken_files_are_named_and_the_others_predicted(checkpoint, photos, tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'empty.png').touch()
    (tmp_path / 'in' / 'text.jpg').write_text('no image')
    whole = next(photos.glob('first.*'))
    (tmp_path / 'in' / f'whole{whole.suffix}').write_bytes(whole.read_bytes())
    command = [*map(str, [CONFIG, checkpoint, tmp_path / 'in']), '--out', str(tmp_path / 'out')]
    with pytest.raises(SystemExit, match='2 of 3 images could not be read, see above'):
        main([*command, '--no-pictures'])
    told = capsys.readouterr().err
    assert f'left out: not an image: {tmp_path / "in" / "empty.png"}' in told
    assert f'left out: not an image: {tmp_path / "in" / "text.jpg"}' in told
    content = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())
    assert [image['file_name'] for image in content['images']] == [f'whole{whole.suffix}']
    assert not (tmp_path / 'out' / 'pictures').exists()


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'I;16', 'LA', 'P'])
def test_images_of_any_kind_are_read_as_colours(mode, tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 20
    if mode == 'I;16':
        cv2.imwrite(str(tmp_path / 'image.png'), values * 256)
    else:
        Image.fromarray(values.astype(np.uint8)).convert(mode).save(tmp_path / 'image.png')
    image = read_image(tmp_path / 'image.png')
    assert image.shape == (3, 4, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.repeat(values[..., None], 3, axis=2))


def test_exif_turns_the_image(tmp_path):
    image = Image.fromarray(np.zeros((10, 20, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / 'turned.jpg', exif=exif)
    assert read_image(tmp_path / 'turned.jpg').shape == (20, 10, 3)


def test_one_pixel_and_a_line_are_images(inferencer):
    for shape in ((1, 1, 3), (1, 40, 3), (33, 1, 3)):
        result = inferencer.predict(np.zeros(shape, dtype=np.uint8))
        assert result.segment_ids.shape == shape[:2]


def test_thin_images_do_not_vanish_when_they_are_resized(inferencer):
    for shape in ((1, 4000, 3), (4000, 1, 3), (3, 20000, 3), (1, 1_000_000, 3)):
        image = np.zeros(shape, dtype=np.uint8)
        result = inferencer.predict(image)
        assert result.segment_ids.shape == shape[:2]
        assert sum(segment['area'] for segment in result) == (result.segment_ids > 0).sum()
        assert inferencer.draw(result, image).shape == shape


def test_segments_that_vanish_in_a_smaller_map_are_not_listed():
    ids = np.array([[1, 1, 1, 1], [1, 2, 1, 1], [1, 1, 1, 1]])
    things = [
        dict(id=1, category=0, overlaps=[dict(segment=2, in_front=False)]),
        dict(id=2, category=0, overlaps=[dict(segment=1, in_front=True)]),
    ]
    found = PixelData(metainfo=dict(segments_info=things), segment_ids=torch.tensor(ids)[None])
    sample = DetDataSample(pred_panoptic_seg=found)
    meta = dict(classes=('cat',), thing_classes=('cat',))
    whole = PanopticResult.from_sample(sample, meta)
    assert whole.front_of(1) == [2]
    small = PanopticResult.from_sample(sample, meta, np.zeros((1, 4, 3), dtype=np.uint8))
    assert [(s['id'], s['area']) for s in small] == [(1, 4)]
    assert small.front_of(1) == []


def test_images_that_are_not_there(tmp_path, photos):
    with pytest.raises(FileNotFoundError, match=r'no such image or folder: .*nowhere'):
        find_images([str(tmp_path / 'nowhere')])
    with pytest.raises(FileNotFoundError, match=r'no images: .*\*\.jpg'):
        find_images([str(tmp_path / '*.jpg')])
    with pytest.raises(FileNotFoundError, match='no images'):
        find_images([str(tmp_path)])
    same = tmp_path / 'first.png'
    Image.new('RGB', (2, 2)).save(same)
    with pytest.raises(ValueError, match=r'two images of the name first: .* and '):
        distinct(find_images([str(photos), str(same)]))
    # A pattern, and the same file twice.
    found = find_images([str(tmp_path / '*.png'), str(same)])
    assert [item.entry for item in found] == [same, same]
    assert [item.name for item in distinct(found)] == ['first']


def test_mmdets_models_are_predicted_with_too(photos):
    inferencer = PanopticInferencer(
        PANOPTIC_FPN, device='cpu', cfg_options={'model.test_cfg.panoptic.stuff_area_limit': 1}
    )
    file = next(photos.glob('first.*'))
    result = inferencer.predict(str(file))
    expected = predict(inferencer.model, str(file)).pred_panoptic_seg.sem_seg[0].numpy()
    for segment, mask in zip(result, result.masks()):
        (value,) = np.unique(expected[mask])
        assert value % 1000 == segment['category']
    assert ((result.segment_ids == 0) == (expected % 1000 == len(METAINFO['classes']))).all()


def test_the_inferencer_is_called_as_mmdets(inferencer, photos, tmp_path, capsys):
    assert isinstance(inferencer, BaseInferencer)
    file = str(next(photos.glob('first.*')))
    image = read_image(file)
    called = inferencer(
        [file, image],
        batch_size=2,
        return_vis=True,
        print_result=True,
        no_save_pred=False,
        out_dir=str(tmp_path),
    )
    assert len(called['predictions']) == len(called['visualization']) == 2
    first, second = called['predictions']
    assert isinstance(first, PanopticResult)
    np.testing.assert_array_equal(first.segment_ids, second.segment_ids)
    assert {path.name for path in (tmp_path / 'vis').iterdir()} == {'first.jpg', '00000001.jpg'}
    assert json.loads((tmp_path / 'preds' / 'first.json').read_text()) == list(first)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f'{name}: {first.summary()}' for name in (file, '00000001')]
    nothing = inferencer(file, no_save_vis=True, out_dir=str(tmp_path / 'nothing'))
    assert nothing['visualization'] is None
    assert not (tmp_path / 'nothing').exists()
    samples = inferencer(file, return_datasamples=True)['predictions']
    assert 'pred_panoptic_seg' in samples[0]


def test_the_steps_of_the_inferencer_can_be_replaced(inferencer, photos):
    class Counting(PanopticInferencer):
        def postprocess(self, preds, *others, **settings):
            return super().postprocess([len(result) for result in preds], *others, **settings)

    file = str(next(photos.glob('first.*')))
    counting = Counting(inferencer.cfg, device='cpu', show_progress=False)
    counting.model = inferencer.model
    assert counting(file)['predictions'] == [len(inferencer.predict(file))]


def test_a_result_in_other_forms():
    ids = np.array([[1, 1, 0], [2, 2, 2]], dtype=np.int32)
    overlaps = [dict(segment=2, in_front=False), dict(segment=None, in_front=False)]
    segments = [
        dict(
            id=1, category=0, is_thing=True, score=0.9, area=2, bbox=[0, 0, 2, 1], overlaps=overlaps
        ),
        dict(id=2, category=1, is_thing=False, score=None, area=3, bbox=[0, 1, 3, 1]),
    ]
    result = PanopticResult(ids, segments, ('cat', 'grass'), 1)
    assert len(result) == 2
    assert result.summary() == '1 cat, 1 grass'
    assert result.front_of(1) == [2]
    assert result.front_of(2) == []
    np.testing.assert_array_equal(result.masks(), [ids == 1, ids == 2])
    np.testing.assert_array_equal(
        coco_mask.decode(result.to_rle()).transpose(2, 0, 1), result.masks()
    )
    annotation = result.to_coco(7, 'a.png', [17, 193])
    assert annotation['image_id'] == 7
    assert [s['category_id'] for s in annotation['segments_info']] == [17, 193]
    crop = result.crop(1, np.full((2, 3, 3), 5, dtype=np.uint8))
    np.testing.assert_array_equal(crop, [[[5, 5, 5, 255]] * 2])
    assert result.to_huggingface()['segments_info'][1]['label_id'] == 1
    with pytest.raises(KeyError, match=r'no segment 3; there are \[1, 2\]'):
        result[3]


@pytest.mark.parametrize(
    'name',
    [
        'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
        'maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
        'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
    ],
)
def test_mmdets_configs_are_known_by_their_names(name):
    config = read_config(f'mmdet::{name}')
    for step in config.test_dataloader.dataset.pipeline:
        if step['type'] == 'Resize':
            step['scale'] = (64, 64)
    inferencer = PanopticInferencer(config, device='cpu', show_progress=False)
    result = inferencer.predict(np.zeros((32, 48, 3), dtype=np.uint8))
    assert result.segment_ids.shape == (32, 48)
    assert len(result.classes) == 133
    assert set(np.unique(result.segment_ids)) - {0} == {s['id'] for s in result}


def test_models_are_known_by_the_names_of_metafiles(checkpoint, tmp_path, monkeypatch):
    entries = f"""
        - {{Name: other, Config: no.py}}
        - {{Name: Small, Alias: [tiny, least], Config: {CONFIG}, Weights: {checkpoint}}}
    """
    (tmp_path / 'metafile.yml').write_text(f'Models:{entries}')
    (tmp_path / 'model-index.yml').write_text('Import: [metafile.yml]')
    find = PanopticInferencer._get_repo_or_mim_dir
    monkeypatch.setattr(
        PanopticInferencer,
        '_get_repo_or_mim_dir',
        staticmethod(lambda scope: tmp_path if scope == 'mmbanet' else find(scope)),
    )
    weights = torch.load(checkpoint)['state_dict']
    for name in ('small', 'tiny'):
        model = PanopticInferencer(name, device='cpu').model
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    with pytest.raises(FileNotFoundError, match=r'checkpoint not found: .*no\.pth'):
        PanopticInferencer('least', 'no.pth')
    with pytest.raises(ValueError, match='similar names: panoptic_fpn_r50_fpn_1x_coco'):
        PanopticInferencer('panoptic_fpn_r50_fpn_1x')


@pytest.mark.parametrize(
    ('name', 'has_weights'), [('banet_r50_fpn_1x_coco', False), ('rtmdet-ins-t', True)]
)
def test_metafiles_of_ours_and_of_mmdet_are_read(inferencer, name, has_weights):
    config, weights = inferencer._load_model_from_metafile(name)
    assert 'test_dataloader' in config
    assert (weights is not None) == has_weights


def test_our_configs_are_known_by_their_names():
    named = read_config('mmbanet::banet/banet_r18_fpn_scenes.py')
    assert named.to_dict() == Config.fromfile(CONFIG).to_dict()
    with pytest.raises(FileNotFoundError, match=r'config not found: .*mmbanet::no\.py'):
        read_config('mmbanet::no.py')


def test_the_package_has_it_but_imports_it_late():
    code = (
        'import sys, mmbanet; assert not {"torch", "mmdet", "cv2"} & set(sys.modules); '
        'from mmbanet import PanopticInferencer as P; from mmbanet.apis import PanopticInferencer;'
        'assert P is PanopticInferencer; assert "PanopticResult" in dir(mmbanet);'
        'from mmbanet import PanopticVisualizer as V; from mmengine.registry import VISUALIZERS;'
        'assert VISUALIZERS.get("mmbanet.PanopticVisualizer") is V'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mmbanet.nothing  # noqa: B018


def test_a_batch_is_one_pass_and_gives_what_each_image_gives(inferencer, photos, monkeypatch):
    images = [read_image(path) for path in sorted(photos.rglob('*.*'))]
    sizes = []
    step = inferencer.model.test_step
    monkeypatch.setattr(
        inferencer.model, 'test_step', lambda data: sizes.append(len(data['inputs'])) or step(data)
    )
    alone = [inferencer.predict(image) for image in images]
    found = inferencer(images, batch_size=2)['predictions']
    assert sizes == [1, 1, 2]
    for one, other in zip(alone, found, strict=True):
        assert (one.segment_ids == other.segment_ids).mean() > 0.99


def test_large_images_are_predicted_reduced(inferencer, photos, monkeypatch):
    image = cv2.resize(read_image(next(photos.glob('first.*'))), (640, 480))
    monkeypatch.setattr(inferencer, 'max_pixels', 64 * 48)
    seen = []
    step = inferencer.model.test_step

    def recorded(data):
        seen.extend(sample.ori_shape for sample in data['data_samples'])
        return step(data)

    monkeypatch.setattr(inferencer.model, 'test_step', recorded)
    result = inferencer.predict(image)
    assert seen == [(48, 64)]
    assert result.segment_ids.shape == (480, 640)
    assert len(result) > 1
    for segment, mask in zip(result, result.masks()):
        assert segment['area'] == mask.sum()
        rows, columns = mask.nonzero()
        x, y, width, height = segment['bbox']
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
    assert inferencer.draw(result, image).shape == (48, 64, 3)


def test_segments_are_cut_out_of_the_results_own_image(inferencer, photos):
    image = read_image(next(photos.glob('first.*')))
    result = inferencer.predict(image)
    for segment, mask in zip(result, result.masks()):
        x, y, width, height = segment['bbox']
        crop = result.crop(segment)
        where = mask[y : y + height, x : x + width]
        np.testing.assert_array_equal(crop[..., 3] > 0, where)
        np.testing.assert_array_equal(crop[where][:, :3], image[mask])
    shown = cv2.imdecode(np.frombuffer(result._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == image.shape
    bare = replace(result, image=None)._repr_png_()
    colors = cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_COLOR)
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) >= len({s['category'] for s in result})
    black, white = (
        cv2.imdecode(np.frombuffer(replace(result, image=other)._repr_png_(), np.uint8), 1)
        for other in (np.zeros_like(image), np.full_like(image, 255))
    )
    assert np.median(white.astype(int) - black) > 100  # the photograph is seen through the map
    with pytest.raises(ValueError, match=r"image must be of the map's size \(64, 64\), got \(2, 2"):
        result.crop(segment, image[:2, :2])


@pytest.mark.parametrize('count', [0, 2])
def test_the_layout_of_supervision(count, monkeypatch):
    try:
        from supervision import Detections
    except ImportError:  # optional: what it is given is what it keeps
        from types import SimpleNamespace as Detections

        monkeypatch.setitem(sys.modules, 'supervision', Detections(Detections=Detections))
    ids = np.array([[1, 1, 0], [2, 2, 2]], dtype=np.int32) if count else np.zeros((2, 3), np.int32)
    segments = [
        dict(id=1, category=0, is_thing=True, score=0.9, area=2, bbox=[0, 0, 2, 1]),
        dict(id=2, category=1, is_thing=False, score=None, area=3, bbox=[0, 1, 3, 1]),
    ][:count]
    found = PanopticResult(ids, segments, ('cat', 'grass'), 1).to_supervision()
    assert isinstance(found, Detections)
    np.testing.assert_array_equal(
        found.xyxy, np.reshape([[0, 0, 2, 1], [0, 1, 3, 2]][:count], (-1, 4))
    )
    np.testing.assert_array_equal(found.mask, np.reshape([ids == 1, ids == 2][:count], (-1, 2, 3)))
    assert found.mask.dtype == bool
    np.testing.assert_array_equal(found.class_id, [0, 1][:count])
    np.testing.assert_array_equal(found.confidence, [0.9, 1.0][:count])
    assert found.data['class_name'].dtype.kind == 'U'
    assert found.data['class_name'].tolist() == ['cat', 'grass'][:count]


def test_the_layout_of_huggingface():
    ids = np.array([[1, 1, 0], [2, 2, 2]], dtype=np.int32)
    segments = [
        dict(id=1, category=0, is_thing=True, score=0.9, area=2, bbox=[0, 0, 2, 1]),
        dict(id=2, category=1, is_thing=False, score=None, area=3, bbox=[0, 1, 3, 1]),
    ]
    found = PanopticResult(ids, segments, ('cat', 'grass'), 1).to_huggingface()
    assert torch.equal(found['segmentation'], torch.from_numpy(ids))
    assert found['segments_info'] == [
        dict(id=1, label_id=0, was_fused=False, score=0.9),
        dict(id=2, label_id=1, was_fused=True, score=1.0),
    ]


def printed_by_main(arguments):
    with redirect_stdout(StringIO()) as printed:
        main(arguments)
    return printed.getvalue()


def test_two_processes_share_the_images_and_write_one_json(predicted, checkpoint, photos, tmp_path):
    arguments = [*map(str, [CONFIG, checkpoint, photos]), '--out', str(tmp_path / 'out')]
    arguments += ['--device', 'cpu', '--cfg-options', *ANY_SCORE]
    printed = run_on_two_ranks(printed_by_main, tmp_path, arguments)
    assert ''.join(printed).count('2 images: ') == 1
    for path in ('panoptic.json', 'panoptic/first.png', 'panoptic/süd/second one.png'):
        assert (tmp_path / 'out' / path).read_bytes() == (predicted / path).read_bytes()


def exit_status_of_main(arguments):
    with redirect_stderr(StringIO()) as printed:
        try:
            main(arguments)
        except SystemExit as end:
            return end.code, printed.getvalue()
    return 0, printed.getvalue()


def test_two_processes_count_what_is_broken_once(checkpoint, photos, tmp_path):
    (tmp_path / 'in').mkdir()
    for name in ('a.mp4', 'b.png', 'c.mp4'):
        (tmp_path / 'in' / name).write_text('nothing to see')
    inputs = [str(tmp_path / 'in'), str(photos)]
    arguments = [str(CONFIG), str(checkpoint), *inputs, '--out', str(tmp_path / 'out')]
    (first, told), (second, more) = run_on_two_ranks(
        exit_status_of_main, tmp_path, [*arguments, '--device', 'cpu']
    )
    assert first == 'mmbanet predict: 3 of 5 images could not be read, see above'
    assert second == 0
    for name in ('a.mp4', 'b.png', 'c.mp4'):
        assert (told + more).count(str(tmp_path / 'in' / name)) == 1


@pytest.mark.parametrize(
    'record', ['{}', '[]', '{"height": 1, "width": 1, "file": "a", "segments": 5}']
)
def test_a_record_that_is_none_is_named(tmp_path, record):
    (tmp_path / 'segments').mkdir()
    (tmp_path / 'segments' / 'a.json').write_text(record)
    with pytest.raises(ValueError, match=r'a\.json: '):
        write_coco(tmp_path, ['a'], [dict(id=1, name='cat', isthing=1)])
    assert not (tmp_path / 'panoptic.json').exists()


def test_a_file_that_cannot_be_written_ends_it(inferencer, photos, tmp_path, monkeypatch):
    def write(out, item, *_):
        if item.name == 'first':
            raise OSError('no space left')
        written.append(item.name)

    written = []
    monkeypatch.setattr('mmbanet.cli.work.predict.write_prediction', write)
    work = Work(inferencer, tmp_path, batch_size=1, pictures=True)
    with pytest.raises(OSError, match='no space left'):
        work.run(find_images([photos]))
    assert list(work.seen) == ['first', 'süd/second one']
    assert written == ['süd/second one']  # its prediction was there


def test_what_was_written_is_not_predicted_in_turn(checkpoint, photos, tmp_path):
    folder = tmp_path / 'photos'
    shutil.copytree(photos, folder)
    out = folder / 'predictions'
    command = [*map(str, [CONFIG, checkpoint, folder]), '--out', str(out), '--device', 'cpu']
    main(command)
    before = sorted(out.rglob('*.*'))
    (out / 'segments' / 'first.json').unlink()
    main([*command, '--resume'])
    assert sorted(out.rglob('*.*')) == before


@pytest.mark.parametrize('name', ['panoptic', 'pictures'])
def test_no_image_is_replaced_by_its_prediction(checkpoint, photos, tmp_path, name):
    folder = shutil.copytree(photos, tmp_path / name)
    before = {path: path.read_bytes() for path in folder.rglob('*.*')}
    with pytest.raises(ValueError, match='which could replace them: another --out'):
        main([*map(str, [CONFIG, checkpoint, folder]), '--out', str(tmp_path), '--device', 'cpu'])
    assert {path: path.read_bytes() for path in folder.rglob('*.*')} == before


def test_the_command_takes_videos_and_names_broken_ones(checkpoint, tmp_path, capsys):
    writer = cv2.VideoWriter(
        str(tmp_path / 'ride.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 64)
    )
    for value in (20, 120, 220):
        writer.write(np.full((64, 64, 3), value, dtype=np.uint8))
    writer.release()
    (tmp_path / 'text.mp4').write_text('no video')
    out = tmp_path / 'out'
    command = [*map(str, [CONFIG, checkpoint, tmp_path]), '--out', str(out), '--batch-size', '2']
    with pytest.raises(SystemExit, match='1 of 4 images could not be read'):
        main([*command, '--device', 'cpu'])
    assert f'{tmp_path / "text.mp4"}' in capsys.readouterr().err
    content = json.loads((out / 'panoptic.json').read_text())
    names = [annotation['file_name'] for annotation in content['annotations']]
    assert names == [f'ride/{number:08}.png' for number in range(3)]
    assert all((out / 'panoptic' / name).exists() for name in names)
