"""
Fifty digits, proved
====================

Newton's method in ball arithmetic proves that a code exists near the stored one, and encloses its value.
"""

import softmaxcode as sc
from softmaxcode.plotting.style import new_figure

code = sc.solve(13, 3, objective="tammes", digits=50)
print(code.proved.value)
print(code.proved.statement)

# %%
# The sorted cosines of the 78 pairs: 24 of them are contacts.

figure = new_figure((7, 3), layout="constrained")
axes = figure.subplots()
cosines = sorted((code.W @ code.W.T)[i, j] for i in range(13) for j in range(i))
axes.plot(cosines, ".")
axes.axhline(code.max_cosine, lw=0.8)
axes.set_xlabel("pairs")
axes.set_ylabel("cosine")
