"""Synthetic mammograms ("phantoms") with known truth, and the defects that can be planted among them.

They are pictures after published figures, not a simulation of a detector. Real are: the two views, the outline with its
thinning edge, the power-law texture of each density class, the shape of masses and calcifications. Chosen for the task:
every breast is displayed with its chest wall on the left, as displays that normalise laterality do, and the mass lies
within `spread` of one place, since the specified network has no translation invariance. Every image of either class
holds one mass of the same radial profile and total brightness, so brightness gives nothing away: a spiculated mass is
cancer, its rotational mean is benign. A share of cancers is occult, drawn as benign: a ceiling that no reader exceeds.
"""

from mammo.sources.phantom.generation import generate as generate
