"""Count overlapping instance masks: ``python tools/mask_overlap.py INSTANCES_JSON``."""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'the same command starts again')

from mmbanet.cli.mask_overlap import main

__all__ = ['main']
