"""The symmetry group of a code: the permutations of its points that preserve every cosine."""

from softmaxcode.symmetry.automorphisms import SymmetryGroup, symmetry_group

__all__ = ["SymmetryGroup", "symmetry_group"]
