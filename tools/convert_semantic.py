"""Convert semantic label images to COCO panoptic: ``python tools/convert_semantic.py --help``."""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'the split at work was not kept, the same command starts again')

from mmbanet.cli.convert_semantic import main

__all__ = ['main']
