"""
The margin grows as the temperature falls
=========================================

A sweep of the feature model over temperatures, with the bound of global minimisers.
"""

import ufm
from ufm.plots import plot_sweep

table = ufm.sweep(K=[12, 20], d=3, temperature=[1, 0.3, 0.1, 0.03, 0.01], seeds=2, n=1, steps=600)
figure = plot_sweep(table)
