"""Worker pools: blocking and crash-prone functions on threads and in processes."""
