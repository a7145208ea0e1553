"""Semantics only: what OTP's behaviours decide, with no loop, no socket and no clock.

Everything here can be imported and run without the compiled modules. Start with `gen_server`
(what the user writes), then `child_spec` and `supervisor` (the tree as data), then `restart`
(what happens after a failure).
"""
