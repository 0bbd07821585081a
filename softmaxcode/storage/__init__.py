"""Files: codes, arrays, tables and journals, all written atomically."""
