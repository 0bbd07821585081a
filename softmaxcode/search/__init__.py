"""Ways to search for a code, one in each module; `pipeline` runs them."""
