"""Any instance segmentation model and a separate semantic prediction, fused to a panoptic map."""

from collections.abc import Sequence
from typing import NoReturn

from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.mask import mask2bbox
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig
from mmengine.model import PretrainedInit, initialize
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbanet.registry import MODELS

from ..fusion import OcclusionAwareFusionHead
from ..semantic import SemanticModel
from .checks import check_thing_classes
from .drawing import semantic_prediction
from .img_metas import with_scale_factors, without_padding
from .input_images import rgb_images

# What of a data preprocessor decides what the networks see, with mmdet's defaults.
INPUT_SETTINGS = dict(
    mean=None, std=None, bgr_to_rgb=False, rgb_to_bgr=False, pad_size_divisor=1, pad_value=0
)


@MODELS.register_module()
class InstanceSemanticFusion(BaseDetector):
    """For inference only: each part is trained on its own, and keeps its own checkpoint.

    A part with ``init_cfg=dict(type='Pretrained', checkpoint=...)`` is loaded when the detector is
    built. A checkpoint of the whole detector, if one is loaded later, replaces that.

    Args:
        instance_model: Config of any of mmdet's detectors that predicts masks, one or two stages.
            Its labels are the data set's things.
        semantic_model: Config of a :class:`~mmbanet.models.SemanticModel`.
        panoptic_fusion_head: Config of the :class:`~mmbanet.models.OcclusionAwareFusionHead`.
        test_cfg: With ``panoptic``, the fusion head's settings. The score threshold of
            ``instance_model`` should not be above the one in there.
        data_preprocessor: Of the images for all parts; by default that of ``instance_model``.
            Given for both, they must agree.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        *,
        instance_model: ConfigType,
        semantic_model: ConfigType,
        panoptic_fusion_head: ConfigType,
        test_cfg: ConfigType,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        inner = instance_model.get('data_preprocessor')
        if inner is not None and data_preprocessor is not None:
            _check_same_inputs(inner, data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor or inner, init_cfg=init_cfg)
        self.instance_model: BaseDetector = MODELS.build(instance_model)
        self.semantic_model: SemanticModel = MODELS.build(semantic_model)
        self.panoptic_fusion_head: OcclusionAwareFusionHead = MODELS.build(
            dict(panoptic_fusion_head, test_cfg=test_cfg['panoptic'])
        )
        self._check_parts()
        for part in (self.instance_model, self.semantic_model, self.panoptic_fusion_head):
            _load_pretrained(part)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> NoReturn:
        """There is none."""
        raise NotImplementedError(
            'mmbanet.InstanceSemanticFusion is for inference: train instance_model and '
            'semantic_model separately, each with its own config, and give their checkpoints as '
            "init_cfg=dict(type='Pretrained', checkpoint=...)"
        )

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections, semantic map and panoptic map of each image, as ``mmbanet.BANet`` has them.

        Args:
            batch_inputs: (N, 3, H, W), normalised and padded.
            batch_data_samples: Meta information of each image.
            rescale: Results in the size of the original image (True) or of the network's input,
                without padding.

        Returns:
            The samples with ``pred_instances``, ``pred_sem_seg.sem_seg`` (1, h, w) labels, see
            :meth:`SemanticModel.predict`, and ``pred_panoptic_seg``, see
            :meth:`OcclusionAwareFusionHead.predict`.
        """
        samples = [without_padding(sample) for sample in batch_data_samples]
        img_metas = [sample.metainfo for sample in samples]
        instances = self._instances(batch_inputs, samples, rescale)
        labels = self.semantic_model.predict(batch_inputs, img_metas, rescale)
        images = None
        if self.panoptic_fusion_head.needs_images:
            images = rgb_images(batch_inputs, self.data_preprocessor, img_metas, rescale)
        given = instances
        if self.panoptic_fusion_head.needs_scale_factor and rescale:
            given = with_scale_factors(instances, img_metas)
        panoptic = self.panoptic_fusion_head.predict(given, labels, images)

        num_classes = self.panoptic_fusion_head.num_classes
        results = zip(batch_data_samples, instances, labels, panoptic)
        for sample, detections, label_map, segments in results:
            sample.pred_instances = detections
            sample.pred_sem_seg = semantic_prediction(label_map, num_classes)
            sample.pred_panoptic_seg = segments
        return batch_data_samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        """Raw outputs of the instance model."""
        return self.instance_model(batch_inputs, batch_data_samples, mode='tensor')

    def extract_feat(self, batch_inputs: Tensor) -> Sequence[Tensor]:
        """Features of the instance model."""
        return self.instance_model.extract_feat(batch_inputs)

    def _instances(self, batch_inputs: Tensor, samples: SampleList, rescale: bool) -> InstanceList:
        """The instance model's detections, with masks (K, h, w) bool at the results' size.

        It always rescales: some of mmdet's heads know no other way. Without ``rescale`` it is told
        that the original image is the network's input.
        """
        if not rescale:
            samples = [_without_original(sample) for sample in samples]
        results = self.instance_model.predict(batch_inputs, samples, rescale=True)
        return [self._checked(result) for result in results]

    def _checked(self, sample: DetDataSample) -> InstanceData:
        name = type(self.instance_model).__name__
        instances = sample.get('pred_instances')
        if instances is None or 'masks' not in instances:
            raise TypeError(f'instance_model: {name} predicts no instance masks')
        size = tuple(sample.ori_shape[:2])
        if tuple(instances.masks.shape[1:]) != size:
            raise ValueError(
                f'instance_model: {name} gave masks {tuple(instances.masks.shape)} '
                f'for an image of {size}'
            )
        num_things = self.panoptic_fusion_head.num_things_classes
        if (instances.labels >= num_things).any():
            raise ValueError(
                f'instance_model: {name} found an object of class {int(instances.labels.max())}, '
                f'but panoptic_fusion_head has num_things_classes = {num_things}'
            )
        instances.masks = instances.masks > 0.5  # some heads give 0 and 1 as floats
        if not instances.bboxes.any():  # SOLO finds masks without boxes
            instances.bboxes = mask2bbox(instances.masks).to(instances.scores)
        return instances

    def _check_parts(self) -> None:
        head, semantic_model = self.panoptic_fusion_head, self.semantic_model
        if not isinstance(head, OcclusionAwareFusionHead):
            raise TypeError(
                'panoptic_fusion_head: expected mmbanet.OcclusionAwareFusionHead (with '
                f'order=None it is the heuristic), got {type(head).__name__}'
            )
        if head.needs_mask_logits:
            raise TypeError(
                f'panoptic_fusion_head: {type(head).__name__} takes mask logits, which '
                'mmbanet.BANet hands over, and this detector does not'
            )
        if not isinstance(semantic_model, SemanticModel):
            raise TypeError(
                'semantic_model: expected mmbanet.SemanticSegmentor, '
                'mmbanet.SemanticPredictionFolder or another mmbanet.models.SemanticModel, '
                f'got {type(semantic_model).__name__}'
            )
        check_thing_classes('panoptic_fusion_head', head)
        for name in ('num_things_classes', 'num_stuff_classes'):
            if getattr(head, name) != getattr(semantic_model, name):
                raise ValueError(
                    f'{name}: {getattr(semantic_model, name)} in semantic_model, '
                    f'but {getattr(head, name)} in panoptic_fusion_head'
                )


def _check_same_inputs(inner: dict, outer: dict) -> None:
    for name, default in INPUT_SETTINGS.items():
        values = [settings.get(name, default) for settings in (inner, outer)]
        values = [list(v) if isinstance(v, (list, tuple)) else v for v in values]
        if values[0] != values[1]:
            raise ValueError(
                f'instance_model.data_preprocessor: {name} = {values[0]}, but the '
                f'data_preprocessor of the detector, which is for all parts, has {values[1]}'
            )


def _load_pretrained(part: nn.Module) -> None:
    """Loads the part's checkpoint, if it has one; MMEngine does so before training only.

    What is inside of the part, such as a backbone with a checkpoint of its own, is left alone.
    """
    init_cfgs = part.init_cfg if isinstance(part.init_cfg, list) else [part.init_cfg]
    if any(cfg and cfg['type'] in ('Pretrained', PretrainedInit) for cfg in init_cfgs):
        initialize(part, part.init_cfg)
        part.is_init = True


def _without_original(sample: DetDataSample) -> DetDataSample:
    """A copy of the sample whose original image is the network's input."""
    sample = sample.new()
    sample.set_metainfo(dict(ori_shape=sample.img_shape, scale_factor=(1.0, 1.0)))
    return sample
