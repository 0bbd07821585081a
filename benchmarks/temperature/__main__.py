"""The command ``python -m benchmarks.temperature``."""

from benchmarks.temperature.command import main

main()
