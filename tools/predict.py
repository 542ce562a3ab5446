"""Predict panoptic maps: ``python tools/predict.py CONFIG CHECKPOINT IMAGES... --out DIR``."""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'the same command with --resume goes on')

from mmbanet.cli.predict import main

__all__ = ['main']
