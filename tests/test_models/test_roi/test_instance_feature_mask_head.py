import torch

from mmbanet.models import InstanceFeatureMaskHead


def test_masks_are_made_of_the_features_of_all_three_convs():
    """F_ins is what the deconvolution sees (section 3.1)."""
    head = InstanceFeatureMaskHead(in_channels=8, conv_out_channels=6, num_classes=3)
    head.init_weights()
    crops = torch.randn(2, 8, 14, 14)
    features = head.instance_features(crops)
    assert len(head.convs) == 3
    assert features.shape == (2, 6, 14, 14)
    masks = head.conv_logits(head.relu(head.upsample(features)))
    torch.testing.assert_close(masks, head(crops))
