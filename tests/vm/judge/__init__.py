"""Judges: what a dump must hold, decided without vdump's help. Debian's readers, the kernel's own words, and parsers
written for the tests.

Nothing here may share code or layouts with the product; each judge gives plain values that the tests compare.
"""
