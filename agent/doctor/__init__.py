"""The pre-flight check: what an operator wants to know before the box is relied upon.

One file a group of checks. A check reads and never changes anything, but for the write test of
the state folder.
"""
