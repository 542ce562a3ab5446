"""Paths and small inputs that several tests share."""

import ast
import multiprocessing
import os
import runpy
import signal
import socket
import sys

if 'PYTEST_XDIST_WORKER' in os.environ:  # a process a core: before torch is imported
    os.environ['OMP_NUM_THREADS'] = '1'
    os.environ['OMP_WAIT_POLICY'] = 'passive'  # where a test takes more, they share the cores

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from yapf.yapflib import yapf_api

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
TOOLS = ROOT / 'tools'
DEVICES = [
    'cpu',
    pytest.param(
        'cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
    ),
]
# What takes processes of a training seconds to import; torch's optimizers import the first.
PRELOADED = ['torch._dynamo', *(f'mmbanet.{name}' for name in ('datasets', 'evaluation', 'models'))]
# One real COCO val2017 image with its panoptic annotation, in the official layout.
COCO_SAMPLE = Path(os.environ.get('MMBANET_COCO_SAMPLE', ROOT.parent / 'shared' / 'coco_sample'))


def _unformatted(text: str, **_) -> tuple[str, bool]:
    ast.parse(text)
    return text, True


# MMEngine's runner lays out the text of its config five times, which takes five seconds.
yapf_api.FormatCode = _unformatted


def pytest_addoption(parser: pytest.Parser) -> None:
    """``make quick`` runs each test with two of its sets of parameters."""
    parser.addoption('--sets', type=int, help='sets of parameters that a test is run with at most')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the files with slow tests first, so that no process waits for one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)
    if sets := config.getoption('--sets'):
        _leave_out_sets(config, items, sets)


def _leave_out_sets(config: pytest.Config, items: list[pytest.Item], most: int) -> None:
    """Keeps that many sets of parameters of each test, evenly spread over those that can run."""
    tests = {}
    for item in items:
        if not any(mark.args[:1] == (True,) for mark in item.iter_markers('skipif')):
            tests.setdefault(item.nodeid.partition('[')[0], []).append(item)
    kept = {
        id(of[k * (len(of) - 1) // max(1, most - 1)]) for of in tests.values() for k in range(most)
    }
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


@pytest.fixture(autouse=True)
def _seed_and_scope():
    torch.manual_seed(0)
    np.random.seed(0)
    init_default_scope('mmdet')


@pytest.fixture(autouse=True)
def _answer_ctrl_c():
    """What a test starts is not to ignore Ctrl-C.

    A shell's background job ignores it, and so does this process when a tool has run in it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def is_large(config: Path) -> bool:
    """Whether a shipped config's backbone is a ResNet-50 or larger."""
    return not {'r18', 'r34'} & set(config.stem.split('_'))


@pytest.fixture
def small_cfg() -> Config:
    """The small model on generated scenes."""
    return Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')


@pytest.fixture
def call_tool(tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Runs a tool as a script, but in this process, which spares its imports.

    ``call_tool('train.py', *arguments)``; the current folder is a temporary one.
    """

    def call(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(TOOLS / name), run_name='__main__')

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setenv('LOCAL_RANK', '0')  # which the tools set
    yield call
    forget_tools()


def forget_tools() -> None:
    """Removes the modules of the tools, but for what is imported for all tests of a file."""
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, '__file__', None) or '/')
        if TOOLS in path.parents and not {TOOLS / 'dev', TOOLS / 'reliability'} & {*path.parents}:
            del sys.modules[name]


def make_sample(
    height: int = 64,
    width: int = 96,
    num_things: int = 3,
    num_things_classes: int = 8,
    num_classes: int = 13,
    seed: int = 0,
) -> DetDataSample:
    """A sample with random rectangles as things on random stuff."""
    rng = np.random.default_rng(seed)
    seg = np.full((height, width), num_things_classes, dtype=np.uint8)
    seg[height // 2 :] = num_classes - 1
    boxes, labels, masks = [], [], []
    for _ in range(num_things):
        x1, y1 = rng.integers(0, width - 24), rng.integers(0, height - 24)
        w, h = rng.integers(12, 24, 2)
        label = rng.integers(num_things_classes)
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[y1 : y1 + h, x1 : x1 + w] = 1
        seg[mask > 0] = label
        boxes.append([x1, y1, x1 + w, y1 + h])
        labels.append(label)
        masks.append(mask)
    sample = DetDataSample(
        metainfo=dict(
            img_id=seed,
            img_path=f'{seed}.jpg',
            img_shape=(height, width),
            ori_shape=(height, width),
            pad_shape=(height, width),
            batch_input_shape=(height, width),
            scale_factor=(1.0, 1.0),
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=BitmapMasks(masks, height, width),
    )
    sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(seg)[None])
    return sample


def run_on_two_ranks(function: Callable, folder: Path, *arguments: Any) -> list[Any]:
    """What a function of a test module returns on each of two ranks, in the folder.

    The environment is as ``torchrun`` makes it; the function joins the group. Both are forked from
    a server that has imported what takes seconds.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    processes = [
        context.Process(target=_run_rank, args=(rank, port, function, folder, arguments))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
        assert process.exitcode == 0
    return [torch.load(folder / f'rank{rank}.pth', weights_only=False) for rank in range(2)]


def _run_rank(rank: int, port: str, function: Callable, folder: Path, arguments: tuple) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', OMP_NUM_THREADS='1')
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    torch.set_num_threads(1)
    os.chdir(folder)  # MMEngine exchanges results by files in here
    torch.save(function(*arguments), folder / f'rank{rank}.pth')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
