"""The parent process that looks after a node, and what the two say to each other."""
