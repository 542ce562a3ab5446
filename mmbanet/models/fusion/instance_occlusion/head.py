"""The registered head of OCFusion, see ``docs/rivals.md``.

Shapes: K objects, C x r x r RoI features, m x m cells of a mask, H x W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions, OcclusionGraph

from ..checks import check_choice
from ..head import READINGS, OcclusionAwareFusionHead
from ..occlusion import NO_DUPLICATES, decide_pairs
from .greedy import lay_in_order
from .pair_classifier import PairClassifier
from .pairs import considered_pairs, pairs_to_learn

FUSIONS = ('greedy', 'order')


@MODELS.register_module()
class InstanceOcclusionHead(OcclusionAwareFusionHead):
    """Learns from features and masks of two objects who is in front, and fuses by it.

    Pairs that overlap by at least ``test_cfg.occlusion_thr`` of either mask are classified, both
    when it learns and when it predicts. It learns from ground-truth boxes with the masks that the
    mask head predicts in them: their order is known without matching.

    Args:
        num_things_classes: Thing classes, the first labels.
        num_stuff_classes: Stuff classes, the labels after them.
        in_channels: C, of the mask branch's RoI features.
        roi_size: r.
        channels: Of the classifier's convolutions.
        fc_channels: Of its linear layer.
        fusion: ``'greedy'``, the paper's: in descending score an object takes what is free of its
            mask, and of those before it what it occludes; one that gets 1 - ``removal_thr`` of its
            mask or less is left out. ``'order'``: the pairs are preferences of occlusion handling,
            see :func:`resolve_occlusion`.
        symmetric: Whether the overlap may be large in either mask, else in that of lower score.
        same_class: Whether pairs of one class are classified.
        antisymmetric: Whether a pair is classified both ways round, and half of the difference
            counts. Always with ``fusion='order'``.
        logit_thr: In front is who has a larger logit. With ``fusion='order'`` a pair of which
            neither has is left to the ``order`` rules and the score.
        num_pairs: At most that many pairs of an image are learned from, each both ways round.
        loss_weight: Of the binary cross entropy ``loss_occlusion``.
        order, duplicates: As those of :class:`OcclusionAwareFusionHead`, for pairs that are not
            classified. With ``fusion='order'`` only.
        test_cfg: As :class:`OcclusionAwareFusionHead`'s, readings with ``fusion='order'`` only.
        init_cfg: MMEngine's; the classifier initialises itself.
    """

    needs_mask_logits = True
    has_loss = True
    loss_needs_logits = False

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        roi_size: int = 14,
        channels: int = 512,
        fc_channels: int = 1024,
        fusion: str = 'greedy',
        symmetric: bool = True,
        same_class: bool = False,
        antisymmetric: bool = False,
        logit_thr: float = 0.0,
        num_pairs: int = 128,
        loss_weight: float = 1.0,
        order: dict | list[dict] = (),
        duplicates: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            num_things_classes,
            num_stuff_classes,
            order,
            test_cfg,
            init_cfg,
            duplicates,
        )
        check_choice('fusion', fusion, FUSIONS)
        others = [name for name in READINGS if name in (test_cfg or {})]
        others += [name for name in ('order', 'duplicates') if getattr(self, name)]
        if fusion == 'greedy' and others:
            raise ValueError(f"{', '.join(others)}: only with fusion='order', got fusion='greedy'")
        if order is None:
            raise ValueError('order must be an order rule or several, got None')
        if num_pairs < 1:
            raise ValueError(f'num_pairs must be at least 1, got {num_pairs}')
        self.needs_roi_features = (in_channels, roi_size, roi_size)
        self.classifier = PairClassifier(in_channels, roi_size, channels, fc_channels)
        self.fusion = fusion
        self.symmetric = symmetric
        self.same_class = same_class
        self.both_ways = antisymmetric or fusion == 'order'
        self.logit_thr = logit_thr
        self.num_pairs = num_pairs
        self.loss_weight = loss_weight

    def loss(
        self, instances: list[InstanceData], logits: None, data_samples: SampleList
    ) -> dict[str, Tensor]:
        """The mean over the pairs of all images, with gradients; 0 where there are none.

        Args:
            instances: Per image the ground truth's boxes, ``labels`` (K,), with predicted
                ``mask_logits`` (K, m, m) and ``roi_features`` (K, C, r, r).
            logits: Not looked at.
            data_samples: With ``gt_instances.masks`` and ``gt_instances.order`` (K, K).
        """
        pairs, targets, count = [], [], 0
        for sample in data_samples:
            found, target = self._pairs_to_learn(sample.gt_instances)
            pairs.append(found + count)
            targets.append(target)
            count += len(sample.gt_instances)
        targets = torch.cat(targets)
        given = self.classifier(
            torch.cat([item.roi_features for item in instances]),
            torch.cat([item.mask_logits for item in instances]),
            torch.cat(pairs),
        )
        total = F.binary_cross_entropy_with_logits(given.float(), targets, reduction='sum')
        return dict(loss_occlusion=self.loss_weight * total / max(len(targets), 1))

    def _pairs_to_learn(self, truth: InstanceData) -> tuple[Tensor, Tensor]:
        order, count = truth.get('order'), len(truth)
        if order is None or (count > 0 and tuple(order.shape) != (count, count)):
            raise ValueError(
                f'gt_instances.order must be ({count}, {count}), who is in front of whom, got '
                f'{None if order is None else tuple(order.shape)}; put mmbanet.LoadInstanceOrder '
                'and mmbanet.PackOrderedInputs into the train pipeline'
            )
        masks = truth.masks.to_tensor(torch.bool, truth.labels.device)
        overlaps = ClaimRegions.from_masks(masks).overlaps
        pairs = considered_pairs(
            overlaps, truth.labels, self.settings.occlusion_thr, same_class=self.same_class
        )
        return pairs_to_learn(pairs, order, self.num_pairs)

    def _resolve(
        self,
        instances: InstanceData,
        chosen: Tensor,
        image: Tensor | None,
        preference: Tensor | None,
    ) -> tuple[Tensor, OcclusionGraph]:
        """By the classifier; what is known already, as an oracle knows it, comes first."""
        regions = ClaimRegions.from_masks(instances.masks, chosen)
        found = self._classify(instances, chosen, regions)
        if preference is not None:
            preference = preference.to(found.device)
            found = torch.where(preference != 0, preference, found)
        if self.fusion == 'order':
            return super()._resolve(instances, chosen, image, found)

        owners = lay_in_order(regions, found > 0, self.settings.removal_thr)
        decided = decide_pairs(regions, instances.scores[chosen], None, found, self.settings)
        count = len(chosen)
        in_front = torch.zeros((count, count), dtype=torch.bool)
        in_front[decided.pairs[:, 0], decided.pairs[:, 1]] = True
        keep = torch.zeros(count, dtype=torch.bool)
        keep[owners[owners >= 0].cpu()] = True
        accepted = torch.ones(len(decided.pairs), dtype=torch.bool)
        graph = OcclusionGraph(
            *decided, accepted, in_front, regions.areas.cpu(), keep, *NO_DUPLICATES
        )
        owner = owners.index_select(0, regions.index.flatten()).view(regions.index.shape)
        return owner, graph

    def _classify(self, instances: InstanceData, chosen: Tensor, regions: ClaimRegions) -> Tensor:
        """(K, K) int8, antisymmetric, as :func:`resolve_occlusion` takes preferences."""
        self._check_fields(instances)
        pairs = considered_pairs(
            regions.overlaps,
            instances.labels[chosen].to(regions.size.device),
            self.settings.occlusion_thr,
            symmetric=self.symmetric,
            same_class=self.same_class,
        )
        preference = torch.zeros((len(chosen), len(chosen)), dtype=torch.int8, device=pairs.device)
        if len(pairs) == 0:
            return preference
        asked = torch.cat([pairs, pairs.flip(1)]) if self.both_ways else pairs
        features, masks = instances.roi_features, instances.mask_logits
        logits = self.classifier(features, masks, chosen.to(asked.device)[asked]).float()
        if self.both_ways:
            one, other = logits.chunk(2)
            logits = (one - other) / 2
        later = (logits > self.logit_thr).to(torch.int8)
        earlier = ~(later > 0) if self.fusion == 'greedy' else logits < -self.logit_thr
        wish = later - earlier.to(torch.int8)
        preference[pairs[:, 0], pairs[:, 1]] = wish
        preference[pairs[:, 1], pairs[:, 0]] = -wish
        return preference

    def _check_fields(self, instances: InstanceData) -> None:
        count = len(instances.masks)
        for name, shape in (('mask_logits', 'm, m'), ('roi_features', 'C, r, r')):
            value = instances.get(name)
            if value is None or not value.is_floating_point() or len(value) != count:
                given = None if value is None else f'{value.dtype} {tuple(value.shape)}'
                raise ValueError(
                    f'mask_results must have {name}, floating point ({count}, {shape}), got '
                    f'{given} (the detector mmbanet.BANet hands them over)'
                )
