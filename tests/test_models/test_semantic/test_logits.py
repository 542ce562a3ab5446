import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmbanet.models.semantic.logits import label_maps, semantic_loss


def test_what_the_loss_asks_for_is_where_the_labels_are():
    rows, cols = torch.meshgrid(torch.arange(128.0), torch.arange(192.0), indexing='ij')
    disc = (rows - 60.5) ** 2 + (cols - 90.5) ** 2 < 40**2
    sample = DetDataSample(gt_sem_seg=PixelData(sem_seg=disc.long()[None]))
    logits = torch.zeros(1, 2, 32, 48, requires_grad=True)
    semantic_loss(CrossEntropyLoss(), logits, [sample]).backward()

    shape = dict(batch_input_shape=(128, 192), img_shape=(128, 192), ori_shape=(128, 192))
    wanted = label_maps(-logits.grad, [shape], True, 0, 2, 'all')[0][0] == 1
    shift = wanted.nonzero().float().mean(0) - disc.nonzero().float().mean(0)
    # Of four pixels none is in the middle: half a pixel remains.
    assert shift.abs().max() < 0.6, shift
