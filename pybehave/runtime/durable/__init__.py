"""The part of a node that a journal makes durable: recovery, replay, snapshots, dead letters."""
