"""Combinations of parts that cannot work, refused when the detector is built."""

from mmdet.models.roi_heads import PointRendRoIHead, StandardRoIHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import nn

from ..fusion import FusionHead
from ..roi import S2IRoIExtractor
from ..semantic import SemanticFeatureHead
from ..semantic.attention_semantic_head import STRIDE
from ..semantic.logits import layout_of


def check_parts(detector: nn.Module) -> None:
    """Raises a TypeError or ValueError that names the part, what it needs and what it got.

    Args:
        detector: A :class:`~mmbanet.models.detectors.BANet` with its heads.
    """
    _check_classes(detector)
    _check_layouts(detector)
    _check_fusion(detector)
    _check_attention(detector)
    learns = detector.with_fusion_loss and len(list(detector.panoptic_fusion_head.parameters())) > 0
    if detector.fusion_head_only and not learns:
        raise ValueError(
            'train_cfg.fusion_head_only: nothing would learn, panoptic_fusion_head is '
            f'{type(detector.panoptic_fusion_head).__name__}, which has no loss or no parameters'
        )
    semantic_head, roi_head = detector.semantic_head, detector.roi_head
    if not (detector.with_s2i or detector.with_i2s):
        return
    if not hasattr(semantic_head, 'loss_by_feat'):
        raise TypeError(
            'semantic_head: S2I and I2S share its features, which needs '
            f'mmbanet.SemanticFeatureHead, got {type(semantic_head).__name__}'
        )
    _check_strides(detector)
    if detector.with_s2i:
        _check_s2i(roi_head)
    if detector.with_i2s:
        _check_i2s(detector)


def asks_for(head: nn.Module, *names: str) -> bool:
    """Whether a head says of any of these that it ``needs_...`` it."""
    return any(getattr(head, f'needs_{name}', False) for name in names)


def last_stage(module: nn.Module) -> nn.Module:
    """The module itself, or the last of a cascade's stages."""
    return module[-1] if isinstance(module, nn.ModuleList) else module


def check_thing_classes(name: str, head: nn.Module) -> None:
    """Raises a ValueError unless there is a thing class.

    Args:
        name: Of the part in the config.
        head: Has ``num_things_classes``.
    """
    if head.num_things_classes < 1:
        raise ValueError(
            f'{name}.num_things_classes: instances need at least one thing class, got '
            f'{head.num_things_classes}; data of stuff alone need a semantic segmentation model'
        )


def _check_classes(detector: nn.Module) -> None:
    head = detector.panoptic_fusion_head
    check_thing_classes('panoptic_fusion_head', head)
    expected = {
        'semantic_head.num_things_classes': head.num_things_classes,
        'semantic_head.num_stuff_classes': head.num_stuff_classes,
        'i2s_head.num_classes': head.num_classes,
    }
    for path, count in expected.items():
        part, attribute = path.split('.')
        given = getattr(getattr(detector, part), attribute, count)
        if given != count:
            raise ValueError(
                f'{path}: {given}, but panoptic_fusion_head has {count} '
                f'({head.num_things_classes} thing and {head.num_stuff_classes} stuff classes)'
            )


def _check_layouts(detector: nn.Module) -> None:
    head = detector.panoptic_fusion_head
    taken = head.semantic_layout if isinstance(head, FusionHead) else layout_of(head)
    if (detector.semantic_layout, taken) == ('stuff_and_things', 'all'):
        raise ValueError(
            f'panoptic_fusion_head: {type(head).__name__} takes semantic logits of all classes, '
            f'but semantic_head, {type(detector.semantic_head).__name__}, has one channel for all '
            'things'
        )


def _check_fusion(detector: nn.Module) -> None:
    head, roi_head = detector.panoptic_fusion_head, detector.roi_head
    if not isinstance(head, FusionHead):
        return
    if head.needs_mask_logits:
        _check_single_mask_head(f'panoptic_fusion_head: {type(head).__name__}', roi_head)
    if head.needs_roi_features:
        _check_roi_features(head, roi_head)
    on_semantic_head = not detector.with_i2s and hasattr(detector.semantic_head, 'loss_by_feat')
    if head.has_loss and head.loss_needs_logits and not on_semantic_head:
        raise TypeError(
            f"panoptic_fusion_head: {type(head).__name__}'s loss is of the logits of "
            'mmbanet.SemanticFeatureHead without an i2s_head, got '
            f'{type(detector.semantic_head).__name__}'
            f'{" with an i2s_head" if detector.with_i2s else ""}; loss_weight=0 leaves it out'
        )


def _check_roi_features(head: FusionHead, roi_head: nn.Module) -> None:
    channels, *size = head.needs_roi_features
    given = roi_head.mask_head.in_channels
    if given != channels:
        raise ValueError(
            f'panoptic_fusion_head.in_channels: {channels}, but the RoI features of '
            f'roi_head.mask_head have {given}'
        )
    if roi_head.with_shared_head:
        return  # whose stride is its own
    given = list(roi_head.mask_roi_extractor.roi_layers[0].output_size)
    if given != size:
        raise ValueError(
            f'panoptic_fusion_head.roi_size: {size[0]}, but roi_head.mask_roi_extractor gives '
            f'{given[0]} x {given[1]} cells'
        )


def _check_single_mask_head(taker: str, roi_head: nn.Module) -> None:
    # Others average the probabilities of several stages, or refine them.
    predicts = type(roi_head).predict_mask is StandardRoIHead.predict_mask
    mask_head = getattr(roi_head, 'mask_head', None)
    if not (predicts and isinstance(mask_head, FCNMaskHead)):
        raise TypeError(
            f'{taker} takes mask logits, which a StandardRoIHead with an FCNMaskHead has, got '
            f'{type(roi_head).__name__} with {type(mask_head).__name__}'
        )


def _check_attention(detector: nn.Module) -> None:
    head = detector.semantic_head
    name = f'semantic_head: {type(head).__name__}'
    if not detector.with_attention:
        return
    for path in ('s2i', 'i2s'):
        if getattr(detector, f'with_{path}'):
            raise TypeError(
                f'{name} makes its features after the detections and takes masks by itself, which '
                f'leaves no place for {path.upper()}; use mmbanet.SemanticFeatureHead with it'
            )
    if asks_for(head, 'rpn_features'):
        conv = getattr(getattr(detector, 'rpn_head', None), 'rpn_conv', None)
        if conv is None:
            raise TypeError(
                f"{name} needs the features of an RPN, mmdet's RPNHead with its rpn_conv, got "
                f'{type(getattr(detector, "rpn_head", None)).__name__}; pam=None leaves them out'
            )
        _check_width(
            'semantic_head.pam.foreground_channels', head.pam[0], detector.rpn_head.feat_channels
        )
    if asks_for(head, 'mask_logits', 'mask_features'):
        _check_single_mask_head(name, detector.roi_head)
        finest = detector.roi_head.mask_roi_extractor.featmap_strides[0]
        if finest != STRIDE:
            raise ValueError(
                f'{name} lays masks out at a stride of {STRIDE}, but the finest level has '
                f'{finest} in featmap_strides of roi_head.mask_roi_extractor; mam=None leaves '
                'them out'
            )
        if asks_for(head, 'mask_features'):
            _check_width(
                'semantic_head.mam.foreground_channels',
                head.mam,
                detector.roi_head.mask_head.conv_logits.in_channels,
            )
        _check_gt_share(detector, 'mam', 'mask attention')


def _check_width(name: str, attention: nn.Module, given: int) -> None:
    if attention.conv.in_channels != given:
        raise ValueError(
            f'{name}: {attention.conv.in_channels}, but the head that they come from has {given}'
        )


def _check_strides(detector: nn.Module) -> None:
    if not isinstance(detector.semantic_head, SemanticFeatureHead):
        return  # whose stride is its own
    given = {
        f'roi_head.{name}.semantic_stride': part.semantic_stride
        for name, part in detector.roi_head.named_modules()
        if isinstance(part, S2IRoIExtractor)
    }
    if detector.with_i2s:
        given['i2s_head.stride'] = detector.i2s_head.stride
    finest = last_stage(detector.roi_head.mask_roi_extractor).featmap_strides[0]
    for name, stride in given.items():
        if stride != finest:
            raise ValueError(
                f"{name}: {stride}, but F_S has the finest level's stride, which is {finest} in "
                'featmap_strides of roi_head.mask_roi_extractor'
            )


def _check_s2i(roi_head: nn.Module) -> None:
    if getattr(roi_head, 'with_semantic', False):
        raise TypeError(
            f'roi_head: {type(roi_head).__name__} has a semantic branch of its own, which takes '
            'the pyramid alone; leave it out or use SingleRoIExtractor in place of S2IRoIExtractor'
        )
    of_masks = getattr(roi_head, 'mask_roi_extractor', None)
    if isinstance(roi_head, PointRendRoIHead) and isinstance(of_masks, S2IRoIExtractor):
        raise TypeError(
            f'roi_head.mask_roi_extractor: {type(roi_head).__name__} takes points of the levels by '
            'itself, in which F_S has no place; use SingleRoIExtractor in place of S2IRoIExtractor'
        )


def _check_i2s(detector: nn.Module) -> None:
    mask_head = last_stage(detector.roi_head.mask_head)
    if not hasattr(mask_head, 'instance_features'):
        raise TypeError(
            'roi_head.mask_head: I2S needs its instance features, which '
            f'mmbanet.InstanceFeatureMaskHead hands out, got {type(mask_head).__name__}'
        )
    sim = detector.i2s_head.sim
    widths = {
        'instance_channels': (sim.project_instances.in_channels, mask_head.conv_out_channels),
        'semantic_channels': (
            sim.project_semantics.in_channels,
            detector.semantic_head.conv_logits.in_channels,
        ),
    }
    for name, (expected, given) in widths.items():
        if expected != given:
            raise ValueError(
                f'i2s_head.{name}: {expected}, but the head that it comes from has {given}'
            )
    _check_gt_share(detector, 'i2s', 'I2S')


def _check_gt_share(detector: nn.Module, key: str, taker: str) -> None:
    if detector.train_cfg is None:
        return
    share = detector.train_cfg.get(key, {}).get('gt_share')
    bounds = share if isinstance(share, (list, tuple)) and len(share) == 2 else (1, 0)
    if not 0 <= bounds[0] <= bounds[1] <= 1:
        raise ValueError(
            f'train_cfg.{key}: {taker} needs the bounds of the share of ground-truth boxes used in '
            f'training, in 0..1, such as {key}=dict(gt_share=(0.6, 1.0)), got {share!r}'
        )
