"""A GPU's results are waited for so often, however many objects there are."""

from collections import Counter

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmbanet.models.fusion import OcclusionAwareFusionHead

# What copies a result to the CPU, or makes a tensor of a size that depends on values.
WAITS = (
    'item tolist cpu numpy __bool__ __int__ __index__ __float__ nonzero argwhere unique bincount'
)
CFG = dict(
    score_thr=0.3, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=1, pairs='all'
)


class CountWaits(TorchFunctionMode):
    """Counts calls that would make the CPU wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        indexed = name in ('__getitem__', '__setitem__') and _selects(args[1])
        unsized = name == 'repeat_interleave' and 'output_size' not in (kwargs or {})
        if name in WAITS.split() or indexed or unsized:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def _selects(index):
    """Whether a mask is among the indices."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


def waits(num_objects):
    """What is waited for with so many objects, each of which is half behind the next one."""
    masks = torch.zeros(num_objects, 6, 2 * num_objects + 2, dtype=torch.bool)
    for k, mask in enumerate(masks):
        mask[1:5, 2 * k : 2 * k + 4] = True
    instances = InstanceData(
        bboxes=torch.rand(num_objects, 4),
        labels=torch.arange(num_objects) % 2,
        scores=torch.linspace(0.9, 0.5, num_objects),
        masks=masks,
    )
    generator = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(3, *masks.shape[1:], generator=generator)
    logits = torch.rand(4, *masks.shape[1:], generator=generator)
    head = OcclusionAwareFusionHead(2, 2, test_cfg=CFG)
    with CountWaits() as waiting:
        (result,) = head.predict([instances], [logits], [image])
    assert set(result.occlusion.rules) == {'MeanColor'}
    assert len(result.occlusion.rules) == num_objects - 1
    return waiting.counts


def test_as_often_for_many_objects_as_for_few():
    few, many = waits(5), waits(50)
    assert few == many
    assert few.total() > 5
