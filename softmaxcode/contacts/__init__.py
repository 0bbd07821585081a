"""The contact equations of a code: system, stresses, polishing."""
