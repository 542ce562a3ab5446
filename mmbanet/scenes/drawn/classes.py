"""Categories of the generated scenes, in COCO's panoptic vocabulary: things first, then stuff.

Ids have a gap between things and stuff, as COCO's have, so that nobody takes an id for a label.
"""

THINGS = ('figure', 'bus', 'boat', 'boulder', 'kite', 'tie', 'sign', 'ball')
STUFF = ('sky', 'wall', 'water', 'grass', 'road')

#: The three rare small classes; mostly in front of a large thing and inside its outline.
SMALL_THINGS = ('tie', 'sign', 'ball')

_COLORS = {
    'figure': (220, 20, 60),
    'bus': (250, 170, 30),
    'boat': (120, 70, 40),
    'boulder': (150, 120, 140),
    'kite': (255, 60, 200),
    'tie': (255, 240, 60),
    'sign': (20, 60, 200),
    'ball': (0, 230, 220),
    'sky': (140, 190, 230),
    'wall': (170, 90, 80),
    'water': (40, 100, 150),
    'grass': (60, 140, 60),
    'road': (100, 100, 100),
}

_IDS = {name: i for i, name in enumerate(THINGS, 1)} | {name: i for i, name in enumerate(STUFF, 21)}

#: The ``categories`` list of the annotation file.
CATEGORIES = [
    {
        'id': _IDS[name],
        'name': name,
        'supercategory': 'thing' if name in THINGS else 'stuff',
        'isthing': int(name in THINGS),
        'color': list(_COLORS[name]),
    }
    for name in THINGS + STUFF
]

CATEGORY_BY_NAME = {category['name']: category for category in CATEGORIES}

#: ``metainfo`` for MMDetection's ``CocoPanopticDataset``.
METAINFO = {
    'classes': list(THINGS + STUFF),
    'thing_classes': list(THINGS),
    'stuff_classes': list(STUFF),
    'palette': [_COLORS[name] for name in THINGS + STUFF],
}
