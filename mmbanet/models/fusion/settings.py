"""What occlusion handling can be told: thresholds, order rules and readings of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .checks import check_choice, check_threshold
from .duplicates import DuplicateFilter
from .order import MeanColor, OrderRule

PAIRS = ('all', 'occluded_first')
REMOVALS = ('joint', 'front_to_back')


@dataclass(frozen=True)
class OcclusionSettings:
    """Settings of :func:`~mmbanet.models.fusion.resolve_occlusion`, checked.

    Attributes:
        occlusion_thr: Two objects that overlap by a larger share of either are an occluded pair.
        removal_thr: An object that lost a larger share of its area to others is removed.
        order: Who is in front in an occluded pair: a rule, or several, of which the next is asked
            where those before cannot tell. With none the score decides.
        pairs: Which pairs are taken first: ``'all'`` in one row, so that an overlap that the score
            decides can set an occluded pair aside, or ``'occluded_first'``, so that it fills what
            the occluded pairs leave open.
        removal: ``'joint'``: all objects are judged at once, by what they lost to any other, be it
            removed as well; ``'front_to_back'``: by what they lost to those that are kept.
        duplicates: Which objects are dropped before pairs are decided; None: none.
    """

    occlusion_thr: float = 0.2
    removal_thr: float = 0.5
    order: OrderRule | Sequence[OrderRule] = MeanColor()  # noqa: RUF009 (has no state)
    pairs: str = 'all'
    removal: str = 'joint'
    duplicates: DuplicateFilter | None = None

    def __post_init__(self) -> None:
        check_threshold('occlusion_thr', self.occlusion_thr)
        check_threshold('removal_thr', self.removal_thr)
        check_choice('pairs', self.pairs, PAIRS)
        check_choice('removal', self.removal, REMOVALS)
        for rule in self.rules:
            if not isinstance(rule, OrderRule):
                kind = type(rule).__name__
                raise TypeError(f'order must be order rules such as MeanColor(), got {kind}')

        if not isinstance(self.duplicates, DuplicateFilter | None):
            kind = type(self.duplicates).__name__
            raise TypeError(f'duplicates must be a DuplicateFilter or None, got {kind}')

    @property
    def rules(self) -> tuple[OrderRule, ...]:
        """The order rules, in the order in which they are asked."""
        return (self.order,) if isinstance(self.order, OrderRule) else tuple(self.order)

    @property
    def need_image(self) -> bool:
        """Whether a rule, or what finds duplicates, looks at the image."""
        asked = self.rules if self.duplicates is None else (*self.rules, self.duplicates)
        return any(component.needs_image for component in asked)
