"""Order rules on images where who is in front is known.

    python tools/benchmarks/order.py --photographs ROOT

composes scenes of a COCO panoptic data set (see ``tools/make_scenes.py --photographs``), looks at
their things with true masks, through a simulated mask head and, with ``--model CONFIG CHECKPOINT``,
as a model detects them, asks every rule about every occluded pair and writes tables, plots and
``order.json``. A pair of which a rule cannot tell counts half. Of its own detections the model's
own fusion is asked, too: with OCFusion's or OANet's head, what that has learned. In place of
``--photographs``:

* ``--generated ROOT``: scenes on disk, of tools/make_scenes.py;
* ``--coco ROOT``: COCO itself, whose instance masks and panoptic map together say who is in front;
* ``--cocoa JSON --images FOLDER``: COCO amodal; ``--kins JSON --images FOLDER``: KINS.

What the rules are worth in PQ, occlusion_rules.py measures.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from harness import make_report, parse_arguments, write_report
from mmengine.utils import ProgressBar
from order_data import add_arguments, open_data
from order_inputs import MIN_IOU, NMS, Scene, ask, build_rows, detect, look
from order_pictures import COLORS, draw_examples
from order_rules import OWN, RULES, SCORE
from order_statistics import mcnemar, share

from mmbanet.apis import init_model
from mmbanet.scenes.data_set import SPLITS
from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead

mpl.use('Agg')

# Of these two it shows the pairs that only one orders rightly.
SHOWN = ('mean RGB cosine (paper)', 'contour, all it finds')
HEAD = SimulatedMaskHead()
# Of the columns of the table; and facts whose quartiles the plot shows.
GROUPS = {
    'all': lambda facts: np.ones(len(facts['scene']), dtype=bool),
    'same class': lambda facts: facts['same_class'],
    'other class': lambda facts: ~facts['same_class'],
    'inside': lambda facts: facts['inside'],
    'crossing': lambda facts: ~facts['inside'],
}
QUARTILES = {
    'size': 'root of the smaller area, pixels',
    'share': 'share of the smaller that is shared',
    'contrast': 'colour distance of the two, Delta E',
}


def main() -> None:
    """Looks, compares, prints the tables and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument('--model', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='a detector')
    parser.add_argument(
        '--score-thr', type=float, default=0.6, help='detections score more than this'
    )
    args = parse_arguments(parser, devices=('cpu',))
    data = open_data(parser, args)

    # By kind of masks, what makes a scene of an image, its things and its number.
    seeds = args.seed, SPLITS.index(args.split)
    views = dict(
        true=lambda image, things, i: look(image, things, None, (*seeds, i)),
        head=lambda image, things, i: look(image, things, HEAD, (*seeds, i)),
    )
    if args.model:
        model = init_model(*args.model)
        views['detections'] = lambda image, things, i: detect(
            image, things, model, args.score_thr, i
        )
    found = collect(data, views)
    results = {masks: summarize(*parts) for masks, parts in found.items()}
    if 'detections' in found:
        results['detections']['recall'] = recall(found['true'][0], found['detections'][0])
    for masks, result in results.items():
        print(f'\n{masks} masks, {result["pairs"]} pairs of {len(data)} scenes')
        if 'recall' in result:
            print(f'{result["recall"]["percent"]}% of the pairs of true masks')
        print(f'\n{as_table(result)}\n\n{as_quartiles(result)}')
    report = make_report(
        args.device,
        data=next(
            n for n in ('photographs', 'generated', 'coco', 'cocoa', 'kins') if vars(args)[n]
        ),
        split=args.split,
        scenes=len(data),
        seed=args.seed,
        mask_head=HEAD._asdict(),
        model=args.model
        and dict(
            config=Path(args.model[0]).name,
            checkpoint=Path(args.model[1]).name,
            score_thr=args.score_thr,
            nms=NMS,
            min_iou=MIN_IOU,
        ),
        masks=results,
    )
    path = write_report(report, args.out, 'order')
    plot(report, path.with_suffix('.png'))
    facts, evidence = found['head']
    draw_examples(
        lambda number: views['head'](*data[number], number),
        facts['scene'],
        evidence,
        SHOWN,
        path.with_name('order_examples.png'),
    )
    outlines = ', '.join(f'{color}: {place}' for place, color in COLORS.items())
    print(f'\n{path}, .png and order_examples.png ({outlines})')


@torch.no_grad()
def collect(data: Sequence, views: dict[str, Callable[..., Scene]]) -> dict[str, tuple]:
    """By kind of masks the facts of all pairs and the evidence of all rules for the truth.

    Returns:
        (facts, evidence): by name (N,) arrays each.
    """
    rows = build_rows(RULES)
    found = {masks: ([], {}) for masks in views}
    progress = ProgressBar(len(data))
    for index in range(len(data)):
        image, things = data[index]
        for masks, (facts, evidence) in found.items():
            scene = views[masks](image, things, index)
            if len(scene.pairs):
                facts += scene.facts
                told = {}
                if scene.scores is not None:
                    told[SCORE] = (scene.scores[scene.pairs] @ torch.tensor([1.0, -1.0])).numpy()
                if scene.own is not None:
                    told[OWN] = scene.own.numpy()
                for name, values in (told | ask(rows, scene)).items():
                    evidence.setdefault(name, []).append(values)
        progress.update()
    for masks, (facts, _) in list(found.items()):
        none = f'no occluded pair of {masks} masks in {len(data)} images'
        if not facts and masks != 'detections':
            raise RuntimeError(f'{none}: look at more of them')
        if not facts:
            print(f'\n{none}: left out. A lower --score-thr lets the model see more')
            del found[masks]
    return {
        masks: (
            {key: np.array([fact[key] for fact in facts]) for key in facts[0]},
            {name: np.concatenate(parts) for name, parts in evidence.items()},
        )
        for masks, (facts, evidence) in found.items()
    }


def recall(true: dict[str, np.ndarray], detected: dict[str, np.ndarray]) -> dict:
    """The share of the pairs of true masks that are also pairs of detections."""
    pairs = {(i, *pair) for i, pair in zip(detected['scene'].tolist(), detected['pair'].tolist())}
    hit = [(i, *pair) in pairs for i, pair in zip(true['scene'].tolist(), true['pair'].tolist())]
    return share(np.array(hit, dtype=float), true['scene'])


def summarize(facts: dict[str, np.ndarray], evidence: dict[str, np.ndarray]) -> dict:
    """Shares ordered rightly, by rule and group, and which rules differ."""
    rules = {}
    for name, values in evidence.items():
        told = values != 0
        right = np.where(told, values > 0, 0.5)
        rules[name] = dict(
            decided=round(100 * float(told.mean()), 2),
            of_decided=share(right[told], facts['scene'][told]),
            **{
                group: share(right[chosen(facts)], facts['scene'][chosen(facts)])
                for group, chosen in GROUPS.items()
            },
            **{fact: by_quartile(facts, right, fact) for fact in QUARTILES},
        )
    pairs = [
        dict(rules=[a, b], **mcnemar(evidence[a] > 0, evidence[b] > 0))
        for a, b in itertools.combinations(evidence, 2)
    ]
    return dict(pairs=len(facts['scene']), rules=rules, mcnemar=pairs)


def by_quartile(facts: dict[str, np.ndarray], right: np.ndarray, fact: str) -> list[dict]:
    """The share in each quarter of the pairs, by ascending fact, and the median fact there."""
    values = facts[fact]
    quarter = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
    return [
        dict(
            median=round(float(np.median(values[quarter == i])), 3),
            **share(right[quarter == i], facts['scene'][quarter == i]),
        )
        for i in np.unique(quarter)
    ]


def as_table(result: dict) -> str:
    """A Markdown table, a line for each rule; in percent."""
    columns = ['rule', 'ordered rightly', *list(GROUPS)[1:], 'decided', 'right of these']
    lines = ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    for name, row in result['rules'].items():
        every = row['all']
        cells = [name, f'{every["percent"]:.1f} ({every["low"]:.1f} to {every["high"]:.1f})']
        shares = [*(row[group] for group in list(GROUPS)[1:]), row['of_decided']]
        cells += [f'{cell["percent"]:.1f}' if cell['pairs'] else '' for cell in shares]
        cells.insert(-1, f'{row["decided"]:.1f}')
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def as_quartiles(result: dict) -> str:
    """A Markdown table, a line for each rule: each quarter of the pairs by a fact; in percent."""
    some = next(iter(result['rules'].values()))
    columns = [f'{fact} {part["median"]:.3g}' for fact in QUARTILES for part in some[fact]]
    lines = ['| ' + ' | '.join(['rule', *columns]) + ' |', '|---' * (1 + len(columns)) + '|']
    for name, row in result['rules'].items():
        cells = [f'{part["percent"]:.1f}' for fact in QUARTILES for part in row[fact]]
        lines.append('| ' + ' | '.join([name, *cells]) + ' |')
    return '\n'.join(lines)


def plot(report: dict, path: Path) -> None:
    """Groups as bars with their intervals, and quartiles as lines, a row for each kind of masks."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(report['masks']),
        1 + len(QUARTILES),
        figsize=(19, 4.6 * len(report['masks'])),
        gridspec_kw=dict(width_ratios=[2.6, 1, 1, 1]),
        squeeze=False,
    )
    names = dict.fromkeys(name for part in report['masks'].values() for name in part['rules'])
    tab20 = plt.get_cmap('tab20').colors
    colors = dict(zip(names, tab20[::2] + tab20[1::2]))
    for (masks, result), line in zip(report['masks'].items(), axes):
        width = 0.8 / len(result['rules'])
        for number, (name, row) in enumerate(result['rules'].items()):
            groups = [(i, row[group]) for i, group in enumerate(GROUPS) if row[group]['pairs']]
            height = np.array([cell['percent'] for _, cell in groups])
            ends = np.array([[cell['low'], cell['high']] for _, cell in groups]).T
            place = [i + (number + 0.5) * width - 0.4 for i, _ in groups]
            drawn = dict(label=name, color=colors[name])
            line[0].bar(place, height, width, yerr=abs(ends - height), **drawn)
            for fact, axis in zip(QUARTILES, line[1:]):
                points = [(part['median'], part['percent']) for part in row[fact]]
                axis.plot(*zip(*points), 'o-', color=colors[name])
        line[0].set_xticks(range(len(GROUPS)), GROUPS)
        line[0].set_ylabel(f'ordered rightly, %; {masks} masks, {result["pairs"]} pairs')
        for axis, label in zip(line[1:], QUARTILES.values()):
            axis.set_xlabel(label)
        for axis in line:
            axis.set_ylim(0, 101)
            axis.axhline(50, color='black', linewidth=0.8)
            axis.grid(alpha=0.3, axis='y')
    figure.tight_layout()
    bars, labels = axes[-1, 0].get_legend_handles_labels()
    figure.legend(bars, labels, ncols=6, loc='upper center', bbox_to_anchor=(0.5, 0))
    figure.savefig(path, dpi=90, bbox_inches='tight')
    plt.close(figure)
