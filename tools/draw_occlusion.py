"""Draw how occlusion was handled: who is in front of whom, why, and what came of it.

    python tools/draw_occlusion.py CONFIG CHECKPOINT IMAGE [IMAGE ...] [--out DIR]

Runs a model with ``mmbanet.OcclusionAwareFusionHead`` on image files, or on all images of a folder.
Writes NAME_occlusion.png for each (NAME.jpg_occlusion.png, and so on, where images of one NAME
would be drawn alike) and prints its objects and their overlapping pairs.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'what is drawn stays, the same command draws all again')

import argparse
import os.path as osp
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from torch import nn

from mmbanet.apis import init_model, predict, read_image
from mmbanet.cli.arguments import CfgOptions
from mmbanet.messages import counted
from mmbanet.models.fusion import OcclusionAwareFusionHead
from mmbanet.visualization import (
    class_palette,
    colorize,
    describe_object,
    describe_pair,
    draw_occlusion_graph,
    write_picture,
)

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def main() -> None:
    """Parses and checks the arguments, then draws image by image."""
    args = parse_arguments()
    pictures = picture_paths(args.images, args.out)
    model = fusion_model(args.config, args.checkpoint, args.device, args.cfg_options)
    metainfo = model.dataset_meta

    args.out.mkdir(parents=True, exist_ok=True)
    for path, picture in pictures.items():
        sample = predict(model, path)
        write_picture(picture, draw(read_image(path)[..., ::-1], sample, metainfo))
        print(f'\n{path} -> {picture}\n{describe(sample, metainfo["classes"])}', flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or a URL; "none" if the parts of the model bring their own',
    )
    parser.add_argument('images', nargs='+', type=Path, help='image files, or folders of images')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/occlusion'), metavar='DIR')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', action=CfgOptions, default={})
    return parser.parse_args()


def picture_paths(images: list[Path], folder: Path) -> dict[Path, Path]:
    """The picture to write for each image file, with folders replaced by the images in them.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in a folder.
    """
    files = {}
    for path in images:
        found = [path]
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found or not found[0].is_file():
            what = 'no images in' if path.is_dir() else 'image not found:'
            raise FileNotFoundError(f'{what} {path.resolve()}')
        files |= {file.resolve(): file for file in found}
    # The shortest names that tell all images apart.
    base = osp.commonpath([path.parent for path in files])
    namings = (
        [path.stem for path in files],
        [path.name for path in files],
        ['_'.join(path.relative_to(base).parts) for path in files],
        [f'{number}_{path.name}' for number, path in enumerate(files, start=1)],
    )
    names = next(names for names in namings if len(set(names)) == len(names))
    return {file: folder / f'{name}_occlusion.png' for file, name in zip(files.values(), names)}


def fusion_model(config: str, checkpoint: str, device: str, cfg_options: dict) -> nn.Module:
    """The model for inference.

    Raises:
        TypeError: Its fusion head gives no occlusion graph.
    """
    model = init_model(config, None if checkpoint == 'none' else checkpoint, device, cfg_options)
    head = getattr(model, 'panoptic_fusion_head', None)
    if not isinstance(head, OcclusionAwareFusionHead):
        raise TypeError(
            "the model must have panoptic_fusion_head=dict(type='mmbanet.OcclusionAwareFusionHead'"
            f', ...), which gives the occlusion graph, got {type(head).__name__}'
        )
    return model


def draw(image: np.ndarray, sample: DetDataSample, metainfo: dict) -> np.ndarray:
    """The picture (h, w, 3), RGB, of an RGB image and its predictions."""
    panoptic = sample.pred_panoptic_seg
    result = None
    if 'sem_seg' in panoptic:
        result = colorize(panoptic.sem_seg[0].numpy(), class_palette(metainfo))
    objects = sample.pred_instances[panoptic.detections]
    return draw_occlusion_graph(
        image,
        objects.masks.numpy(),
        panoptic.occlusion,
        names=[metainfo['classes'][label] for label in objects.labels],
        scores=objects.scores.tolist(),
        result=result,
    )


def describe(sample: DetDataSample, classes: list[str]) -> str:
    """The objects and their overlapping pairs, a line for each, in the picture's words."""
    graph = sample.pred_panoptic_seg.occlusion
    objects = sample.pred_instances[sample.pred_panoptic_seg.detections]
    lines = [f'{counted(len(objects), "object")}, in descending score']
    for k, (label, score) in enumerate(zip(objects.labels.tolist(), objects.scores.tolist())):
        lines.append('  ' + describe_object(graph, k, classes[label], score))
    lines.append(f'{counted(len(graph.pairs), "overlapping pair")}, front > behind')
    lines += ['  ' + describe_pair(graph, place) for place in range(len(graph.pairs))]
    return '\n'.join(lines)
