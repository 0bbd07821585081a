"""
Rattlers
========

In some optimal codes classes can move without making the code worse. They have a colour and a marker of their own.
"""

import softmaxcode as sc

code = sc.best_known(50, 3, objective="tammes")
print("rattlers:", code.tammes_rattlers)

# %%
# A rattler has no contact. Its margin is larger than that of the others.

figure = sc.plot(code)
