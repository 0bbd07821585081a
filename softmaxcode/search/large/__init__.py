"""The search for many points (K of some hundred and more): orbits, then lists of near pairs in float32."""
