"""What segments say of their overlaps when decisions contradict one another."""

import json

import torch

from mmbanet.models.fusion import compose_panoptic_map, explain_occlusion
from mmbanet.models.fusion.segments import segments_info


def test_both_segments_of_a_contradicted_pair_say_so():
    """0 is in front of 1, 2 in front of 0, and so 1 in front of 2 does not count."""
    masks = torch.zeros(3, 1, 7, dtype=torch.bool)
    masks[0, 0, [0, 2, 3]] = True
    masks[1, 0, [1, 2, 4]] = True
    masks[2, 0, [3, 4, 5]] = True
    cycle = torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.int8)
    scores = torch.tensor([0.9, 0.8, 0.7])
    image = torch.zeros(3, 1, 7)
    owner, graph = explain_occlusion(masks, scores, image, removal_thr=1.0, preference=cycle)
    assert owner.tolist() == [[0, 1, 0, 2, 2, 2, -1]]
    labels, semantics = torch.zeros(3, dtype=torch.int64), torch.ones(1, 7, dtype=torch.int32)
    panoptic = compose_panoptic_map(owner.int(), semantics, labels, scores, 1, 1, 0)

    *things, stuff = segments_info(panoptic, graph, detections=[5, 3, 8])
    assert [thing['detection'] for thing in things] == [5, 3, 8]
    assert 'overlaps' not in stuff
    id_of = {thing['detection']: thing['id'] for thing in things}
    found = {
        (thing['detection'], pair['detection']): (pair['in_front'], pair['set_aside'])
        for thing in things
        for pair in thing['overlaps']
    }
    assert found == {
        (5, 3): (True, False),
        (3, 5): (False, False),
        (8, 5): (True, False),
        (5, 8): (False, False),
        (3, 8): (False, True),  # the pair alone says the opposite
        (8, 3): (True, True),
    }
    for thing in things:
        for pair in thing['overlaps']:
            assert pair['rule'] == 'preference'
            assert pair['segment'] == id_of[pair['detection']]
    json.dumps(things)
