"""NaN and infinity: in losses, in what fusion sees, in checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from . import small
from .children import Child, call_tool, one_line, run_tool
from .kill_and_resume import first_difference
from .row import Outcome, Row, chosen, count

# Of equation (5).
LOSSES = (
    'loss_seg',
    'loss_rpn_cls',
    'loss_rpn_bbox',
    'loss_cls',
    'loss_bbox',
    'loss_mask',
    'loss_i2s',
)
SKIP = 'custom_hooks.1.skip=1'
# Of gradients, near the largest number, 3.4e38; those of the semantic loss overflow at first.
SCALE, SCALED_ITERATIONS = 2.0**127, 8
SCALED = (
    f'train_cfg.max_iters={SCALED_ITERATIONS}',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
    'optim_wrapper.type=AmpOptimWrapper',
    f'optim_wrapper.loss_scale.init_scale={SCALE}',
    'model.semantic_head.loss_seg.loss_weight=30',
)


@contextmanager
def without_finite_losses() -> Iterator[None]:
    """Losses are minimised, whatever they are."""
    from mmbanet.engine import FiniteLossHook

    with patch.object(FiniteLossHook, '_check', lambda *_: None):
        yield


@contextmanager
def without_leaving_out_overflows() -> Iterator[None]:
    """Steps are made with gradients that overflow."""

    def step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        optimizer.step()

    with patch.object(torch.amp.GradScaler, '_maybe_opt_step', step):
        yield


@contextmanager
def without_checks_of_fusion() -> Iterator[None]:
    """NaN takes part in orders and comparisons."""
    from mmbanet.models.fusion import checks, occlusion, selection

    with (
        patch.object(selection, 'check_not_nan', lambda *_: None),
        patch.object(checks, 'check_not_nan', lambda *_: None),
        patch.object(occlusion, 'check_image', lambda *_: None),
        patch.object(torch.Tensor, 'isnan', lambda self: torch.zeros_like(self, dtype=torch.bool)),
    ):
        yield


@contextmanager
def without_finite_weights() -> Iterator[None]:
    """Checkpoints are loaded, whatever their weights are."""
    from mmbanet.engine import checkpoints

    with patch.object(checkpoints, '_check_content', lambda *_: None):
        yield


def train_with(name: str, value: float, command: list[str]) -> None:
    """Trains; the second iteration has a loss that is not finite."""
    from mmbanet.models import BANet

    loss, calls = BANet.loss, 0

    def spoiled(self, inputs: torch.Tensor, samples: list) -> dict:
        nonlocal calls
        calls += 1
        losses = loss(self, inputs, samples)
        if calls == 2:
            part = losses[name]
            losses[name] = [p + value for p in part] if isinstance(part, list) else part + value
        return losses

    BANet.loss = spoiled
    call_tool('train.py', command)


def stops(name: str, value: float, scenes: Path, folder: Path) -> str | None:
    """What goes wrong with a loss in training that is to stop at it."""
    command = small.arguments(scenes, folder, 'train_cfg.max_iters=3', *small.NO_VALIDATION)
    child = Child(train_with, name, value, command, folder=folder)
    problem = one_line(child.wait(), child, 'train.py', 'iteration 2', name, '.jpg')
    if problem:
        return problem
    named = re.findall(r'(loss_\w+) = ', child.last_line())
    return None if named == [name] else f'names {named}: {child.last_line()}'


def skips(name: str, value: float, scenes: Path, folder: Path) -> str | None:
    """The same with ``skip``."""
    command = small.arguments(scenes, folder, 'train_cfg.max_iters=3', *small.NO_VALIDATION, SKIP)
    child = Child(train_with, name, value, command, folder=folder)
    if child.wait():
        return f'stopped: {child.last_line()}'
    said = f'{name} = ' in child.text() and 'the batch is left out' in child.text()
    weights = torch.load(folder / 'iter_3.pth', weights_only=False)['state_dict']
    finite = all(weight.isfinite().all() for weight in weights.values())
    return None if said and finite else 'not said, or weights are not finite'


def train_scaled(command: list[str]) -> None:
    """Trains with the scaler of ``--amp``, on the CPU and in full precision."""
    from mmengine.optim import AmpOptimWrapper, OptimWrapper
    from mmengine.optim.optimizer import amp_optimizer_wrapper

    scaler = partial(torch.amp.GradScaler, 'cpu')
    with (
        patch.multiple(amp_optimizer_wrapper, is_cuda_available=lambda: True, GradScaler=scaler),
        patch.object(AmpOptimWrapper, 'optim_context', OptimWrapper.optim_context),
    ):
        call_tool('train.py', command)


def scaled(scenes: Path, folder: Path, *more: str) -> list[dict]:
    """Its checkpoints; the scale is so large at first that gradients overflow."""
    command = small.arguments(scenes, folder, *small.NO_VALIDATION, *SCALED)
    child = Child(train_scaled, [*command, *more], folder=folder)
    if child.wait():
        raise RuntimeError(f'the training stopped: {child.last_line()}')
    paths = [folder / f'iter_{step}.pth' for step in range(1, SCALED_ITERATIONS + 1)]
    return [torch.load(path, weights_only=False) for path in paths if path.exists()]


def parameters(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What an optimizer changes: not the statistics of batch normalisation."""
    statistics = ('.running_mean', '.running_var', '.num_batches_tracked')
    return {name: value for name, value in weights.items() if not name.endswith(statistics)}


def leaves_out_overflows(scenes: Path, folder: Path) -> str | None:
    """What goes wrong with gradients that overflow: a step is made where the scale was kept."""
    states = scaled(scenes, folder)
    found = [
        (state['optimizer']['loss_scaler']['scale'], parameters(state['state_dict']))
        for state in states
    ]
    for step, ((scale, weights), (next_scale, next_weights)) in enumerate(pairwise(found), 2):
        changed = first_difference(weights, next_weights, 'weights') != ''
        if changed == (next_scale < scale):
            return f'iteration {step}: scale {scale:g} -> {next_scale:g}, changed: {changed}'
    scales = [scale for scale, _ in found]
    if not scales[0] == SCALE / 2 > scales[1] > scales[-1] == scales[-2]:
        return f'nothing overflows, or all: {scales}'
    finite = all(weight.isfinite().all() for weight in found[-1][1].values())
    return None if finite else 'weights are not finite'


def goes_on_with_scale(scenes: Path, folder: Path) -> str | None:
    """What differs when a training goes on between two gradients that overflow."""
    expected = scaled(scenes, folder / 'whole')
    found = scaled(scenes, folder / 'resumed', '--resume', str(folder / 'whole' / 'iter_2.pth'))
    parts = ('state_dict', 'optimizer')
    differences = [first_difference(expected[-1][part], found[-1][part], part) for part in parts]
    return next((f'{path} differs' for path in differences if path), None)


def refuses(field: str) -> str | None:
    """What goes wrong when a fusion head gets NaN."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(small.CONFIG).model
    head = MODELS.build(dict(cfg.panoptic_fusion_head, test_cfg=cfg.test_cfg.panoptic))
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, :8], masks[1, 4:12] = True, True
    instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 16, 8], [0, 4, 16, 12]]),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.8]),
        masks=masks,
    )
    image, logits = torch.full((3, 16, 16), 128.0), torch.zeros(13, 4, 4)
    target = dict(scores=instances.scores, bboxes=instances.bboxes, image=image, logits=logits)
    target[field].view(-1)[1] = float('nan')
    try:
        head.predict([instances], [logits], [image])
    except ValueError as error:
        return None if field in str(error) else f'does not name the {field}: {error}'
    return 'was taken'


def refuses_weights(
    tool: str, command: list[object], checkpoint: Path, scenes: Path, folder: Path
) -> str | None:
    """What goes wrong when a checkpoint has a weight that is NaN."""
    if not checkpoint.exists():
        write_spoiled(checkpoint, scenes)
    status, child = run_tool(tool, *command, folder=folder)
    name = tool if tool.endswith('.py') else f'mmbanet {tool}'
    return one_line(status, child, name, checkpoint.name, 'neck.lateral_convs.0.conv.weight')


def write_spoiled(path: Path, scenes: Path) -> None:
    """A checkpoint with a weight that is NaN."""
    content = torch.load(small.trained(scenes, path.parent), weights_only=False)
    content['state_dict']['neck.lateral_convs.0.conv.weight'][0] = float('nan')
    torch.save(content, path)


def run(cases: int | str, folder: Path) -> Outcome:
    """Each loss, each input of fusion, each tool that reads checkpoints."""
    scenes = small.make_scenes(folder / 'scenes')
    bad = folder / 'trained' / 'spoiled.pth'
    config, *rest = small.arguments(scenes, folder / 'tested', *small.NO_VALIDATION)
    tools: list[tuple[str, list[object]]] = [
        ('test.py', [config, bad, *rest]),
        ('predict', [config, bad, scenes / 'val', '--out', folder / 'predicted']),
        ('train.py', [config, *rest, f'load_from={bad}']),
        ('train.py', [*small.arguments(scenes, folder / 'again'), '--resume', bad]),
    ]
    attempts: list[tuple[str, Callable[[], str | None]]] = []
    for number, name in enumerate(LOSSES):
        value = float('nan') if number % 2 else float('inf')
        trained = partial(stops, name, value, scenes, folder / name)
        attempts.append((f'{name} + {value}', trained))
    skipped = partial(skips, 'loss_mask', float('nan'), scenes, folder / 'skipped')
    attempts.append(('loss_mask left out', skipped))
    overflowing = partial(leaves_out_overflows, scenes, folder / 'overflowing')
    attempts.append(('gradients that overflow', overflowing))
    resumed = partial(goes_on_with_scale, scenes, folder / 'scale')
    attempts.append(('the scale of gradients, resumed', resumed))
    fields = ('scores', 'bboxes', 'logits', 'image')
    attempts += [(f'{field} of fusion', partial(refuses, field)) for field in fields]
    for number, (tool, command) in enumerate(tools):
        case = partial(refuses_weights, tool, command, bad, scenes, folder / f'tool_{number}')
        attempts.append((f'weights, {tool} {number}', case))
    return count(chosen(attempts, cases))


ROW = Row(
    'numbers',
    'NaN and infinity: losses stop training (or leave the batch out) with the names of loss and '
    'images; gradients that overflow are left to the scaler, whose state `--resume` keeps; fusion '
    'refuses NaN by name; checkpoints with such weights are refused by name',
    18,
    run,
    {
        'finite-losses': without_finite_losses,
        'overflows-left-out': without_leaving_out_overflows,
        'checks-of-fusion': without_checks_of_fusion,
        'finite-weights': without_finite_weights,
    },
)
