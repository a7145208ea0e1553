"""The journal: every accepted command on stable storage before its reply leaves the process.

Start with README.md in this folder. The commit path itself is in the core (src/_uring/commit.pyx,
journal.c); here is what happens before and after it: opening, recovery, snapshots, and the tools.
"""
