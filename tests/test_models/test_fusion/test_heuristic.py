import numpy as np
import pytest
import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmengine.structures import InstanceData

from mmbanet.models.fusion import resolve_by_score

from ...conftest import DEVICES
from .scenes import random_scene


def claims(*rows):
    return torch.tensor([[[c == '1' for c in row]] for row in rows])


@pytest.mark.parametrize('device', DEVICES)
def test_agrees_with_mmdet(device):
    head = HeuristicFusionHead()
    dropped = 0
    for seed in range(300):
        masks = torch.from_numpy(random_scene(seed, max_objects=12)['masks']).to(device)
        count = len(masks)
        rng = np.random.default_rng(seed)
        # Distinct scores: mmdet's order of equal ones is not defined.
        scores = torch.from_numpy(rng.permutation(count) / 16).float().to(device)
        labels = torch.arange(count, device=device)
        threshold = [0.5, 0.2, 0.8, 1.0][seed % 4]
        instances = InstanceData(
            bboxes=torch.zeros(count, 4, device=device), labels=labels, scores=scores, masks=masks
        )
        id_map, kept = head._lay_masks(instances, threshold)
        owner, keep = resolve_by_score(masks, scores, threshold)
        if count == 0:
            assert (owner == -1).all()
            continue
        # Their ids count from 1 in descending score; with distinct labels they name the objects.
        theirs = torch.cat([kept.new_tensor([-1]), kept])[id_map]
        assert torch.equal(owner, theirs), seed
        assert torch.equal(keep.nonzero().squeeze(1), kept.sort().values), seed
        dropped += int((masks.flatten(1).any(1) & ~keep).sum())
    assert dropped > 100


def test_small_map():
    masks = claims('11100', '01110', '00111', '00000')
    owner, keep = resolve_by_score(masks, torch.tensor([0.7, 0.9, 0.8, 0.6]))
    # 1 first; two thirds of 2 are taken: dropped; two thirds of 0 too.
    assert owner.tolist() == [[-1, 1, 1, 1, -1]]
    assert keep.tolist() == [False, True, False, False]
    owner, keep = resolve_by_score(masks, torch.tensor([0.7, 0.9, 0.8, 0.6]), removal_thr=0.7)
    assert owner.tolist() == [[0, 1, 1, 1, 2]]
    assert keep.tolist() == [True, True, True, False]


def test_equal_scores_go_by_index():
    owner, keep = resolve_by_score(claims('110', '011'), torch.tensor([0.5, 0.5]))
    assert owner.tolist() == [[0, 0, 1]]
    assert keep.tolist() == [True, True]


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match='masks must be a bool'):
        resolve_by_score(torch.ones(1, 2, 2), torch.ones(1))
    with pytest.raises(ValueError, match=r'removal_thr must be in 0\.\.1, got 50'):
        resolve_by_score(torch.ones(1, 2, 2).bool(), torch.ones(1), removal_thr=50)
