"""docs/own_data.md, every command of it: from a folder of photographs to a report."""

import json
import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmbanet.cli.main import main

from .conftest import CONFIGS, ROOT

PAGE = (ROOT / 'docs' / 'own_data.md').read_text()
# A shipped config for photographs of 64x48 pixels and two iterations.
TINY = """
_base_ = {base!r}
steps = dict(_base_.steps, resize=dict(_base_.steps.resize, scale=(64, 48)))
train_pipeline = [steps[name] for name in ('image', 'annotations', 'resize', 'flip', 'pack')]
test_pipeline = [steps[name] for name in ('image', 'resize', 'annotations', 'pack_test')]
here = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(here, batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(here, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2)
default_hooks = dict(checkpoint=dict(interval=1))
model = dict(
    backbone=dict(init_cfg=None, base_channels=8, stem_channels=8),
    neck=dict(in_channels={channels}),
    roi_head=dict(bbox_head=dict(fc_out_channels=8)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=20), rcnn=dict(sampler=dict(num=8))),
    test_cfg=dict(rpn=dict(max_per_img=20)),
)
"""


@pytest.fixture
def follow(call_tool, tmp_path):
    """Runs the commands of a section, in a folder of its own, with tiny configs."""
    (tmp_path / 'examples').symlink_to(ROOT / 'examples')
    for name, channels in (
        ('banet_r50_fpn_1x_custom.py', [32, 64, 128, 256]),
        ('banet_r18_fpn_camvid.py', [8, 16, 32, 64]),
    ):
        path = tmp_path / 'configs' / 'banet' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TINY.format(base=str(CONFIGS / 'banet' / name), channels=channels))

    def follow(title: str) -> None:
        section = PAGE[PAGE.index(f'## {title}') :].split('\n## ')[0]
        for block in re.findall(r'```bash\n(.*?)```', section, re.S):
            for line in block.replace('\\\n', ' ').splitlines():
                # A number of iterations becomes two.
                words = shlex.split(re.sub(r'(max_iters=|end=|iter_)\d+', r'\g<1>2', line))
                if words[0] == 'mmbanet':
                    sys.argv = words
                    main()
                else:
                    assert words[0] == 'python'
                    call_tool(words[1].removeprefix('tools/'), *words[2:])

    argv = sys.argv
    yield follow
    sys.argv = argv


def draw(path: Path, seed: int) -> list[int]:
    """A photograph of 64x48 pixels with a rectangle as a car: x1, y1, x2, y2."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (48, 64, 3), np.uint8)
    x, y, w, h = (int(v) for v in rng.integers([4, 4, 16, 16], [20, 14, 28, 28]))
    image[y : y + h, x : x + w] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return [x, y, x + w, y + h]


def polygon(label: str, x1: int, y1: int, x2: int, y2: int) -> dict:
    points = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    return dict(label=label, points=points, shape_type='polygon', group_id=None)


@pytest.mark.slow
def test_photographs_and_labelme(follow, tmp_path, capfd):
    (classes,) = re.findall(r'```json\n(.*?)```', PAGE, re.S)
    (tmp_path / 'classes.json').write_text(classes)
    folder = tmp_path / 'data' / 'custom'
    for number in range(5):
        box = draw(folder / f'{number:04}.jpg', number)
        inner = [(3 * a + b) // 4 for a, b in zip(box, box[2:] + box[:2])]
        shapes = [
            polygon('car', *box),
            polygon('person', *inner),
            polygon('road', 0, 30, 64, 48),
            polygon('sky', 0, 0, 64, 30),
        ]
        content = dict(shapes=shapes, imagePath=f'{number:04}.jpg', imageHeight=48, imageWidth=64)
        (folder / f'{number:04}.json').write_text(json.dumps(content))
    # Of COCO, with some weights that fit.
    state = {'backbone.layer1.0.bn1.bias': torch.zeros(8), 'roi_head.mask_head.x': torch.zeros(1)}
    state['roi_head.bbox_head.fc_cls.weight'] = torch.zeros(81, 8)
    torch.save(dict(state_dict=state), tmp_path / 'COCO_CHECKPOINT')

    follow('Photographs and Labelme')
    printed = ''.join(capfd.readouterr())
    assert 'nothing is wrong' in printed or 'warning' in printed
    assert re.search(r'COCO_CHECKPOINT: 1 of the \d+ weights are taken over', printed)
    assert 'fc_cls.weight (81, 8), here (3, 8)' in printed
    assert re.search(r'Things\s*\|', printed)
    work = tmp_path / 'work_dirs'
    meta = torch.load(work / 'custom' / 'iter_2.pth', weights_only=False)['meta']['dataset_meta']
    assert meta['classes'] == ['car', 'person', 'road', 'sky']
    for file in ('gallery/index.html', 'predictions/panoptic.json', 'report/index.html'):
        assert (work / file).is_file(), file
    found = json.loads((work / 'predictions' / 'panoptic.json').read_text())
    assert [c['name'] for c in found['categories']] == ['car', 'person', 'road', 'sky']


@pytest.mark.slow
def test_forty_photographs_with_label_images(follow, tmp_path):
    """The layout of CamVid, with less of it."""
    for split, numbers in (('train', range(3)), ('val', range(3, 5))):
        for number in numbers:
            x1, y1, x2, y2 = draw(tmp_path / 'data' / 'camvid' / split / f'{number}.png', number)
            labels = np.full((48, 64), 3, np.uint8)  # road
            labels[:20] = 0  # sky
            labels[y1:y2, x1:x2] = 8  # car
            path = tmp_path / 'data' / 'camvid' / f'{split}annot' / f'{number}.png'
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), labels)
    follow('Forty photographs with label images: CamVid')
    assert (tmp_path / 'work_dirs' / 'camvid_report' / 'index.html').is_file()
