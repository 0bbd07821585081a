"""Files: codes, arrays, tables, journals; written atomically."""
