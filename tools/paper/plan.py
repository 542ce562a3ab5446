"""What trainings take: iterations, images, hours by a model of throughput, disk.

Hours are the floating-point operations of all training steps over what the processes do in one.
Operations are three times those of the forward pass: PyTorch counts convolutions and matrix
products on two small images with all positive RoIs that the sampler takes, and in between they are
proportional to the pixels. What is frozen counts as if it were trained. Input and output,
communication and evaluation are not in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .report import text_table

# Height and width of the two images.
SMALL = (128, 128), (192, 256)
# Things of an image, whose masks I2S and MAM inlay.
THINGS = 8
# A deformable convolution multiplies in place, which PyTorch's counter does not know.
IN_PLACE = {torch.ops.aten.addmm_: lambda _, first, second, **__: 2 * math.prod(first) * second[1]}


class Plan(NamedTuple):
    """What the trainings of a config take.

    Attributes:
        config: Its name.
        iterations: Steps of one.
        images: That all processes see in one.
        operations: Floating-point operations of one image.
        seconds: Of one, at the given throughput.
        bytes: Of the checkpoints that one leaves.
        times: Trainings, with a seed each.
        done: Of these, how many are done.
    """

    config: str
    iterations: int
    images: int
    operations: float
    seconds: float
    bytes: int
    times: int
    done: int


def plan_trainings(
    config: str,
    cfg: Config,
    processes: int,
    teraflops: float,
    train_images: int,
    times: int = 1,
    done: int = 0,
) -> Plan:
    """The plan of a config.

    Args:
        config: What it is called.
        cfg: As the training tool reads it.
        processes: GPUs, or processes on CPUs.
        teraflops: 1e12 operations that each does in a second.
        train_images: Size of the data set, for schedules in epochs.
        times: See :class:`Plan`.
        done: See :class:`Plan`.
    """
    batch = processes * cfg.train_dataloader.batch_size
    loop = cfg.train_cfg
    iterations = loop.get('max_iters') or loop.max_epochs * math.ceil(train_images / batch)
    operations, parameters = count_training(cfg)
    seconds = iterations * batch * operations / (processes * teraflops * 1e12)
    size = checkpoint_bytes(cfg, parameters, iterations)
    return Plan(config, iterations, iterations * batch, operations, seconds, size, times, done)


def plan_table(plans: list[Plan]) -> str:
    """A line for each config, and the sum of what is left."""
    rows = [['config', 'trainings', 'iterations', 'images', 'GFLOP an image', 'hours', 'disk, GB']]
    total = np.zeros(3)
    for plan in plans:
        left = plan.times - plan.done
        sums = left * np.array([1, plan.seconds / 3600, plan.bytes / 1e9])
        total += sums
        trainings = f'{left}' + (f' ({plan.done} done)' if plan.done else '')
        cells = [plan.config, trainings, f'{plan.iterations}', f'{plan.images}']
        rows.append([*cells, f'{plan.operations / 1e9:.0f}', f'{sums[1]:.1f}', f'{sums[2]:.1f}'])
    rows.append(['all', f'{total[0]:.0f}', '', '', '', f'{total[1]:.1f}', f'{total[2]:.1f}'])
    return text_table(rows)


def checkpoint_bytes(cfg: Config, parameters: int, iterations: int) -> int:
    """Of weights and the optimizer's state, in single precision, of all that are kept."""
    states = 2 if cfg.optim_wrapper.optimizer.type.startswith('Adam') else 1
    hook = cfg.default_hooks.checkpoint
    saved = math.ceil(iterations / hook.interval) if not hook.get('by_epoch', True) else 1
    kept = hook.get('max_keep_ckpts', -1)
    return 4 * parameters * (1 + states) * (saved if kept < 1 else min(saved, kept))


def count_training(cfg: Config) -> tuple[float, int]:
    """Operations of a training step on one image of the data set's size; parameters."""
    model = cfg.model.copy()
    if 'backbone' in model:
        model.backbone = ConfigDict(model.backbone, init_cfg=None)
    positives = positive_rois(model)
    share = dict(gt_share=(THINGS / positives,) * 2)
    inlaid = {name: share for name in ('i2s', 'mam') if name in model.train_cfg}
    model.train_cfg = ConfigDict(model.train_cfg, **inlaid)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        net = MODELS.build(model).train()
        counts = [count_forward(net, *size, positives) for size in SMALL]
    areas = [height * width for height, width in SMALL]
    slope = (counts[1] - counts[0]) / (areas[1] - areas[0])
    height, width = train_size(cfg)
    forward = counts[0] + slope * (height * width - areas[0])
    return 3 * forward, sum(parameter.numel() for parameter in net.parameters())


def positive_rois(model: ConfigDict) -> int:
    """How many of an image's RoIs the sampler takes with an object, at most."""
    rcnn = model.train_cfg.rcnn
    sampler = (rcnn[0] if isinstance(rcnn, list) else rcnn).sampler
    return int(sampler.num * sampler.pos_fraction)


def train_size(cfg: Config) -> tuple[float, float]:
    """Height and width of the mean training image, if the data set's pictures are 4:3."""
    short, long, cropped = 0.0, math.inf, 1.0
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type in ('Resize', 'RandomChoiceResize'):
            scales = step.get('scales') or [step.scale]
            short, long = (float(np.mean([f(scale) for scale in scales])) for f in (min, max))
        if step.type == 'RandomCrop' and step.get('crop_type') == 'relative_range':
            cropped = (1 + step.crop_size[0]) / 2
    return short * cropped, min(long, short * 4 / 3) * cropped


@torch.no_grad()
def count_forward(net: nn.Module, height: int, width: int, things: int) -> int:
    """Operations of the losses of one made-up image."""
    torch.manual_seed(0)
    sample = made_up_sample(height, width, things)
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        net.loss(torch.randn(1, 3, height, width), [sample])
    return counter.get_total_flops()


def made_up_sample(height: int, width: int, things: int) -> DetDataSample:
    """Ground truth with squares as things, side by side; the first is in front of the second."""
    columns = math.ceil(math.sqrt(things))
    places = torch.arange(things)
    corners = torch.stack([places % columns, places // columns], dim=1) / columns
    boxes = torch.cat([corners, corners + 1 / columns], dim=1) * torch.tensor([width, height] * 2)
    masks = np.zeros((things, height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist()):
        mask[y1:y2, x1:x2] = 1
    order = torch.zeros((things, things), dtype=torch.int8)
    order[0, 1], order[1, 0] = 1, -1
    shape = (height, width)
    sizes = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape)
    sample = DetDataSample(metainfo=dict(img_id=0, img_path='', scale_factor=(1.0, 1.0), **sizes))
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(things, dtype=torch.long),
        masks=BitmapMasks(masks, height, width),
        order=order,
    )
    sample.gt_sem_seg = PixelData(sem_seg=torch.zeros((1, height, width), dtype=torch.long))
    return sample
