"""What is wrong in a COCO panoptic data set: ``mmbanet check DATA``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config
from tqdm import tqdm

from mmbanet.datasets.anchor_fit import fit_anchors
from mmbanet.datasets.data_check import Split, check_same_classes, check_split, find_splits
from mmbanet.datasets.data_image_check import Statistics
from mmbanet.datasets.data_repair import repair
from mmbanet.datasets.findings import Finding, Findings
from mmbanet.datasets.panoptic_annotations import PanopticAnnotations
from mmbanet.datasets.panoptic_files import write_whole
from mmbanet.engine.launch import output_file, read_config

EPILOG = """
DATA is a panoptic JSON file, or the folder with annotations/panoptic_NAME.json in it. PNGs are
expected in annotations/panoptic_NAME/, images in NAME/, instance annotations, which are optional,
in annotations/instances_NAME.json; the options say otherwise, of a single JSON file.

An error is what mmbanet refuses to train or test with, or what makes its figures wrong; a warning
is worth a look. The exit status is 1 if there are errors. --fix writes copies of the JSON files
with what follows from PNGs and images without a guess: areas, boxes, sizes, missing iscrowd,
entries that stand there twice; what is checked then are the copies.

With --config, classes are compared with those of the config, and the sizes of things with its
anchors. mmdet users know parts of it as tools/misc/browse_dataset.py and
tools/analysis_tools/optimize_anchors.py.

  mmbanet check data/mine
  mmbanet check data/mine/annotations/panoptic_train.json --fix data/mine/mended
"""
# Ids of images, what is quoted or in parentheses, and words with a digit or a slash.
NAMES_AND_NUMBERS = re.compile(r'image \S+|"[^"]*"|\'[^\']*\'|\([^()]*\)|[^\s:,]*[\d/][^\s:,]*')
# Of the things that no anchor matches; some there are in every data set.
TOLERATED_SHARE = 0.05


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments, checks and prints."""
    parser = argparse.ArgumentParser(
        prog='mmbanet check',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data', type=Path, help='panoptic JSON, or folder of the data set')
    parser.add_argument('--images', type=Path, help='folder of the images')
    parser.add_argument('--pngs', type=Path, help='folder of the PNGs')
    parser.add_argument('--instances', type=Path, help="COCO's instance annotations")
    parser.add_argument('--config', help='config that the data set is for')
    parser.add_argument('--fix', type=Path, metavar='DIR', help='write mended JSON files there')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='also write all findings')
    parser.add_argument('--examples', type=int, default=3, help='of each finding (default: 3)')
    args = parser.parse_args(argv)
    given = {
        name: value
        for name in ('images', 'pngs', 'instances')
        if (value := getattr(args, name)) is not None
    }
    splits = find_splits(args.data)
    if given and len(splits) > 1:
        names = ', '.join(str(split.ann_file) for split in splits)
        parser.error(f'--{min(given)} is of one data set, but there are several, name one: {names}')
    splits = [split._replace(**given) for split in splits]
    cfg = read_config(args.config) if args.config else None
    progress = partial(tqdm, unit='image', leave=False, disable=None)

    if args.fix:
        for number, split in enumerate(splits):
            out = args.fix / split.ann_file.name
            mended = repair(split, out, progress)
            said = ', '.join(f'{count} {what}' for what, count in mended.items() if count)
            print(f'{out}: mended {said or "nothing"}')
            splits[number] = split._replace(ann_file=out)

    findings, checked = Findings(), {}
    for split in splits:
        found = check_split(split, findings, progress)
        if found is not None:
            checked[str(split.ann_file)] = found
            print(describe(*found))
            if cfg is not None:
                compare_with_config(*found, split, cfg, findings)
    check_same_classes([file for file, _ in checked.values()], findings)
    report(findings.found, args.examples)
    errors = sum(finding.is_error for finding in findings.found)
    if args.json:
        content = dict(
            errors=errors,
            warnings=len(findings.found) - errors,
            findings=[finding._asdict() for finding in findings.found],
            classes={name: dict(counts.segments) for name, (_, counts) in checked.items()},
        )
        write_whole(args.json, lambda path: path.write_text(json.dumps(content, indent=1) + '\n'))
    if errors:
        sys.exit(f'mmbanet check: {errors} errors, see above')


def compare_with_config(
    file: PanopticAnnotations, counts: Statistics, split: Split, cfg: Config, findings: Findings
) -> None:
    """Classes, and anchors against things."""
    metainfo = cfg.train_dataloader.dataset.get('metainfo')
    with findings.apart('classes'):
        if metainfo is not None:
            file.labels(metainfo)
    if counts.thing_sizes:
        fit = fit_anchors(counts.thing_sizes, cfg)
        if fit.unmatched > TOLERATED_SHARE * fit.things:
            remedy = 'change model.rpn_head.anchor_generator.scales, or the scale of Resize'
            findings.say('anchors', f'{split.ann_file}: {fit}; {remedy}')
        else:
            print(f'{split.ann_file}: {fit}')


def describe(file: PanopticAnnotations, counts: Statistics) -> str:
    """What there is, as a table."""
    void = counts.void_pixels / max(counts.pixels, 1)
    lines = [
        f'{file.ann_file}: {len(file.images)} images, {counts.images} of them with a readable map; '
        f'{counts.segments.total()} segments, {counts.crowds} of them crowds; {void:.1%} void'
    ]
    width = max(map(len, counts.segments), default=0)
    for category in file.categories:
        if category['name'] not in counts.segments:
            continue
        name, kind = category['name'], 'thing' if category.get('isthing') else 'stuff'
        lines.append(
            f'  {name:<{width}}  {kind}  {counts.segments[name]:>8} segments in '
            f'{counts.images_of[name]} images'
        )
    return '\n'.join(lines)


def report(found: Sequence[Finding], examples: int) -> None:
    """Prints findings: those that differ in numbers and names only together, errors first."""
    groups = defaultdict(list)
    for finding in found:
        sentence = NAMES_AND_NUMBERS.sub('*', finding.message)
        groups[not finding.is_error, finding.kind, sentence].append(finding)
    for _, group in sorted(groups.items(), key=lambda item: item[0][0]):
        what = 'error' if group[0].is_error else 'warning'
        print(f'\n{what}, {group[0].kind}: {len(group)}')
        for finding in group[:examples]:
            print(f'  {finding.message}')
        if len(group) > examples:
            print(f'  and {len(group) - examples} more')
    if not found:
        print('\nnothing is wrong')
