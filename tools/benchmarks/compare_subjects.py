"""The models that are compared: built from a config, with the image and detections to work on."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from compare_inputs import GivenImage
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmbanet.apis import init_model
from mmbanet.engine.launch import read_config

CONFIGS = Path(__file__).parents[2] / 'configs'
NAMED = {
    'panoptic_fpn_r50': 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    'banet_r50': CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py',
    'banet_r50_dfm': CONFIGS / 'banet' / 'banet_r50_fpn_dfm_1x_coco.py',
    'banet_r101_dfm': CONFIGS / 'banet' / 'banet_r101_fpn_dfm_1x_coco.py',
    'panoptic_fpn_r101': 'mmdet::panoptic_fpn/panoptic-fpn_r101_fpn_1x_coco.py',
    'maskformer_r50': 'mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    'mask2former_r50': 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
}


class Subject:
    """A model with everything that one inference or one training step needs.

    Without a checkpoint the weights are random, and so would be the proposals and detections, in
    number, size and place. They are therefore computed, and then replaced by the scene's.

    Args:
        name: A key of ``NAMED``, or the path of a config.
        scene: What to work on.
        device: ``'cpu'`` or ``'cuda'``.
        checkpoint: File of trained weights.

    Raises:
        ValueError: Unknown name; a checkpoint of another model.
        FileNotFoundError: No such config or checkpoint.
    """

    def __init__(self, name: str, scene: GivenImage, device: str, checkpoint: Path | None) -> None:
        cfg = load_config(name)
        torch.manual_seed(0)
        self.name = name if name in NAMED else Path(name).stem
        self.scene, self.trained = scene, checkpoint is not None
        cfg.model.backbone.init_cfg = None
        self.model = init_model(cfg, checkpoint, device)
        if checkpoint is None:
            self.model.init_weights()
            fix_detections(self.model, scene)
        # Images of one size for all; some models' own would pad this one to another.
        self.model.data_preprocessor.batch_augments = None
        self.optimizer = build_optim_wrapper(self.model, cfg.optim_wrapper)
        for group in self.optimizer.param_groups:
            group['lr'] = 0.0  # every step starts from the same weights

    def inference(self) -> Callable[[], object]:
        """``predict`` of the preprocessed image, to be called once."""
        self.model.eval()
        batch = self.model.data_preprocessor(self.scene.batch(self.model), training=False)

        def run() -> object:
            with torch.no_grad():
                return self.model.predict(batch['inputs'], batch['data_samples'])

        return run

    def training_step(self) -> Callable[[], object]:
        """Forward, backward and optimizer step, to be called once."""
        self.model.train()
        torch.manual_seed(0)
        batch = self.scene.batch(self.model)
        return lambda: self.model.train_step(batch, self.optimizer)

    def parameters(self) -> int:
        """Number of all parameters, frozen ones included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def counts(self) -> dict[str, int] | None:
        """Fixed proposals and detections at each step; None where they are the model's own."""
        if self.trained:
            return None
        return self.scene.counts(self.model)


def load_config(name: str) -> Config:
    """The config of a model in ``NAMED``, or at a path, which may start with ``mmdet::``."""
    path = str(NAMED.get(name, name))
    if not path.endswith('.py'):
        raise ValueError(
            f'unknown model {name!r}: expected one of {", ".join(NAMED)}, or the path of a config'
        )
    return read_config(path)


def fix_detections(model: nn.Module, scene: GivenImage) -> None:
    """Replaces results by the scene's after they have been computed."""

    def after(part: nn.Module, method: str, replace: Callable) -> None:
        compute = getattr(part, method)
        setattr(part, method, lambda *args, **kwargs: replace(compute(*args, **kwargs)))

    if hasattr(model, 'panoptic_head'):
        logits = scene.class_logits(model)
        after(model.panoptic_head, 'predict', lambda x: (logits, x[1]))
        return
    proposals, detections = scene.proposals_for(model), scene.detections_for(model)
    # Copies, since models change their results in place.
    after(model.rpn_head, 'predict', lambda _: [deepcopy(proposals)])
    after(model.rpn_head, 'loss_and_predict', lambda x: (x[0], [deepcopy(proposals)]))
    after(model.roi_head, 'predict_bbox', lambda _: [deepcopy(detections)])
