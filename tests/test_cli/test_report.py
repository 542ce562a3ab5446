"""The report: its numbers against the metrics, and its page in a browser."""

import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from panopticapi.evaluation import pq_compute_single_core

from mmbanet.apis import evaluate
from mmbanet.cli.report import main
from mmbanet.engine.launch import replace_data_root
from mmbanet.visualization.gallery import View
from mmbanet.visualization.report import Example, draw_view, report_page

from ..chromium import EXECUTABLE, Chromium
from ..conftest import CONFIGS

in_browser = pytest.mark.skipif(EXECUTABLE is None, reason='needs Chromium')
HOSTILE = '</script><img src=x onerror="document.title=1"><!--<script>&amp;\'"`__BODY__'
# Random weights say something where semantics and boxes are the truth, and masks are whole boxes.
CONFIG = CONFIGS / 'oracles' / 'banet_r18_fpn_dfm_gt_semantics_scenes.py'
OPTIONS = {
    'model.oracles': ['boxes', 'classes', 'semantics'],
    'test_dataloader.dataset.pipeline.1.scale': (64, 64),
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    'model.model.test_cfg.rcnn.score_thr': 0.0,
    'model.model.test_cfg.panoptic.stuff_area_limit': 1,
}


def as_arguments(options: dict) -> list[str]:
    parts = [f'{key}={value}'.replace(' ', '').replace("'", '') for key, value in options.items()]
    return ['--cfg-options', *parts]


def numbers_of(report: Path) -> dict:
    return json.loads((report / 'report.json').read_text())


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    init_default_scope('mmdet')
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('checkpoint') / 'model.pth'
    model = MODELS.build(Config.fromfile(CONFIG).model.model)
    torch.nn.init.constant_(model.roi_head.mask_head.conv_logits.bias, 5)
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture(scope='module')
def command(checkpoint, scenes) -> list[str]:
    return [str(CONFIG), str(checkpoint), '--data-root', str(scenes), *as_arguments(OPTIONS)]


@pytest.fixture(scope='module')
def of_model(command, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('reports') / 'model'
    thresholds = ['--score-thrs', '0.1', '--overlap-thrs', '0.9', '--examples', '2']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultScope, '_instance_dict', {})  # as in a process of its own
        main([*command[:2], *thresholds, *command[2:], '--out', str(out)])
    return out


@pytest.fixture(scope='module')
def of_folder(predictions, scenes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('reports') / 'folder'
    truth = scenes / 'annotations' / 'panoptic_val.json'
    main([str(predictions), '--truth', str(truth), '--out', str(out), '--examples', '1'])
    return out


def metrics_of(checkpoint, scenes, work_dir, config=CONFIG, **others) -> dict:
    """As ``tools/test.py`` computes them."""
    config = Config.fromfile(config)
    config.merge_from_dict(OPTIONS | others)
    replace_data_root(config, str(scenes))
    config.work_dir = str(work_dir)
    metrics = config.test_evaluator
    (metrics[0] if isinstance(metrics, list) else metrics).classwise = True
    return evaluate(config, checkpoint)


def test_numbers_are_the_metrics_to_the_last_digit(of_model, checkpoint, scenes, tmp_path):
    numbers, metrics = numbers_of(of_model), metrics_of(checkpoint, scenes, tmp_path)
    for group, suffix in (('All', ''), ('Things', '_th'), ('Stuff', '_st')):
        for key in ('PQ', 'SQ', 'RQ'):
            assert numbers['quality'][group][key] == metrics[f'coco_panoptic/{key}{suffix}']
    for row in numbers['classes']:
        for key in ('PQ', 'SQ', 'RQ'):
            assert row[key] == metrics[f'coco_panoptic/{key}_{row["name"]}']
    assert 5 < numbers['quality']['Things']['PQ'] < 95
    assert numbers['order']['pairs'] > 0
    order = {key.partition('/')[2]: v for key, v in metrics.items() if key.startswith('occlusion/')}
    assert set(order) == set(numbers['order'])
    for key, value in order.items():
        assert numbers['order'][key] == value or (numbers['order'][key] is None and value != value)


def test_the_sweep_is_what_tests_with_other_thresholds_give(checkpoint, scenes, tmp_path):
    options = OPTIONS | {'model.oracles': ['semantics']}
    options['model.model.test_cfg.panoptic.score_thr'] = 0.05
    command = [str(CONFIG), str(checkpoint), '--data-root', str(scenes), '--out']
    thresholds = ['--score-thrs', '0.1', '--overlap-thrs', '0.9']
    main([*command, str(tmp_path / 'out'), *thresholds, *as_arguments(options)])
    numbers = numbers_of(tmp_path / 'out')
    thresholds = numbers['thresholds']
    assert thresholds['score'] == dict(name='score_thr', values=[0.05, 0.1], own=0.05)
    assert thresholds['overlap'] == dict(name='removal_thr', values=[0.5, 0.9], own=0.5)
    assert thresholds['PQ'][0][0] == numbers['quality']['All']['PQ']
    options['model.model.test_cfg.panoptic.score_thr'] = 0.1
    options['model.model.test_cfg.panoptic.removal_thr'] = 0.9
    metrics = metrics_of(checkpoint, scenes, tmp_path, **options)
    assert thresholds['PQ'][1][1] == metrics['coco_panoptic/PQ'] != thresholds['PQ'][0][0]


def test_the_sweep_of_mmdets_fusion(scenes, tmp_path):
    """Which is given what the RoI head's threshold leaves, so that only higher ones are tried."""
    base = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py'
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(base)!r}\n'
        "oracle = dict(type='mmbanet.OracleModel', oracles=['semantics'], _delete_=True)\n"
        'model = dict(oracle, model=_base_.model)\n'
    )
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(base).model)
    torch.nn.init.constant_(model.roi_head.mask_head.conv_logits.bias, 5)
    checkpoint = tmp_path / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    options = OPTIONS | {'model.oracles': ['semantics'], 'model.model.test_cfg.rcnn.score_thr': 0.1}
    command = [str(config), str(checkpoint), '--data-root', str(scenes), '--out']
    thresholds = ['--score-thrs', '0.05', '0.13', '--overlap-thrs', '0.9']
    main([*command, str(tmp_path / 'out'), *thresholds, *as_arguments(options)])
    thresholds = numbers_of(tmp_path / 'out')['thresholds']
    assert thresholds['score'] == dict(name='score_thr', values=[0.1, 0.13], own=0.1)
    assert thresholds['overlap'] == dict(name='mask_overlap', values=[0.5, 0.9], own=0.5)
    options['model.model.test_cfg.rcnn.score_thr'] = 0.13
    options['model.model.test_cfg.panoptic.mask_overlap'] = 0.9
    metrics = metrics_of(checkpoint, scenes, tmp_path / 'work', config=config, **options)
    assert thresholds['PQ'][1][1] == metrics['coco_panoptic/PQ'] != thresholds['PQ'][0][0]


def test_a_folder_is_judged_as_panopticapi_does(of_folder, predictions, scenes, truth):
    content = json.loads((predictions / 'panoptic.json').read_text())
    label_of = {category['id']: label for label, category in enumerate(truth['categories'])}
    of_file = {label: category['id'] for label, category in enumerate(content['categories'])}
    pairs = [
        (
            dict(
                true,
                segments_info=[
                    dict(s, category_id=of_file[label_of[s['category_id']]])
                    for s in true['segments_info']
                ],
            ),
            found,
        )
        for true, found in zip(truth['annotations'], content['annotations'])
    ]
    categories = {c['id']: c for c in content['categories']}
    folders = str(scenes / 'annotations' / 'panoptic_val'), str(predictions / 'panoptic')
    stat = pq_compute_single_core(0, pairs, *folders, categories)
    numbers = numbers_of(of_folder)
    for group, isthing in (('All', None), ('Things', True), ('Stuff', False)):
        average, _ = stat.pq_average(categories, isthing)
        for key in ('pq', 'sq', 'rq'):
            assert numbers['quality'][group][key.upper()] == pytest.approx(100 * average[key])
    assert numbers['order'] is None
    assert numbers['thresholds'] is None
    assert sum(group['segments'] for group in numbers['hidden']) > 3  # full masks are known


def test_the_csv_has_the_classes(of_model):
    with (of_model / 'classes.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    expected = numbers_of(of_model)['classes']
    assert [row['class'] for row in rows] == [row['name'] for row in expected]
    assert [float(row['PQ']) for row in rows] == [row['PQ'] for row in expected]
    assert [int(row['FN']) for row in rows] == [row['FN'] for row in expected]


def test_pictures_are_of_the_worst_and_the_best(of_folder):
    page = (of_folder / 'index.html').read_text('utf-8')
    images = sorted(numbers_of(of_folder)['images'], key=lambda image: image['PQ'])
    captions = re.findall(r'<figcaption>(.*?)</figcaption>', page)
    assert captions == [f'{i["name"]}: PQ {i["PQ"]:.1f}' for i in (images[0], images[-1])]
    assert page.count('<img src="data:image/jpeg;base64,') == 4
    assert re.search(r'(src|href)="(?!data:|#)', page) is None  # nothing from elsewhere


def test_what_has_no_prediction_is_told(predictions, scenes, tmp_path, capsys):
    part = tmp_path / 'part'
    shutil.copytree(predictions, part)
    content = json.loads((part / 'panoptic.json').read_text())
    for key in ('annotations', 'images'):
        content[key] = content[key][:3]
    (part / 'panoptic.json').write_text(json.dumps(content))
    (part / 'panoptic' / content['annotations'][2]['file_name']).write_bytes(b'no PNG')
    truth = scenes / 'annotations' / 'panoptic_val.json'
    with pytest.raises(SystemExit, match='mmbanet report: 1 image or map could not be read'):
        main([str(part), '--truth', str(truth), '--out', str(tmp_path / 'out')])
    assert content['annotations'][2]['file_name'] in capsys.readouterr().err
    facts = numbers_of(tmp_path / 'out')['facts']
    assert any(
        'Without a prediction, and not counted: 2 of its 4 annotated images' in fact
        for fact in facts
    )
    assert any('Not read, and not counted: 1 image.' in fact for fact in facts)


def test_two_predictions_of_one_true_image(predictions, scenes, tmp_path):
    """Of the folders train and val, 1.jpg both times: either could be the truth's 1.jpg."""
    folder = shutil.copytree(predictions, tmp_path / 'predicted')
    content = json.loads((folder / 'panoptic.json').read_text())
    (image, *_), (annotation, *_) = content['images'], content['annotations']
    stem = Path(annotation['file_name']).stem
    for part, suffix in (('panoptic', 'png'), ('segments', 'json')):
        (folder / part / 'train').mkdir()
        shutil.copy(folder / part / f'{stem}.{suffix}', folder / part / 'train')
    content['images'].append(dict(image, id=99, file_name=f'train/{image["file_name"]}'))
    content['annotations'].append(dict(annotation, image_id=99, file_name=f'train/{stem}.png'))
    (folder / 'panoptic.json').write_text(json.dumps(content))
    truth = scenes / 'annotations' / 'panoptic_val.json'
    message = rf'{image["file_name"]} and train/{image["file_name"]} both end as an image of'
    with pytest.raises(ValueError, match=message):
        main([str(folder), '--truth', str(truth), '--out', str(tmp_path / 'out')])


@pytest.mark.parametrize('option', ['--score-thrs', '--overlap-thrs'])
@pytest.mark.parametrize('threshold', ['1.5', '-0.1', 'nan', 'half'])
def test_thresholds_that_are_none(option, threshold, capsys):
    with pytest.raises(SystemExit):
        main([str(CONFIG), 'x.pth', '--out', 'out', option, '0.5', threshold])
    assert f"expected a number of 0 to 1, got '{threshold}'" in capsys.readouterr().err


def test_mistakes_are_told(command, predictions, scenes, tmp_path):
    out = ['--out', str(tmp_path / 'out')]
    truth = ['--truth', str(scenes / 'annotations' / 'panoptic_val.json')]
    with pytest.raises(FileNotFoundError, match='config or folder not found'):
        main([str(tmp_path / 'no.py'), 'x.pth', *out])
    with pytest.raises(FileNotFoundError, match='checkpoint not found'):
        main([str(CONFIG), str(tmp_path / 'no.pth'), *out])
    with pytest.raises(FileNotFoundError, match=r'not found: .*nowhere.*data_root'):
        main([*command[:2], '--data-root', str(tmp_path / 'nowhere'), *out])
    with pytest.raises(ValueError, match='--truth names the panoptic JSON'):
        main([str(predictions), *out])
    with pytest.raises(ValueError, match='checkpoint belongs to a config'):
        main([str(predictions), 'x.pth', *truth, *out])
    with pytest.raises(ValueError, match='belong to a folder of predictions'):
        main([*command, *truth, *out])
    with pytest.raises(ValueError, match='test_evaluator has no metric with ann_file'):
        main([*command, 'test_evaluator=[]', *out])
    with pytest.raises(FileExistsError, match='not empty: another --out'):
        main([str(predictions), *truth, '--out', str(scenes)])
    with pytest.raises(FileNotFoundError, match=r'panoptic\.json'):
        main([str(tmp_path), *truth, *out])
    empty = tmp_path / 'empty.json'
    empty.write_text(json.dumps(dict(images=[], annotations=[], categories=[])))
    with pytest.raises(ValueError, match=r'empty\.json'):
        main([str(predictions), '--truth', str(empty), *out])
    others = tmp_path / 'others'
    shutil.copytree(scenes / 'annotations', others)
    content = json.loads((others / 'panoptic_val.json').read_text())
    for image in content['images']:
        image['file_name'] = f'other_{image["file_name"]}'
    (others / 'panoptic_val.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='none of its images is annotated in'):
        main([str(predictions), '--truth', str(others / 'panoptic_val.json'), *out])
    assert not (tmp_path / 'out').exists()
    assert not list(tmp_path.glob('.out*'))


def hostile_page(of_model: Path) -> str:
    """A page all of whose names are as bad as can be."""
    numbers = numbers_of(of_model)
    for row in numbers['classes']:
        row['name'] = HOSTILE
    numbers['confusion']['names'] = [HOSTILE] * len(numbers['confusion']['names'])
    numbers['thresholds']['score']['name'] = HOSTILE
    view = View('map', np.repeat([[0] * 20 + [1] * 20], 30, axis=0), {})
    url = draw_view(None, view, [HOSTILE] * 2, [(255, 0, 0), (0, 255, 0)])
    examples = [Example(f'{HOSTILE} {number}', 0.5, [(HOSTILE, url)]) for number in range(2)]
    return report_page(HOSTILE, [HOSTILE], numbers, examples[:1], examples[1:])


def test_names_are_escaped(of_model):
    page = hostile_page(of_model)
    assert '<img src=x' not in page
    assert HOSTILE not in page
    assert page.count('</script>') == 1
    undecodable = b'caf\xe9.jpg'.decode('utf-8', 'surrogateescape')
    page = report_page(undecodable, [], numbers_of(of_model), [], [])
    assert 'caf?.jpg' in page


@in_browser
def test_names_are_text_in_the_browser(of_model, tmp_path):
    (tmp_path / 'index.html').write_text(hostile_page(of_model), 'utf-8')
    with Chromium(tmp_path / 'profile') as page:
        page.open(tmp_path / 'index.html')
        assert page('document.title') == HOSTILE
        assert page("document.querySelector('h1').textContent") == HOSTILE
        assert page("document.querySelector('#classes td').textContent") == HOSTILE
        assert page("document.querySelectorAll('img[src=x], [onerror]').length") == 0
        page("document.querySelector('#classes th button').click()")
        assert page.complaints == []


@in_browser
def test_the_report_is_used_by_keyboard(of_model, tmp_path):
    rows = {row['name']: row for row in numbers_of(of_model)['classes']}
    column = "[...document.querySelectorAll('#classes tbody tr')].map(r => r.cells[{}].textContent)"
    head = "document.querySelectorAll('#classes th')[2]"
    with Chromium(tmp_path / 'profile') as page:
        page.open(of_model / 'index.html')
        assert page(column.format(0)) == list(rows)
        page(f"{head}.querySelector('button').focus()")
        for order, reverse in (('descending', True), ('ascending', False)):
            page.press('Enter')
            assert page(f"{head}.getAttribute('aria-sort')") == order
            shown = [rows[name]['PQ'] for name in page(column.format(0))]
            assert shown == sorted(shown, reverse=reverse)
            assert len(set(shown)) > 3
        page("document.querySelector('#classes th button').click()")
        assert page(column.format(0)) == sorted(rows)
        assert page(f"{head}.getAttribute('aria-sort')") is None
        # Charts are drawn: the cell of the config's own thresholds is the one in the frame.
        assert page("document.querySelectorAll('#thresholds rect').length") == 4
        marked = page("document.querySelector('#thresholds .marked').previousSibling.textContent")
        assert marked.startswith('score_thr -1, removal_thr 0.5: ')
        assert page('[...document.images].every(i => i.complete && i.naturalWidth >= 400)')
        assert page('document.documentElement.scrollWidth <= innerWidth')
        assert page.complaints == []
        for scheme in ('light', 'dark'):
            feature = dict(name='prefers-color-scheme', value=scheme)
            page.call('Emulation.setEmulatedMedia', features=[feature])
            page.screenshot(tmp_path / f'{scheme}.png')
            seen = cv2.imread(str(tmp_path / f'{scheme}.png'))
            assert (np.median(seen) > 128) == (scheme == 'light')
