"""Data sources: readers give record i, order decides which i comes next, transformer and prefetching wrap both."""
