"""The order rules that order.py compares on known pairs and occlusion_rules.py in fusion."""

RGB_HISTOGRAM = dict(type='mmbanet.ColorHistogram')
CONTOUR = dict(type='mmbanet.ContourContrast')
# By the name of the row: rules, of which the next is asked where those before cannot tell.
RULES = {
    'smaller in front': [dict(type='mmbanet.SmallerInFront')],
    'mean RGB cosine (paper)': [dict(type='mmbanet.MeanColor')],
    'Lab Gaussian': [dict(type='mmbanet.LabGaussian')],
    'RGB histogram': [RGB_HISTOGRAM],
    'contour, all it finds': [dict(CONTOUR, least_strength=0, least_difference=0)],
    'contour': [CONTOUR],
    'contour, then RGB histogram': [CONTOUR, RGB_HISTOGRAM],
    'combined, no ground': [dict(type='mmbanet.CombinedOrder', ground=False)],
    'combined': [dict(type='mmbanet.CombinedOrder')],
}
SCORE = 'score order'  # no rule: the higher score is in front
OWN = "the model's own fusion"  # whatever decides there, such as a learned head
