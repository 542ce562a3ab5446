"""Converts annotations."""

from __future__ import annotations

import sys
from argparse import Namespace

from mmbanet.datasets.cityscapes_conversion import cityscapes_data_set
from mmbanet.datasets.class_map import ClassMap
from mmbanet.datasets.cvat_conversion import cvat_data_set
from mmbanet.datasets.instance_conversion import instance_data_set
from mmbanet.datasets.labelme_conversion import labelme_data_set
from mmbanet.datasets.panoptic_writer import write_data_set
from mmbanet.datasets.semantic_conversion import semantic_data_set


def run(args: Namespace) -> None:
    """Converts and writes."""
    args = vars(args)
    kind = args.pop('kind')
    if 'classes' in args:
        args['class_map'] = ClassMap.from_file(
            args.pop('classes'), kind in ('labelme', 'cvat'), kind != 'instances'
        )
    out, overwrite = args.pop('out') or args['root'], args.pop('overwrite')
    data_set = dict(
        semantic=semantic_data_set,
        instances=instance_data_set,
        labelme=labelme_data_set,
        cvat=cvat_data_set,
        cityscapes=cityscapes_data_set,
    )[kind](**args)
    write_data_set(out, data_set, overwrite)
    print(f'annotations are in {out / "annotations"}')
    if kind == 'semantic':
        print(
            'warning: instances are connected components; touching things of one class are one',
            file=sys.stderr,
        )
