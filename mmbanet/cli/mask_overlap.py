"""How much the instance masks of a data set overlap.

Of COCO's instance annotations, or of panoptic annotations with their PNGs (``--seg-prefix``),
whose masks never overlap. What does not overlap in training gives occlusion handling nothing to
decide.

  mmbanet mask-overlap data/coco/annotations/instances_val2017.json
"""

import argparse
from collections.abc import Sequence

from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments, counts, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', help='instances JSON; with --seg-prefix: panoptic JSON')
    parser.add_argument('--seg-prefix', help='folder of the PNGs of panoptic annotations')
    args = parser.parse_args(argv)
    check_found('annotation file', args.ann_file)
    with quiet_imports():
        from mmbanet.datasets.mask_overlap import measure_overlap
    counts = measure_overlap(args.ann_file, args.seg_prefix)
    print(f'{args.ann_file}: {counts.table()}')
