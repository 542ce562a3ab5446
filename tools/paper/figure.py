"""Figure 6 of the paper: what models make of images, side by side with the ground truth."""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from mmbanet.apis import init_model, predict, read_image
from mmbanet.datasets import load_panoptic_map
from mmbanet.visualization import class_palette, colorize, draw_grid, write_picture


def draw_results(models: dict[str, tuple[Config, str]], count: int, path: Path) -> None:
    """Writes a grid: a row for each image; the image, each model's result, the ground truth.

    The images are the ones with the most annotated things, whatever the models make of them.

    Args:
        models: Config and checkpoint, by the column's title.
        count: Number of images.
        path: Of the picture.
    """
    cfg, _ = next(iter(models.values()))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    palette = class_palette(dataset.metainfo)
    chosen = most_things(dataset, count)
    infos = [dataset.get_data_info(index) for index in chosen]
    paths = [info['img_path'] for info in infos]
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    columns = [predict(init_model(*model, device), paths) for model in models.values()]
    rows = []
    for info, *samples in zip(infos, *columns):
        maps = [sample.pred_panoptic_seg.sem_seg[0].numpy() for sample in samples]
        maps.append(load_panoptic_map(info))
        image = read_image(info['img_path'])[..., ::-1]
        rows.append([image, *(colorize(segments, palette) for segments in maps)])
    write_picture(path, draw_grid(rows, ['image', *models, 'ground truth']))


def most_things(dataset: BaseDataset, count: int) -> list[int]:
    """Indices of the images with the most annotated things, the most first."""

    def things(index: int) -> int:
        return sum(part['is_thing'] for part in dataset.get_data_info(index)['segments_info'])

    return sorted(range(len(dataset)), key=things, reverse=True)[:count]
