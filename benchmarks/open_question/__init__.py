"""Open question 1 of Jiang et al. (2023): whether a code has a margin above 1 - mu* of the best packing.

    python -m benchmarks.open_question [--write docs/open-question-1.md]
    python -m benchmarks.open_question --search SECONDS [--seed 0] [--pairs 11,3 19,3 ...] [--out FILE]

The first compares the two entries of every pair of the installed catalogue; it prints its tables or writes them into
the page. The second searches HardMax directly at a few pairs for a margin above 1 - mu, and writes what it found as
JSON, which the first reads. It finishes every round of starts, so the number of starts in the given seconds depends on
the machine. What a start does follows from the seed and its number alone.
"""
