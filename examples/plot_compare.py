"""
A classifier against the best code
==================================

Compare random class vectors, and vectors that were trained, with the best known code of 12 classes in three dimensions.
"""

import numpy as np
import torch

import softmaxcode as sc
from softmaxcode.compare import compare
from softmaxcode.nn.functional import spherical_cross_entropy
from softmaxcode.plotting.style import BLUE, GREEN, INK, add_grid, new_figure

generator = torch.Generator().manual_seed(0)
W = torch.randn(12, 3, generator=generator, dtype=torch.float64, requires_grad=True)
H = torch.randn(12, 3, generator=generator, dtype=torch.float64, requires_grad=True)
start = W.detach().clone()
optimizer = torch.optim.Adam([W, H], lr=0.02)
for _ in range(1500):
    optimizer.zero_grad()
    spherical_cross_entropy(H, W, torch.arange(12), temperature=0.05, log=True).backward()
    optimizer.step()

# %%
# The margin ratio is the margin divided by that of the best known code.

for name, rows in (("random", start), ("trained", W.detach())):
    print(name, round(compare(rows, align=False).margin_ratio, 3))

# %%
# Distances of every class from the hull of the others:

figure = new_figure((8, 4), layout="constrained")
axes = figure.subplots()
add_grid(axes, "y")
axes.plot(np.sort(sc.margin(start.numpy(), normalize=True).margins), "o-", color=BLUE, label="random")
axes.plot(np.sort(sc.margin(W.detach().numpy(), normalize=True).margins), "s-", color=GREEN, label="trained")
axes.axhline(sc.best_known(12, 3).margin, color=INK, ls="--", label="best known margin")
axes.set_xlabel("classes, smallest distance first")
axes.set_ylabel("one-vs-rest distance")
axes.legend(frameon=False)
