# AUNet on generated scenes: the small PanopticFPN with attention in its semantic branch.
_base_ = ['../panoptic_fpn/panoptic_fpn_r18_fpn_scenes.py']

# A sixteenth of so few channels leaves a gate that may never open.
gate = dict(se_ratio=4)
model = dict(
    _base_.parts.aunet,
    semantic_head=dict(
        _base_.parts.aunet.semantic_head,
        pam=dict(gate, foreground_channels=_base_.width),
        mam=gate,
    ),
)
