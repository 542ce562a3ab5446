"""What the fusion heads are measured on: random objects, image and logits of realistic kinds.

Shapes: K objects, H x W pixels of the output, h x w of the logits.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

THINGS, STUFF = 80, 53  # COCO
NMS_IOU = 0.5


@dataclass(frozen=True)
class Case:
    """One size of input; ``target``: the ratio of times to reach."""

    objects: int
    height: int
    width: int
    target: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        return self.height, self.width

    @property
    def bytes_needed(self) -> int:
        """Roughly, of both heads' full-size logits and what they take beside them."""
        logits = 4 * (THINGS + STUFF + STUFF + 1)
        return self.height * self.width * (logits + 2 * self.objects + 128)


CASES = (
    Case(1, 800, 1333),
    Case(3, 800, 1333),
    Case(10, 800, 1333),
    Case(30, 800, 1333, target=0.5),
    Case(100, 800, 1333, target=0.5),
    Case(200, 800, 1333),
    Case(300, 800, 1333),
    Case(500, 800, 1333),
    Case(10, 427, 640, target=1.0),
    Case(30, 427, 640),
    Case(30, 1024, 2048),
    Case(30, 2048, 4096),
)


def random_instances(case: Case, device: str) -> InstanceData:
    """Star-shaped objects of which NMS removes none: both heads shall fuse the same number."""
    rng = np.random.default_rng(case.objects)
    masks = np.zeros((case.objects, *case.size), dtype=bool)
    boxes = torch.zeros(case.objects, 4)
    for k, mask in enumerate(masks.view(np.uint8)):
        while True:
            cv2.fillPoly(mask, [_star(rng, *case.size)], 1)
            left, top, width, height = cv2.boundingRect(mask)
            boxes[k] = torch.tensor([left, top, left + width, top + height])
            if (bbox_overlaps(boxes[k : k + 1], boxes[:k]) <= NMS_IOU).all():
                break
            mask[:] = 0
    return InstanceData(
        bboxes=boxes.to(device),
        labels=torch.from_numpy(rng.integers(0, THINGS, case.objects)).to(device),
        scores=torch.from_numpy(rng.permutation(np.linspace(0.61, 1, case.objects)))
        .float()
        .to(device),
        masks=torch.from_numpy(masks).to(device),
    )


def mask_logits(instances: InstanceData, cells: int = 28) -> Tensor:
    """(K, m, m) float32: logits of the masks in their boxes, from -6 to 6."""
    boxes = instances.bboxes.int().tolist()
    crops = [mask[y1:y2, x1:x2] for mask, (x1, y1, x2, y2) in zip(instances.masks, boxes)]
    return torch.cat([12 * F.adaptive_avg_pool2d(crop[None].float(), cells) - 6 for crop in crops])


def random_image(case: Case, device: str) -> Tensor:
    """(3, H, W) float32 RGB in 0..255: blobs of colour."""
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(1, 3, 12, 20, generator=generator)
    return _resize(blobs.to(device), case.size)[0] * 255


def random_logits(case: Case, device: str, classes: int = THINGS + STUFF) -> Tensor:
    """(classes, h, w) float32 at stride 4: smooth, of all classes."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, classes, 6, 10, generator=generator).to(device)
    return _resize(coarse, [-(-side // 4) for side in case.size])[0]


def full_size(logits: Tensor, case: Case) -> Tensor:
    """(C, H, W): logits resized as mmdet's ``PanopticFPNHead.predict`` resizes its own."""
    return _resize(logits[None], case.size)[0]


def mmdet_channels(logits: Tensor) -> Tensor:
    """(54, h, w): stuff, then one channel for all things, as mmdet's semantic head predicts."""
    return torch.cat([logits[THINGS:], logits[:THINGS].amax(dim=0, keepdim=True)])


def _resize(maps: Tensor, size: tuple[int, int] | list[int]) -> Tensor:
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)


def _star(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(24, 1, 2) int32: a polygon around a point of the image; a few are large, many small."""
    # The median side is an eighth of the image's, one object in six is twice as long and more.
    side = np.sqrt(height * width) * np.clip(rng.lognormal(np.log(1 / 8), 0.7), 1 / 64, 0.6)
    aspect = np.exp(rng.normal(0, 0.35))
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = side / 2 * np.clip(rng.normal(1, 0.25, 24), 0.3, 1.7)
    centre = rng.uniform((0, 0), (width, height))
    spokes = np.stack([np.cos(angle) * aspect, np.sin(angle) / aspect], axis=1)
    return np.int32(centre + radius[:, None] * spokes)[:, None]
