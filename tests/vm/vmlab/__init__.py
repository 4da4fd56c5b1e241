"""Boots Debian kernels in QEMU, crashes them, and brings home what the capture kernel saved.

It knows packages, images and machines; it must not know what a dump looks like inside. Its crashes go to the judges
(`judge/`).
"""
