"""
The feature model finds the icosahedron
=======================================

Features and classifier are free on the sphere. At small temperature the classifier becomes a Softmax Code.
"""

import ufm
from ufm.plots import plot_run

run = ufm.simulate(K=12, d=3, n=5, temperature=0.02, seed=0)
print(run.status, run.margin, run.best_known)

# %%
# The loss certifies a margin at every step, and the margin rises to the best known one.

figure = plot_run(run)
