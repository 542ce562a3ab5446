"""Checks a data set."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from tqdm import tqdm

from mmbanet.apis.settled_classes import data_sets
from mmbanet.datasets.anchor_fit import fit_anchors
from mmbanet.datasets.data_check import (
    Split,
    check_same_classes,
    check_split,
    check_unused_files,
    find_splits,
)
from mmbanet.datasets.data_image_check import Statistics
from mmbanet.datasets.data_repair import repair
from mmbanet.datasets.findings import Finding, Findings
from mmbanet.datasets.panoptic_annotations import PanopticAnnotations
from mmbanet.datasets.panoptic_files import write_whole
from mmbanet.engine.launch import read_config
from mmbanet.messages import counted

# Ids of images, what is quoted or in parentheses, and words with a digit or a slash.
NAMES_AND_NUMBERS = re.compile(r'image \S+|"[^"]*"|\'[^\']*\'|\([^()]*\)|[^\s:,]*[\d/][^\s:,]*')
# Of the things that no anchor matches; some there are in every data set.
TOLERATED_SHARE = 0.05


def run(args: Namespace) -> None:
    """Checks, prints, and ends with an error where there are errors."""
    given = {
        name: value
        for name in ('images', 'pngs', 'instances')
        if (value := getattr(args, name)) is not None
    }
    splits = find_splits(args.data)
    if given and len(splits) > 1:
        names = ', '.join(str(split.ann_file) for split in splits)
        raise ValueError(
            f'--{min(given)} is of one data set, but there are several, name one: {names}'
        )
    splits = [split._replace(**given) for split in splits]
    cfg = read_config(args.config) if args.config else None
    if cfg is not None and next(data_sets(cfg), None) is None:
        raise ValueError(f'{args.config}: its data loaders have no data set to compare with')
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
            checked[split] = found
            print(describe(*found))
            if cfg is not None:
                compare_with_config(*found, split, cfg, findings)
    check_same_classes([file for file, _ in checked.values()], findings)
    check_unused_files({split: file for split, (file, _) in checked.items()}, findings)
    report(findings.found, args.examples)
    errors = sum(finding.is_error for finding in findings.found)
    if args.json:
        content = dict(
            errors=errors,
            warnings=len(findings.found) - errors,
            findings=[finding._asdict() for finding in findings.found],
            classes={
                str(split.ann_file): dict(counts.segments) for split, (_, counts) in checked.items()
            },
        )
        write_whole(args.json, lambda path: path.write_text(json.dumps(content, indent=1) + '\n'))
    if errors:
        sys.exit(f'mmbanet check: {counted(errors, "error")}, see above')


def compare_with_config(
    file: PanopticAnnotations, counts: Statistics, split: Split, cfg: Config, findings: Findings
) -> None:
    """Classes, and anchors against things."""
    if not cfg.get('classes_from_annotations'):
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
            data_set = DATASETS.build(dict(next(data_sets(cfg)), pipeline=[], lazy_init=True))
        with findings.apart('classes'):
            file.labels(data_set.metainfo)
    if counts.thing_sizes:
        try:
            fit = fit_anchors(counts.thing_sizes, cfg)
        except ValueError as error:
            print(f'{split.ann_file}: things are not compared with anchors: {error}')
            return
        if fit.unmatched > TOLERATED_SHARE * fit.things:
            remedy = 'change model.rpn_head.anchor_generator.scales, or the scale of Resize'
            findings.say('anchors', f'{split.ann_file}: {fit}; {remedy}')
        else:
            print(f'{split.ann_file}: {fit}')


def describe(file: PanopticAnnotations, counts: Statistics) -> str:
    """What there is, as a table."""
    void = counts.void_pixels / max(counts.pixels, 1)
    lines = [
        f'{file.ann_file}: {counted(len(file.images), "image")}, {counts.images} with a readable '
        f'map; {counted(counts.segments.total(), "segment")}, {counts.crowds} of crowds; '
        f'{void:.1%} void'
    ]
    width = max(map(len, ['class', *counts.segments]))
    lines.append(f'  {"class":<{width}}  {"kind":<5}  {"segments":>8}  {"images":>8}')
    for category in file.categories:
        if category['name'] not in counts.segments:
            continue
        name, kind = category['name'], 'thing' if category['isthing'] else 'stuff'
        lines.append(
            f'  {name:<{width}}  {kind}  {counts.segments[name]:>8}  {counts.images_of[name]:>8}'
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
