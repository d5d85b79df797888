"""Training shards: which clip goes where (arXiv 2501.03575, section 3.6), and tar files, equal for equal clips."""
