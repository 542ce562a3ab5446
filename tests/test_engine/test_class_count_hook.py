import pytest
from mmengine.registry import MODELS

from mmbanet.engine.class_count_hook import check_class_counts


def test_matching_counts_pass(small_cfg):
    check_class_counts(MODELS.build(small_cfg.model), 8, 5)


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('roi_head.bbox_head.num_classes', r'model\.roi_head\.bbox_head: num_classes = 6.* has 8'),
        ('roi_head.mask_head.num_classes', r'model\.roi_head\.mask_head: num_classes = 6.* has 8'),
        ('semantic_head.num_stuff_classes', r'semantic_head: num_stuff_classes = 6.* has 5'),
        ('i2s_head.num_classes', r'model\.i2s_head: num_classes = 6.* has 13'),
        ('panoptic_fusion_head.num_things_classes', 'num_things_classes = 6.* has 8'),
    ],
)
def test_any_head_that_disagrees_is_named(small_cfg, override, message):
    model = MODELS.build(small_cfg.model)
    # Some of these the detector refuses itself when it is built; other detectors do not.
    part, attribute = override.rsplit('.', 1)
    setattr(model.get_submodule(part), attribute, 6)
    with pytest.raises(ValueError, match=message):
        check_class_counts(model, 8, 5)


@pytest.mark.parametrize('part', ['roi_head.bbox_head', 'i2s_head'])
def test_heads_within_an_oracle_model_are_checked(small_cfg, part):
    cfg = dict(type='mmbanet.OracleModel', model=small_cfg.model, oracles=['boxes'])
    model = MODELS.build(cfg)
    model.model.get_submodule(part).num_classes = 6
    with pytest.raises(ValueError, match=rf'model\.model\.{part}: num_classes = 6'):
        check_class_counts(model, 8, 5)
