"""mmdet's visualizer with one picture of a panoptic map, and the truth with errors beside it."""

from __future__ import annotations

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer

from mmbanet.registry import VISUALIZERS
from mmbanet.structures import decode_ids, encode_ids

from .panoptic import class_palette
from .picture import ERROR_COLORS, Errors, draw_panoptic, find_errors


@VISUALIZERS.register_module()
class PanopticVisualizer(DetLocalVisualizer):
    """Draws ``pred_panoptic_seg`` as one picture, where mmdet lays three over each other.

    In ``DetVisualizationHook`` and ``tools/test.py`` it takes the place of ``DetLocalVisualizer``,
    with its arguments; samples without a panoptic prediction are drawn as it does. Beside the
    prediction stands the truth, from ``gt_sem_seg`` and ``gt_instances`` at the image's size.
    Contours are red where the truth is missed or the prediction is false, orange where the class
    is wrong.
    """

    @torch.no_grad()
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draws a sample and hands it to all backends, as mmdet's.

        Args:
            name: Of the picture.
            image: (H, W, 3) uint8 RGB, to which the sample's maps belong.
            data_sample: With ``pred_panoptic_seg``.
            draw_gt: Whether the truth is drawn, where the sample has any.
            draw_pred: Whether the prediction is drawn.
            show: Whether a window shows it, too.
            wait_time: Of the window, in seconds.
            out_file: Where it is written in place of the backends.
            pred_score_thr: Of instances, which a panoptic map has settled already.
            step: Of the backends.
        """
        prediction = None if data_sample is None else data_sample.get('pred_panoptic_seg')
        if prediction is None or 'sem_seg' not in prediction:
            super().add_datasample(
                name,
                image,
                data_sample,
                draw_gt,
                draw_pred,
                show,
                wait_time,
                out_file,
                pred_score_thr,
                step,
            )
            return
        meta = dict(self.dataset_meta or {})
        if 'classes' not in meta:
            raise ValueError(
                'dataset_meta must have classes, whose names are drawn, got '
                f"{sorted(meta) or 'nothing'}; set the visualizer's dataset_meta"
            )
        image = image.clip(0, 255).astype(np.uint8)
        found = prediction.sem_seg[0].cpu().numpy()
        num_classes, errors = len(meta['classes']), Errors([], [], [])
        truth = _true_map(data_sample, image.shape[:2], num_classes) if draw_gt else None
        if truth is not None and draw_pred:
            # Things without an instance are crowd regions, whose id is their label.
            crowds = [meta['classes'].index(name) for name in meta.get('thing_classes', ())]
            errors = find_errors(truth, found, num_classes, crowds)

        maps = [(truth, errors.missed, 0)] if truth is not None else []
        maps += [(found, errors.false, 1)] if draw_pred else []
        pictures = []
        for panoptic, unmatched, side in maps:
            marks = dict.fromkeys(unmatched, ERROR_COLORS['unmatched'])
            marks.update((pair[side], ERROR_COLORS['wrong_class']) for pair in errors.confused)
            pictures.append(
                draw_panoptic(image, panoptic, meta['classes'], class_palette(meta), marks)
            )
        drawn = _side_by_side(pictures) if pictures else image

        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)  # makes the folder as well
        else:
            self.add_image(name, drawn, step)


def _true_map(sample: DetDataSample, size: tuple[int, int], num_classes: int) -> np.ndarray | None:
    """(H, W) in mmdet's encoding; None if the sample has no truth of this size."""
    semantics, instances = sample.get('gt_sem_seg'), sample.get('gt_instances')
    if semantics is None or tuple(semantics.sem_seg.shape[-2:]) != size:
        return None
    truth = semantics.sem_seg[0].cpu().numpy().astype(np.int64)
    truth[truth >= num_classes] = num_classes
    if instances is None or 'masks' not in instances:
        return truth
    masks = instances.masks
    masks = masks if isinstance(masks, torch.Tensor) else masks.to_ndarray()
    for number, (mask, label) in enumerate(zip(masks, instances.labels.tolist()), start=1):
        # Where masks overlap, the panoptic map says whose class the pixel is.
        own = np.asarray(mask, dtype=bool) & (decode_ids(truth)[0] == label)
        truth[own] = encode_ids(label, number)
    return truth


def _side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """On white where one is taller."""
    height = max(len(picture) for picture in pictures)
    padded = [
        np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), constant_values=255) for p in pictures
    ]
    return np.concatenate(padded, axis=1)
