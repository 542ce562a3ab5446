"""Two processes that see images of all sorts: no hang, the same weights, the figures of one."""

from __future__ import annotations

import hashlib
import json
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from mmengine.config import Config

from mmbanet.engine.launch import replace_data_root

from . import small
from .children import Child, run_tool, start_tool
from .row import Outcome, Row, chosen, count

# What can be left of an image's annotation, by `changed`.
IMAGES = ('full', 'empty', 'crowds only', 'stuff only', 'void')
_ORACLE = small.CONFIG.with_name('narrow_oracle_scenes.py')
# Of both ranks.
_MIXES = 50
# Images of an evaluation: fewer than ranks, and odd numbers.
_EVALUATED = (1, 3, 5)
#: For a mix or an evaluation; more is a hang.
SECONDS = 120


@contextmanager
def without_gradients_of_nothing() -> Iterator[None]:
    """Parts that no RoI reached have no part in the loss."""
    from mmbanet.models.roi import S2IRoIExtractor

    forward = S2IRoIExtractor.forward

    def cut_off(self, feats: Sequence[torch.Tensor], rois: torch.Tensor, *more) -> torch.Tensor:
        crops = forward(self, feats, rois, *more)
        return crops if len(rois) else crops.detach()

    with patch.object(S2IRoIExtractor, 'forward', cut_off):
        yield


@contextmanager
def without_dropping_the_padding() -> Iterator[None]:
    """Images that fill the last batch up count twice."""
    from mmengine.evaluator import metric

    collect = metric.collect_results

    def collect_all(results: list, size: int, *given: object, **options: object) -> list:
        return collect(results, 10**6, *given, **options)

    with patch.object(metric, 'collect_results', collect_all):
        yield


def run(cases: int | str, folder: Path) -> Outcome:
    """Mixes of training images, and evaluations of few images."""
    rng = random.Random(0)
    # Of every kind on one rank beside every other on the other, and some at random.
    mixes = [[[one], [other]] for one in IMAGES for other in IMAGES]
    while len(mixes) < _MIXES:
        mixes.append([[rng.choice(IMAGES) for _ in range(rng.randint(1, 3))] for _ in range(2)])
    named = [(' beside '.join(map(', '.join, mix)), mix) for mix in mixes]
    named += [(f'{images} images evaluated', images) for images in _EVALUATED]
    wanted = chosen(named, cases)
    trained = [(name, mix) for name, mix in wanted if isinstance(mix, list)]
    scenes = small.make_scenes(folder / 'scenes')
    said = train_all([mix for _, mix in trained], scenes, folder / 'training')
    attempts = [(name, partial(judged, said, index)) for index, (name, _) in enumerate(trained)]
    for name, images in wanted[len(trained) :]:
        attempts.append((name, partial(evaluated, images, folder)))
    return count(attempts)


def environments() -> list[dict[str, str]]:
    """As ``torchrun`` makes them for two processes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    common = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port, OMP_NUM_THREADS='1')
    return [dict(common, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]


def train_all(mixes: list, scenes: Path, folder: Path) -> list[str]:
    """What both ranks have printed of all mixes."""
    ranks = [
        Child(train, mixes, scenes, folder=folder / str(rank), environment=environment)
        for rank, environment in enumerate(environments())
    ]
    with suppress(TimeoutError):  # of a hang; what was not said is judged
        for index in range(len(mixes)):
            if not all(rank.wait_for(f'mix {index}:', seconds=SECONDS) for rank in ranks):
                break
    for rank in ranks:
        rank.kill()
    return [rank.text() for rank in ranks]


def judged(said: list[str], index: int) -> str | None:
    """What is wrong with a mix."""
    for rank, text in enumerate(said):
        lines = [line for line in text.splitlines() if line.startswith(f'mix {index}: ')]
        if not lines:
            last = (text.strip().splitlines() or ['nothing'])[-1]
            return f'rank {rank} did not come to its end: {last}'
        if lines[0] != f'mix {index}: fine':
            return lines[0]
    return None


def train(mixes: list, scenes: Path) -> None:
    """One of two ranks."""
    from mmengine.dataset import pseudo_collate
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import OptimWrapper
    from mmengine.registry import DATASETS, MODELS, init_default_scope

    torch.distributed.init_process_group('gloo')
    rank = torch.distributed.get_rank()
    init_default_scope('mmdet')
    cfg = Config.fromfile(small.CONFIG)
    replace_data_root(cfg, str(scenes))
    torch.manual_seed(0)
    model = MMDistributedDataParallel(MODELS.build(cfg.model).train(), broadcast_buffers=False)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    data = DATASETS.build(cfg.train_dataloader.dataset)
    for index, mix in enumerate(mixes):
        samples = [changed(data[(index + k) % len(data)], kind) for k, kind in enumerate(mix[rank])]
        losses = model.train_step(pseudo_collate(samples), optimizer)
        finite = all(value.isfinite().all() for value in losses.values())
        ours = hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in model.parameters()))
        both = [None, None]
        torch.distributed.all_gather_object(both, ours.hexdigest())
        said = 'fine' if finite else 'a loss is not finite'
        print(f'mix {index}: {said if both[0] == both[1] else "weights differ"}', flush=True)


def changed(item: dict, kind: str) -> dict:
    """A sample of the data set with less in its annotation."""
    sample = item['data_samples']
    if kind == 'full':
        return item
    instances, labels = sample.gt_instances, sample.gt_sem_seg.sem_seg
    sample.gt_instances = instances[:0]
    if kind == 'crowds only':
        sample.ignored_instances = instances
    if kind == 'stuff only':
        labels[labels < 8] = 255  # the scenes' things
    if kind == 'void':
        labels[:] = 255
    return item


def evaluated(images: int, folder: Path) -> str | None:
    """What differs between figures of two processes and of one."""
    folder = folder / f'evaluated_{images}'
    scenes = small.make_scenes(folder / 'scenes', train=2, val=images)
    rest = small.arguments(scenes, folder / 'tested')[1:]
    test = [_ORACLE, small.trained(scenes, folder / 'trained')]
    status, child = run_tool('test.py', *test, '--out', folder / 'one.json', *rest, folder=folder)
    if status:
        return f'one process failed: {child.last_line()}'
    together = ['--launcher', 'pytorch', '--out', folder / 'two.json', *rest]
    # MMEngine exchanges results by files in the current folder.
    ranks = [
        start_tool('test.py', *test, *together, folder=folder / 'two', **environment)
        for environment in environments()
    ]
    for rank in ranks:
        if rank.wait(SECONDS):
            return f'two processes failed: {rank.last_line()}'
    one, two = ((folder / f'{name}.json').read_text() for name in ('one', 'two'))
    figures, others = json.loads(one), json.loads(two)
    if not figures['coco_panoptic/PQ_st']:
        return f'figures that cannot differ: {figures}'
    different = [name for name in figures if repr(figures[name]) != repr(others.get(name))]
    timed = {name for name in different if name.endswith('time')}
    return f'{different} differ' if set(different) - timed else None


ROW = Row(
    'two-ranks',
    'two processes that train on images full, empty, with crowds only, stuff only, void: no hang, '
    'no unused parameter, the same weights; metrics of 1, 3, 5 images as of one process',
    _MIXES + len(_EVALUATED),
    run,
    {
        'gradients-of-nothing': without_gradients_of_nothing,
        'each-image-once': without_dropping_the_padding,
    },
)
