"""Figures of codes and of the best known margins."""
