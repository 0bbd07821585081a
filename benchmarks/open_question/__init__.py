"""Open question 1 of Jiang et al. (2023): whether a code has a margin above 1 - mu* of the best packing.

    python -m benchmarks.open_question [--write docs/open-question-1.md]
    python -m benchmarks.open_question --search SECONDS [--seed 0] [--pairs 11,3 19,3 ...] [--out FILE]

The first command compares the two entries of every pair of the installed catalogue and prints or writes a document. The
second searches HardMax directly at a few pairs for a margin above 1 - mu. It stores its results as JSON, which the
first reads. A round of starts is never interrupted. So the number of starts in the given seconds depends on the
machine, but a start depends only on the seed and its number.
"""
