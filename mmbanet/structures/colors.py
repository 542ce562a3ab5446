"""Colours of classes that have none of their own."""

import colorsys


def class_color(number: int) -> list[int]:
    """RGB, another one for every class."""
    # Hues by the golden ratio: the next one is always far from those before.
    hue, saturation, value = (
        0.618034 * number % 1,
        (0.85, 0.55)[number % 2],
        (0.9, 0.7, 0.5)[number % 3],
    )
    return [round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value)]
