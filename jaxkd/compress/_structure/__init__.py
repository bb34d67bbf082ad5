"""Structured removal: coupled axes found in a program, and arrays made smaller.

``axes`` is the union-find, ``rules`` say what each primitive does to axes, ``program``
walks a jaxpr with them, ``groups`` makes records of what was found; ``importance``,
``targets`` and ``shrink`` use the records.
"""
