"""The one image that all models see, with its ground truth and the detections given to them."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fusion_inputs import NMS_IOU, THINGS, Case, random_image, random_instances
from mmcv.ops import nms
from mmcv.transforms import Compose
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbanet.datasets import PanopticDataset

# What is drawn where nothing is given: objects on stripes of stuff.
DRAWN = Case(20, 427, 640)
STRIPES = 4
PROPOSALS = 1000
VOID = 255
SURE = 20.0  # logit of a class that softmax makes certain
CONFIDENT = 0.6  # the score above which the models' configs let a detection into fusion


@dataclass(frozen=True)
class GivenImage:
    """An image in the size of the network's input, its ground truth and fixed detections.

    Attributes:
        packed: What mmdet's ``PackDetInputs`` returns, labels of COCO.
        proposals: 1,000 ``bboxes`` in pixels of the network's input, ``scores``, ``labels``.
        detections: The same, of things.
        ground_truth: ``'annotated'`` or ``'drawn'``.
    """

    packed: dict
    proposals: InstanceData
    detections: InstanceData
    ground_truth: str

    def batch(self, model: nn.Module) -> dict:
        """A batch of one for the model's data preprocessor; labels are taken modulo its classes."""
        packed = copy.deepcopy(self.packed)
        sample, things = packed['data_samples'], model.num_things_classes
        sample.gt_instances.labels %= things
        labels = sample.gt_sem_seg.sem_seg.long()
        own = torch.where(
            labels < THINGS, labels % things, things + (labels - THINGS) % model.num_stuff_classes
        )
        sample.gt_sem_seg.sem_seg = torch.where(labels == VOID, labels, own)
        return dict(inputs=[packed['inputs']], data_samples=[sample])

    def proposals_for(self, model: nn.Module) -> InstanceData:
        """As many as the model's own RPN may give, on its device."""
        return self.proposals[: model.test_cfg.rpn.max_per_img].to(_device(model))

    def detections_for(self, model: nn.Module) -> InstanceData:
        """Those above the threshold of the model's own box head, on its device."""
        chosen = self.detections[self.detections.scores > model.test_cfg.rcnn.score_thr]
        chosen = chosen.to(_device(model))
        chosen.labels = chosen.labels % model.num_things_classes
        return chosen

    def class_logits(self, model: nn.Module) -> Tensor:
        """Class logits (1, Q, classes + 1) of a query-based model.

        One query each for the confident detections and for the image's stuff classes; the others
        say "no object".
        """
        things = self.detections.labels[self.detections.scores > CONFIDENT]
        queries = model.panoptic_head.num_queries
        labels = torch.cat([things % model.num_things_classes, self._stuff(model)])[:queries]
        logits = torch.zeros(1, queries, model.num_classes + 1)
        logits[0, len(labels) :, -1] = SURE
        logits[0, torch.arange(len(labels)), labels] = SURE
        return logits.to(_device(model))

    def counts(self, model: nn.Module) -> dict[str, int]:
        """Of what is fixed: proposals, boxes with a mask, things and stuff given to fusion."""
        things = int((self.detections.scores > CONFIDENT).sum())
        if hasattr(model, 'panoptic_head'):
            return dict(things=things, stuff=len(self._stuff(model)))
        masks = len(self.detections_for(model))
        proposals = len(self.proposals_for(model))
        return dict(proposals=proposals, masks=masks, things=min(things, masks))

    def _stuff(self, model: nn.Module) -> Tensor:
        labels = self.batch(model)['data_samples'][0].gt_sem_seg.sem_seg.unique()
        return labels[(labels >= model.num_things_classes) & (labels != VOID)]


def load_scene(
    image: Path | None, scale: tuple[int, int], detections: int, confident: int
) -> GivenImage:
    """Reads or draws the scene.

    The ground truth of an image ``ROOT/FOLDER/NAME`` is what COCO's panoptic annotation
    ``ROOT/annotations/panoptic_FOLDER.json`` says of it; without one, 20 objects are drawn.

    Args:
        image: Path; None draws an image of 427x640, too.
        scale: Long and short side that the resized image may have at most.
        detections: How many there are, with scores above 0.05; the objects come first.
        confident: How many of them score above 0.6.

    Raises:
        FileNotFoundError: No image there.
        ValueError: An annotation with other classes than COCO's; too many detections.
    """
    if image is not None and not image.is_file():
        raise FileNotFoundError(f'image not found: {image}')
    resize = [dict(type='Resize', scale=scale, keep_ratio=True), dict(type='PackDetInputs')]
    packed = _annotated(image, resize) if image is not None else None
    source = 'annotated' if packed is not None else 'drawn'
    if packed is None:
        packed = _drawn(image, resize)
    sample = packed['data_samples']
    proposals = _proposals(get_box_tensor(sample.gt_instances.bboxes), sample.img_shape)
    return GivenImage(packed, proposals, _detections(proposals, detections, confident), source)


def _annotated(image: Path, resize: list[dict]) -> dict | None:
    """The image with its COCO annotation; None if there is none."""
    folder = image.parent.name
    ann_file = image.parent.parent / 'annotations' / f'panoptic_{folder}.json'
    if not ann_file.is_file():
        return None
    dataset = PanopticDataset(
        ann_file=str(ann_file),
        data_prefix=dict(img=str(image.parent), seg=str(ann_file.with_suffix(''))),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations'), *resize],
        test_mode=True,
    )
    for index in range(len(dataset)):
        if Path(dataset.get_data_info(index)['img_path']).name == image.name:
            return dataset[index]
    return None


def _drawn(image: Path | None, resize: list[dict]) -> dict:
    """The image, or blobs of colour, with random objects on random stuff."""
    if image is not None:
        loaded = Compose([dict(type='LoadImageFromFile')])(dict(img_path=str(image)))
    else:
        pixels = random_image(DRAWN, 'cpu').permute(1, 2, 0).numpy().astype(np.uint8)
        loaded = dict(img=pixels, img_shape=pixels.shape[:2], ori_shape=pixels.shape[:2])
    height, width = loaded['ori_shape']
    objects = random_instances(Case(DRAWN.objects, height, width), 'cpu')
    stripes = THINGS + np.arange(height) * STRIPES // height
    semantic = np.repeat(stripes[:, None], width, axis=1).astype(np.uint8)
    for label, mask in zip(objects.labels.tolist(), objects.masks.numpy()):
        semantic[mask] = label
    loaded.update(
        gt_bboxes=objects.bboxes.numpy(),
        gt_bboxes_labels=objects.labels.numpy(),
        gt_masks=BitmapMasks(objects.masks.numpy().astype(np.uint8), height, width),
        gt_seg_map=semantic,
        gt_ignore_flags=np.zeros(len(objects), dtype=bool),
    )
    return Compose(resize)(loaded)


def _proposals(boxes: Tensor, size: tuple[int, int]) -> InstanceData:
    """1,000 boxes: those of the objects, and others of all places, sizes and shapes.

    Their sides are 16 to 512 pixels, every octave as often as the others.
    """
    generator = torch.Generator().manual_seed(0)
    limit = torch.tensor([size[1], size[0]])
    place, side, ratio = torch.rand(3, PROPOSALS, 2, generator=generator)
    centre = place * limit
    side = 2 ** (4 + 5 * side[:, :1] + (ratio[:, :1] - 0.5) * torch.tensor([1, -1]))
    others = torch.cat([centre - side / 2, centre + side / 2], dim=1)
    others = torch.minimum(others.clamp(min=0), limit.repeat(2))
    return InstanceData(
        bboxes=torch.cat([boxes, others])[:PROPOSALS],
        scores=torch.linspace(1, 0, PROPOSALS),
        labels=torch.zeros(PROPOSALS, dtype=torch.long),
    )


def _detections(proposals: InstanceData, count: int, confident: int) -> InstanceData:
    """The first ``count`` proposals that NMS keeps, ``confident`` of them with high scores."""
    _, kept = nms(proposals.bboxes, proposals.scores, NMS_IOU)
    if not 0 <= confident <= count <= len(kept):
        raise ValueError(
            f'--detections must be in 0..{len(kept)} (boxes that NMS keeps on this image), and '
            f'--confident at most as many, got {count} and {confident}'
        )
    generator = torch.Generator().manual_seed(0)
    scores = [
        torch.linspace(0.99, CONFIDENT + 0.01, confident),
        torch.linspace(CONFIDENT - 0.01, 0.06, count - confident),
    ]
    return InstanceData(
        bboxes=proposals.bboxes[kept[:count]],
        scores=torch.cat(scores),
        labels=torch.randint(THINGS, (count,), generator=generator),
    )


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
