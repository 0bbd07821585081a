"""
Margins against the number of classes
=====================================

The best margins known in four and eight dimensions, exact codes, and what bounds allow.
"""

import softmaxcode as sc

figure = sc.plot_landscape([4, 8])
