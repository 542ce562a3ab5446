"""Generate scenes in COCO's panoptic format: ``python tools/make_scenes.py --out data/scenes``."""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was kept, the same command starts again')

from mmbanet.cli.make_scenes import main

__all__ = ['main']
