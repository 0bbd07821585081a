"""Files: codes, arrays, tables, journals; written whole or not at all."""
