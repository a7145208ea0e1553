"""The compiled core: bytes, descriptors, time and Python callables.

The modules beside this file are built from `src/_uring` (see its README.md) and typed by the
`.pyi` files here: `codec` (protocol objects over the C framings), `handles` (what Python may hold
of a connection), `dispatch` (servers, mailboxes, the guarded step) and `loop` (the tick).

Nothing is imported here: `pybehave.behaviours` must work without the compiled modules, and
whoever needs one names it.
"""
