"""Registries of mmbanet: children of MMEngine's, so that a config says ``type='mmbanet.BANet'``.

``locations`` makes MMEngine import the components on first use; no ``custom_imports`` is needed.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

MODELS = Registry('model', scope='mmbanet', parent=MMENGINE_MODELS, locations=['mmbanet.models'])
DATASETS = Registry(
    'dataset',
    scope='mmbanet',
    parent=MMENGINE_DATASETS,
    locations=['mmbanet.datasets', 'mmbanet.scenes'],
)
DATA_SAMPLERS = Registry(
    'data sampler',
    scope='mmbanet',
    parent=MMENGINE_DATA_SAMPLERS,
    locations=['mmbanet.datasets'],
)
TRANSFORMS = Registry(
    'transform', scope='mmbanet', parent=MMENGINE_TRANSFORMS, locations=['mmbanet.datasets']
)
HOOKS = Registry('hook', scope='mmbanet', parent=MMENGINE_HOOKS, locations=['mmbanet.engine'])
LOOPS = Registry('loop', scope='mmbanet', parent=MMENGINE_LOOPS, locations=['mmbanet.engine'])
METRICS = Registry(
    'metric', scope='mmbanet', parent=MMENGINE_METRICS, locations=['mmbanet.evaluation']
)
VISUALIZERS = Registry(
    'visualizer',
    scope='mmbanet',
    parent=MMENGINE_VISUALIZERS,
    locations=['mmbanet.visualization'],
)
