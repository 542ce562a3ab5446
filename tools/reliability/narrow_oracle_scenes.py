"""The same around ground-truth semantics, so that figures of random weights are not all zero."""

_base_ = 'narrow_scenes.py'

model = dict(_base_.oracles.semantics, _delete_=True, model=_base_.model)
