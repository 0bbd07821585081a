"""How small must the temperature be: ``python -m benchmarks.temperature [--quick] [--write docs/temperature.md]``.

The loss of margin of runs of the unconstrained feature model at a temperature, compared with theory.
The figure is written beside the document, as ``images/<name of the document>.png``.
"""
