# Kirillov et al.'s first system (arXiv 1801.00868): Mask R-CNN and PSPNet, instances in the order
# of their scores over semantics, with the thresholds of panopticapi. Nothing is trained here.
#
# The folder, with mmsegmentation 1.x: train one of its configs/pspnet on label PNGs of 133 classes
# (255: void), where an id of panopticapi's converters/panoptic2semantic_segmentation.py becomes its
# place among all sorted ids of the annotation file: things first. With reduce_zero_label=False,
#   python tools/test.py CONFIG CHECKPOINT --out data/coco/pspnet_val2017
# then writes IMAGE.png of each image of val2017, with the labels and the size that are wanted.
_base_ = 'mask_rcnn_r50_fpn_prediction_folder_coco.py'

model = dict(
    _base_.parts.without_oh,
    semantic_model=dict(folder=_base_.data_root + 'pspnet_val2017'),
    test_cfg=dict(panoptic=dict(score_thr=0.5, nms=None)),
)
