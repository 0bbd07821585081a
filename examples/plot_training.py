"""
Neural collapse of a small network
==================================

Train a network with a learned spherical head, measure GNC1 to GNC3 on the way, and draw them.
"""

import pandas as pd
import torch

import softmaxcode as sc
from softmaxcode.metrics import GeneralizedNeuralCollapse
from softmaxcode.metrics.figure import plot_collapse
from softmaxcode.nn import SphericalClassifier

K, d = 10, 3
torch.manual_seed(0)
centres = torch.randn(K, 20)
labels = torch.arange(400) % K
inputs = centres[labels] + 0.5 * torch.randn(400, 20)
network = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, d))
head = SphericalClassifier(K, d, temperature=0.1, seed=0)
optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=3e-3)

rows = []
for epoch in range(60):
    for batch in torch.randperm(400).split(50):
        optimizer.zero_grad()
        head(network(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    if epoch % 3 == 0:
        gnc = GeneralizedNeuralCollapse(K, d)
        gnc.set_classifier(head)
        with torch.no_grad():
            gnc.update(network(inputs), labels)
        rows.append({"epoch": epoch} | {name: float(value) for name, value in gnc.compute().items()})

# %%
# The margin (GNC2) approaches that of the best known code of ten classes in three dimensions.

history = pd.DataFrame(rows).set_index("epoch")
figure = plot_collapse(history, {"best known margin": sc.best_known(K, d).margin})
