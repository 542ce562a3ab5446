# OCFusion's occlusion head on a trained model, which is frozen, and what it learns from.
_base_ = 'logit_fusion.py'

instance_occlusion = dict(
    type=_base_.occlusion_aware.type,
    panoptic_fusion_head=dict(type='mmbanet.InstanceOcclusionHead'),
    train_cfg=dict(fusion_head_only=True),
    test_cfg=dict(panoptic=dict(_base_.occlusion_handling, _delete_=True)),
)
# Behind the annotations, and in place of PackDetInputs. Crops would drop instances.
load_order = dict(
    type='mmbanet.LoadInstanceOrder', overlap_thr=_base_.occlusion_handling.occlusion_thr
)
pack_order = dict(type='mmbanet.PackOrderedInputs')
