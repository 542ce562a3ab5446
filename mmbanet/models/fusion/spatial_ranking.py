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

from .checks import check_choice
from .head import OcclusionAwareFusionHead
from .occlusion import explain_occlusion

IGNORED = 255
SCORED = ('mask', 'contested')
LEARNED = ('contested', 'things')


@MODELS.register_module()
class SpatialRankingHead(OcclusionAwareFusionHead):
    """Lays objects in the order that a map of each class's right to each pixel gives them.

    The map is made of what the masks of each class cover, without a look at the image. The rest is
    the heuristic of :func:`resolve_by_score`; of objects of equal rank that of higher score wins.

    It learns from the ground truth's masks and the class that owns a pixel in the panoptic map:
    only where masks overlap (``instances_ann_file`` of the data set) is there anything to learn.

    Args:
        num_things_classes: Thing classes T, the first labels.
        num_stuff_classes: Stuff classes, the labels after them.
        kernel_size: Of the two convolutions, 1 x k and k x 1; odd.
        stride: Pixels of the network's input that a cell is wide; the paper has 1.
        softmax: Whether the right is a probability over the classes, as in BCC-Net.
        scored: The cells over which an object's rank is the mean: ``'mask'``, all of its own, or
            ``'contested'``, those that several classes cover (BCC-Net; 0 where there are none).
        learned: The cells that are learned from: ``'contested'`` or all ``'things'`` own.
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
        loss_weight: float = 1.0,
        test_cfg: dict | None = None,
        init_cfg: dict | None = dict(type='Xavier', layer='Conv2d'),  # noqa: B006
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, None, test_cfg, init_cfg)
        check_choice('scored', scored, SCORED)
        check_choice('learned', learned, LEARNED)
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
        self.loss_weight = loss_weight

    def loss(
        self, instances: list[InstanceData], logits: None, data_samples: SampleList
    ) -> dict[str, Tensor]:
        """The mean over the learned cells of all images; 0, with gradients, if there are none.

        Args:
            instances: Not looked at.
            logits: Not looked at.
            data_samples: With ``gt_instances`` (``labels``, ``masks``) and ``gt_sem_seg``.
        """
        total, count = 0, 0
        for sample in data_samples:
            truth = sample.gt_instances
            owners = sample.gt_sem_seg.sem_seg[0]
            masks = truth.masks.to_tensor(torch.bool, owners.device)
            everything = torch.arange(len(masks))
            coverage = self._coverage(masks, self._cells(masks), everything)
            classes = self._classes(coverage, truth.labels)
            owners = self._at_centres(owners[: masks.shape[1], : masks.shape[2]], classes)
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
        chosen = torch.arange(len(masks)) if chosen is None else chosen
        coverage = self._coverage(masks, self._cells(masks, scale), chosen)
        classes = self._classes(coverage, labels)
        rights = self.rank(classes[None])[0].float()
        if self.softmax:
            rights = rights.softmax(dim=0)
        if self.scored == 'contested':
            coverage = coverage * _contested(classes)
        # An object at a time: the maps of all objects' classes would be larger than that of all.
        sums = [(rights[label] * own).sum() for label, own in zip(labels.tolist(), coverage)]
        sums = torch.stack(sums) if sums else coverage.new_zeros(0)
        return sums / coverage.flatten(1).sum(dim=1).clamp(min=torch.finfo().tiny)

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

    def _cells(self, masks: Tensor, scale: tuple[float, float] = (1, 1)) -> tuple[int, int]:
        """Height and width of the map: h, w."""
        height, width = masks.shape[1:]
        sides = height * scale[1], width * scale[0]
        return tuple(max(math.ceil(round(side) / self.stride), 1) for side in sides)

    def _coverage(self, masks: Tensor, cells: tuple[int, int], chosen: Tensor) -> Tensor:
        """(K, h, w): the share of each cell that each of the chosen masks claims."""
        dtype, device = self.rank[0].weight.dtype, masks.device
        rows, columns = (
            _area_weights(*sizes).to(device, dtype) for sizes in zip(cells, masks.shape[1:])
        )
        coverage = torch.zeros((len(chosen), *cells), dtype=dtype, device=device)
        for own, k in zip(coverage, chosen.tolist()):
            # Within the mask's own rows and columns, which are few.
            y = masks[k].any(dim=1).nonzero()
            if len(y) > 0:
                inside = masks[k, y[0] : y[-1] + 1]
                x = inside.any(dim=0).nonzero()
                inside = inside[:, x[0] : x[-1] + 1].to(dtype) @ columns[:, x[0] : x[-1] + 1].T
                own.copy_(rows[:, y[0] : y[-1] + 1] @ inside)
        return coverage

    def _classes(self, coverage: Tensor, labels: Tensor) -> Tensor:
        """(T, h, w): the largest share that an object of each class claims."""
        classes = coverage.new_zeros((self.num_things_classes, *coverage.shape[1:]))
        for label, own in zip(labels.tolist(), coverage):
            torch.maximum(classes[label], own, out=classes[label])
        return classes

    def _at_centres(self, owners: Tensor, classes: Tensor) -> Tensor:
        """(h, w): the label of the pixel in the middle of each cell."""
        (height, width), (h, w) = owners.shape, classes.shape[1:]
        rows = torch.arange(h, device=owners.device) * height // h + height // (2 * h)
        columns = torch.arange(w, device=owners.device) * width // w + width // (2 * w)
        return owners[rows[:, None].clamp(max=height - 1), columns.clamp(max=width - 1)]


def _area_weights(cells: int, pixels: int) -> Tensor:
    """(cells, pixels) float64: the share of each cell of a row that each pixel makes up."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * pixels / cells
    left = torch.arange(pixels, dtype=torch.float64)
    shared = torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
    return shared.clamp(min=0) * cells / pixels


def _contested(classes: Tensor) -> Tensor:
    """(h, w) bool: cells of which several classes cover half or more."""
    return (classes >= 0.5).sum(dim=0) > 1
