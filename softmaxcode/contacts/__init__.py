"""The contact equations of a code: the system, stresses and polishing."""
