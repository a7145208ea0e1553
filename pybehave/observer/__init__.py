"""Looking at a node from outside: what is seen, and the socket it is seen through."""
