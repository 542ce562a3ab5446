"""COCO's instance annotations as AP counts with them, image by image."""

from __future__ import annotations

from mmbanet.datasets.instance_annotations import InstanceAnnotations
from mmbanet.datasets.segmentation import encode_segmentation


class InstanceTruth:
    """The annotated instances of images; labels are the positions of their names in the data set.

    Args:
        ann_file: COCO's instance annotations.
        backend_args: Of MMEngine's file backends.

    Raises: As :class:`~mmbanet.datasets.instance_annotations.InstanceAnnotations`.
    """

    def __init__(self, ann_file: str, backend_args: dict | None = None) -> None:
        self.annotations = InstanceAnnotations(ann_file, backend_args)
        self.use_classes(None)

    def use_classes(self, dataset_meta: dict | None) -> None:
        """Numbers the labels as a data set does; a ValueError if it lacks a category."""
        names = {category['id']: category['name'] for category in self.annotations.categories}
        classes = list((dataset_meta or {}).get('classes', names.values()))
        missing = sorted(set(names.values()) - set(classes))
        if missing:
            raise ValueError(
                f'{self.annotations.ann_file}: categories unknown to the data set: {missing}'
            )
        self._label_of = {i: classes.index(name) for i, name in names.items()}

    @property
    def thing_labels(self) -> list[int]:
        """The labels that are annotated as instances."""
        return list(self._label_of.values())

    def is_annotated(self, img_id: int) -> bool:
        """Whether the file knows the image; it may have no instances.

        Raises:
            KeyError: It does not.
        """
        if img_id not in self.annotations.images:
            raise KeyError(f'image {img_id} is not in {self.annotations.ann_file}')
        return True

    def instances(self, img_id: int) -> list[dict]:
        """As :meth:`~mmbanet.evaluation.panoptic_truth.PanopticTruth.instances`."""
        image = self.annotations.images[img_id]
        return [
            dict(
                category_id=self._label_of[instance.category_id],
                segmentation=encode_segmentation(
                    instance.segmentation, image['height'], image['width']
                ),
                iscrowd=int(instance.is_crowd),
            )
            for instance in self.annotations.instances[img_id]
        ]
