"""The comparison of overlap rules: what it runs, computes, prints, writes and refuses."""

import itertools
import json
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.engine.launch import replace_data_root
from mmbanet.models import BANet
from mmbanet.registry import MODELS
from mmbanet.scenes import METAINFO, generate_scenes

from ..conftest import CONFIGS

CONFIG = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
OPTIONS = {
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    # An untrained model is sure of nothing.
    'model.test_cfg.panoptic.score_thr': 0.05,
}
RULES = [
    'score order',
    'smaller in front',
    'mean RGB cosine (paper)',
    'Lab Gaussian',
    'RGB histogram',
    'contour, all it finds',
    'contour',
    'contour, then RGB histogram',
    'combined, no ground',
    'combined',
]
# That decide pairs in each of the rows.
DECIDERS = [
    set(),
    {'SmallerInFront'},
    {'MeanColor'},
    {'LabGaussian'},
    {'ColorHistogram'},
    {'ContourContrast'},
    {'ContourContrast'},
    {'ContourContrast', 'ColorHistogram'},
    {'CombinedOrder'},
    {'CombinedOrder'},
]


@pytest.fixture
def tool(benchmark_folder):
    import occlusion_rules

    return occlusion_rules


@pytest.fixture
def run(tool, monkeypatch, tmp_path, scenes):
    """Runs the tool, by default on the scenes; what is given last counts."""

    def run(config, *arguments):
        options = [f'{key}={value}' for key, value in OPTIONS.items()]
        command = ['occlusion_rules.py', config, '--data-root', scenes, '--work-dir', tmp_path]
        command += [*arguments, '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        tool.main()

    return run


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=0, val=4, size=64)


@pytest.fixture
def truth(scenes):
    """By image id: labels (G,), whole masks (G, H, W) of things from front to back, label map."""
    folder = scenes / 'annotations'
    content = json.loads((folder / 'panoptic_val.json').read_text())
    labels = {category['id']: i for i, category in enumerate(content['categories'])}
    truth = {}
    for annotation in content['annotations']:
        ids = rgb2id(np.array(Image.open(folder / 'panoptic_val' / annotation['file_name'])))
        segments = {segment['id']: segment for segment in annotation['segments_info']}
        semantics = np.zeros(ids.shape, dtype=np.int64)
        for i, segment in segments.items():
            semantics[ids == i] = labels[segment['category_id']]
        things = [segments[i] for i in annotation['depth_order']]
        things = [s for s in things if labels[s['category_id']] < len(METAINFO['thing_classes'])]
        masks = [coco_mask.decode(s['amodal_rle']).astype(bool) for s in things]
        classes = [labels[s['category_id']] for s in things]
        truth[annotation['image_id']] = np.array(classes), np.stack(masks), semantics
    return truth


@pytest.fixture
def perfect_parts(truth, monkeypatch):
    """BANet that detects every thing with its full mask and leaves the overlaps to fusion.

    Scores rise from front to back in every second image: the score order is wrong there.
    """

    def predict(self, batch_inputs, samples, rescale=True):
        for sample in samples:
            labels, masks, semantics = truth[sample.img_id]
            scores = torch.linspace(0.95, 0.65, len(labels))
            sample.pred_instances = InstanceData(
                bboxes=torch.arange(4 * len(labels)).view(-1, 4) * 100.0,  # no duplicates
                labels=torch.from_numpy(labels),
                masks=torch.from_numpy(masks),
                scores=scores.flip(0) if sample.img_id % 2 else scores,
            )
            sample.pred_sem_seg = PixelData(sem_seg=torch.from_numpy(semantics)[None])
            photo = np.array(Image.open(sample.img_path))
            (sample.pred_panoptic_seg,) = self.panoptic_fusion_head.predict(
                [sample.pred_instances],
                [sample.pred_sem_seg.sem_seg],
                [torch.from_numpy(photo).permute(2, 0, 1)],
            )
        return samples

    monkeypatch.setattr(BANet, 'predict', predict)


def scenes_config(scenes, work_dir, **changes) -> Config:
    """The config on the scenes, for MMEngine's runner."""
    cfg = Config.fromfile(CONFIG)
    replace_data_root(cfg, str(scenes))
    cfg.merge_from_dict(OPTIONS | changes)
    cfg.work_dir = str(work_dir)
    return cfg


@pytest.mark.usefixtures('perfect_parts')
def test_table_and_json_of_known_overlaps(run, checkpoint, scenes, truth, tmp_path, capsys):
    out = tmp_path / 'new' / 'rules.json'
    run(CONFIG, checkpoint, '--out', out)
    report = json.loads(out.read_text())
    assert report['config'] == str(CONFIG)
    assert report['data_root'] == f'{scenes}/'
    scores = report['rules']
    assert list(scores) == RULES

    # By hand: the score order is right about all pairs of the even images, and no others.
    pairs = {image_id: occluded_pairs(masks) for image_id, (_, masks, _) in truth.items()}
    even, odd = (sum(pairs[i] for i in pairs if i % 2 == rest) for rest in (0, 1))
    assert min(even, odd) > 0
    by_score = scores['score order']
    assert by_score['occlusion/pairs'] == even + odd
    assert by_score['occlusion/accuracy'] == pytest.approx(100 * even / (even + odd))

    # The model with the rule in its config gives the same.
    for name, rule in zip(RULES, (None, 'SmallerInFront', 'MeanColor')):
        changes = {'model.panoptic_fusion_head.order': rule and dict(type=f'mmbanet.{rule}')}
        cfg = scenes_config(scenes, tmp_path / str(rule), load_from=str(checkpoint), **changes)
        assert scores[name] == pytest.approx(Runner.from_cfg(cfg).test(), nan_ok=True)
    assert len({score['coco_panoptic/PQ'] for score in scores.values()}) >= 3

    printed = capsys.readouterr().out
    header = next(line for line in printed.splitlines() if line.startswith('| rule | PQ |'))
    assert header.count('|') == 9
    for name, score in scores.items():
        row = next(line for line in printed.splitlines() if line.startswith(f'| {name} |'))
        cells = [float(cell) for cell in row.split('|')[2:-1]]
        assert len(cells) == 7
        keys = ('coco_panoptic/PQ', 'coco_panoptic/PQ_th', 'coco_panoptic/PQ_st')
        keys += ('occlusion/accuracy', 'occlusion/accuracy_same_class')
        expected = [score[key] for key in keys]
        assert cells[:5] == pytest.approx(expected, abs=0.051, nan_ok=True)


def occluded_pairs(masks: np.ndarray) -> int:
    """Pairs that share more than 20% of the smaller one."""
    return sum(
        (a & b).sum() > 0.2 * min(a.sum(), b.sum()) for a, b in itertools.combinations(masks, 2)
    )


def test_all_rules_see_the_same_detections(run, tool, checkpoint, scenes, tmp_path, monkeypatch):
    recorders = []

    class Recorder:
        def __init__(self, metrics):
            recorders.append(self)
            self.samples = []

        def process(self, samples, batch):
            self.samples += [sample.clone() for sample in samples]

        def evaluate(self, size):
            assert size == 4
            return {}

    monkeypatch.setattr(tool, 'Evaluator', Recorder)
    run(CONFIG, checkpoint)
    assert [len(recorder.samples) for recorder in recorders] == [4] * len(RULES)

    cfg = scenes_config(scenes, tmp_path)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    with torch.no_grad():
        batches = map(model.test_step, Runner.build_dataloader(cfg.test_dataloader))
        own = [sample for batch in batches for sample in batch]
    decided_by = []
    for recorder in recorders:
        rules = set()
        for sample, expected in zip(recorder.samples, own):
            assert sample.img_id == expected.img_id
            for field in ('bboxes', 'labels', 'scores', 'masks'):
                assert torch.equal(sample.pred_instances[field], expected.pred_instances[field])
            assert torch.equal(sample.pred_sem_seg.sem_seg, expected.pred_sem_seg.sem_seg)
            detections = sample.pred_panoptic_seg.detections
            assert torch.equal(detections, expected.pred_panoptic_seg.detections)
            assert len(detections) > 1
            rules |= set(sample.pred_panoptic_seg.occlusion.rules)
        decided_by.append(rules - {'score'})
    assert decided_by == DECIDERS

    # The model's own rule gives its own panoptic map; others do not.
    same = [
        all(
            torch.equal(sample.pred_panoptic_seg.sem_seg, expected.pred_panoptic_seg.sem_seg)
            for sample, expected in zip(recorder.samples, own)
        )
        for recorder in recorders
    ]
    assert same.index(True) == RULES.index('mean RGB cosine (paper)')
    assert sum(same) == 1


@pytest.mark.parametrize(
    ('config', 'arguments', 'error', 'message'),
    [
        ('no.py', [], FileNotFoundError, 'config not found: /.*no.py$'),
        (CONFIG, ['--data-root', 'no'], FileNotFoundError, 'annotation file not found: /.*/no/'),
        (
            CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py',
            [],
            TypeError,
            'mmbanet.OcclusionAwareFusionHead.* got HeuristicFusionHead$',
        ),
    ],
)
def test_mistakes_get_one_clear_error(run, checkpoint, tmp_path, config, arguments, error, message):
    if error is TypeError:
        torch.save(MODELS.build(Config.fromfile(config).model).state_dict(), checkpoint)
    out = tmp_path / 'rules.json'
    with pytest.raises(error, match=message):
        run(config, checkpoint, '--out', out, *arguments)
    assert not out.exists()


def test_missing_checkpoint(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'checkpoint not found: /.*no.pth$'):
        run(CONFIG, 'no.pth', '--out', tmp_path / 'rules.json')
