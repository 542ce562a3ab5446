"""OCFusion's occlusion head: masks and features of two objects to who is in front.

Shapes: K objects, P pairs, C channels, r x r cells of RoI features, m x m cells of a mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

# Pairs whose maps are in memory at once where nothing is learned: 0.4 MB a map of 512 channels.
PAIRS_AT_ONCE = 64


class PairClassifier(BaseModule):
    """Three convolutions, one of stride 2, two linear layers and one logit for an ordered pair.

    Args:
        in_channels: C.
        roi_size: r.
        channels: Of the convolutions.
        fc_channels: Of the linear layer before the logit.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        in_channels: int,
        roi_size: int,
        channels: int,
        fc_channels: int,
        init_cfg: dict | list | None = (
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Xavier', layer='Linear', distribution='uniform'),
            dict(type='Normal', std=0.01, override=dict(name='logit')),
        ),
    ) -> None:
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        self.first = nn.Conv2d(2 * (in_channels + 1), channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.reduce = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.fc = nn.Linear(channels * ((roi_size + 1) // 2) ** 2, fc_channels)
        self.logit = nn.Linear(fc_channels, 1)

    def forward(self, features: Tensor, mask_logits: Tensor, pairs: Tensor) -> Tensor:
        """Logits (P,) of the first of each pair being in front of the second.

        Args:
            features: (K, C, r, r), RoI features.
            mask_logits: (K, m, m), in the same boxes.
            pairs: (P, 2) int64.
        """
        objects, places = pairs.unique(return_inverse=True)
        masks = mask_logits[objects].sigmoid()
        masks = F.adaptive_max_pool2d(masks[:, None], features.shape[-2:])
        maps = [part.to(self.first.weight.dtype) for part in (masks, features[objects])]
        maps = torch.cat(maps, dim=1)
        # The first convolution is linear: what an object adds to it in either place, once.
        halves = zip(self.first.weight.chunk(2, dim=1), (self.first.bias, None))
        in_places = [F.conv2d(maps, weight, bias, padding=1) for weight, bias in halves]
        chunks = [places] if torch.is_grad_enabled() else places.split(PAIRS_AT_ONCE)
        return torch.cat([self._classify(in_places, chunk) for chunk in chunks])

    def _classify(self, in_places: list[Tensor], pairs: Tensor) -> Tensor:
        one, other = (maps[k] for maps, k in zip(in_places, pairs.unbind(dim=1)))
        x = F.relu(one + other)
        for conv in (self.second, self.third, self.reduce):
            x = F.relu(conv(x))
        return self.logit(F.relu(self.fc(x.flatten(1)))).squeeze(1)
