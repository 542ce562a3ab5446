"""RoIInlay and what a user would take in its place, on the same crops and boxes.

Shapes: K crops (K, C, h, w), rois (K, 5) in pixels of the map, one map (1, C, H, W).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmbanet.ops import roi_inlay, roi_upsample


@dataclass(frozen=True)
class Crops:
    """One row: ``objects`` crops of ``crop`` x ``crop`` into a map of ``height`` x ``width``.

    Boxes have sides of ``low`` to ``high`` pixels of the map.
    """

    name: str
    objects: int
    crop: int
    height: int
    width: int
    channels: int
    low: float
    high: float

    def inputs(self, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Random crops and boxes, the boxes inside the map."""
        generator = torch.Generator().manual_seed(seed)
        sides = self.low + (self.high - self.low) * torch.rand(self.objects, 2, generator=generator)
        room = torch.tensor([self.width, self.height]) - sides
        corners = room * torch.rand(self.objects, 2, generator=generator)
        rois = torch.cat([torch.zeros(self.objects, 1), corners, corners + sides], dim=1)
        shape = (self.objects, self.channels, self.crop, self.crop)
        crops = torch.randn(shape, generator=generator)
        return crops.to(device), rois.to(device)


# The paper's Table 5 (crops of the object's size, 512 channels), then this model's own use: 100
# detections of a 800x1216 image at stride 4, with SIM's and OCM's 138 channels or with 256.
CASES = [
    *(
        Crops(f'{objects}, {size}, {side}', objects, size, side, side, 512, size, size)
        for objects, size, side in (
            (50, 28, 300),
            (100, 28, 300),
            (100, 28, 800),
            (100, 56, 300),
            (100, 128, 300),
        )
    ),
    *(Crops(f'model, C={c}', 100, 14, 200, 304, c, 8, 120) for c in (138, 256)),
]


def inlay_by_grid_sample(crops: Tensor, rois: Tensor, height: int, width: int) -> Tensor:
    """RoIInlay of one image in plain PyTorch: each crop sampled over its box, sums over counts."""
    total = crops.new_zeros(crops.shape[1], height * width)
    count = crops.new_zeros(height * width)
    for crop, (_, x1, y1, x2, y2) in zip(crops, (rois - rois.new_tensor([0, 0.5, 0.5, 0.5, 0.5]))):
        y = torch.arange(max(int(y1.ceil()), 0), min(int(y2.floor()), height - 1) + 1)
        x = torch.arange(max(int(x1.ceil()), 0), min(int(x2.floor()), width - 1) + 1)
        y, x = y.to(crops.device), x.to(crops.device)
        grid = torch.stack(
            torch.meshgrid((x - x1) / (x2 - x1), (y - y1) / (y2 - y1), indexing='xy'), dim=-1
        )
        values = F.grid_sample(
            crop[None], grid[None] * 2 - 1, padding_mode='border', align_corners=False
        )
        # Slices of the map would be shorter, and have a backward pass that copies it each time.
        pixels = (y[:, None] * width + x).flatten()
        total.index_add_(1, pixels, values[0].flatten(1))
        count.index_add_(0, pixels, torch.ones_like(pixels, dtype=count.dtype))
    return (total / count.clamp(min=1)).view(1, -1, height, width)


def operators(case: Crops) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """By name: functions of crops and boxes that return the map."""
    size = (case.height, case.width)
    return {
        'roi_inlay': lambda crops, rois: roi_inlay(crops, rois, 1, size),
        'roi_upsample sum': lambda crops, rois: roi_upsample(crops, rois, 1, size),
        'roi_upsample mean': lambda crops, rois: roi_upsample(
            crops, rois, 1, size, reduction='mean'
        ),
        'grid_sample': lambda crops, rois: inlay_by_grid_sample(crops, rois, *size),
    }


def roi_align_backward(case: Crops, rois: Tensor, grad: Tensor) -> Callable[[], Tensor] | None:
    """Mmcv's scatter of crops into a map: the gradient of RoIAlign with one sample a bin.

    None where mmcv or its compiled operators are not installed.
    """
    try:
        from mmcv.ops import roi_align
    except ImportError:
        return None

    feature = torch.zeros(
        1, case.channels, case.height, case.width, device=grad.device, requires_grad=True
    )
    crops = roi_align(feature, rois, case.crop, 1.0, 1, 'avg', True)
    return lambda: torch.autograd.grad(crops, feature, grad, retain_graph=True)[0]
