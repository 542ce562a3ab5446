# Writes the panoptic results of COCO test-dev for the evaluation server: run it with tools/test.py.
_base_ = 'banet_dcn101_fpn_dfm_3x_coco.py'

ann_file = 'annotations/panoptic_image_info_test-dev2017.json'
test_pipeline = [
    step for step in _base_.test_pipeline if not step['type'].endswith('LoadPanopticAnnotations')
]
test_dataloader = dict(
    dataset=dict(
        ann_file=ann_file, data_prefix=dict(img='test2017/', seg=''), pipeline=test_pipeline
    )
)
test_evaluator = dict(
    _delete_=True,
    type='CocoPanopticMetric',
    ann_file=_base_.data_root + ann_file,
    format_only=True,
    outfile_prefix='work_dirs/test-dev2017/panoptic',
)
