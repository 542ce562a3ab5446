"""Convert semantic label images to COCO panoptic: ``python tools/convert_semantic.py --help``."""

from mmbanet.cli.convert_semantic import main

if __name__ == '__main__':
    main()
