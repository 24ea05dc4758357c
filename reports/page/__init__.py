"""The page: a record as one HTML file that opens from disk and asks for nothing else."""
