"""
Which class gets which vector
=============================

Assign the vectors of a code to classes so that similar classes get near vectors.
"""

import numpy as np

import softmaxcode as sc
from softmaxcode.assignment import assign, similarity_from_means
from softmaxcode.plotting.style import new_figure

rng = np.random.default_rng(0)
groups = np.repeat(rng.standard_normal((4, 16)), 6, axis=0)
S = similarity_from_means(groups + 0.4 * rng.standard_normal((24, 16)))
code = sc.best_known(24, 3)
found = assign(S, code)
print(found.objective, "at most", found.bound, "random:", found.mean_objective)

# %%
# Similarities of the classes beside the cosines of their vectors:

W = code.W[found.permutation]
figure = new_figure((8, 4), layout="constrained")
for axes, matrix, title in zip(figure.subplots(1, 2), (S, W @ W.T), ("similarity", "cosines"), strict=True):
    axes.imshow(matrix, cmap="viridis")
    axes.set_title(title)
