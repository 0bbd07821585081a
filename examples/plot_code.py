"""
A code and its contacts
=======================

Solve 24 classes in three dimensions, and draw the code with its contact graph, its cosines and its margins.
"""

import softmaxcode as sc

code = sc.solve(24, 3)
print(code.certificate.status, code.margin)

# %%
# The figure needs no pyplot. Every class has the same margin here, and no class rattles.

figure = sc.plot(code)
