"""Synthetic mammograms ("phantoms") with known truth, and the defects that can be planted among them.

They are drawn from published measurements; the detector is not simulated. Realistic are the two views, the outline with
its thinning edge, the power-law texture of each density class, and the shapes of masses and calcifications. Chosen for
the task: the chest wall is always on the left, as on displays that normalise laterality, and masses lie within `spread`
of one position, since the specified network has no translation invariance. Every image of both classes has one mass
with the same radial profile and total brightness, so that brightness does not reveal the class: a spiculated mass is
cancer, its rotational mean is benign. A share of cancers is occult (drawn as benign), which limits every reader.
"""

from mammo.sources.phantom.generation import generate as generate
