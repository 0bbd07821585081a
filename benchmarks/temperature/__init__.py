"""How small must the temperature be: ``python -m benchmarks.temperature [--quick] [--write docs/temperature.md]``.

The margin that runs of the unconstrained feature model lose to the temperature, beside the theory of it.
The figure goes beside the page, as ``images/<name of the page>.png``.
"""
