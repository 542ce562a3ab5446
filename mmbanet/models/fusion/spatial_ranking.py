"""The registered head of OANet's spatial ranking (arXiv 1903.05027), see ``docs/rivals.md``.

Shapes: K objects, T thing classes, H x W pixels, h x w cells of ``stride`` pixels of the input.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbanet.registry import MODELS
from mmbanet.structures import OcclusionGraph

from ..semantic.logits import padded_labels
from .checks import check_choice
from .coverage import Crop, coverage, crops_of_logits, crops_of_masks
from .head import READINGS, OcclusionAwareFusionHead
from .occlusion import explain_occlusion

IGNORED = 255
SCORED = ('mask', 'contested')
LEARNED = ('contested', 'things')
LEARNED_FROM = ('truth', 'predicted')


@MODELS.register_module()
class SpatialRankingHead(OcclusionAwareFusionHead):
    """Lays objects in the order that a map of each class's right to each pixel gives them.

    The map is made of what the masks of each class cover, without a look at the image. The rest is
    the heuristic of :func:`resolve_by_score`; of objects of equal rank that of higher score wins.

    It learns from masks and the class that owns a pixel in the panoptic map: only where masks
    overlap (``instances_ann_file`` of the data set) is there anything to learn.

    Args:
        num_things_classes: Thing classes T, the first labels.
        num_stuff_classes: Stuff classes, the labels after them.
        kernel_size: Of the two convolutions, 1 x k and k x 1; odd.
        stride: Pixels of the network's input that a cell is wide; the paper has 1.
        softmax: Whether the right is a probability over the classes, as in BCC-Net; the paper's
            formula has none.
        scored: The cells over which an object's rank is the mean: ``'mask'``, all of its own, as in
            the paper, or ``'contested'``, those that several classes cover (BCC-Net; 0 where there
            are none).
        learned: The cells that are learned from: ``'contested'``, the only ones where an order
            tells (BCC-Net), or all that ``'things'`` own.
        learned_from: The masks, which the paper leaves open: ``'truth'``, the annotated ones
            (BCC-Net; trained together with the rest it orders more pairs rightly, and it needs
            nothing of the mask head), or ``'predicted'``, those that the mask head gives
            ground-truth boxes (thresholded: it learns nothing from this), better on a frozen model.
        loss_weight: Of the cross entropy ``loss_ranking``.
        test_cfg: As :class:`OcclusionAwareFusionHead`'s, without readings of the paper.
        init_cfg: MMEngine's.

    Raises:
        ValueError: A setting is not among those above.
    """

    has_loss = True
    loss_needs_logits = False
    needs_scale_factor = True

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        kernel_size: int = 7,
        stride: int = 4,
        softmax: bool = False,
        scored: str = 'mask',
        learned: str = 'contested',
        learned_from: str = 'truth',
        loss_weight: float = 1.0,
        test_cfg: dict | None = None,
        init_cfg: dict | None = dict(type='Xavier', layer='Conv2d'),  # noqa: B006
    ) -> None:
        if readings := [name for name in READINGS if name in (test_cfg or {})]:
            raise ValueError(
                f'test_cfg.{readings[0]}: not with spatial ranking, which lays objects by their '
                'ranks; leave it out'
            )
        super().__init__(num_things_classes, num_stuff_classes, None, test_cfg, init_cfg)
        check_choice('scored', scored, SCORED)
        check_choice('learned', learned, LEARNED)
        check_choice('learned_from', learned_from, LEARNED_FROM)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd and at least 1, got {kernel_size}')
        if stride < 1:
            raise ValueError(f'stride must be at least 1, got {stride}')
        channels, pad = num_things_classes, kernel_size // 2
        self.rank = nn.Sequential(
            nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, pad)),
            nn.Conv2d(channels, channels, (kernel_size, 1), padding=(pad, 0)),
        )
        self.stride = stride
        self.softmax = softmax
        self.scored = scored
        self.learned = learned
        self.needs_mask_logits = learned_from == 'predicted'
        self.loss_weight = loss_weight

    def loss(
        self, instances: list[InstanceData], logits: None, data_samples: SampleList
    ) -> dict[str, Tensor]:
        """The mean over the learned cells of all images; 0, with gradients, if there are none.

        Args:
            instances: Per image the ground truth's ``bboxes`` (G, 4) and predicted ``mask_logits``
                (G, m, m), if ``learned_from='predicted'``; else not looked at.
            logits: Not looked at.
            data_samples: With ``gt_instances`` (``labels``, ``masks``) and ``gt_sem_seg``.
        """
        total, count = 0, 0
        for item, sample in zip(instances, data_samples, strict=True):
            truth = sample.gt_instances
            owners = padded_labels([sample])[0, 0]
            size = truth.masks.height, truth.masks.width
            if self.needs_mask_logits:
                crops = crops_of_logits(item, size)
            else:
                crops = crops_of_masks(truth.masks.to_tensor(torch.bool, owners.device))
            cells = self._cells(size)
            shares = coverage(crops, size, cells, self.rank[0].weight)
            classes = self._united(shares, truth.labels, self.num_things_classes, cells)
            owners = _at_centres(owners[: size[0], : size[1]], cells)
            learned = owners < self.num_things_classes
            if self.learned == 'contested':
                learned &= _contested(classes)
            owners = torch.where(learned, owners, IGNORED).long()
            rights = self.rank(classes[None])
            total = total + F.cross_entropy(
                rights, owners[None], ignore_index=IGNORED, reduction='sum'
            )
            count += int(learned.sum())
        return dict(loss_ranking=self.loss_weight * total / max(count, 1))

    def ranks(
        self,
        masks: Tensor,
        labels: Tensor,
        scale: tuple[float, float] = (1, 1),
        chosen: Tensor | None = None,
    ) -> Tensor:
        """How much right each object has to its pixels.

        Args:
            masks: (N, H, W) bool.
            labels: (K,), classes of things.
            scale: Width and height of the network's input in those of the masks.
            chosen: (K,) int64, the masks that the objects have; all of them, K = N, if not given.

        Returns:
            (K,) float32; 0 for empty masks.
        """
        chosen = range(len(masks)) if chosen is None else chosen.tolist()
        if len(chosen) == 0:
            return masks.new_zeros(0, dtype=torch.float32)
        size = tuple(masks.shape[1:])
        cells = self._cells(size, scale)
        crops = crops_of_masks(masks[k] for k in chosen)
        shares = coverage(crops, size, cells, self.rank[0].weight)
        present, places = labels.unique(return_inverse=True)
        classes = self._united(shares, places, len(present), cells)
        rights = self._rights(classes, present)
        contested = _contested(classes)

        ranks = []
        for place, (window, own) in zip(places.tolist(), shares):
            own = own.float()
            if self.scored == 'contested':
                own = own * contested[window]
            area = own.sum().clamp(min=torch.finfo(own.dtype).tiny)
            ranks.append((rights[place][window] * own).sum() / area)
        return torch.stack(ranks)

    def _united(
        self, shares: list[Crop], labels: Tensor, count: int, cells: tuple[int, int]
    ) -> Tensor:
        """(C, h, w): the largest share that an object of each of C classes claims."""
        classes = self.rank[0].weight.new_zeros((count, *cells))
        for label, (window, own) in zip(labels.tolist(), shares):
            place = classes[label][window]
            torch.maximum(place, own, out=place)
        return classes

    def _rights(self, classes: Tensor, present: Tensor) -> Tensor:
        """(P, h, w): the rights of classes that have objects; what others cover is zero."""
        first, second = self.rank
        asked = slice(None) if self.softmax else present
        maps = F.conv2d(classes[None], first.weight[:, present], first.bias, 1, first.padding)
        rights = F.conv2d(maps, second.weight[asked], second.bias[asked], 1, second.padding)
        rights = rights[0].float()
        return rights.softmax(dim=0)[present] if self.softmax else rights

    def _resolve(
        self,
        instances: InstanceData,
        chosen: Tensor,
        image: Tensor | None,
        preference: Tensor | None,
    ) -> tuple[Tensor, OcclusionGraph]:
        labels = instances.labels[chosen].long()
        scale = instances.get('scale_factor', (1, 1))
        ranks = self.ranks(instances.masks, labels, scale, chosen)
        return explain_occlusion(
            instances.masks, ranks, settings=self.settings, objects=chosen, labels=labels
        )

    def _cells(self, size: tuple[int, int], scale: tuple[float, float] = (1, 1)) -> tuple[int, int]:
        """Height and width of the map: h, w."""
        sides = size[0] * scale[1], size[1] * scale[0]
        return tuple(max(math.ceil(round(side) / self.stride), 1) for side in sides)


def _at_centres(owners: Tensor, cells: tuple[int, int]) -> Tensor:
    """(h, w): the label of the pixel in the middle of each cell."""
    rows, columns = (
        (torch.arange(n, device=owners.device) * size // n + size // (2 * n)).clamp(max=size - 1)
        for n, size in zip(cells, owners.shape)
    )
    return owners[rows[:, None], columns]


def _contested(classes: Tensor) -> Tensor:
    """(h, w) bool: cells of which several classes cover half or more."""
    return (classes >= 0.5).sum(dim=0) > 1
